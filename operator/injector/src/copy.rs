//! Recognises the copy of an injected pod that has lost its annotations, as `kubectl debug --copy-to` makes it.
//!
//! Pure. A copy has our volume, and both of our containers or none of them (`--keep-init-containers=false`). Anything
//! less or different is not ours: `refusal` refuses it, as its owner may mean it. Trusts nothing that it recognises:
//! `restore` removes all of it, and injection starts anew.

use serde_json::{Map, Value};
use smidge_crds::labels::{INIT_CONTAINER, PROXY_CONTAINER};
use smidge_xds::bootstrap::{TOKEN_FILE, TOKEN_SDS_FILE};

use super::{
    CREDENTIAL_FOLDER, TOKEN_SDS, VOLUME, child, listed, name_of,
    probes::{KINDS, Kind, is_rewritten, probed_mut},
};

/// Beginning of the audience of a proxy's token.
const AUDIENCE: &str = "smidge/";

/// Returns true if the pod is the copy of an injected one.
pub(super) fn is_copy(pod: &Value) -> bool {
    let named = |name: &'static str| listed(pod, "initContainers").filter(move |it| name_of(it) == name);
    let elsewhere = |it: &Value| [INIT_CONTAINER, PROXY_CONTAINER].contains(&name_of(it));
    let mut volumes = listed(pod, "volumes").filter(|volume| name_of(volume) == VOLUME);
    let has_volume = volumes.next().is_some_and(is_our_volume) && volumes.next().is_none();
    let inits: Vec<_> = named(INIT_CONTAINER).collect();
    let proxies: Vec<_> = named(PROXY_CONTAINER).collect();
    let has_both_or_none = match (inits.as_slice(), proxies.as_slice()) {
        ([], []) => true,
        ([init], [proxy]) => is_our_init(init) && is_our_proxy(proxy),
        _ => false,
    };
    has_volume && has_both_or_none && !listed(pod, "containers").any(elsewhere)
}

fn is_our_volume(volume: &Value) -> bool {
    let sources = volume.pointer("/projected/sources").and_then(Value::as_array).map(Vec::as_slice);
    let Some([token, file]) = sources else { return false };
    let text = |of: &Value, place: &str| of.pointer(place).and_then(Value::as_str).map(str::to_owned);
    let sds = format!("metadata.annotations['{TOKEN_SDS}']");
    text(token, "/serviceAccountToken/audience").is_some_and(|it| it.starts_with(AUDIENCE))
        && text(token, "/serviceAccountToken/path").as_deref() == Some(TOKEN_FILE)
        && text(file, "/downwardAPI/items/0/path").as_deref() == Some(TOKEN_SDS_FILE)
        && text(file, "/downwardAPI/items/0/fieldRef/fieldPath") == Some(sds)
}

fn is_our_init(container: &Value) -> bool {
    argument(container, 0) == Some("redirect")
}

fn is_our_proxy(container: &Value) -> bool {
    let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    container.get("restartPolicy").and_then(Value::as_str) == Some("Always")
        && argument(container, 0) == Some("--config-yaml")
        && mounts.into_iter().any(|mount| {
            name_of(mount) == VOLUME
                && mount.get("mountPath").and_then(Value::as_str) == Some(CREDENTIAL_FOLDER)
        })
}

fn argument(container: &Value, index: usize) -> Option<&str> {
    container.get("args")?.get(index)?.as_str()
}

/// Removes the checks that call the proxy of the pod that was copied: the originals were in its annotations. Returns a
/// warning for each.
pub(super) fn drop_checks(pod: &mut Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for container in probed_mut(pod) {
        let name = name_of(container).to_owned();
        for kind in &KINDS {
            let key = format!("{name}/{}", kind.name);
            let handler = kind.handler_mut(container);
            let get = handler.and_then(|handler| handler.get("httpGet"));
            if !get.is_some_and(|get| is_rewritten(get, &key)) {
                continue;
            }
            remove(container, kind);
            warnings.push(format!(
                "smidge: probe {key} was removed from the copy of an injected pod: its original is in the annotations, \
                 which the copy has not; hint: kubectl debug --keep-annotations keeps them"
            ));
        }
    }
    warnings
}

/// Removes a check from its container.
fn remove(container: &mut Value, kind: &Kind) {
    let Some((last, parents)) = kind.path.split_last() else { return };
    let parent: Option<&mut Map<String, Value>> = match parents {
        [] => container.as_object_mut(),
        [name, ..] => child(container, name),
    };
    if let Some(parent) = parent {
        parent.remove(*last);
    }
}
