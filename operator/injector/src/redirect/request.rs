//! The redirection of one pod as text: the arguments of `smidge redirect`, the annotation by which the CNI plugin learns
//! of them, and the digest by which a pod recognises its own rules.
//!
//! Pure. The text has one form for each redirection, so that equal digests mean equal rules. Applies nothing.

use std::{collections::BTreeSet, str::FromStr};

use sha2::{Digest, Sha256};

use smidge_crds::redirected::EXCLUDE_INTERFACES_ARG;

use super::{Exclusions, RedirectedPorts, SHARED_USER};

/// Maximum length of the text, in bytes: four lists of a hundred entries, the longest networks included.
pub const MAX_LENGTH: usize = 8 * 1024;
/// Maximum number of entries in one list, as in annotations.
const ENTRIES: usize = 100;
/// Prefix of a digest, and with it the version of the rules' form.
const PREFIX: &str = "smidge:1:";

/// Redirection of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// User of the pod's proxy.
    pub proxy_user: u32,
    /// Exclusions, each list sorted and without duplicates.
    pub exclusions: Exclusions,
}

/// Error of reading a redirection from text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The text is too long.
    #[error("has {0} bytes: expected at most {MAX_LENGTH}")]
    Length(usize),
    /// A word is no argument of a redirection.
    #[error(
        "has {0:?}: expected --proxy-user, --exclude-outbound-cidrs, --exclude-interfaces, and --exclude- or --include-inbound-ports and -outbound-ports, each once, with a value"
    )]
    Argument(String),
    /// A list has too many entries.
    #[error("has {1} entries in {0}: expected at most {ENTRIES}")]
    Entries(String, usize),
}

impl Redirection {
    /// Returns the arguments of `smidge redirect`.
    pub fn to_args(&self) -> Vec<String> {
        let user = (self.proxy_user != SHARED_USER).then(|| format!("--proxy-user={}", self.proxy_user));
        user.into_iter().chain(self.exclusions.to_args()).collect()
    }

    /// Returns the arguments as one text, separated by blanks; `--` if there are none, as the text is never empty.
    pub fn to_text(&self) -> String {
        let args = self.to_args();
        if args.is_empty() { "--".to_owned() } else { args.join(" ") }
    }

    /// Returns the digest of the rules, 41 printable characters.
    pub fn digest(&self) -> String {
        let digest = Sha256::digest(self.to_text().as_bytes());
        digest.iter().take(16).fold(PREFIX.to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }
}

impl FromStr for Redirection {
    type Err = RequestError;

    fn from_str(text: &str) -> Result<Self, RequestError> {
        if text.len() > MAX_LENGTH {
            return Err(RequestError::Length(text.len()));
        }
        let (mut user, mut inbound, mut outbound, mut cidrs, mut interfaces) = (None, None, None, None, None);
        for word in text.split_ascii_whitespace().filter(|word| *word != "--") {
            let invalid = || RequestError::Argument(word.chars().take(80).collect());
            let (name, value) = word.split_once('=').ok_or_else(invalid)?;
            let is_first = match name {
                "--proxy-user" => user.replace(value.parse().map_err(|_| invalid())?).is_none(),
                "--exclude-inbound-ports" => {
                    inbound.replace(RedirectedPorts::AllBut(ports(name, value)?)).is_none()
                }
                "--include-inbound-ports" => {
                    inbound.replace(RedirectedPorts::Only(ports(name, value)?)).is_none()
                }
                "--exclude-outbound-ports" => {
                    outbound.replace(RedirectedPorts::AllBut(ports(name, value)?)).is_none()
                }
                "--include-outbound-ports" => {
                    outbound.replace(RedirectedPorts::Only(ports(name, value)?)).is_none()
                }
                "--exclude-outbound-cidrs" => cidrs.replace(list(name, value)?).is_none(),
                EXCLUDE_INTERFACES_ARG => interfaces.replace(list(name, value)?).is_none(),
                _ => false,
            };
            if !is_first {
                return Err(invalid());
            }
        }
        Ok(Self {
            proxy_user: user.unwrap_or(SHARED_USER),
            exclusions: Exclusions {
                inbound: inbound.unwrap_or_default(),
                outbound: outbound.unwrap_or_default(),
                outbound_cidrs: cidrs.unwrap_or_default(),
                interfaces: interfaces.unwrap_or_default(),
            },
        })
    }
}

fn ports(name: &str, value: &str) -> Result<BTreeSet<u16>, RequestError> {
    Ok(list(name, value)?.into_iter().collect())
}

/// Reads one list, and sorts it.
fn list<T: FromStr + Ord>(name: &str, value: &str) -> Result<Vec<T>, RequestError> {
    let invalid = || RequestError::Argument(format!("{name}={value}").chars().take(80).collect());
    let mut entries: Vec<T> =
        value.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| invalid())?;
    if entries.len() > ENTRIES {
        return Err(RequestError::Entries(name.to_owned(), entries.len()));
    }
    entries.sort();
    entries.dedup();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Redirection {
        Redirection {
            proxy_user: 31_337,
            exclusions: Exclusions {
                inbound: RedirectedPorts::AllBut([9000].into()),
                outbound: RedirectedPorts::AllBut([5432, 6379].into()),
                outbound_cidrs: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
                interfaces: vec!["net1".parse().unwrap(), "net2".parse().unwrap()],
            },
        }
    }

