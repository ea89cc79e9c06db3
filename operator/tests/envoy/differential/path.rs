//! The path that a workload reads in a request line: the proof's own normalisation, by RFC 3986, 6.2.2.
//!
//! Escaped letters, digits, `-`, `.`, `_` and `~` are decoded; dot segments are resolved; then repeated slashes are
//! merged. An escaped slash, backslash or NUL means different things to different servers and is refused, and so is a
//! segment that is empty or dots except for its parameters.

/// Returns the path as it is judged and as the workload reads it, and the query string, if there is one; `None` if
/// refused.
pub fn normal(target: &str) -> Option<(String, Option<String>)> {
    let (raw, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let lower = raw.to_ascii_lowercase();
    if ["%2f", "%5c", "%00"].iter().any(|escaped| lower.contains(escaped)) {
        return None;
    }
    let mut path = one_slash(&without_dots(&decoded(raw)));
    let is_slashes = |path: &str| path.len() > 1 && path.bytes().all(|byte| byte == b'/');
    if path == "/" && is_slashes(&without_dots(&decoded(raw))) {
        // The one exception, as the workload reads a path of only slashes so.
        path.push('/');
    }
    if hides_dots(&path) {
        return None;
    }
    Some((path, query.map(str::to_owned)))
}

/// Returns what the workload reads: path and query.
pub fn read(target: &str) -> Option<String> {
    normal(target).map(|(path, query)| match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    })
}

/// Returns true if a server that drops parameters would read another path: a dot segment appears, or an empty one
/// vanishes.
fn hides_dots(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    segments.iter().enumerate().any(|(at, segment)| {
        let is_last = at + 1 == segments.len();
        match segment.to_ascii_lowercase().replace("%3b", ";").split_once(';') {
            Some(("." | "..", _)) => true,
            Some(("", _)) => segment.starts_with(';') && !is_last,
            _ => false,
        }
    })
}

fn decoded(path: &str) -> String {
    let mut bytes = path.as_bytes().iter();
    let mut text = String::new();
    while let Some(byte) = bytes.next() {
        let next = bytes.as_slice().get(..2).filter(|_| *byte == b'%');
        let next = next.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let meant = next.and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match meant.filter(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)) {
            Some(meant) => {
                text.push(char::from(meant));
                bytes.nth(1);
            }
            None => text.push(char::from(*byte)),
        }
    }
    text
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // The remaining path names a folder.
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn one_slash(path: &str) -> String {
    let mut text = String::new();
    for c in path.chars() {
        if !(c == '/' && text.ends_with('/')) {
            text.push(c);
        }
    }
    text
}
