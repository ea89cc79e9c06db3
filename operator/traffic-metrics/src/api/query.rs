//! Reads the parameters of a request for figures.
//!
//! Pure. Used by `request`. Parameters that are not known are ignored, as API servers do; one that is known and has an
//! invalid value is an error that names it.

use std::time::Duration;

use super::{duration, status::Status};

/// Window without a parameter.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(30);
/// Shortest window.
pub const MIN_WINDOW: Duration = Duration::from_secs(10);
/// Longest window.
pub const MAX_WINDOW: Duration = Duration::from_hours(1);
/// Maximum length of the parameters, in bytes.
const MAX_BYTES: usize = 16 << 10;
/// Maximum number of parameters.
const MAX_PARAMETERS: usize = 64;
/// Maximum length of a value in a message, in bytes.
const MAX_SHOWN: usize = 100;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Length of the time that is reported (`window`, or `t`).
    pub window: Duration,
    /// Label selector, which the API server evaluates; empty: every object.
    pub label_selector: String,
    /// Name of the one object, from `fieldSelector=metadata.name=NAME`.
    pub name: Option<String>,
    /// Maximum number of objects; `None`: no limit of the client's.
    pub limit: Option<u32>,
    /// Token of the previous part of the list; empty: the first part.
    pub continue_token: String,
    /// True if changes are to be sent (`watch`).
    pub watch: bool,
    /// Length of a watch (`timeoutSeconds`).
    pub timeout: Option<Duration>,
    /// True if a watch may have bookmarks (`allowWatchBookmarks`).
    pub bookmarks: bool,
    /// True if a bookmark is to mark the end of the first events (`sendInitialEvents`).
    pub initial_events: bool,
    /// Object in the rows of a table (`includeObject`).
    pub include_object: IncludeObject,
}

/// Object in the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// None.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            window: DEFAULT_WINDOW,
            label_selector: String::new(),
            name: None,
            limit: None,
            continue_token: String::new(),
            watch: false,
            timeout: None,
            bookmarks: false,
            initial_events: false,
            include_object: IncludeObject::default(),
        }
    }
}

/// Reads the parameters from the part of an address after `?`.
pub fn parse(query: &str) -> Result<Parameters, Status> {
    let pairs = pairs(query)?;
    let mut parameters = Parameters { window: window(&pairs)?, ..Parameters::default() };
    for (key, value) in pairs {
        parameters.set(&key, value)?;
    }
    Ok(parameters)
}

/// Splits the part of an address after `?` into keys and values, each key once.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, Status> {
    if query.len() > MAX_BYTES {
        return Err(Status::bad_request(format!("the parameters have more than {MAX_BYTES} bytes")));
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(key), Some(value)) = (decode(key), decode(value)) else {
            let message = format!("invalid parameter {}: expected percent-encoded UTF-8", shown(pair));
            return Err(Status::bad_request(message));
        };
        if pairs.len() == MAX_PARAMETERS {
            return Err(Status::bad_request(format!("there are more than {MAX_PARAMETERS} parameters")));
        }
        // Of a repeated parameter, the first value counts, as in Go.
        if pairs.iter().all(|(known, _)| *known != key) {
            pairs.push((key, value));
        }
    }
    Ok(pairs)
}

