//! Reads a header condition of an HTTPRouteGroup: the name as proxies know it, and the expression for its value.
//!
//! Called by `route` for each header of a match. `regex` decides which expressions are accepted.

use smidge_crds::config::HeaderRegexMatch;

use super::regex;
use crate::finding::Reason;

/// Cost of searching a value for an expression, beside that of the expression.
const SEARCH_COST: u64 = 30;

/// A header condition.
pub(super) struct Header {
    /// The name in lower case; `:authority` for the host.
    pub name: String,
    /// The expression, which the whole value must match.
    pub pattern: String,
    /// Cost of the expression.
    pub cost: u64,
    /// True if it means the same for the whole value and for a part of it.
    pub is_whole: bool,
}

/// Returns the condition, or the defect for which there is none.
pub(super) fn read(
    name: &str,
    pattern: &str,
    part: Option<HeaderRegexMatch>,
) -> Result<Header, (Reason, String)> {
    let lower = name.to_ascii_lowercase();
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let name = match lower.as_str() {
        // Proxies know the host of either protocol version by this name.
        "host" | ":authority" => ":authority".to_owned(),
        "" => return Err((Reason::InvalidHeader, "a header without a name".to_owned())),
        _ if lower.chars().all(is_token) => lower,
        _ => return Err((Reason::InvalidHeader, format!("{name:?} is no header name"))),
    };
    let regex::Accepted { cost, is_whole, .. } =
        regex::check(pattern).map_err(|error| (Reason::InvalidRegex, format!("{pattern:?} {error}")))?;
    Ok(match part {
        Some(HeaderRegexMatch::Partial) if !is_whole => {
            Header { name, pattern: format!(".*(?:{pattern}).*"), cost: cost + SEARCH_COST, is_whole }
        }
        _ => Header { name, pattern: pattern.to_owned(), cost, is_whole },
    })
}
