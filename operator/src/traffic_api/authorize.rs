//! Decides which users may read which figures: those whom the cluster's RBAC allows to.
//!
//! Used by `traffic_api` after the API server was authenticated. The API server has authorized the request already; it
//! is asked again, as for every aggregated API, because the path by which it authorizes is not always that of the
//! resource (`namespaces/NAME/edges`). A verdict is cached for a few seconds.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReviewSpec};
use kube::Client;
use sha2::{Digest as _, Sha256};
use smidge_traffic_metrics::api::{GROUP, request::Figures, status::Status};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tracing::info;

use super::front_proxy::User;
use crate::auth::rights::{self, Verdicts};

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

/// Authorizer of requests for figures.
pub(super) struct Authorizer {
    client: Client,
    slots: Semaphore,
    known: Verdicts<bool>,
}

impl Authorizer {
    pub(super) fn new(client: Client) -> Self {
        Self { client, slots: Semaphore::new(AT_ONCE), known: Verdicts::new(KEPT) }
    }

    /// Returns an error unless the user may read the figures.
    pub(super) async fn authorize(&self, user: &User, figures: &Figures) -> Result<(), Status> {
        let spec = question(user, figures);
        let failed = || Status::internal("the API server did not review the user's permissions; try again");
        let key = Sha256::digest(serde_json::to_vec(&spec).map_err(|_| failed())?).into();
        let allowed = if let Some(allowed) = self.known.recall(&key) {
            allowed
        } else {
            let allowed = self.review(spec).await.ok_or_else(failed)?;
            self.known.keep(key, allowed, if allowed { ALLOWED } else { DENIED });
            allowed
        };
        if allowed {
            return Ok(());
        }
        info!(user = user.name, path = figures.path(), "request for traffic metrics forbidden");
        Err(Status::forbidden(
            (figures.resource, figures.object_name()),
            (&user.name, figures.verb()),
            (figures.subresource.as_str(), figures.authorized_namespace()),
        ))
    }

    /// Returns the verdict of the API server; `None` if it gives none.
    async fn review(&self, spec: SubjectAccessReviewSpec) -> Option<bool> {
        let end = Instant::now() + REVIEW_TIMEOUT;
        let _slot = timeout_at(end, self.slots.acquire()).await.ok()?.ok()?;
        rights::review(&self.client, spec, end.saturating_duration_since(Instant::now())).await
    }
}

fn question(user: &User, figures: &Figures) -> SubjectAccessReviewSpec {
    let User { name, uid, groups, extra } = user.clone();
    let attributes = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        name: figures.object_name().map(str::to_owned),
        namespace: figures.authorized_namespace().map(str::to_owned),
        resource: Some(figures.resource.plural.to_owned()),
        subresource: Some(figures.subresource.as_str().to_owned()).filter(|word| !word.is_empty()),
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
