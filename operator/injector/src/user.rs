//! Chooses the user that the proxy of a pod runs as.
//!
//! The kernel counts inotify instances by user (128 unless a node is configured otherwise) and an Envoy has two, so
//! proxies that share a user share a limit that a node of 110 pods exceeds. Each pod's proxy has a user of its own, and
//! the group of all proxies: redirection checks both. Pure; `refusal` decides which groups an application must not
//! have.

use serde_json::Value;
use sha2::{Digest, Sha256};
use smidge_crds::labels::PROXY_CONTAINER;

use super::{all_containers, listed, name_of};
use crate::redirect::SHARED_USER;

/// User IDs of proxies. Above those of images and people, below those that systemd assigns, and below 65536: a pod with
/// `hostUsers: false` has no others.
pub const USERS: std::ops::Range<u32> = 30_000..60_000;

/// Returns the user that a pod's proxy already has, if it is one of `USERS`. It stays, so that a second call changes
/// nothing.
///
/// A user who writes a pod can write this user ID into it. That gives no way into or out of the mesh that the user did
/// not have: a label keeps the pod out.
pub(super) fn given(pod: &Value) -> Option<u32> {
    let proxy = listed(pod, "initContainers").find(|container| name_of(container) == PROXY_CONTAINER)?;
    let user = u32::try_from(user(Some(proxy))?).ok()?;
    USERS.contains(&user).then_some(user)
}

/// Chooses the user for a pod without its proxy: the `given` one, if no container has it, or one derived from `review`,
/// which identifies the API server's review of this pod and no other. A template has no review: its pods share a user
/// until the webhook reviews each of them.
pub(super) fn choose(pod: &Value, given: Option<u32>, review: Option<&str>) -> u32 {
    let taken: Vec<i64> =
        all_containers(pod).map(|it| user(Some(it))).chain([user(pod.get("spec"))]).flatten().collect();
    let is_free = |user: &u32| !taken.contains(&i64::from(*user));
    if let Some(given) = given.filter(is_free) {
        return given;
    }
    let Some(review) = review else { return SHARED_USER };
    let digest = Sha256::digest(review.as_bytes());
    let number = digest.iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    let count = USERS.end - USERS.start;
    let mut candidates = (0..count).map(|step| USERS.start + (number % count + step) % count);
    // A pod has fewer containers than there are user IDs.
    candidates.find(is_free).unwrap_or(SHARED_USER)
}

/// Returns `securityContext.runAsUser` of a container or of a pod's `spec`.
pub(super) fn user(of: Option<&Value>) -> Option<i64> {
    of?.get("securityContext")?.get("runAsUser")?.as_i64()
}
