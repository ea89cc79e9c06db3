//! Decides which users may read which figures, and write which objects: those whom the cluster's RBAC allows to.
//!
//! Used by `traffic_api` after the API server was authenticated. The API server has authorized the request already; it
//! is asked again, as for every aggregated API, because the path by which it authorizes is not always that of the
//! resource (`namespaces/NAME/edges`). A verdict is cached for a few seconds.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReviewSpec};
use kube::Client;
use sha2::{Digest as _, Sha256};
use smidge_traffic_metrics::api::{GROUP, access::Access, status::Status};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tracing::{Instrument as _, info, info_span};

use super::front_proxy::User;
use crate::{
    auth::rights::{self, Verdicts},
    telemetry::TARGET,
};

/// Maximum number of concurrent reviews.
const AT_ONCE: usize = 16;
/// Time limit of a review, its wait for a turn included.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which a positive verdict is cached. A user that loses the right still has it for this time.
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

    /// Returns an error unless the user has the right.
    pub(super) async fn authorize(&self, user: &User, access: &Access<'_>) -> Result<(), Status> {
        let spec = question(user, access);
        let failed = || Status::internal("the API server did not review the user's permissions; try again");
        let key = Sha256::digest(serde_json::to_vec(&spec).map_err(|_| failed())?).into();
        let allowed = if let Some(allowed) = self.known.recall(&key) {
            allowed
        } else {
            let span = info_span!(target: TARGET, "authorize");
            let allowed = self.review(spec).instrument(span).await.ok_or_else(failed)?;
            self.known.keep(key, allowed, if allowed { ALLOWED } else { DENIED });
            allowed
        };
        if allowed {
            return Ok(());
        }
        let Access { plural, verb, namespace, name, .. } = access;
        info!(
            user = user.name,
            verb,
            resource = plural,
            namespace,
            name,
            "request for traffic metrics forbidden"
        );
        Err(Status::forbidden(&user.name, access))
    }

    /// Returns the verdict of the API server; `None` if it gives none.
    async fn review(&self, spec: SubjectAccessReviewSpec) -> Option<bool> {
        let end = Instant::now() + REVIEW_TIMEOUT;
        let _slot = timeout_at(end, self.slots.acquire()).await.ok()?.ok()?;
        rights::review(&self.client, spec, end.saturating_duration_since(Instant::now())).await
    }
}

fn question(user: &User, access: &Access<'_>) -> SubjectAccessReviewSpec {
    let User { name, uid, groups, extra } = user.clone();
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let attributes = ResourceAttributes {
        group: text(GROUP),
        name: access.name.map(str::to_owned),
        namespace: access.namespace.map(str::to_owned),
        resource: text(access.plural),
        subresource: text(access.subresource),
        verb: text(access.verb),
        version: text(access.version.name()),
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
