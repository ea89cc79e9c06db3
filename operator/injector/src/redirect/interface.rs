//! Reads the name of a network interface, which is written into rules as it is.
//!
//! Pure. Does not know which interfaces a pod has: those of further networks are made after the rules.

use std::{fmt, str::FromStr};

/// Maximum length of a name, in bytes, as the kernel has it (`IFNAMSIZ` with its end).
const MAX_LENGTH: usize = 15;
/// Interfaces that cannot be excluded: loopback, whose connections are not redirected, and the interface of the address at
/// which callers of the mesh reach a pod. Kubernetes has the runtime name it so.
const REFUSED: [&str; 2] = ["lo", "eth0"];

/// Name of a network interface of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(String);

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Interface {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=MAX_LENGTH).contains(&text.len()) || !text.bytes().all(is_known) || text.starts_with('.') {
            return Err("not the name of an interface");
        }
        if REFUSED.contains(&text) {
            return Err("the interface of the pod's own network or of loopback");
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_interfaces_and_nothing_else() {
        for text in ["net1", "eth1", "macvlan0.100", "a", "pod37a8eec1ce1", "fifteen-bytes-1"] {
            assert_eq!(text.parse::<Interface>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "lo",
            "eth0",
            "sixteen-bytes-12",
            "net+",
            "net 1",
            "net1\"; flush ruleset",
            "a/b",
            "..",
            "näm",
        ] {
            text.parse::<Interface>().unwrap_err();
        }
    }
}
