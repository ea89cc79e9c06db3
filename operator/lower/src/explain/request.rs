//! Reads the request of a question, and evaluates whether a match of a route accepts it.
//!
//! The path is read as the proxies read it: without its query, normalised, and refused where it hides a slash, by which of the two proxies. A part
//! that the question leaves out may have any value, so a result has three values. Knows no grant and no caller.

use std::{collections::BTreeMap, fmt::Write as _};

use regex::bytes::RegexBuilder;
use regex_syntax::hir::{Hir, HirKind, LookSet};
use smidge_mesh::matches::{HttpMatch, PathEnd, PathRegex};

use crate::smi::regex::is_same_open_and_closed;

/// Request that a question is about. `None`, and headers that are not named, may have any value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The method.
    pub method: Option<String>,
    /// The path as the proxies read it.
    pub path: Option<Path>,
    /// Values by lower-case name; `host` is `:authority`.
    pub headers: BTreeMap<String, String>,
}

/// A path as the proxies read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// Normalised, without the query.
    Read(String),
    /// Normalised as the caller's proxy reads it, by which a split may choose; the destination's proxy answers 400 to every
    /// caller, with the reason.
    RefusedAtDestination(String, &'static str),
    /// Answered by the caller's proxy, with the reason.
    Refused(&'static str),
}

/// Reason for which `*` is refused.
const NO_PATH: &str = "* is no path that proxies forward";

/// Result of matching a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// Matches, whatever the values of the omitted parts.
    Always,
    /// Matches for some values of the omitted parts.
    Sometimes,
    /// Does not match, whatever the values of the omitted parts.
    Never,
}

impl Request {
    /// Returns the reason for which the caller's proxy answers the request itself, if it reads the port as HTTP.
    pub fn early_refusal(&self) -> Option<String> {
        let is_late = matches!(self.path, Some(Path::RefusedAtDestination(..)));
        self.refusal().filter(|_| !is_late || self.method.as_deref() == Some("CONNECT"))
    }

    /// Returns the reason for which the destination's proxy answers the request itself, whoever the caller is.
    pub fn refusal(&self) -> Option<String> {
        if self.method.as_deref() == Some("CONNECT") {
            return Some(
                "CONNECT is answered with 501: it is not served at ports that are read as HTTP".to_owned(),
            );
        }
        match &self.path {
            Some(Path::Refused(why) | Path::RefusedAtDestination(_, why)) => {
                let status = if *why == NO_PATH { 404 } else { 400 };
                Some(format!("the path is answered with {status}, whoever asks: {why}"))
            }
            _ => None,
        }
    }

    /// Returns true if the question states nothing about HTTP.
    pub fn is_bare(&self) -> bool {
        self.method.is_none() && self.path.is_none() && self.headers.is_empty()
    }
}

/// Reads a path as written in a request line. Expects a leading slash, or `*`.
pub fn read_path(written: &str) -> Path {
    let path = written.split('?').next().unwrap_or_default();
    if path == "*" {
        return Path::Refused(NO_PATH);
    }
    let lower = path.to_ascii_lowercase();
    if lower.contains("%00") {
        return Path::Refused("it holds an escaped zero byte");
    }
    if path.contains('#') {
        return Path::Refused("it holds a fragment");
    }
    let decoded = decode(path);
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    // Dot segments first, then slashes: `..` removes an empty segment like any other.
    let mut read = String::new();
    for (index, segment) in kept.iter().enumerate() {
        let is_last = index + 1 == kept.len();
        if !segment.is_empty() || is_last {
            read.push('/');
            read.push_str(segment);
        }
    }
    let read = if read.is_empty() { "/".to_owned() } else { read };
    if lower.contains("%2f") || lower.contains("%5c") {
        Path::RefusedAtDestination(read, "it holds an escaped slash")
    } else if is_ambiguous(&read) {
        Path::RefusedAtDestination(read, "it has a segment that is empty, \".\" or \"..\" before a \";\"")
    } else {
        Path::Read(read)
    }
}

/// Returns true if servers that drop parameters would read the path as another one; `smidge_xds` makes proxies refuse
/// such paths.
fn is_ambiguous(read: &str) -> bool {
    let mut segments = read.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(';').next().unwrap_or_default();
        let escaped = |dots| {
            segment.strip_prefix(dots).is_some_and(|rest| rest.to_ascii_lowercase().starts_with("%3b"))
        };
        let is_hidden = name.len() < segment.len()
            && (matches!(name, "." | "..") || (name.is_empty() && segments.peek().is_some()));
        if is_hidden || escaped(".") || escaped("..") {
            return true;
        }
    }
    false
}

