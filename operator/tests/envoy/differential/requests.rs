//! Requests to a generated cluster: most are made to meet a match and then changed in one way or none, so that both
//! verdicts are frequent and close to each other.

use serde_json::Value;

use crate::differential::{
    generated::{CALLERS, DETECTED_PORTS, Generated, HTTP_PORTS, SHOP, TCP_PORTS, UNDECIDED},
    pattern::Pattern,
    random::Random,
    reference::{Http, Request, Says, Smi, Verdict, headers, list, text},
    subjects::accounts,
};

/// Bytes that a TCP caller sends: HTTP among them, as bytes that look like HTTP are still bytes. Whether fewer than
/// five bytes are TLS would stay undecided for a while.
const BYTES: [&str; 2] = ["ping pong", "GET /books HTTP/1.1\r\nhost: api\r\n\r\n"];

/// Generates `count` requests to one destination of a generated cluster.
pub fn requests(generated: &Generated, destination: &str, count: usize) -> Vec<Request> {
    let mut random = Random::new(generated.seed ^ 0x5ca1_ab1e, generated.index);
    let smi = Smi(&generated.objects);
    // Targets of other destinations are used as well: they must not allow anything here.
    let is_random = |target: &&Value| !text(target, "/metadata/name").starts_with(UNDECIDED);
    let targets: Vec<&Value> = smi.of_kind("TrafficTarget").filter(is_random).collect();
    let of_it: Vec<&Value> = targets.iter().copied().filter(|it| is_whole(it, destination)).collect();
    (0..count)
        .map(|_| {
            // Without this, most requests would be denied.
            let tries = if random.percent(45) { 8 } else { 1 };
            let mut one = || {
                let among = if of_it.is_empty() || random.percent(12) { &targets } else { &of_it };
                let target = among[random.below(among.len())];
                request(&mut random, smi, target, destination)
            };
            let mut made = one();
            for _ in 1..tries {
                if smi.verdict(&made) != Verdict::Allowed {
                    made = one();
                }
            }
            made
        })
        .collect()
}

/// Returns true if a target is about a destination and could allow anything.
fn is_whole(target: &Value, destination: &str) -> bool {
    [destination, "b0"].contains(&text(target, "/spec/destination/name"))
        && !list(target, "/spec/sources").is_empty()
        && !list(target, "/spec/rules").is_empty()
}

fn request(random: &mut Random, smi: Smi<'_>, target: &Value, destination: &str) -> Request {
    let is_tcp = random.percent(6);
    let from = caller(random, smi, target);
    let is_detected = random.percent(30);
    let among = match (is_detected, is_tcp) {
        (true, _) => &DETECTED_PORTS,
        (_, true) => &TCP_PORTS,
        (_, false) => &HTTP_PORTS,
    };
    let port = port(random, smi, target, among);
    let says = if is_tcp {
        // A workload that serves both would answer what looks like HTTP as such.
        let count = if is_detected { 1 } else { BYTES.len() };
        Says::Bytes(BYTES[random.below(count)])
    } else {
        let matches: Vec<&Value> = smi.matches(target).collect();
        let meant = (!matches.is_empty()).then(|| matches[random.below(matches.len())]);
        Says::Http(http(random, meant))
    };
    Request { from, to: (SHOP.to_owned(), destination.to_owned()), port, says }
}

fn caller(random: &mut Random, smi: Smi<'_>, target: &Value) -> Option<(String, String)> {
    let sources = list(target, "/spec/sources");
    if random.percent(if takes_plaintext(smi) { 12 } else { 1 }) {
        return None;
    }
    if random.percent(92) && !sources.is_empty() {
        let source = &sources[random.below(sources.len())];
        let of = text(source, "/namespace");
        let of = if of.is_empty() { text(target, "/metadata/namespace") } else { of };
        let is_it = |caller: &&(&str, &str)| **caller == (of, text(source, "/name"));
        let bound = accounts(smi, source, text(target, "/metadata/namespace"), true);
        let bound: Vec<_> = bound.into_iter().filter(|(of, name)| CALLERS.contains(&(of, name))).collect();
        if !bound.is_empty() && random.percent(95) {
            return Some(bound[random.below(bound.len())].clone());
        }
        if let Some((of, name)) = CALLERS.iter().find(is_it) {
            return Some(((*of).to_owned(), (*name).to_owned()));
        }
    }
    let (of, name) = CALLERS[random.below(CALLERS.len())];
    Some((of.to_owned(), name.to_owned()))
}

