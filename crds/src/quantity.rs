//! Parses a Kubernetes quantity (`500m`, `1.5`, `2Ki`, `1e3`), the type of weights in `split.smi-spec.io/v1alpha1`.
//!
//! Reads the whole grammar, as the API server does: fractions of a billionth are rounded up, and values beyond 2^63-1
//! are reduced to it. Does not write quantities, and reads none below zero, as no weight is.

use serde_json::Value;

/// Number of billionths in one.
pub const BILLION: u128 = 1_000_000_000;

/// Largest quantity, in billionths.
pub const MOST: u128 = 0x7fff_ffff_ffff_ffff * BILLION;

/// Number of significant digits that are read: one more than the largest quantity has, so that a value whose other
/// digits are dropped is known to be too large.
const DIGITS: usize = 20;

/// Returns the quantity in billionths, if the value is one: a text or a number.
pub fn billionths(written: &Value) -> Option<u128> {
    match written {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        _ => None,
    }
}

fn parse(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let (exponent, kibis) = unit(suffix)?;
    let digits = || whole.bytes().chain(fraction.bytes()).skip_while(|digit| *digit == b'0');
    let mut value = 0_u128;
    for digit in digits().take(DIGITS) {
        value = value * 10 + u128::from(digit - b'0');
    }
    if value == 0 {
        return Some(0);
    }
    let dropped = digits().count().saturating_sub(DIGITS);
    let is_cut = digits().skip(DIGITS).any(|digit| digit != b'0');
    let length = |text: usize| i64::try_from(text).unwrap_or(i64::MAX);
    let exponent =
        exponent.saturating_add(9).saturating_add(length(dropped)).saturating_sub(length(fraction.len()));
    // 20 digits times 1024^6 is below 2^128.
    Some(shifted(value << (10 * kibis), exponent, is_cut).min(MOST))
}

/// Returns the power of ten and the power of 1024 that a suffix means.
fn unit(suffix: &str) -> Option<(i64, u32)> {
    Some(match suffix {
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "" => (0, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 1),
        "Mi" => (0, 2),
        "Gi" => (0, 3),
        "Ti" => (0, 4),
        "Pi" => (0, 5),
        "Ei" => (0, 6),
        exponent => (exponent.strip_prefix(['e', 'E'])?.parse().ok()?, 0),
    })
}

/// Returns `value` times ten to the power of `exponent`, rounded up.
fn shifted(value: u128, exponent: i64, is_cut: bool) -> u128 {
    let power = u32::try_from(exponent.unsigned_abs()).ok().and_then(|power| 10_u128.checked_pow(power));
    match power {
        Some(power) if exponent >= 0 => value.saturating_mul(power),
        None if exponent >= 0 => u128::MAX,
        Some(power) => {
            let is_exact = value.is_multiple_of(power) && !is_cut;
            value / power + u128::from(!is_exact)
        }
        // Less than a billionth, and more than zero.
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{MOST, billionths};

    #[test]
    fn the_whole_grammar_is_read() {
        for (written, expected) in [
            (json!("0"), Some(0)),
            (json!("-0"), None),
            (json!(1), Some(1_000_000_000)),
            (json!("1"), Some(1_000_000_000)),
            (json!("+1"), Some(1_000_000_000)),
            (json!("01."), Some(1_000_000_000)),
            (json!("500m"), Some(500_000_000)),
            (json!("1500m"), Some(1_500_000_000)),
            (json!(".5"), Some(500_000_000)),
            (json!(0.5), Some(500_000_000)),
            (json!(1e-3), Some(1_000_000)),
            (json!("1u"), Some(1_000)),
            (json!("1n"), Some(1)),
            (json!("0.1n"), Some(1)),
            (json!("1e-400"), Some(1)),
            (json!("1.00000000000000000000000000001"), Some(1_000_000_001)),
            (json!("1k"), Some(1_000_000_000_000)),
            (json!("1e3"), Some(1_000_000_000_000)),
            (json!("1E3"), Some(1_000_000_000_000)),
            (json!("1E"), Some(1_000_000_000_000_000_000_000_000_000)),
            (json!("1Ki"), Some(1_024_000_000_000)),
            (json!("0.5Ki"), Some(512_000_000_000)),
            (json!("0.0009765625Mi"), Some(1_024_000_000_000)),
            (json!("8Ei"), Some(MOST)),
            (json!("1e999"), Some(MOST)),
            (json!("1e99999999999999999999"), None),
            (json!("99999999999999999999999999999999999999999999Ei"), Some(MOST)),
            (json!("9223372036854775807"), Some(MOST)),
            (json!("9223372036854775806"), Some(MOST - 1_000_000_000)),
        ] {
            assert_eq!(billionths(&written), expected, "{written}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in
            ["", ".", "m", "half", "1.2.3", "1 ", " 1", "1K", "1ki", "1e", "1e1.5", "--1", "-1", "1mm", "٣"]
        {
            assert_eq!(billionths(&json!(text)), None, "{text}");
        }
        for value in [Value::Null, json!(true), json!(-1), json!([1]), json!({"a": 1})] {
            assert_eq!(billionths(&value), None, "{value}");
        }
    }

    #[test]
    fn long_numbers_are_read_in_linear_time() {
        let zeros = "0".repeat(1_000_000);
        assert_eq!(billionths(&json!(format!("1{zeros}"))), Some(MOST));
        assert_eq!(billionths(&json!(format!("0.{zeros}1"))), Some(1));
        assert_eq!(billionths(&json!(format!("{zeros}.5{zeros}"))), Some(500_000_000));
    }
}
