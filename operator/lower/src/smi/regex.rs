//! Decides whether a user's regular expression may reach the proxies.
//!
//! A proxy that refuses one expression keeps its whole old policy, so nothing may be sent that Envoy's RE2 does not
//! accept; and an expression that RE2 and Rust's `regex` read differently cannot be evaluated here. Accepted is what
//! both read alike, in ASCII, within bounds. `tests/regex.rs` tests every accepted form with real Envoys.
//!
//! Does not rewrite anything: the accepted text is rendered unchanged.

use regex_syntax::{
    ast::{
        self, AssertionKind, Ast, ClassSet, ClassSetItem, Flag, FlagsItemKind, GroupKind, Literal,
        LiteralKind,
    },
    hir::{self, Class, Hir, HirKind, Look},
};

/// Maximum size of an expression, in bytes. Longer ones belong in several matches.
const MAX_BYTES: usize = 1024;

/// RE2's limit for one counted repetition, and for the product of nested ones.
const MAX_REPEAT: u32 = 1000;

/// Maximum number of instructions that an expression may cost in RE2, by a rough upper bound. The proxies' bootstrap
/// raises RE2's own limit well above this.
const MAX_COST: u64 = 5000;

/// Reason for which an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegexError {
    /// It is not ASCII; how Envoy reads other characters depends on its version.
    #[error("contains {0:?}: only printable ASCII is accepted; percent-encode other characters")]
    NotAscii(char),
    /// It is too long.
    #[error("has {0} bytes: at most {MAX_BYTES} are accepted")]
    TooLong(usize),
    /// It does not parse.
    #[error("does not compile: {0}")]
    Syntax(String),
    /// RE2 reads it differently, or not at all.
    #[error("uses {0}, which RE2 does not read as written")]
    NotRe2(String),
    /// It would become too large a program.
    #[error("is too large: its repetitions multiply to more than the proxies accept")]
    TooLarge,
}

/// Properties of an accepted expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Number of instructions that it may cost in RE2, by a rough upper bound.
    pub cost: u64,
    /// True if it allows the same with an open and with a closed end.
    pub ends_alike: bool,
    /// True if it matches a part of a text only if it matches the whole text.
    pub is_whole: bool,
}

/// Accepts an expression, or returns the reason for which it is refused.
pub fn check(pattern: &str) -> Result<Accepted, RegexError> {
    let (hir, cost) = parse(pattern)?;
    let ends_alike = is_complete(&hir, Side::End);
    Ok(Accepted { cost, ends_alike, is_whole: ends_alike && is_complete(&hir, Side::Start) })
}

/// Returns true if the accepted `pattern` allows the same with an open and with a closed end.
pub fn is_same_open_and_closed(pattern: &str) -> bool {
    check(pattern).is_ok_and(|accepted| accepted.ends_alike)
}

fn parse(pattern: &str) -> Result<(Hir, u64), RegexError> {
    if pattern.len() > MAX_BYTES {
        return Err(RegexError::TooLong(pattern.len()));
    }
    if let Some(other) = pattern.chars().find(|c| !matches!(c, ' '..='~')) {
        return Err(RegexError::NotAscii(other));
    }
    let ast =
        ast::parse::Parser::new().parse(pattern).map_err(|e| RegexError::Syntax(e.kind().to_string()))?;
    let (cost, _) = judge(&ast, pattern)?;
    if cost > MAX_COST {
        return Err(RegexError::TooLarge);
    }
    let hir = hir::translate::Translator::new()
        .translate(pattern, &ast)
        .map_err(|e| RegexError::Syntax(e.kind().to_string()))?;
    Ok((hir, cost))
}

fn not_re2<T>(what: impl Into<String>) -> Result<T, RegexError> {
    Err(RegexError::NotRe2(what.into()))
}

/// Returns the cost of a part in instructions, and the product of its nested counted repetitions.
fn judge(ast: &Ast, text: &str) -> Result<(u64, u32), RegexError> {
    match ast {
        Ast::Empty(_) => Ok((1, 1)),
        Ast::Flags(flags) => judge_flags(&flags.flags).map(|()| (0, 1)),
        Ast::Literal(literal) => judge_literal(literal).map(|()| (1, 1)),
        // Any character but a line feed is a handful of byte ranges when RE2 reads UTF-8.
        Ast::Dot(_) => Ok((12, 1)),
        Ast::Assertion(assertion) => match assertion.kind {
            AssertionKind::StartLine
            | AssertionKind::EndLine
            | AssertionKind::StartText
            | AssertionKind::EndText
            | AssertionKind::WordBoundary
            | AssertionKind::NotWordBoundary => Ok((1, 1)),
            _ => not_re2("a word boundary of its own kind"),
        },
        Ast::ClassUnicode(_) => not_re2("a Unicode class"),
        Ast::ClassPerl(class) => Ok((if class.negated { 24 } else { 6 }, 1)),
        Ast::ClassBracketed(class) => {
            let items = judge_set(&class.kind)?;
            Ok((if class.negated { 24 + 2 * items } else { 2 * items }, 1))
        }
        Ast::Repetition(repetition) => judge_repetition(repetition, text),
        Ast::Group(group) => {
            match &group.kind {
                GroupKind::CaptureIndex(_) | GroupKind::CaptureName { starts_with_p: true, .. } => {}
                GroupKind::CaptureName { .. } => {
                    return not_re2("a group named by (?<…>) in place of (?P<…>)");
                }
                GroupKind::NonCapturing(flags) => judge_flags(flags)?,
            }
            judge(&group.ast, text).map(|(cost, product)| (cost + 2, product))
        }
        Ast::Alternation(parts) => judge_all(&parts.asts, text),
        Ast::Concat(parts) => judge_all(&parts.asts, text),
    }
}

