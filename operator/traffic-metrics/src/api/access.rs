//! Right to a request, as RBAC knows it: a verb, a resource, and the names of objects.
//!
//! Pure. Made by `request` and `stored`; the server has the right reviewed.

use super::Version;

/// Right that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    /// The version.
    pub version: Version,
    /// The resource.
    pub plural: &'static str,
    /// The subresource; empty: none.
    pub subresource: &'static str,
    /// The verb.
    pub verb: &'static str,
    /// The namespace; `None`: all, or there is none.
    pub namespace: Option<&'a str>,
    /// The name; `None`: all, or one that is not known yet.
    pub name: Option<&'a str>,
}

/// Returns true if an object can have this name.
pub fn is_name(name: &str) -> bool {
    let is_inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    !name.is_empty() && name.len() <= 253 && name.bytes().all(is_inner) && !name.starts_with('.')
}