/// Returns true if any object sets an mTLS mode, valid or not.
fn takes_plaintext(smi: Smi<'_>) -> bool {
    smi.0.iter().any(|it| {
        it.pointer("/metadata/labels/smidge.mesh~1mtls").is_some() || it["spec"].get("mtls").is_some()
    })
}

/// Returns one of these ports, preferably one that a TCPRoute of the target names.
fn port(random: &mut Random, smi: Smi<'_>, target: &Value, of: &[u16]) -> u16 {
    let routes = list(target, "/spec/rules").iter().filter(|rule| text(rule, "/kind") == "TCPRoute");
    let ports: Vec<u16> = routes
        .filter_map(|rule| smi.find("TCPRoute", SHOP, text(rule, "/name")))
        .flat_map(|route| list(route, "/spec/matches/ports"))
        .filter_map(|port| u16::try_from(port.as_u64()?).ok())
        .filter(|port| of.contains(port))
        .collect();
    if !ports.is_empty() && random.percent(94) {
        return ports[random.below(ports.len())];
    }
    of[random.below(of.len())]
}

/// Generates a request that meets a match, sometimes changed.
pub fn http(random: &mut Random, meant: Option<&Value>) -> Http {
    let method = method(random, meant);
    let mut http = Http {
        // Over HTTP/2 a path need not look like one, but our client requires it.
        is_h2: random.percent(12),
        method,
        target: path(random, meant),
        host: random
            .weighted(&[(70, "api"), (10, "api.shop"), (10, "store"), (5, "apis"), (5, "api.shop:80")])
            .to_owned(),
        headers: Vec::new(),
    };
    for (name, written) in meant.map(headers).into_iter().flatten() {
        let value =
            Pattern::read(&written).map_or_else(|| "buyer".to_owned(), |pattern| pattern.sample(random));
        if name == "host" || name == ":authority" {
            let is_host = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
            let host: String = value.chars().filter(|c| is_host(*c)).collect();
            if !host.is_empty() && random.percent(80) {
                http.host = host;
            }
        } else if !name.contains(' ') {
            add_header(random, &mut http.headers, &name, &value);
        }
    }
    if random.percent(10) && http.headers.iter().all(|(_, value)| !value.is_empty()) {
        http.headers.push(("x-version".to_owned(), random.pick(&["v1", "v2", "buyer"]).to_owned()));
    }
    // Whether empty lines of a repeated header count depends on the header's name: the value is the workload's in any
    // case.
    let names: Vec<String> = http.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let is_alone = |name: &str| names.iter().filter(|its| its.eq_ignore_ascii_case(name)).count() == 1;
    http.headers.retain(|(name, value)| !value.trim().is_empty() || is_alone(name));
    if random.percent(3) {
        // No header of a caller may replace the path.
        http.headers.push(("x-envoy-original-path".to_owned(), "/books".to_owned()));
    }
    http
}

fn add_header(random: &mut Random, to: &mut Vec<(String, String)>, name: &str, value: &str) {
    let value = value.trim();
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    match random.below(30) {
        0 => {}
        // Whether empty lines of a repeated header count depends on the header's name: the value is the workload's in
        // any case.
        3..=5 if value.is_empty() => to.push(line(name, value)),
        1 => to.push(line(name, &format!("{value}x"))),
        2 => to.push(line(name, &value.to_ascii_uppercase())),
        3 => to.extend([line(name, value), line(name, "thief")]),
        4 => to.extend([line(name, "thief"), line(name, value)]),
        5 => to.extend([line(name, value), line(name, value)]),
        6 if to.iter().all(|(its, _)| !its.eq_ignore_ascii_case(name)) => to.push(line(name, "")),
        7 => to.push(line(name, &format!("  {value} "))),
        8 => to.push(line(&name.to_ascii_uppercase(), value)),
        _ => to.push(line(name, value)),
    }
}

