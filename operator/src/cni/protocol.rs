//! Messages of the CNI specification: environment and standard input in, result or error out.
//!
//! Pure. Versions 0.3.1 to 1.1.0. A command is read without a panic whatever the runtime passes; what is wrong becomes an
//! error with one of the specification's codes. Opens no network.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use smidge_crds::labels::CNI_REDIRECT;

use super::{ANNOTATIONS, PLUGIN, SOCKET};
use crate::redirect::request::Redirection;

/// Versions of the specification that the plugin supports, oldest first.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// Maximum size of the configuration, in bytes. The annotations of a pod have at most 256 KiB, and escaping makes at most
/// six bytes of one.
pub const MAX_INPUT: usize = 4 << 20;
/// Maximum length of a text of the runtime's in a message, in characters.
const SHOWN: usize = 256;

/// Codes of errors, as the specification has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The version of the configuration is not supported.
    Version = 1,
    /// A variable of the environment is missing or invalid.
    Environment = 4,
    /// Reading failed.
    Io = 5,
    /// The configuration is no JSON.
    Decode = 6,
    /// The configuration has an invalid field.
    Config = 7,
    /// The cause may pass: the runtime is to try again.
    Retry = 11,
    /// The traffic of this pod cannot be redirected.
    Redirect = 100,
}

/// Error for the runtime, which the kubelet shows as an Event of the pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}: {details}")]
pub struct CniError {
    /// Its code.
    pub code: Code,
    /// The problem in a few words, with the pod if it is known.
    pub msg: String,
    /// The cause, and a hint.
    pub details: String,
}

impl CniError {
    /// Builds an error.
    pub fn new(code: Code, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: details.into() }
    }

    /// Returns the error in the form of the specification.
    pub fn to_json(&self, version: &str) -> Value {
        json!({"cniVersion": version, "code": self.code as u32, "msg": self.msg, "details": self.details})
    }
}

/// Commands of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// An interface was added to a pod.
    Add,
    /// An interface is to be removed.
    Del,
    /// The runtime asks whether the interface is still as it was added.
    Check,
    /// The runtime lists the interfaces that are in use.
    Gc,
    /// The runtime asks whether the plugin can serve ADD.
    Status,
    /// The runtime asks for the supported versions.
    Version,
}

impl Command {
    /// Reads `CNI_COMMAND`.
    pub fn read(text: Option<&str>) -> Result<Self, CniError> {
        Ok(match text {
            Some("ADD") => Self::Add,
            Some("DEL") => Self::Del,
            Some("CHECK") => Self::Check,
            Some("GC") => Self::Gc,
            Some("STATUS") => Self::Status,
            Some("VERSION") => Self::Version,
            other => {
                let found = other.map_or("is not set".to_owned(), |text| format!("is {:?}", shown(text)));
                return Err(CniError::new(
                    Code::Environment,
                    format!("CNI_COMMAND {found}"),
                    format!(
                        "expected ADD, DEL, CHECK, GC, STATUS or VERSION; hint: {PLUGIN} is a CNI plugin, which the container \
                         runtime runs"
                    ),
                ));
            }
        })
    }
}

/// Pod and network that a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Path of the pod's network namespace.
    pub netns: String,
    /// `namespace/name`, or the identifier of the container where there is no pod.
    pub pod: String,
}

impl Attachment {
    /// Reads the variables of ADD and CHECK.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let required = |name: &str| {
            variable(name).filter(|value| !value.is_empty()).ok_or_else(|| {
                CniError::new(
                    Code::Environment,
                    format!("{name} is not set"),
                    "expected a value of the container runtime",
                )
            })
        };
        let container = required("CNI_CONTAINERID")?;
        let netns = required("CNI_NETNS")?;
        required("CNI_IFNAME")?;
        let args = variable("CNI_ARGS").unwrap_or_default();
        let arg = |name: &str| {
            args.split(';')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
                .map(|(_, it)| shown(it))
        };
        let pod = match (arg("K8S_POD_NAMESPACE"), arg("K8S_POD_NAME")) {
            (Some(namespace), Some(name)) => format!("pod {namespace}/{name}"),
            _ => format!("container {}", shown(&container)),
        };
        Ok(Self { netns, pod })
    }
}

/// Configuration of the plugin, with what the runtime adds to it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Version of the configuration.
    #[serde(default)]
    pub cni_version: String,
    /// Path of the agent's socket.
    #[serde(default = "default_socket")]
    pub socket: String,
    /// Result of the plugins before this one.
    #[serde(default)]
    pub prev_result: Option<Value>,
    #[serde(default, rename = "runtimeConfig")]
    capabilities: Option<BTreeMap<String, Value>>,
}

fn default_socket() -> String {
    SOCKET.to_owned()
}

impl Config {
    /// Reads standard input.
    pub fn read(input: &[u8]) -> Result<Self, CniError> {
        let invalid = |why: String| CniError::new(Code::Decode, "the configuration cannot be read", why);
        if input.len() > MAX_INPUT {
            return Err(invalid(format!("it has more than {MAX_INPUT} bytes")));
        }
        let config: Self = serde_json::from_slice(input).map_err(|error| invalid(error.to_string()))?;
        if !VERSIONS.contains(&config.cni_version.as_str()) {
            return Err(CniError::new(
                Code::Version,
                format!("cniVersion {:?} is not supported", shown(&config.cni_version)),
                format!("expected one of {}", VERSIONS.join(", ")),
            ));
        }
        Ok(config)
    }

