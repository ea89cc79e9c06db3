//! Turns the error of a value that does not have the shape of its type into plain words.
//!
//! The messages of the deserializer use terms of Rust (`sequence`, `struct Backend`, `i32`). The author of the manifest
//! needs the value that was found and the type that was expected. Messages of another form are left unchanged.

/// Returns the message for an error, to follow the name of the field: `is a list: expected text`.
pub fn plain(error: &str) -> String {
    let parts = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|head| error.strip_prefix(head))
        .and_then(|rest| rest.rsplit_once(", expected "));
    match parts {
        Some((found, expected)) => format!("is {}: expected {}", this(found), that(expected)),
        None => error.to_owned(),
    }
}

fn this(found: &str) -> String {
    let value = |head: &str| found.strip_prefix(head).map(|value| value.trim_matches('`'));
    match found {
        "null" | "unit value" => return "nothing".to_owned(),
        "sequence" => return "a list".to_owned(),
        "map" => return "a map".to_owned(),
        _ => {}
    }
    let number = || value("integer ").or_else(|| value("floating point "));
    if let Some(text) = value("string ") {
        format!("the text {text}")
    } else if let Some(number) = number() {
        format!("the number {number}")
    } else {
        value("boolean ").unwrap_or(found).to_owned()
    }
}

fn that(expected: &str) -> &str {
    let is_type = expected.starts_with("struct ")
        || (expected.starts_with(|c: char| c.is_ascii_uppercase()) && !expected.contains(' '));
    match expected {
        "a sequence" => "a list",
        "a string" | "string" => "text",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" => "a whole number",
        "IntOrString" => "a number or text",
        _ if is_type => "a map",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_and_expected_types_are_stated() {
        for (error, words) in [
            ("invalid type: sequence, expected a string", "is a list: expected text"),
            (
                r#"invalid type: string "a, expected b", expected i32"#,
                r#"is the text "a, expected b": expected a whole number"#,
            ),
            ("invalid type: null, expected struct Backend", "is nothing: expected a map"),
            ("invalid type: boolean `true`, expected PodSpec", "is true: expected a map"),
            (
                "invalid value: integer `70000000000`, expected i32",
                "is the number 70000000000: expected a whole number",
            ),
            (
                r#"invalid value: string "apps/v2", expected apps/v1"#,
                r#"is the text "apps/v2": expected apps/v1"#,
            ),
            ("missing field `name`", "missing field `name`"),
        ] {
            assert_eq!(plain(error), words);
        }
    }
}
