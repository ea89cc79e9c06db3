//! Finds path expressions that no request can match: a query, a whole URL, or a text that does not begin with a slash.
//!
//! The path of a request begins with `/` and ends before the query (RFC 9112, 3.2.1), and an expression is matched from
//! its beginning. `regex` has accepted the expression before. Errs on the side of silence: an expression that is not
//! reported may still match nothing.

use regex_syntax::{
    Parser,
    hir::{Class, Hir, HirKind},
};

/// Reason for which no request matches, and what to write instead.
pub(super) type Unmatchable = (&'static str, &'static str);

const QUERY: Unmatchable = (
    "contains a query, and the path of a request ends before its query",
    "leave the query out: no SMI match can depend on it",
);
const URL: Unmatchable = (
    "is a URL, and only the path of a request is matched",
    "write the path alone; a match of headers can name the Host",
);
const NO_SLASH: Unmatchable =
    ("begins with no slash, and every path does", "begin with /, or with .* for a path that ends so");

/// Returns the reason for which no request can match an accepted path expression, if there is one.
pub(super) fn path(pattern: &str) -> Option<Unmatchable> {
    let hir = Parser::new().parse(pattern).ok()?;
    let start = pattern.trim_start_matches(['^', '(']);
    if ["http://", "https://", "https?://"].iter().any(|scheme| start.starts_with(scheme)) {
        return Some(URL);
    }
    if requires_foreign(&hir) {
        return Some(QUERY);
    }
    (!begins(&hir).can_match()).then_some(NO_SLASH)
}

/// Returns true if every match contains a character that no path has: of a query, of a fragment, or a blank.
fn requires_foreign(hir: &Hir) -> bool {
    const FOREIGN: &[u8] = b"?# ";
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => false,
        HirKind::Literal(literal) => literal.0.iter().any(|byte| FOREIGN.contains(byte)),
        HirKind::Class(class) => {
            let literal = class.literal();
            literal.is_some_and(|bytes| bytes.iter().any(|byte| FOREIGN.contains(byte)))
        }
        HirKind::Repetition(repetition) => repetition.min > 0 && requires_foreign(&repetition.sub),
        HirKind::Capture(capture) => requires_foreign(&capture.sub),
        HirKind::Concat(parts) => parts.iter().any(requires_foreign),
        HirKind::Alternation(parts) => parts.iter().all(requires_foreign),
    }
}

/// Beginning of the texts that a part matches.
#[derive(Clone, Copy)]
struct Begins {
    /// True if one of them begins with a slash.
    with_slash: bool,
    /// True if one of them is empty.
    empty: bool,
}

impl Begins {
    fn can_match(self) -> bool {
        self.with_slash || self.empty
    }
}

fn begins(hir: &Hir) -> Begins {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Begins { with_slash: false, empty: true },
        HirKind::Literal(literal) => Begins { with_slash: literal.0.first() == Some(&b'/'), empty: false },
        HirKind::Class(class) => Begins { with_slash: has_slash(class), empty: false },
        HirKind::Repetition(repetition) => {
            let inner = begins(&repetition.sub);
            Begins { empty: inner.empty || repetition.min == 0, ..inner }
        }
        HirKind::Capture(capture) => begins(&capture.sub),
        HirKind::Concat(parts) => {
            let mut all = Begins { with_slash: false, empty: true };
            for part in parts.iter().map(begins) {
                all.with_slash |= all.empty && part.with_slash;
                all.empty &= part.empty;
            }
            all
        }
        HirKind::Alternation(parts) => {
            parts.iter().map(begins).fold(Begins { with_slash: false, empty: false }, |all, part| Begins {
                with_slash: all.with_slash || part.with_slash,
                empty: all.empty || part.empty,
            })
        }
    }
}

fn has_slash(class: &Class) -> bool {
    match class {
        Class::Unicode(class) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&'/'))
        }
        Class::Bytes(class) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&b'/'))
        }
    }
}

/// Returns true for a text like `/search?q=`, in which `?` makes the character before it optional: some path may match
/// it, but none that its author can mean.
pub(super) fn is_like_query(pattern: &str) -> bool {
    pattern.split_once('?').is_some_and(|(before, after)| {
        let name = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
            && name.len() < after.len()
            && name.starts_with('=')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_path_can_match_is_found() {
        for (pattern, expected) in [
            ("/search\\?q=.*", QUERY),
            ("/a[?]b", QUERY),
            ("/books#top", QUERY),
            ("https://shop.example.org/books", URL),
            ("^https?://shop/books", URL),
            ("books", NO_SLASH),
            ("^(books|stores)/.*", NO_SLASH),
            ("[a-z]+", NO_SLASH),
            ("[^/]+/x", NO_SLASH),
        ] {
            assert_eq!(path(pattern), Some(expected), "{pattern}");
        }
    }

    #[test]
    fn a_query_without_a_backslash_is_known_by_its_form() {
        assert!(is_like_query("/search?q=.*") && path("/search?q=.*").is_none());
    }

    #[test]
    fn what_some_path_matches_is_not_reported() {
        for pattern in [
            "/",
            "/.*",
            ".*",
            "",
            "^/books$",
            "(/books)?",
            "(a|/b)",
            "a*",
            "[^a-z]",
            ".*books",
            "/books?",
            "/a?b?c",
            "(?i)/Books",
            "\\/x",
            "/a(\\?q=1)?",
            "/a|\\?",
        ] {
            assert_eq!((path(pattern), is_like_query(pattern)), (None, false), "{pattern}");
        }
    }
}