    /// Returns the redirection that the pod's annotation requires; `None` if the plugin has nothing to do for the pod.
    pub fn redirection(&self) -> Result<Option<Redirection>, CniError> {
        let annotations = self.capabilities.as_ref().and_then(|all| all.get(ANNOTATIONS));
        let Some(text) = annotations.and_then(|all| all.get(CNI_REDIRECT)).and_then(Value::as_str) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error| {
            CniError::new(
                Code::Redirect,
                "the pod's traffic cannot be redirected to its proxy",
                format!("annotation {CNI_REDIRECT} {error}; hint: injection writes it; delete the pod"),
            )
        })
    }

    /// Returns the result of the plugins before, which this one passes on.
    pub fn result(&self) -> Result<Value, CniError> {
        let result = self.prev_result.as_ref().and_then(Value::as_object).ok_or_else(|| {
            CniError::new(
                Code::Config,
                "prevResult is missing",
                format!("expected the result of another plugin; hint: chain {PLUGIN} after the plugin of the cluster's network"),
            )
        })?;
        let mut result = result.clone();
        result.insert("cniVersion".to_owned(), json!(self.cni_version));
        Ok(Value::Object(result))
    }
}

/// Returns the answer to VERSION, in the version that was asked in.
pub fn versions(input: &[u8]) -> Value {
    let asked = serde_json::from_slice::<Value>(input).ok();
    let asked = asked.as_ref().and_then(|config| config.get("cniVersion")?.as_str());
    let version = asked.filter(|version| VERSIONS.contains(version)).unwrap_or(newest());
    json!({"cniVersion": version, "supportedVersions": VERSIONS})
}

/// Returns the version of errors about a configuration whose version is not known.
pub fn newest() -> &'static str {
    VERSIONS.last().copied().unwrap_or_default()
}

/// Returns the beginning of a text, for messages.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(fields: &Value) -> Config {
        let mut config = json!({"cniVersion": "1.0.0", "name": "net", "type": PLUGIN});
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Config::read(config.to_string().as_bytes()).unwrap()
    }

    fn annotated(text: &str) -> Config {
        config(&json!({"runtimeConfig": {ANNOTATIONS: {CNI_REDIRECT: text, "a": "b"}}}))
    }

    #[test]
    fn only_annotated_pods_are_redirected() {
        assert_eq!(config(&json!({})).redirection(), Ok(None));
        assert_eq!(config(&json!({"runtimeConfig": null})).redirection(), Ok(None));
        assert_eq!(config(&json!({"runtimeConfig": {ANNOTATIONS: null}})).redirection(), Ok(None));
        assert_eq!(config(&json!({"runtimeConfig": {ANNOTATIONS: {"a": "b"}}})).redirection(), Ok(None));
        let found = annotated("--proxy-user=31337").redirection().unwrap().unwrap();
        assert_eq!(found.proxy_user, 31_337);
        let error = annotated("--tool=x").redirection().unwrap_err();
        assert_eq!(error.code, Code::Redirect);
        assert!(error.details.contains(CNI_REDIRECT) && error.details.contains("--tool=x"), "{error}");
    }

    #[test]
    fn the_result_before_is_passed_on() {
        let before = json!({"cniVersion": "0.4.0", "ips": [{"address": "10.0.0.1/24"}]});
        let result = config(&json!({"prevResult": before})).result().unwrap();
        assert_eq!(result, json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/24"}]}));
        let error = config(&json!({})).result().unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (Code::Config, "prevResult is missing"));
    }

    #[test]
    fn what_cannot_be_read_has_a_code() {
        let code = |input: &[u8]| Config::read(input).unwrap_err().code;
        assert_eq!(code(b""), Code::Decode);
        assert_eq!(code(b"7"), Code::Decode);
        assert_eq!(code(&vec![b' '; MAX_INPUT + 1]), Code::Decode);
        assert_eq!(code("[".repeat(100_000).as_bytes()), Code::Decode);
        assert_eq!(code(b"{}"), Code::Version);
        assert_eq!(code(br#"{"cniVersion": "0.2.0"}"#), Code::Version);
        assert_eq!(Command::read(Some("add")).unwrap_err().code, Code::Environment);
        assert_eq!(Command::read(None).unwrap_err().code as u32, 4);
    }

    #[test]
    fn the_attachment_names_the_pod() {
        let read = |variables: &[(&str, &str)]| {
            Attachment::read(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let mut variables =
            vec![("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/a"), ("CNI_IFNAME", "eth0")];
        assert_eq!(read(&variables).unwrap().pod, "container c1");
        variables.push(("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0"));
        assert_eq!(read(&variables).unwrap().pod, "pod shop/web-0");
        let error = read(&variables[..2]).unwrap_err();
        assert_eq!(error.to_json("1.1.0")["code"], 4);
        assert!(error.msg.contains("CNI_IFNAME"), "{error}");
    }

    #[test]
    fn versions_are_answered_in_the_version_of_the_question() {
        assert_eq!(versions(br#"{"cniVersion": "0.4.0"}"#)["cniVersion"], "0.4.0");
        assert_eq!(versions(br#"{"cniVersion": "9"}"#)["cniVersion"], "1.1.0");
        assert_eq!(versions(b"?")["supportedVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    }
}
