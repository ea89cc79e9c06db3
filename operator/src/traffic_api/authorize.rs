//! Decides which users may read which figures: those whom the cluster's RBAC allows to.
//!
//! Used by `traffic_api` after the API server was authenticated. The API server has authorized the request already; it
//! is asked again, as for every aggregated API, because the path by which it authorizes is not always that of the
//! resource (`namespaces/NAME/edges`). A verdict is cached for a few seconds.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::{Api, Client, api::PostParams};
use sha2::{Digest as _, Sha256};
use smidge_traffic_metrics::api::{GROUP, request::Figures, status::Status};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::front_proxy::User;

/// Maximum number of concurrent reviews.
const AT_ONCE: usize = 16;
/// Time limit of a review, its wait for a turn included.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which a positive verdict is cached. A user that loses the right can still read for this time.
const ALLOWED: Duration = Duration::from_secs(5);
/// Time for which a negative verdict is cached. Shorter, because the right may just be set up.
const DENIED: Duration = Duration::from_secs(1);
/// Maximum number of cached verdicts.
const KEPT: usize = 1000;

/// Verdict, and the time until which it is cached.
type Verdict = (bool, Instant);

/// Authorizer of requests for figures.
pub(super) struct Authorizer {
    client: Client,
    slots: Semaphore,
    known: Verdicts,
}

/// Cached verdicts, by a hash of the question.
#[derive(Default)]
struct Verdicts(Mutex<HashMap<[u8; 32], Verdict>>);

impl Authorizer {
    pub(super) fn new(client: Client) -> Self {
        Self { client, slots: Semaphore::new(AT_ONCE), known: Verdicts::default() }
    }

    /// Returns an error unless the user may read the figures.
    pub(super) async fn authorize(&self, user: &User, figures: &Figures) -> Result<(), Status> {
        let spec = question(user, figures);
        let failed = || Status::internal("the API server did not review the user's permissions; try again");
        let key = Sha256::digest(serde_json::to_vec(&spec).map_err(|_| failed())?).into();
        let allowed = if let Some(allowed) = self.known.recall(&key) {
            allowed
        } else {
            let reviewing = timeout(REVIEW_TIMEOUT, self.review(spec)).await;
            let allowed = reviewing.unwrap_or_else(|_| {
                warn!(limit = ?REVIEW_TIMEOUT, "SubjectAccessReview timed out");
                None
            });
            let allowed = allowed.ok_or_else(failed)?;
            self.known.keep(key, allowed);
            allowed
        };
        if allowed {
            return Ok(());
        }
        info!(user = user.name, path = figures.path(), "request for traffic metrics forbidden");
        let subresource = if figures.edges { "edges" } else { "" };
        Err(Status::forbidden(
            (figures.resource, figures.object_name()),
            (&user.name, figures.verb()),
            (subresource, figures.authorized_namespace()),
        ))
    }

    /// Returns the verdict of the API server; `None` if it gives none.
    async fn review(&self, spec: SubjectAccessReviewSpec) -> Option<bool> {
        let _slot = self.slots.acquire().await.ok()?;
        let api = Api::<SubjectAccessReview>::all(self.client.clone());
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| warn!(%error, "SubjectAccessReview failed")).ok()?;
        let SubjectAccessReviewStatus { allowed, denied, .. } = answer.status?;
        Some(allowed && denied != Some(true))
    }
}

impl Verdicts {
    fn recall(&self, key: &[u8; 32]) -> Option<bool> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(_, until)| Instant::now() < *until).map(|(allowed, _)| *allowed)
    }

    fn keep(&self, key: [u8; 32], allowed: bool) {
        let now = Instant::now();
        let until = now + if allowed { ALLOWED } else { DENIED };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() >= KEPT {
            let first = known.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| *key);
            first.map(|key| known.remove(&key));
        }
        known.insert(key, (allowed, until));
    }
}

fn question(user: &User, figures: &Figures) -> SubjectAccessReviewSpec {
    let User { name, uid, groups, extra } = user.clone();
    let attributes = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        name: figures.object_name().map(str::to_owned),
        namespace: figures.authorized_namespace().map(str::to_owned),
        resource: Some(figures.resource.plural.to_owned()),
        subresource: figures.edges.then(|| "edges".to_owned()),
        verb: Some(figures.verb().to_owned()),
        version: Some(figures.version.name().to_owned()),
        ..ResourceAttributes::default()
    };
    SubjectAccessReviewSpec {
        extra: Some(extra),
        groups: Some(groups),
        non_resource_attributes: None,
        resource_attributes: Some(attributes),
        uid: Some(uid),
        user: Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn cached_verdicts_end_and_their_number_is_bounded() {
        let known = Verdicts::default();
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            key
        };
        known.keep(key(0), true);
        known.keep(key(1), false);
        assert_eq!((known.recall(&key(0)), known.recall(&key(1))), (Some(true), Some(false)));
        tokio::time::advance(DENIED).await;
        assert_eq!((known.recall(&key(0)), known.recall(&key(1))), (Some(true), None));
        (0..2 * KEPT).for_each(|number| known.keep(key(number), true));
        assert_eq!(known.0.lock().unwrap().len(), KEPT);
        tokio::time::advance(ALLOWED).await;
        assert_eq!(known.recall(&key(2 * KEPT - 1)), None);
    }
}
