//! Reduces a disagreement: removes parts of the objects and of the request as long as both sides still differ.

use serde_json::Value;

use crate::differential::{
    audit::ask,
    callers::Callers,
    generated::{DESTINATIONS, UNDECIDED},
    judge::Judge,
    reference::{Request, Says, Smi, text},
};

/// More tries would not make it much smaller.
const TRIES: usize = 400;

/// Returns the smallest objects and request found on which the two sides differ. It need not be the same difference.
pub async fn shrink(
    judge: &mut Judge,
    callers: &mut Callers,
    mut objects: Vec<Value>,
    mut request: Request,
) -> (Vec<Value>, Request) {
    let mut tries = 0;
    loop {
        let before = tries;
        for (fewer, simpler) in smaller(&objects, &request) {
            tries += 1;
            if tries > TRIES {
                return (objects, request);
            }
            judge.serve(&fewer, &simpler.to.1).await;
            let verdict = Smi(&fewer).verdict(&simpler);
            let answer = ask(judge, callers, std::slice::from_ref(&simpler), &[verdict]).await.remove(0);
            if answer.verdict != verdict {
                (objects, request) = (fewer, simpler);
                tries = before + 1;
                break;
            }
        }
        if tries == before || tries > before + 1 {
            return (objects, request);
        }
    }
}

/// Returns every combination of objects and request with one part less.
fn smaller(objects: &[Value], request: &Request) -> Vec<(Vec<Value>, Request)> {
    let mut all = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        if is_fixed(object) {
            continue;
        }
        let mut fewer = objects.to_vec();
        fewer.remove(index);
        all.push((fewer, request.clone()));
    }
    for (index, object) in objects.iter().enumerate() {
        if is_fixed(object) {
            continue;
        }
        for spec in without_a_part(&object["spec"]) {
            let mut fewer = objects.to_vec();
            fewer[index]["spec"] = spec;
            all.push((fewer, request.clone()));
        }
    }
    if let Says::Http(http) = &request.says {
        for index in 0..http.headers.len() {
            let mut http = http.clone();
            http.headers.remove(index);
            all.push((objects.to_vec(), Request { says: Says::Http(http), ..request.clone() }));
        }
        if let Some((path, _)) = http.target.split_once('?') {
            let http = crate::differential::reference::Http { target: path.to_owned(), ..http.clone() };
            all.push((objects.to_vec(), Request { says: Says::Http(http), ..request.clone() }));
        }
    }
    all
}

/// Returns a value without one of the items of its lists or one of the fields that may be absent.
fn without_a_part(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let mut fewer = items.clone();
                fewer.remove(index);
                all.push(Value::Array(fewer));
                for part in without_a_part(item) {
                    let mut other = items.clone();
                    other[index] = part;
                    all.push(Value::Array(other));
                }
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                if ["pathRegex", "methods", "headers", "namespace"].contains(&name.as_str()) {
                    let mut fewer = fields.clone();
                    fewer.remove(name);
                    all.push(Value::Object(fewer));
                }
                for part in without_a_part(field) {
                    let mut other = fields.clone();
                    other.insert(name.clone(), part);
                    all.push(Value::Object(other));
                }
            }
        }
        _ => {}
    }
    all
}

/// Returns true for the workloads that are called, without which there is no destination to judge, and for the rules
/// that leave a protocol undecided.
fn is_fixed(object: &Value) -> bool {
    let name = text(object, "/metadata/name");
    text(object, "/kind") == "Deployment" && DESTINATIONS.contains(&name) || name.starts_with(UNDECIDED)
}