impl Parameters {
    fn set(&mut self, key: &str, value: String) -> Result<(), Status> {
        match key {
            "labelSelector" => self.label_selector = value,
            "fieldSelector" => self.name = field(&value)?,
            "limit" => self.limit = Some(number(key, &value)?).filter(|limit| *limit > 0),
            "continue" => self.continue_token = value,
            "watch" => self.watch = is_true(&value),
            "timeoutSeconds" => {
                let seconds = number(key, &value)?;
                self.timeout = Some(Duration::from_secs(seconds.into())).filter(|timeout| !timeout.is_zero());
            }
            "allowWatchBookmarks" => self.bookmarks = is_true(&value),
            "sendInitialEvents" => self.initial_events = is_true(&value),
            "includeObject" => {
                self.include_object = match value.as_str() {
                    "None" => IncludeObject::None,
                    "Metadata" | "" => IncludeObject::Metadata,
                    "Object" => IncludeObject::Object,
                    _ => return Err(invalid(key, &value, "None, Metadata or Object")),
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads the window: `window`, or `t`, the name that smi-metrics has for it.
fn window(pairs: &[(String, String)]) -> Result<Duration, Status> {
    let find = |name: &str| pairs.iter().find(|(key, _)| key == name);
    let (key, value) = match (find("window"), find("t")) {
        (Some((_, window)), Some((_, t))) if window != t => {
            let message = format!("window={} and t={} differ: expected one of them", shown(window), shown(t));
            return Err(Status::bad_request(message));
        }
        (Some(pair), _) | (None, Some(pair)) => pair,
        (None, None) => return Ok(DEFAULT_WINDOW),
    };
    let parsed = duration::parse(value).filter(|window| (MIN_WINDOW..=MAX_WINDOW).contains(window));
    parsed.ok_or_else(|| {
        let (least, most) = (duration::format(MIN_WINDOW), duration::format(MAX_WINDOW));
        invalid(key, value, &format!("a duration from {least} to {most}, for example 30s or 5m30s"))
    })
}

/// Reads a field selector, of which the name is the only one.
fn field(value: &str) -> Result<Option<String>, Status> {
    if value.is_empty() {
        return Ok(None);
    }
    let name = value.strip_prefix("metadata.name=").map(|name| name.strip_prefix('=').unwrap_or(name));
    match name {
        Some(name) if super::access::is_name(name) => Ok(Some(name.to_owned())),
        _ => Err(invalid("fieldSelector", value, "metadata.name=NAME, the only field that can be selected")),
    }
}

fn number(key: &str, value: &str) -> Result<u32, Status> {
    if value.is_empty() {
        return Ok(0);
    }
    // Larger numbers mean the same as the largest.
    let parsed = value.parse::<u64>().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()));
    let parsed = parsed.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    parsed.ok_or_else(|| invalid(key, value, "a number that is not negative"))
}

/// Reads a truth value as API servers do: everything but `false` and `0` is true.
pub(super) fn is_true(value: &str) -> bool {
    !value.eq_ignore_ascii_case("false") && value != "0"
}

/// Returns the error for a parameter.
pub(super) fn invalid(key: &str, value: &str, expected: &str) -> Status {
    Status::bad_request(format!("invalid {key}={}: expected {expected}", shown(value)))
}

/// Returns a value for a message, quoted and cut.
pub(super) fn shown(value: &str) -> String {
    let end = value.floor_char_boundary(MAX_SHOWN);
    let rest = if end < value.len() { "…" } else { "" };
    format!("{:?}{rest}", value.get(..end).unwrap_or_default())
}

/// Decodes percent-encoded text of a parameter, in which `+` is a space; `None` if it is not UTF-8 or an escape is not
/// complete.
fn decode(text: &str) -> Option<String> {
    unescape(&text.replace('+', " "))
}

/// Decodes percent-encoded text; `None` if it is not UTF-8 or an escape is not complete.
pub fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|it| u8::try_from(it).ok());
            bytes.push(digit()? << 4 | digit()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(query: &str) -> String {
        let status = parse(query).unwrap_err();
        assert_eq!(status.code, 400, "{query}");
        status.message().to_owned()
    }

    #[test]
    fn parameters_are_read() {
        assert_eq!(parse("").unwrap(), Parameters::default());
        let query = "window=5m30s&labelSelector=app%3Dweb%2Ca+b&limit=500&continue=abc&watch=1&timeoutSeconds=60\
                     &allowWatchBookmarks=true&sendInitialEvents=true&includeObject=Object&fieldSelector=metadata.name%3Dweb\
                     &pretty=true&window=1h";
        let expected = Parameters {
            window: Duration::from_secs(330),
            label_selector: "app=web,a b".to_owned(),
            name: Some("web".to_owned()),
            limit: Some(500),
            continue_token: "abc".to_owned(),
            watch: true,
            timeout: Some(Duration::from_mins(1)),
            bookmarks: true,
            initial_events: true,
            include_object: IncludeObject::Object,
        };
        assert_eq!(parse(query).unwrap(), expected);
        assert_eq!(parse("t=1h").unwrap().window, MAX_WINDOW);
        assert_eq!(parse("t=10s&window=10s").unwrap().window, MIN_WINDOW);
        assert_eq!(
            parse("watch=False&limit=0&timeoutSeconds=0&fieldSelector=").unwrap(),
            Parameters::default()
        );
        assert!(parse("watch").unwrap().watch);
        assert_eq!(parse("limit=99999999999").unwrap().limit, Some(u32::MAX));
        assert_eq!(parse("fieldSelector=metadata.name==web").unwrap().name.as_deref(), Some("web"));
    }

    #[test]
    fn an_invalid_value_is_an_error_that_names_it_and_what_is_expected() {
        for value in ["9.999s", "1h1ms", "-30s", "five", "", "99999999h"] {
            for key in ["window", "t"] {
                let message = message(&format!("{key}={value}"));
                let expected = format!("invalid {key}={value:?}: expected a duration from 10s to 1h0m0s");
                assert!(message.starts_with(&expected), "{message}");
            }
        }
        assert!(message("window=10s&t=11s").contains("differ"));
        assert!(message("limit=-1").contains("invalid limit=\"-1\""));
        assert!(message("includeObject=All").contains("None, Metadata or Object"));
        assert!(message("fieldSelector=status.phase=Running").contains("metadata.name=NAME"));
        assert!(message("labelSelector=%ff").contains("UTF-8"));
        assert!(message("labelSelector=%f").contains("UTF-8"));
    }

    #[test]
    fn input_is_bounded() {
        assert!(message(&"a".repeat(MAX_BYTES + 1)).contains("more than 16384 bytes"));
        let many: Vec<String> = (0..=MAX_PARAMETERS).map(|number| format!("{number}=")).collect();
        assert!(message(&many.join("&")).contains("more than 64 parameters"));
        assert!(message(&format!("window={}", "é".repeat(1000))).len() < 400);
    }
}