fn judge_all(parts: &[Ast], text: &str) -> Result<(u64, u32), RegexError> {
    parts.iter().try_fold((0, 1), |(cost, product), part| {
        let (more, inner) = judge(part, text)?;
        Ok((cost + more + 1, product.max(inner)))
    })
}

fn judge_repetition(repetition: &ast::Repetition, text: &str) -> Result<(u64, u32), RegexError> {
    match &*repetition.ast {
        Ast::Repetition(_) => return not_re2("a repetition of a repetition"),
        Ast::Assertion(_) => return not_re2("a repetition of an anchor"),
        Ast::Flags(_) | Ast::Empty(_) => return not_re2("a repetition of nothing"),
        _ => {}
    }
    let (cost, product) = judge(&repetition.ast, text)?;
    let ast::RepetitionKind::Range(range) = &repetition.op.kind else {
        return Ok((cost + 2, product));
    };
    let span = repetition.op.span;
    // Rust's parser ignores blanks between the braces; RE2 reads such a text literally.
    if text.get(span.start.offset..span.end.offset).is_none_or(|op| op.contains(' ')) {
        return not_re2("blanks in a counted repetition");
    }
    let count = match *range {
        ast::RepetitionRange::Exactly(n) => n,
        ast::RepetitionRange::AtLeast(n) => n.saturating_add(1),
        ast::RepetitionRange::Bounded(_, m) => m,
    };
    let product = product.saturating_mul(count.max(1));
    if count > MAX_REPEAT || product > MAX_REPEAT {
        return Err(RegexError::TooLarge);
    }
    Ok(((cost + 1).saturating_mul(u64::from(count)) + 2, product))
}

fn judge_flags(flags: &ast::Flags) -> Result<(), RegexError> {
    for item in &flags.items {
        match item.kind {
            FlagsItemKind::Negation
            | FlagsItemKind::Flag(
                Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed,
            ) => {}
            FlagsItemKind::Flag(_) => return not_re2("a flag other than i, m, s and U"),
        }
    }
    Ok(())
}

fn judge_literal(literal: &Literal) -> Result<(), RegexError> {
    match &literal.kind {
        LiteralKind::Verbatim | LiteralKind::Meta | LiteralKind::Special(_) | LiteralKind::Superfluous => {
            Ok(())
        }
        LiteralKind::HexFixed(ast::HexLiteralKind::X) | LiteralKind::HexBrace(ast::HexLiteralKind::X)
            if matches!(literal.c, ' '..='~') =>
        {
            Ok(())
        }
        _ => not_re2("a character written by its number, other than \\x20 to \\x7E"),
    }
}

/// Returns the number of items in a class.
fn judge_set(set: &ClassSet) -> Result<u64, RegexError> {
    match set {
        ClassSet::Item(item) => judge_item(item),
        ClassSet::BinaryOp(_) => not_re2("an operation on classes (&&, -- or ~~)"),
    }
}

fn judge_item(item: &ClassSetItem) -> Result<u64, RegexError> {
    match item {
        ClassSetItem::Empty(_) => Ok(0),
        ClassSetItem::Literal(literal) => judge_literal(literal).map(|()| 1),
        ClassSetItem::Range(range) => {
            judge_literal(&range.start)?;
            judge_literal(&range.end)?;
            Ok(1)
        }
        ClassSetItem::Ascii(class) => Ok(if class.negated { 12 } else { 4 }),
        ClassSetItem::Perl(class) => Ok(if class.negated { 12 } else { 4 }),
        ClassSetItem::Unicode(_) => not_re2("a Unicode class"),
        ClassSetItem::Bracketed(_) => not_re2("a class within a class"),
        ClassSetItem::Union(union) => union.items.iter().map(judge_item).sum(),
    }
}

/// Side of a match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Start,
    End,
}

/// Returns true if everything on that side of a match is already part of it, or excluded by an anchor.
fn is_complete(hir: &Hir, side: Side) -> bool {
    match hir.kind() {
        HirKind::Look(look) => *look == if side == Side::Start { Look::Start } else { Look::End },
        HirKind::Capture(capture) => is_complete(&capture.sub, side),
        HirKind::Concat(parts) => {
            let outer = if side == Side::Start { parts.first() } else { parts.last() };
            outer.is_some_and(|part| is_complete(part, side))
        }
        HirKind::Alternation(parts) => parts.iter().all(|part| is_complete(part, side)),
        HirKind::Repetition(repetition) => repetition.max.is_none() && takes_anything(&repetition.sub),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => false,
    }
}

/// Returns true if a part matches every character that a path can have.
fn takes_anything(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Capture(capture) => takes_anything(&capture.sub),
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().any(|range| range.start() <= ' ' && range.end() >= '~')
        }
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().any(|range| range.start() <= b' ' && range.end() >= b'~')
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_open_by_itself_when_the_expression_states_it() {
        for pattern in [".*", "/api.*", "/api.+", "/api$", "(/a.*|/b$)", "/x(.*)", r"/y\z", "/z[ -~]*"] {
            assert!(is_same_open_and_closed(pattern), "{pattern}");
        }
        for (pattern, is_whole) in
            [(".*", true), ("^a$", true), ("^(a|b)$", true), (".*a.*", true), ("a", false), ("^a|b$", false)]
        {
            assert_eq!(check(pattern).map(|it| it.is_whole), Ok(is_whole), "{pattern}");
        }
        for pattern in ["/api", "/api/?", "(/a.*|/b)", "/[a-z]*", "", "/a.{0,5}"] {
            assert!(!is_same_open_and_closed(pattern), "{pattern}");
        }
    }
}
