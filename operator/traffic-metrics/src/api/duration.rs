//! Reads and writes durations as Go does: `30s`, `5m30s`, `1h0m0s`.
//!
//! Pure. Used by `query` for the window, and by `object`, whose clients decode `metav1.Duration`.

use std::{fmt::Write as _, time::Duration};

/// Maximum length of a duration, in bytes.
const MAX_BYTES: usize = 64;
/// Units, in nanoseconds, a longer name before its own beginning.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration; `None` if it is not one, is negative, or is longer than Go's type can hold.
pub fn parse(text: &str) -> Option<Duration> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0_u128;
    while !rest.is_empty() {
        let (nanoseconds, after) = part(rest)?;
        sum = sum.checked_add(nanoseconds)?;
        rest = after;
    }
    let sum = u64::try_from(sum).ok().filter(|sum| i64::try_from(*sum).is_ok())?;
    Some(Duration::from_nanos(sum))
}

/// Reads one number with its unit, in nanoseconds; returns also the rest.
fn part(text: &str) -> Option<(u128, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at_checked(digits(text))?;
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at_checked(digits(rest))?,
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let name_length =
        rest.find(|letter: char| letter == '.' || letter.is_ascii_digit()).unwrap_or(rest.len());
    let (name, rest) = rest.split_at_checked(name_length)?;
    let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == name)?;
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanoseconds = whole.checked_mul(*unit)?;
    let mut place = *unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanoseconds = nanoseconds.checked_add(u128::from(digit - b'0') * place)?;
    }
    Some((nanoseconds, rest))
}

/// Writes a duration of a second or more, or zero.
pub fn format(duration: Duration) -> String {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{seconds}");
    if nanoseconds > 0 {
        let fraction = format!("{nanoseconds:09}");
        let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let read = [
            ("30s", 30_000),
            ("5m30s", 330_000),
            ("1h", 3_600_000),
            ("1.5m", 90_000),
            (".5s", 500),
            ("1.s", 1_000),
            ("+10s", 10_000),
            ("250ms", 250),
            ("1000us", 1),
            ("1000µs", 1),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, milliseconds) in read {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        let long = "1s".repeat(33);
        let huge = "9".repeat(60) + "h";
        for text in ["", "30", "s", ".s", "-5s", "1d", "5 s", "1s5", "1m30", "+", "1e3s", "٣s", &long, &huge]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("2562047h"), Some(Duration::from_hours(2_562_047)));
        assert_eq!(parse("2562048h"), None, "beyond Go's type");
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let written =
            [(30_000, "30s"), (330_000, "5m30s"), (3_600_000, "1h0m0s"), (10_500, "10.5s"), (0, "0s")];
        for (milliseconds, text) in written {
            assert_eq!(format(Duration::from_millis(milliseconds)), text);
        }
    }
}
