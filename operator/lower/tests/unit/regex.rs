//! Tests which regular expressions are accepted, and that every Envoy that is tested accepts each of them.
//!
//! An Envoy that refuses one expression refuses the whole resource, and keeps its old policy.

use smidge_xds_testing::binaries;
use std::{path::Path, process::Command};

use smidge_lower::regex::{RegexError, check};

const ACCEPTED: &[&str] = &[
    // Common expressions.
    "/buy",
    "/books/[0-9]+",
    r"/api/v\d+/.*",
    "/a|/b",
    "^/x$",
    ".*",
    ".+",
    "/caf%C3%A9",
    "/[^/]+/x",
    "/x y",
    r"/x\ y\_z",
    r"/a\.b",
    r"\/escaped\/slashes",
    r"/\-",
    r#"/\%\@\#\!\&\:\;\,\=\'\"\~\`"#,
    r"/\*\+\?\(\)\[\]\{\}\|\^\$\\",
    r".*[Ff]irefox/\S+\s.*",
    "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    // Flags and groups.
    "(?i)/Books",
    "(?s).*",
    "(?U)/a+",
    "(?m)^/a$",
    "/x(?i:y)z",
    "/(?:a|b)*?",
    "/(?P<id>[a-z]+)",
    "/()",
    "/a||b",
    "(|a)",
    // Classes.
    "/[-a]",
    "/[a-]",
    "/[]a]",
    "/[^]a]",
    "/[.*+]",
    "/[a-b-c]",
    "[ -~]*",
    r"/[\w-]+",
    r"/[a-z\-_.]+",
    r"/[\]\[\^]+",
    "/[[:alpha:]]+",
    "[[:^digit:]]+",
    // Counted repetitions and anchors.
    "/a{3}",
    "/a{2,}",
    "/a{2,5}?",
    "/a{0}",
    "/a{0,1000}",
    "(a{30}){30}",
    r"/\w+\b.*",
    r"\A/x\B.*\z",
    // Characters by number.
    r"/\x41\x{42}",
];

/// Expressions that are refused, with true if RE2 accepts them: if it does, it reads them differently than Rust, or
/// reads more than the bounds allow.
const REJECTED: &[(&str, bool)] = &[
    ("(", false),
    (")", false),
    ("[", false),
    ("*", false),
    ("[z-a]", false),
    ("a{5,2}", false),
    ("(?=x)", false),
    ("(?<!x)", false),
    (r"(a)\1", false),
    (r"\u0041", false),
    ("(?x)a", false),
    ("(?u)a", false),
    ("(?R)a", false),
    ("a**", false),
    ("a*+", false),
    ("a{2}{3}", false),
    ("a{1001}", false),
    ("(a{100}){100}", false),
    // RE2 reads these differently.
    ("[a&&b]", true),
    ("[a[b]]", true),
    ("[a~~b]", true),
    (r"\<a", true),
    (r"\b{start}", true),
    ("a{ 2 }", true),
    ("a{,5}", true),
    ("{", true),
    // RE2 or some Envoy reads these in its own way, and no user needs them.
    (r"\pL", true),
    (r"\p{Greek}", true),
    (r"\Qa.b\E", true),
    (r"\C", true),
    (r"\07", true),
    (r"\x00", true),
    (r"\x{7f}", true),
    ("^*", true),
    ("(?<n>a)", true),
    ("/caf\u{e9}", true),
    ("/a\tb", true),
    // Too large.
    ("(.{30}){30}", true),
    ("[^/]{500}", true),
];

#[test]
fn accepted_is_what_re2_and_rust_read_alike() {
    for pattern in ACCEPTED {
        assert!(check(pattern).is_ok(), "{pattern:?}: {:?}", check(pattern));
        assert!(regex::Regex::new(pattern).is_ok(), "{pattern:?} is not what Rust's regex takes");
    }
    for (pattern, _) in REJECTED {
        assert!(check(pattern).is_err(), "{pattern:?} was accepted");
    }
}

#[test]
fn an_expression_is_bounded() {
    assert!(check(&"a".repeat(1024)).is_ok());
    assert_eq!(check(&"a".repeat(1025)), Err(RegexError::TooLong(1025)));
    assert_eq!(check(&"(a{1000}|b)".repeat(5)), Err(RegexError::TooLarge));
    // Deep nesting must neither be accepted nor overflow the stack.
    let deep = format!("{}a{}", "(".repeat(500), ")".repeat(500));
    assert!(check(&deep).is_err());
}

#[test]
fn every_envoy_takes_every_accepted_expression() {
    let largest = "[^/]{180}".to_owned();
    let longest = "a".repeat(1024);
    let nested = format!("{}a{}", "(".repeat(200), ")".repeat(200));
    let mut patterns = ACCEPTED.to_vec();
    patterns.extend([largest.as_str(), &longest, &nested]);
    for pattern in &patterns {
        assert!(check(pattern).is_ok(), "{pattern:?}: {:?}", check(pattern));
    }
    for envoy in binaries::envoys() {
        if takes(&envoy, &patterns).is_err() {
            let refused: Vec<_> = patterns.iter().filter_map(|one| takes(&envoy, &[one]).err()).collect();
            panic!("{} refuses: {}", envoy.display(), refused.join("\n"));
        }
    }
}

#[test]
fn what_envoy_is_said_to_refuse_it_refuses() {
    for envoy in binaries::envoys().iter().rev().take(1) {
        for (pattern, is_taken) in REJECTED {
            assert_eq!(takes(envoy, &[pattern]).is_ok(), *is_taken, "{pattern:?}");
        }
    }
}

/// Checks that Envoy accepts a configuration with these patterns for a path and for a header's value.
fn takes(envoy: &Path, patterns: &[&str]) -> Result<(), String> {
    let mut routes = Vec::new();
    for pattern in patterns {
        for regex in [format!("(?:{pattern}).*"), (*pattern).to_owned()] {
            routes.push(serde_json::json!({
                "match": {"safe_regex": {"regex": regex},
                    "headers": [{"name": "x", "string_match": {"safe_regex": {"regex": regex}}}]},
                "direct_response": {"status": 200},
            }));
        }
    }
    let manager = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "route_config": {"virtual_hosts": [{"name": "x", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    let configuration = serde_json::json!({
        // As in the proxies' bootstrap.
        "layered_runtime": {"layers": [
            {"name": "smidge", "static_layer": {"re2.max_program_size.error_level": 1_000_000}},
        ]},
        "static_resources": {"listeners": [{
            "name": "x",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }]},
    });
    let output = Command::new(envoy)
        .args(["--mode", "validate", "--log-level", "off", "--config-yaml"])
        .arg(configuration.to_string())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", envoy.display()));
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{patterns:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
