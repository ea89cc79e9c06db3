//! Writes numbers as Quantities of Kubernetes in their canonical form: no fraction, the largest suffix that loses nothing.
//!
//! Pure. Used by `object` for the values of metrics. Does not read Quantities.

/// Suffixes of 1000 to the power of −1 and more.
const SUFFIXES: [&str; 8] = ["m", "", "k", "M", "G", "T", "P", "E"];

/// Returns the Quantity of a count.
pub fn count(number: u64) -> String {
    canonical(number, 1)
}

/// Returns the Quantity of a number that is not negative, rounded to thousandths; 0 for one that is not a number.
pub fn decimal(number: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and NaN is 0"
    )]
    let thousandths = (number * 1000.0).round() as u64;
    canonical(thousandths, 0)
}

/// Returns `number` × 1000^(`power` − 1).
fn canonical(mut number: u64, mut power: usize) -> String {
    if number == 0 {
        return "0".to_owned();
    }
    while number.is_multiple_of(1000) && power + 1 < SUFFIXES.len() {
        (number, power) = (number / 1000, power + 1);
    }
    format!("{number}{}", SUFFIXES.get(power).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_canonical() {
        let counts = [
            (0, "0"),
            (73, "73"),
            (1000, "1k"),
            (1500, "1500"),
            (12_000_000, "12M"),
            (u64::MAX, "18446744073709551615"),
        ];
        for (number, text) in counts {
            assert_eq!(count(number), text);
        }
        let decimals =
            [(0.0, "0"), (296.875, "296875m"), (10.0, "10"), (0.0004, "0"), (1000.0, "1k"), (0.5, "500m")];
        for (number, text) in decimals {
            assert_eq!(decimal(number), text);
        }
        assert_eq!(decimal(f64::NAN), "0");
        assert_eq!(decimal(-1.0), "0");
    }
}