/// Unescapes what needs no escape, escapes what does, and turns backslashes into slashes.
fn decode(path: &str) -> String {
    let mut bytes = path.as_bytes().iter().copied();
    let mut read = String::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => read.push('/'),
            b'%' => {
                let rest: Vec<u8> = bytes.clone().take(2).collect();
                match hex(&rest) {
                    Some(plain) if plain.is_ascii_alphanumeric() || b"-._~".contains(&plain) => {
                        read.push(char::from(plain));
                        bytes.nth(1);
                    }
                    _ => read.push('%'),
                }
            }
            b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..0x20 | 0x7f.. => {
                // Writing to a String cannot fail.
                let _ = write!(read, "%{byte:02X}");
            }
            _ => read.push(char::from(byte)),
        }
    }
    read
}

fn hex(digits: &[u8]) -> Option<u8> {
    let is_pair = digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_pair)?;
    u8::from_str_radix(text, 16).ok()
}

/// Evaluates whether a match accepts the request. Returns the conditions on the omitted parts or, if it does not accept
/// it, the conditions that fail.
pub fn fit(it: &HttpMatch, request: &Request) -> (Fit, Vec<String>) {
    let HttpMatch { name: _, path, methods, headers } = it;
    let mut parts = Vec::new();
    if let Some(methods) = methods {
        let listed = methods.iter().cloned().collect::<Vec<_>>().join(", ");
        parts.push(match &request.method {
            None => (Fit::Sometimes, format!("the method is one of {listed}")),
            Some(method) if methods.contains(method) => (Fit::Always, String::new()),
            Some(method) => (Fit::Never, format!("its methods are {listed}, not {method}")),
        });
    }
    parts.extend(path.as_ref().map(|path| fit_path(path, request)));
    for (name, pattern) in headers {
        parts.push(match request.headers.get(name) {
            None => (Fit::Sometimes, format!("header {name} matches {pattern:?}")),
            Some(value) if is_match(pattern, PathEnd::Closed, value) => (Fit::Always, String::new()),
            Some(value) => (Fit::Never, format!("header {name} is {value:?} and must match {pattern:?}")),
        });
    }
    let worst = parts.iter().map(|(fit, _)| *fit).max().unwrap_or(Fit::Always);
    let words = parts.into_iter().filter(|(fit, _)| *fit == worst && *fit != Fit::Always);
    (worst, words.map(|(_, words)| words).collect())
}

fn fit_path(path: &PathRegex, request: &Request) -> (Fit, String) {
    let PathRegex { pattern, end } = path;
    let (how, not) = match end {
        PathEnd::Open => ("begins as", "begin as"),
        PathEnd::Closed => ("matches", "match"),
    };
    match &request.path {
        _ if takes_every_path(path) && !matches!(request.path, Some(Path::Refused(_))) => {
            (Fit::Always, String::new())
        }
        None => (Fit::Sometimes, format!("the path {how} {pattern:?}")),
        Some(Path::Read(read) | Path::RefusedAtDestination(read, _)) if is_match(pattern, *end, read) => {
            (Fit::Always, String::new())
        }
        Some(Path::Read(read) | Path::RefusedAtDestination(read, _)) => {
            (Fit::Never, format!("path {read:?} does not {not} {pattern:?}"))
        }
        Some(Path::Refused(why)) => (Fit::Never, format!("the path is refused: {why}")),
    }
}

/// Returns true if every path matches; false where a check would need more than the form of the expression.
fn takes_every_path(path: &PathRegex) -> bool {
    let PathRegex { pattern, end } = path;
    if !may_begin(pattern, "/") {
        return false;
    }
    let looks = regex_syntax::parse(pattern).map_or(LookSet::full(), |hir| hir.properties().look_set());
    let reaches_end = *end == PathEnd::Open || is_same_open_and_closed(pattern);
    // A match of "" or "/" at the start of "/" is one at the start of every path, as nothing in the expression looks
    // further.
    looks.is_empty() && reaches_end && is_match(pattern, PathEnd::Open, "/")
}

/// Returns true if the expression matches the text from its start and, if its end is closed, to its end. One that does
/// not compile matches nothing; `lower` accepts none of that kind.
pub fn is_match(pattern: &str, end: PathEnd, text: &str) -> bool {
    if !may_begin(pattern, text) {
        return false;
    }
    // The group limits the flags of the expression. RE2 reads what `lower` accepts as bytes, with ASCII classes.
    let whole = match end {
        PathEnd::Open => format!(r"\A(?:{pattern})"),
        PathEnd::Closed => format!(r"\A(?:{pattern})\z"),
    };
    RegexBuilder::new(&whole).unicode(false).build().is_ok_and(|regex| regex.is_match(text.as_bytes()))
}