    #[test]
    fn the_text_is_read_back() {
        let none = Redirection { proxy_user: SHARED_USER, exclusions: Exclusions::default() };
        assert_eq!(none.to_text(), "--");
        assert_eq!(
            full().to_text(),
            "--proxy-user=31337 --exclude-inbound-ports=9000 --exclude-outbound-ports=5432,6379 \
             --exclude-outbound-cidrs=10.1.0.0/16,fd00::/8 --exclude-interfaces=net1,net2"
        );
        let included: Redirection =
            "--include-inbound-ports=8080 --include-outbound-ports=443,80".parse().unwrap();
        assert_eq!(included.exclusions.outbound, RedirectedPorts::Only([80, 443].into()));
        for redirection in [none, full(), included] {
            assert_eq!(redirection.to_text().parse(), Ok(redirection));
        }
    }

    #[test]
    fn equal_rules_have_equal_digests() {
        let other: Redirection =
            "--exclude-outbound-ports=6379,5432,5432 --exclude-inbound-ports=9000 --proxy-user=31337 \
             --exclude-interfaces=net2,net1,net2 --exclude-outbound-cidrs=fd00::1/8,10.1.2.3/16"
                .parse()
                .unwrap();
        assert_eq!(other.digest(), full().digest());
        assert_eq!(other.digest().len(), 41);
        let mut less = full();
        less.exclusions.outbound = RedirectedPorts::AllBut([5432].into());
        assert_ne!(less.digest(), full().digest());
    }

    /// Every way to exceed a bound or to name anything else is refused.
    #[test]
    fn other_texts_are_refused() {
        let many = format!("--exclude-inbound-ports={}", vec!["1"; 101].join(","));
        let long = "-".repeat(MAX_LENGTH + 1);
        for text in [
            "--tool=iptables",
            "--proxy-user",
            "--proxy-user=-1",
            "--proxy-user=1 --proxy-user=2",
            "--exclude-inbound-ports=70000",
            "--exclude-inbound-ports=",
            "--include-inbound-ports=",
            "--include-inbound-ports=80 --exclude-inbound-ports=81",
            "--exclude-outbound-cidrs=10.0.0.0/33",
            "--exclude-interfaces=eth0",
            "--exclude-interfaces=a/b",
            "; reboot",
            &many,
            &long,
        ] {
            text.parse::<Redirection>().unwrap_err();
        }
    }

    /// The longest lists that annotations may have fit into the text.
    #[test]
    fn the_most_that_annotations_exclude_fits() {
        let ports = RedirectedPorts::AllBut((65_000..65_100).collect());
        let cidrs = (100..200)
            .map(|at| format!("2001:db8:aaaa:bbbb:cccc:dddd:eeee:f{at}/128").parse().unwrap())
            .collect();
        let interfaces = (100..200).map(|at| format!("longest-name{at}").parse().unwrap()).collect();
        let exclusions =
            Exclusions { inbound: ports.clone(), outbound: ports, outbound_cidrs: cidrs, interfaces };
        let most = Redirection { proxy_user: 59_999, exclusions };
        assert_eq!(most.to_text().parse(), Ok(most));
    }
}
