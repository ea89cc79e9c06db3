//! Calls to the pods of a scenario: each is a question for `explain` and the connection that a workload would open for it.

use std::fmt;

use serde_json::Value;
use smidge::explain::Question;

use crate::differential::{
    explained::pods::{CALLED, CALLED_ADDRESSES, CALLER, OUTSIDE, OUTSIDE_ADDRESS, PORTS},
    generated::SHOP,
    random::Random,
    reference::{Http, Smi, list, text},
    requests,
};

/// A call, as a user asks about it and as it is made.
#[derive(Debug, Clone)]
pub struct Call {
    /// The pod that calls.
    pub from: &'static str,
    /// The address that it dials.
    pub address: String,
    pub port: u16,
    /// The request; none for bytes.
    pub http: Option<Http>,
    pub question: Question,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, address, port, http, question } = self;
        let Question { from: asked, to, method, path, headers, port: number } = question;
        write!(f, "smidge explain {asked} {to}")?;
        if let Some(number) = number {
            write!(f, " --port {number}")?;
        }
        for (option, value) in [("method", method), ("path", path)] {
            if let Some(value) = value {
                write!(f, " --{option} '{value}'")?;
            }
        }
        for header in headers {
            write!(f, " --header '{header}'")?;
        }
        write!(f, "\nwhere {from} dials {address}:{port} and sends ")?;
        match http {
            Some(http) => write!(f, "{http:?}"),
            None => write!(f, "bytes"),
        }
    }
}

/// Generates `count` calls.
pub fn calls(seed: u64, index: u64, objects: &[Value], count: usize) -> Vec<Call> {
    let mut random = Random::new(seed ^ 0xca11_5000, index);
    let mut made = Vec::new();
    while made.len() < count {
        made.extend(call(&mut random, Smi(objects)));
    }
    made
}

/// Destination of a call: its name in a question, the address and port that are dialled, and the port of the question.
type To = (String, String, u16, u16);

fn call(random: &mut Random, smi: Smi<'_>) -> Option<Call> {
    let from = if random.percent(85) { CALLER } else { OUTSIDE };
    let (to, address, dialled, port) =
        if random.percent(25) { pod(random) } else { service(random, smi, from == OUTSIDE)? };
    let http = random.percent(70).then(|| http(random, smi));
    let mut question =
        Question { from: format!("{SHOP}/{from}"), to, port: Some(port), ..Question::default() };
    if let Some(http) = &http {
        question.method = Some(http.method.clone());
        question.path = (http.method != "CONNECT").then(|| http.target.clone());
        question.headers = http.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        question.headers.push(format!("host={}", http.host));
    }
    Some(Call { from, address, port: dialled, http, question })
}

/// Chooses a pod by its own address.
fn pod(random: &mut Random) -> To {
    let port = PORTS[random.below(PORTS.len())];
    let number = random.below(CALLED.len() + 1);
    let (name, address) = match CALLED.get(number) {
        Some(name) => (*name, CALLED_ADDRESSES[number]),
        None => (OUTSIDE, OUTSIDE_ADDRESS),
    };
    (format!("workload:{SHOP}/{name}"), address.to_owned(), port, port)
}

/// Chooses a Service of those that exist; none if there is nothing to dial.
fn service(random: &mut Random, smi: Smi<'_>, is_outside: bool) -> Option<To> {
    let services: Vec<&Value> = smi.of_kind("Service").collect();
    let service = services[random.below(services.len())];
    let name = text(service, "/metadata/name");
    let is_headless = text(service, "/spec/clusterIP") == "None";
    let written = list(service, "/spec/ports");
    let port = if random.percent(85) {
        number(&written[random.below(written.len())]["port"])?
    } else {
        PORTS[random.below(PORTS.len())]
    };
    let question = format!("service:{SHOP}/{name}");
    let endpoints = endpoints(smi, service);
    if is_headless {
        let address = text(endpoints[random.below(endpoints.len())], "/status/podIP");
        return Some((question, address.to_owned(), port, port));
    }
    if !is_outside {
        return Some((question, text(service, "/spec/clusterIP").to_owned(), port, port));
    }
    // No proxy takes the call; kube-proxy sends it to any of the Service's own pods.
    let listed = written.iter().find(|it| number(&it["port"]) == Some(port))?;
    let target = match listed["targetPort"].as_str() {
        None => number(&listed["targetPort"])?,
        Some(name) => name.split_once('-')?.1.parse().ok()?,
    };
    let pod = (!endpoints.is_empty()).then(|| endpoints[random.below(endpoints.len())])?;
    Some((question, text(pod, "/status/podIP").to_owned(), target, port))
}

fn number(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

/// Returns the pods that a Service selects.
fn endpoints<'a>(smi: Smi<'a>, service: &Value) -> Vec<&'a Value> {
    let selector = service["spec"]["selector"].as_object();
    let is_selected = |pod: &&Value| {
        let labels = &pod["metadata"]["labels"];
        selector.is_some_and(|all| all.iter().all(|(name, value)| labels.get(name) == Some(value)))
    };
    smi.of_kind("Pod").filter(is_selected).collect()
}

/// Generates a request that meets some match, or one that proxies treat in their own way.
fn http(random: &mut Random, smi: Smi<'_>) -> Http {
    let matches: Vec<&Value> =
        smi.of_kind("HTTPRouteGroup").flat_map(|group| list(group, "/spec/matches")).collect();
    let meant = matches[random.below(matches.len())];
    let mut http = Http { is_h2: false, ..requests::http(random, Some(meant)) };
    // A question leaves headers open that it does not name: most requests name those of the matches.
    for name in ["x-app", "x-version", "user-agent"] {
        if random.percent(80) && http.headers.iter().all(|(its, _)| !its.eq_ignore_ascii_case(name)) {
            http.headers.push((name.to_owned(), random.pick(&["buyer", "v1", "none"]).to_owned()));
        }
    }
    match random.below(40) {
        0 => {
            "CONNECT".clone_into(&mut http.method);
            "api:80".clone_into(&mut http.target);
        }
        1 => {
            "OPTIONS".clone_into(&mut http.method);
            "*".clone_into(&mut http.target);
        }
        2..4 => {
            let offer = random.pick(&["TLS/1.2", "h2c", "websocket"]);
            http.headers.push(("connection".to_owned(), "Upgrade".to_owned()));
            http.headers.push(("upgrade".to_owned(), offer.to_owned()));
        }
        4 => random.pick(&["/a%2fb", "/%5cx", "/a/;x/b", "/a//b", "/."]).clone_into(&mut http.target),
        _ => {}
    }
    // The caller's proxy removes an escaped slash in a segment that `..` removes, before the destination's refuses it.
    let path = http.target.split('?').next().unwrap_or_default().to_ascii_lowercase();
    let has = |parts: [&str; 2]| parts.iter().any(|part| path.contains(part));
    if has(["%2f", "%5c"]) && has(["..", "%2e"]) {
        "/a%2fb".clone_into(&mut http.target);
    }
    http
}
