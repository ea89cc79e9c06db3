//! A path that a real Envoy lets through is read by servers as the path that was judged: random paths from parts that
//! servers read differently, against four small readers that follow the rules of well-known kinds of servers.
//!
//! The judged path is the one that is sent on (`rbac_verdicts`), so the readers are given the path that the workload
//! received. Two things are left to the workload and listed in docs/limits.md: to decode twice, and to ignore case.

use smidge_xds_testing::{binaries, caller, inbound, meshes, process, properties, trust};
use std::{path::Path, sync::Arc};

use caller::{Authority, Leaf, request};
use inbound::{Inbound, at, mirror_server, spiffe};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{TestCaseError, TestRunner},
};
use smidge_xds::{
    mesh::{
        access::{Payload, Ports},
        service::Protocol,
    },
    snapshot::Snapshot,
};

const PARTS: &[&str] = &[
    "/",
    "/",
    "/",
    "//",
    ".",
    ".",
    "..",
    "..",
    "...",
    "%2e",
    "%2E",
    "%2e%2e",
    ";",
    ";",
    ";x",
    ";x=/",
    "%3b",
    "%2f",
    "%5c",
    "\\",
    "a",
    "b",
    "%61",
    "%25",
    "%252e",
    "%252f",
    "%20",
    "?q",
    "#",
    "/../",
    "/./",
    "/..;/",
    "/%2e%2e;/",
    "/;/",
    "~",
    "+",
    "*",
    ":",
    "@",
];

#[test]
fn what_is_let_through_is_read_as_it_was_judged() {
    for binary in binaries::envoys() {
        let scenario = Scenario::start(&binary);
        let mut runner = TestRunner::new(properties::config(300));
        let paths = vec(select(PARTS), 0..9).prop_map(|parts| format!("/{}", parts.concat()));
        runner
            .run(&paths, |path| scenario.judge(&path))
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    }
}

/// The readers find what they must find: each of these paths is read in two ways by at least one of them.
#[test]
fn the_readers_know_what_makes_trouble() {
    for path in ["/a/..;/b", "/a/;x/b", "/a/../b", "/a//b", "/a/%2e%2e/b", "/a/.;/b", "/a/./b", "/a/..;x=1"] {
        assert!(disagreement(path).is_some(), "{path}");
    }
    for path in ["/", "/a/b", "/a;v=1/b", "/a/;x", "/a%20b", "/a/...", "/a%252e", "/.well-known/x"] {
        assert_eq!(disagreement(path), None, "{path}");
    }
}

struct Scenario {
    http: u16,
    web: Leaf,
    _inbound: Inbound,
}

impl Scenario {
    fn start(binary: &Path) -> Self {
        let [http] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = trust::http_trusting(&authority);
        mesh.grants.clear();
        meshes::workload(&mut mesh, "api", 10, &[(http, Protocol::Http)]);
        meshes::grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let web = authority.issue(&spiffe("web"));
        Self { http, web, _inbound: Inbound::start(binary, authority, &[http], &snapshot, mirror_server()) }
    }

    fn judge(&self, path: &str) -> Result<(), TestCaseError> {
        let stream = self.web.connect(at(self.http)).unwrap();
        let (status, answer) = request(stream, &format!("GET {path} HTTP/1.1\nHost: api")).unwrap();
        if status == 400 {
            return Ok(());
        }
        prop_assert_eq!(status, 200, "{}", &answer);
        let sent = answer.split_once("\r\n\r\n").unwrap().1.split(' ').nth(1).unwrap();
        let sent = sent.split('?').next().unwrap();
        // Envoy sends a path of only slashes as two of them, see docs/limits.md.
        let sent = if sent == "//" { "/" } else { sent };
        prop_assert_eq!(disagreement(sent), None, "{} was sent on as {}", path, sent);
        Ok(())
    }
}

/// Returns the first reader that reads a path as another than the written one, with what it reads.
fn disagreement(path: &str) -> Option<(&'static str, String)> {
    let whole = decoded(path);
    let bare = decoded(&without_parameters(path));
    let readers: [(&str, String, &String); 4] = [
        ("Tomcat", tomcat(path), &bare),
        ("Jetty", jetty(path), &bare),
        ("nginx", nginx(path), &whole),
        ("Go", go(path), &whole),
    ];
    readers.into_iter().find(|(_, read, said)| read != *said).map(|(name, read, _)| (name, read))
}

/// Reads a path as Tomcat does: parameters are removed, escapes are decoded, slashes are merged, dot segments are
/// followed, in this order.
fn tomcat(path: &str) -> String {
    followed(&merged(&decoded(&without_parameters(path))))
}

/// Reads a path as Jetty does: each segment loses its parameters and is decoded; dot segments are followed; empty
/// segments stay.
fn jetty(path: &str) -> String {
    followed(
        &path.split('/').map(|segment| decoded(&without_parameters(segment))).collect::<Vec<_>>().join("/"),
    )
}

/// Reads a path as nginx does: escapes are decoded, slashes are merged, dot segments are followed. Backslash and
/// semicolon are letters.
fn nginx(path: &str) -> String {
    followed(&merged(&decoded(path)))
}

/// Reads a path as Go does: escapes are decoded, and the result is cleaned: slashes and dot segments, except a slash at
/// the end.
fn go(path: &str) -> String {
    let decoded = decoded(path);
    let mut clean = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    let end = if decoded.ends_with('/') && !clean.is_empty() { "/" } else { "" };
    format!("/{}{end}", clean.join("/"))
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(|segment| segment.split(';').next().unwrap()).collect::<Vec<_>>().join("/")
}

/// Decodes escapes once.
fn decoded(path: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let [first, after @ ..] = rest {
        let escape = (*first == b'%').then(|| after.get(..2)).flatten();
        let value = escape.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn merged(path: &str) -> String {
    let mut merged = String::new();
    for letter in path.chars() {
        if letter != '/' || !merged.ends_with('/') {
            merged.push(letter);
        }
    }
    merged
}

/// Follows dot segments, as RFC 3986 does it.
fn followed(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}
