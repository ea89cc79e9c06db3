//! Decides which users may read the debug pages, and where it is set the traffic's metrics: those whom the cluster's RBAC allows to `get` the page's path.
//!
//! Called by `admin` before such a page is made. The API server authenticates the token and authorizes its user, unless
//! the issuer's keys rule out that the issuer signed it; a verdict is cached for a short time under a hash of path and
//! token. Tokens are never logged. They need an audience of their own, so that a token that is sent to this port over
//! plain HTTP is useless at the API server.

pub mod token;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{NonResourceAttributes, SubjectAccessReviewSpec},
};
use kube::Client;
use sha2::{Digest as _, Sha256};
use smidge_xds::mesh::id::{ClusterId, TrustDomain};
use tracing::info;

use super::render::busy;
use crate::{
    auth::{
        self,
        issuer::Issuer,
        reason::Reason,
        rights::{self, Verdicts},
        token::Token,
    },
    queue::Queue,
};

/// Maximum number of concurrent reviews, in all and for one peer: any client may send tokens, and the API server has
/// other work.
const AT_ONCE: (usize, usize) = (4, 1);
/// Time for which a positive verdict is cached. A user that loses the right can still read for this time.
const YES: Duration = Duration::from_secs(30);
/// Time for which a negative verdict is cached. Shorter, because the right may just be set up.
const NO: Duration = Duration::from_secs(5);
/// Maximum number of cached verdicts.
const KEPT: usize = 100;

/// Verdict about a token and a page.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// The user may read the page.
    Yes,
    /// The token is invalid, or has another audience.
    Unauthenticated,
    /// The token belongs to this user, who may not read the page.
    No(String),
}

/// Authorizer of requests for the debug pages.
pub enum Readers {
    /// The users whom the API server allows to.
    OfCluster(Box<OfCluster>),
    /// Whoever holds the token, in a control plane without an API server.
    Token(token::Token),
}

impl Readers {
    /// Creates the authorizer for the cluster of `client`, whose tokens `issuer` signs.
    pub fn of_cluster(
        client: Client,
        issuer: Arc<Issuer>,
        domain: &TrustDomain,
        cluster: &ClusterId,
    ) -> Self {
        Self::OfCluster(Box::new(OfCluster::new(client, issuer, domain, cluster)))
    }

    /// Admits the request of `peer` with `headers` for `path`, or returns the response that refuses it.
    pub(super) async fn admit(&self, peer: IpAddr, headers: &HeaderMap, path: &str) -> Result<(), Response> {
        match self {
            Self::OfCluster(readers) => readers.admit(peer, headers, path).await,
            Self::Token(token) => token.admit(headers, path),
        }
    }
}

/// Authorizer by the RBAC of a cluster.
pub struct OfCluster {
    client: Client,
    issuer: Arc<Issuer>,
    audience: String,
    queue: Queue,
    known: Verdicts<Verdict>,
}

impl OfCluster {
    fn new(client: Client, issuer: Arc<Issuer>, domain: &TrustDomain, cluster: &ClusterId) -> Self {
        let audience = auth::debug_audience(domain, cluster);
        let queue = Queue::new(AT_ONCE.0, AT_ONCE.1);
        Self { client, issuer, audience, queue, known: Verdicts::new(KEPT) }
    }

    async fn admit(&self, peer: IpAddr, headers: &HeaderMap, path: &str) -> Result<(), Response> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        let (Some(value), None) = (value, values.next()) else { return Err(self.unknown(path)) };
        let token = auth::bare(value).and_then(Token::parse);
        // A token with another audience is refused without a review.
        let token = token.ok().filter(|token| token.claims().aud.contain(&self.audience));
        let Some(token) = token else { return Err(self.unknown(path)) };
        let key =
            Sha256::new_with_prefix(path).chain_update([0]).chain_update(token.expose()).finalize().into();
        let verdict = self.known.recall(&key);
        let verdict =
            if let Some(verdict) = verdict { verdict } else { self.learn(peer, key, &token, path).await? };
        match verdict {
            Verdict::Yes => Ok(()),
            Verdict::Unauthenticated => Err(self.unknown(path)),
            Verdict::No(user) => Err(forbidden(&user, path)),
        }
    }

    /// Requests the verdict from the API server and caches it, unless the issuer did not sign the token.
    async fn learn(
        &self,
        peer: IpAddr,
        key: [u8; 32],
        token: &Token<'_>,
        path: &str,
    ) -> Result<Verdict, Response> {
        if self.issuer.disowns(token).await {
            info!(path, "debug page request with a token that the issuer did not sign");
            return Ok(Verdict::Unauthenticated);
        }
        let Some(_turn) = self.queue.turn(peer).await else {
            return Err(busy("other tokens are being reviewed; try again\n").await);
        };
        let Ok(verdict) = self.review(token, path).await else {
            let why = "the API server did not review the token and its permissions; try again\n";
            return Err(busy(why).await);
        };
        self.known.keep(key, verdict.clone(), if verdict == Verdict::Yes { YES } else { NO });
        Ok(verdict)
    }

    /// Returns the verdict of the API server; an error if it gives none.
    async fn review(&self, token: &Token<'_>, path: &str) -> Result<Verdict, ()> {
        let user = match auth::review::ask(&self.client, token, &self.audience).await {
            Ok(user) => user,
            Err(Reason::Unavailable) => return Err(()),
            Err(reason) => {
                info!(?reason, path, "debug page request with an invalid token");
                return Ok(Verdict::Unauthenticated);
            }
        };
        let name = user.username.clone().unwrap_or_default();
        let question = may_get(user, path);
        let verdict = rights::review(&self.client, question, auth::REVIEW_TIMEOUT).await;
        if verdict.ok_or(())? {
            info!(user = ?name, path, "debug page request allowed");
            return Ok(Verdict::Yes);
        }
        info!(user = ?name, path, "debug page request forbidden");
        Ok(Verdict::No(name))
    }

    fn unknown(&self, path: &str) -> Response {
        let words = format!(
            "reading {path} needs a token (hint: bind the ClusterRole {} to a ServiceAccount, and send \
             \"Authorization: Bearer TOKEN\" with what `kubectl -n NAMESPACE create token ACCOUNT --audience {}` prints)\n",
            role(path),
            self.audience
        );
        (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], words).into_response()
    }
}

fn forbidden(user: &str, path: &str) -> Response {
    let words = format!(
        "user {user:?} may not get {path} (hint: `kubectl create clusterrolebinding NAME --clusterrole {} \
         --serviceaccount NAMESPACE:ACCOUNT`)\n",
        role(path)
    );
    (StatusCode::FORBIDDEN, words).into_response()
}

/// Returns the ClusterRole of the chart that may get a page.
fn role(path: &str) -> &'static str {
    if path.starts_with("/metrics") { "smidge-scrape" } else { "smidge-debug" }
}

fn may_get(user: UserInfo, path: &str) -> SubjectAccessReviewSpec {
    let UserInfo { extra, groups, uid, username } = user;
    let page = NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
    SubjectAccessReviewSpec {
        extra,
        groups,
        non_resource_attributes: Some(page),
        resource_attributes: None,
        uid,
        user: username,
    }
}
