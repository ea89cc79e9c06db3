//! Decides whether an init container with NET_ADMIN or the CNI plugin redirects the traffic of a pod.
//!
//! Pure. The mesh's setting decides, and the label of the namespace where the setting offers both. Builds nothing.

use serde::{Deserialize, Serialize};
use smidge_crds::labels::{REDIRECTION, REDIRECTION_CNI, REDIRECTION_INIT};

use super::Namespace;

/// Part of the CNI plugin in redirecting the pods' traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cni {
    /// It is not installed: an init container redirects, and pods of namespaces that require the plugin are refused.
    #[default]
    Off,
    /// It is installed, and redirects where the label of a namespace requires it.
    Offered,
    /// It is installed, and redirects where no label requires an init container.
    Default,
}

/// Returns true if the CNI plugin is to redirect the traffic of the namespace's pods. An error is the reason for which
/// they are refused.
pub(super) fn is_cni(namespace: Namespace<'_>, cni: Cni, warnings: &mut Vec<String>) -> Result<bool, String> {
    let by_default = cni == Cni::Default;
    match namespace.labels.and_then(|labels| labels.get(REDIRECTION)).map(String::as_str) {
        None => Ok(by_default),
        Some(REDIRECTION_INIT) => Ok(false),
        Some(REDIRECTION_CNI) if cni == Cni::Off => Err(format!(
            "namespace {} has the label {REDIRECTION}: {REDIRECTION_CNI}, and the CNI plugin is not installed; hint: install the \
             chart with cni.enabled=true, or remove the label",
            namespace.name
        )),
        Some(REDIRECTION_CNI) => Ok(true),
        Some(other) => {
            warnings.push(format!(
                "smidge: namespace {} has the label {REDIRECTION}: {other}: expected {REDIRECTION_CNI} or {REDIRECTION_INIT}; the \
                 traffic of its pods is redirected by {}, the mesh's default",
                namespace.name,
                if by_default { REDIRECTION_CNI } else { REDIRECTION_INIT }
            ));
            Ok(by_default)
        }
    }
}