/// Returns true if a text begins with the literal characters that the expression begins with: to compile an expression
/// costs a hundred times as much, and a group may have thousands of which one fits.
fn may_begin(pattern: &str, text: &str) -> bool {
    fn first(hir: &Hir) -> Option<&[u8]> {
        match hir.kind() {
            HirKind::Literal(literal) => Some(&literal.0),
            HirKind::Concat(parts) => first(parts.first()?),
            _ => None,
        }
    }
    let hir = regex_syntax::parse(pattern).ok();
    hir.as_ref().and_then(first).is_none_or(|literal| text.as_bytes().starts_with(literal))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn path(pattern: &str, end: PathEnd) -> PathRegex {
        PathRegex { pattern: pattern.to_owned(), end }
    }

    fn any() -> HttpMatch {
        HttpMatch { name: "a/g/m".to_owned(), path: None, methods: None, headers: BTreeMap::new() }
    }

    #[test]
    fn paths_are_read_as_proxies_read_them() {
        for (written, read) in [
            ("/", "/"),
            ("/books/1?q=2", "/books/1"),
            ("/?/books", "/"),
            ("/x/../books", "/books"),
            ("//books", "/books"),
            ("/books//1/", "/books/1/"),
            ("/books/%2e%2e/secret", "/secret"),
            ("/%62ooks", "/books"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/../../a", "/a"),
            ("/a//../b", "/a/b"),
            (r"/a\b", "/a/b"),
            ("/a b", "/a%20b"),
            ("/%c3%a9", "/%c3%a9"),
            ("/é", "/%C3%A9"),
            ("/100%", "/100%"),
            ("/%+1", "/%+1"),
        ] {
            assert_eq!(read_path(written), Path::Read(read.to_owned()), "{written}");
        }
        for written in [
            "/a/%2e%2e;/b",
            "/a/.;x=1/b",
            "/a/..%3b/b",
            "/a/;x/b",
            "/..;",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%00",
            "/a#b",
        ] {
            assert!(!matches!(read_path(written), Path::Read(_)), "{written}");
        }
        // What the caller's proxy reads, and routes by.
        let of_caller = |written| match read_path(written) {
            Path::RefusedAtDestination(read, _) => read,
            other => panic!("{other:?}"),
        };
        assert_eq!(of_caller("/x/..//a%5Cb"), "/a%5Cb");
        assert_eq!(of_caller("/a/%2e%2e;/b"), "/a/..;/b");
        assert_eq!(read_path("/a?b=%2f"), Path::Read("/a".to_owned()));
    }

    #[test]
    fn parameters_that_hide_nothing_are_read() {
        for path in ["/a;v=1/b", "/;jsessionid=1", "/a/;x", "/a...;/b", "/a%3b/b"] {
            assert_eq!(read_path(path), Path::Read(path.to_owned()));
        }
    }

    #[test]
    fn what_is_left_out_may_be_anything() {
        let get = HttpMatch {
            path: Some(path("/a", PathEnd::Open)),
            methods: Some(BTreeSet::from(["GET".to_owned()])),
            headers: BTreeMap::from([("x".to_owned(), "1+".to_owned())]),
            ..any()
        };
        let nothing = Request::default();
        assert_eq!(fit(&any(), &nothing), (Fit::Always, vec![]));
        assert_eq!(fit(&get, &nothing).1.len(), 3);
        let ask = |method: &str, path: &str, header: &str| Request {
            method: Some(method.to_owned()),
            path: Some(read_path(path)),
            headers: BTreeMap::from([("x".to_owned(), header.to_owned())]),
        };
        assert_eq!(fit(&get, &ask("GET", "/ab", "11")).0, Fit::Always);
        assert_eq!(
            fit(&get, &Request { headers: BTreeMap::new(), ..ask("GET", "/a", "") }).0,
            Fit::Sometimes
        );
        for no in [ask("PUT", "/a", "1"), ask("GET", "/b", "1"), ask("GET", "/a", "12")] {
            let (fit, words) = fit(&get, &no);
            assert_eq!((fit, words.len()), (Fit::Never, 1), "{words:?}");
        }
    }

    #[test]
    fn every_path_is_known_where_the_form_states_it() {
        for pattern in ["", "/", ".*", "/.*", "/?", "(/.*)?", "/.+|/", ".+"] {
            assert!(takes_every_path(&path(pattern, PathEnd::Open)), "{pattern}");
        }
        for pattern in ["/$", "/a", r"/\b", "^$"] {
            assert!(!takes_every_path(&path(pattern, PathEnd::Open)), "{pattern}");
        }
        assert!(takes_every_path(&path("/.*", PathEnd::Closed)));
        assert!(!takes_every_path(&path("/", PathEnd::Closed)));
    }

    #[test]
    fn flags_of_an_expression_do_not_leak() {
        assert!(!is_match("(?m)/a$", PathEnd::Closed, "/a\n/b"));
        assert!(is_match("(?i)/A", PathEnd::Open, "/ab"));
        assert!(!is_match("/a|/b", PathEnd::Closed, "/ab"));
        assert!(is_match("/a*", PathEnd::Open, "/"));
        assert!(is_match("/a(b|c)", PathEnd::Closed, "/ac"));
    }
}
