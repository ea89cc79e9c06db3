//! Steps of the kubelet before it starts an injected proxy, for tests that start a real Envoy.

use std::{fs, path::Path};

use serde_json::Value;
use smidge::injector::CREDENTIAL_FOLDER;
use tempfile::TempDir;

/// Returns the folder that the kubelet would mount into the proxy.
pub fn credentials(token: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("token"), token).unwrap();
    let document = smidge_xds::bootstrap::token_sds(folder.path().to_str().unwrap());
    fs::write(folder.path().join("token-sds.json"), document).unwrap();
    folder
}

/// The proxy's configuration as Envoy reads it: variables replaced as Kubernetes does, `$$` halved, the folder
/// replaced.
pub fn expanded(pod: &Value, credentials: &Path) -> String {
    let args = pod.pointer("/spec/initContainers/1/args/1").and_then(Value::as_str).unwrap();
    let mut text = String::new();
    let mut rest = args;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
            continue;
        }
        let (name, after) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).expect("a lone $");
        text.push_str(match name {
            "POD_NAME" => "web-0",
            "POD_NAMESPACE" => "shop",
            "POD_UID" => "6d1f7b1e-0000-0000-0000-000000000000",
            "POD_IP" => "127.0.0.1",
            other => panic!("$({other}) is no variable of the proxy's"),
        });
        rest = after;
    }
    text.push_str(rest);
    text.replace(CREDENTIAL_FOLDER, credentials.to_str().unwrap())
}
