//! Route objects that a user might have written: HTTPRouteGroups of a few paths, methods and headers in both shapes,
//! TCPRoutes and UDPRoutes of a few ports, and sometimes invalid ones.

use serde_json::{Map, Value, json};

use crate::differential::{generated::object, random::Random};

/// A TCPRoute or UDPRoute.
pub fn ports(random: &mut Random, kind: &str, namespace: &str, name: &str) -> Value {
    let count = random.weighted(&[(12, "0"), (50, "1"), (30, "2"), (8, "3")]).parse().unwrap();
    let all = [
        json!(8080),
        json!(8080),
        json!(8080),
        json!(8081),
        json!(8081),
        json!(9000),
        json!(9001),
        json!(7000),
        json!(7001),
        json!(7070),
        json!(0),
        json!(70000),
    ];
    let all_and_odd = [json!(8080.0), json!(-8080), json!("9000"), json!(8080.5)];
    let ports: Vec<Value> = (0..count)
        .map(|_| {
            let from: &[Value] = if random.percent(94) { &all } else { &all_and_odd };
            from[random.below(from.len())].clone()
        })
        .collect();
    object("specs.smi-spec.io/v1alpha4", kind, namespace, name, &json!({ "matches": { "ports": ports } }))
}

/// An HTTPRouteGroup.
pub fn group(random: &mut Random, namespace: &str, name: &str) -> Value {
    let count: usize = random.weighted(&[(4, "0"), (30, "1"), (40, "2"), (26, "3")]).parse().unwrap();
    let matches: Vec<Value> = (0..count)
        .map(|number| {
            // Names need not be unique.
            let name = if random.percent(92) { format!("m{number}") } else { "m0".to_owned() };
            a_match(random, &name)
        })
        .collect();
    object("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", namespace, name, &json!({ "matches": matches }))
}

fn a_match(random: &mut Random, name: &str) -> Value {
    let mut it = Map::from_iter([("name".to_owned(), json!(name))]);
    if random.percent(72) {
        it.insert("pathRegex".to_owned(), json!(path_regex(random)));
    }
    if random.percent(42) {
        it.insert("methods".to_owned(), methods(random));
    }
    if random.percent(34) {
        it.insert("headers".to_owned(), headers(random));
    }
    Value::Object(it)
}

fn methods(random: &mut Random) -> Value {
    let count = random.weighted(&[(3, "0"), (57, "1"), (40, "2")]).parse().unwrap();
    let all =
        [(26, "GET"), (10, "HEAD"), (18, "POST"), (12, "PUT"), (12, "DELETE"), (8, "PATCH"), (5, "OPTIONS")];
    let odd = [(8, "*"), (2, "get"), (1, "")];
    let methods: Vec<&str> = (0..count).map(|_| random.weighted(&[&all[..], &odd[..]].concat())).collect();
    json!(methods)
}

/// Conditions in either shape.
fn headers(random: &mut Random) -> Value {
    let count = random.weighted(&[(4, "0"), (56, "1"), (40, "2")]).parse().unwrap();
    let pairs: Vec<(&str, String)> = (0..count)
        .map(|_| {
            let names = [
                (40, "x-app"),
                (20, "X-App"),
                (25, "x-version"),
                (14, "user-agent"),
                (12, "host"),
                (4, "Host"),
                (2, ":authority"),
                (1, "x app"),
            ];
            let name = random.weighted(&names);
            let value = if name.eq_ignore_ascii_case("host") || name == ":authority" {
                let hosts =
                    [r"api(\..*)?", r"api\.shop", "api|store", r".*\.shop(:[0-9]+)?", "^store$", "api.*"];
                random.pick(&hosts).to_owned()
            } else {
                header_regex(random)
            };
            (name, value)
        })
        .collect();
    if random.percent(50) {
        return Value::Object(
            pairs.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect(),
        );
    }
    pairs.into_iter().map(|(name, value)| json!({ name: value })).collect()
}

fn header_regex(random: &mut Random) -> String {
    let all = [
        "buyer",
        "buyer",
        "buyer|seller",
        "b.*",
        ".*er",
        "[a-z]+",
        "v[0-9]+",
        "^v1$",
        "v1.*",
        ".*",
        "(?i)buyer",
        "buyer, ?seller",
        "b{1,2}uyer",
        "",
        r"\w+",
        r"v1\.[0-9]+",
        "(buyer",
        "buyer,.*",
        ".*v1.*",
        "[^,]*",
    ];
    random.pick(&all).to_owned()
}

/// Path expressions from a small grammar: a few segments, endings, alternatives, and some that are invalid.
fn path_regex(random: &mut Random) -> String {
    let kind = random.weighted(&[
        (64, "path"),
        (14, "either"),
        (8, "special"),
        (8, "grpc"),
        (3, "invalid"),
        (3, ""),
    ]);
    match kind {
        "path" => one_path(random),
        "either" => format!("{}|{}", one_path(random), one_path(random)),
        "grpc" => random
            .pick(&[r"/shop\.Books/(Get|List)", "/shop.Books/.*", "/shop.Books/", r"/shop\.[A-Z][a-z]+/Get$"])
            .to_owned(),
        "invalid" => random
            .pick(&["/books(", "/a**", r"/\pL", "/(?=books)", "/[b", r"/a\1", "/x{2,1}", "*", "/b\u{e9}"])
            .to_owned(),
        "special" => {
            let all = [
                ".*",
                "/.*",
                "",
                "/",
                "/+",
                "/.*/list",
                ".*books",
                "books",
                "(/a|/b)/.*",
                "/books/../api",
                "//api",
                "/.?",
                "(?i)/Books",
                "/(?i:books)/list",
                "^/books|^/api$",
                "/books$|/api",
                r"/\w+$",
                r"/\w+/\d+",
                r".*\.json",
                r"/books\b.*",
                "(?P<root>/a)",
                "/%20",
                "/books%2Flist",
                "/[^/]*/?",
                "/a.b",
                "/(a|b|)c?",
                r"/books\?q=1",
            ];
            random.pick(&all).to_owned()
        }
        _ => String::new(),
    }
}

fn one_path(random: &mut Random) -> String {
    let mut text = String::new();
    if random.percent(8) {
        text.push('^');
    }
    for _ in 0..random.weighted(&[(55, "1"), (35, "2"), (10, "3")]).parse().unwrap() {
        let segments = [
            (20, "/books"),
            (18, "/api"),
            (8, "/v1"),
            (8, "/a"),
            (6, "/b"),
            (6, "/[0-9]+"),
            (6, "/[^/]+"),
            (4, "/[a-c]{1,2}"),
            (4, "/(a|b)"),
            (3, r"/\d{1,3}"),
            (3, "/.+?"),
            (3, "/(?:books|api)"),
            (2, "/b.*s"),
            (2, "/Books"),
            (2, "/x*"),
        ];
        text.push_str(random.weighted(&segments));
    }
    let ends = [
        (50, ""),
        (14, "/.*"),
        (10, ".*"),
        (7, "/?"),
        (6, "(/.*)?"),
        (5, "$"),
        (4, r"\.json"),
        (4, "/"),
        (2, "/?$"),
        (2, "(a|)"),
    ];
    text.push_str(random.weighted(&ends));
    text
}