fn method(random: &mut Random, meant: Option<&Value>) -> String {
    let stated = meant.map_or(&[][..], |it| list(it, "/methods"));
    let known: Vec<&str> = stated
        .iter()
        .filter_map(Value::as_str)
        .filter(|method| method.len() > 1 && method.bytes().all(|c| c.is_ascii_uppercase()))
        .collect();
    if !known.is_empty() && random.percent(88) {
        return random.pick(&known).to_owned();
    }
    random
        .weighted(&[
            (60, "GET"),
            (6, "HEAD"),
            (12, "POST"),
            (6, "PUT"),
            (6, "DELETE"),
            (6, "PATCH"),
            (4, "PURGE"),
        ])
        .to_owned()
}

fn path(random: &mut Random, meant: Option<&Value>) -> String {
    let pattern = meant.map(|it| text(it, "/pathRegex")).and_then(Pattern::read);
    let mut path = pattern.map_or_else(|| "/books".to_owned(), |pattern| pattern.sample(random));
    path.retain(|c| c != ' ');
    if random.percent(4) {
        path = random.pick(&["/", "/books", "/api/v1", "/shop.Books/Get", "/a", "/b/list.json"]).to_owned();
    }
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    for _ in 0..random.weighted(&[(62, "0"), (28, "1"), (10, "2")]).parse().unwrap() {
        mutate(random, &mut path);
    }
    let mut path = tame(&path);
    if random.percent(1) {
        path.push_str("/%zz");
    }
    if random.percent(12) {
        path.push_str(random.pick(&["?", "?q=1", "?/books", "?a=/api/../b", "?x=%2f", "?q=1&x=%20", "?a?b"]));
    }
    path
}

/// Leaves out what Envoy, or one of its versions, reads in its own way (`docs/design/006-proof.md`): escapes without
/// two digits before others, and dot segments with parameters that are not escaped.
fn tame(path: &str) -> String {
    let bytes = path.as_bytes();
    let is_escape =
        |at: usize| bytes.get(at + 1..at + 3).is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit));
    let kept = path.char_indices().filter(|(at, c)| *c != '%' || is_escape(*at)).map(|(_, c)| c);
    kept.collect::<String>().replace(".;", ".,")
}

/// Changes a path slightly: to another spelling of the same path, or to a similar path.
fn mutate(random: &mut Random, path: &mut String) {
    let at = random.below(path.len());
    let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
    let slash = slashes[random.below(slashes.len())];
    match random.below(18) {
        0 => path.push_str("/more"),
        1 => path.push('x'),
        2 if path.len() > 1 => drop(path.pop()),
        3 => *path = path.to_ascii_uppercase(),
        4 => path.insert(slash, '/'),
        5 => path.insert_str(slash, "/."),
        6 => path.insert_str(slash, "/x/.."),
        7 => path.insert_str(slash, "/x/%2e%2E"),
        8 => path.push_str("/.."),
        9 => path.push('/'),
        10 => path.insert_str(0, "/x"),
        11 => path.push_str(random.pick(&[
            "/../books",
            "/%2e%2e/api",
            "//",
            "/./",
            "/...",
            "/.x",
            "/..a",
            "/%2e",
        ])),
        12 => path.push_str(random.pick(&["%2f", "%2F..%2fapi", "%5c", "%5Cx"])),
        13 => path.push_str(random.pick(&["%20", "%25", "%2525", "%41", "%7e", "%c3%a9", "%00x", "%3a"])),
        14 => path.push_str(random.pick(&["/12", "/a", "/list", ".json", "/books", "/Get", ";v=1"])),
        15 => path.insert_str(0, random.pick(&["/..", "/%2e", "//", "/a/.."])),
        _ => {
            let byte = path.as_bytes()[at];
            if byte.is_ascii_alphanumeric() && path.is_char_boundary(at) {
                path.replace_range(at..=at, &format!("%{byte:02x}"));
            }
        }
    }
}
