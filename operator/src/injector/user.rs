//! Chooses the user that the proxy of a pod runs as.
//!
//! The kernel counts inotify instances by user (128 unless a node says otherwise) and an Envoy has two, so proxies that share a
//! user share a bound that a node of 110 pods exceeds. Each pod's proxy has a user of its own, and the group of all
//! proxies: redirection asks for both. Pure; which groups an application must not have is `refusal`'s.

use serde_json::Value;
use sha2::{Digest, Sha256};
use smidge_crds::labels::PROXY_CONTAINER;

use super::{all_containers, listed, name_of};
use crate::redirect::SHARED_USER;

/// The users of proxies. Above those of images and people, below those that systemd gives out, and below 65536: a pod
/// with `hostUsers: false` has no others.
pub const USERS: std::ops::Range<u32> = 30_000..60_000;

/// The user of the proxy of a pod that the API server asks about in `review`, which names this question and no other. One
/// that a pod was given stays, so that a second call changes nothing. A template has no review: its pods share a user
/// until the webhook sees each of them.
///
/// Whoever writes a pod can write a user into it. That is no way into the mesh or out of it that he did not have: a label
/// keeps his pod out.
pub(super) fn given(pod: &Value) -> Option<u32> {
    let proxy = listed(pod, "initContainers").find(|container| name_of(container) == PROXY_CONTAINER)?;
    let user = u32::try_from(user(Some(proxy))?).ok()?;
    USERS.contains(&user).then_some(user)
}

/// The user for a pod without its proxy: the one it was `given`, if no container has it, or one by the review.
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
    // A pod has fewer containers than there are users.
    candidates.find(is_free).unwrap_or(SHARED_USER)
}

/// What `securityContext.runAsUser` says of a container or a pod's `spec`.
pub(super) fn user(of: Option<&Value>) -> Option<i64> {
    of?.get("securityContext")?.get("runAsUser")?.as_i64()
}
