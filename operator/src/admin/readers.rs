//! Says who may read the debug pages: whoever the cluster's RBAC lets `get` the page's path.
//!
//! Asked by `admin` before such a page is made. The API server says whose token it is and what that user may do, unless the
//! issuer's keys rule out that it is anybody's; an answer is kept for a short time by the token's hash. Tokens are never logged. They need an audience of their own, so that what
//! travels to this port over plain HTTP is worth nothing at the API server.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use sha2::{Digest as _, Sha256};
use smidge_xds::mesh::id::{ClusterId, TrustDomain};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::render::busy;
use crate::{
    auth::{self, issuer::Issuer, reason::Reason, token::Token},
    queue::Queue,
};

/// Reviews at once, and how many of them for one peer: anybody may send tokens, and the API server has other work.
const AT_ONCE: (usize, usize) = (4, 1);
/// How long a yes is believed. Whoever loses the right still reads for so long.
const YES: Duration = Duration::from_secs(30);
/// How long a no is believed. Shorter: somebody may be setting up the right just now.
const NO: Duration = Duration::from_secs(5);
/// Answers that are kept.
const KEPT: usize = 100;

/// What is made of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// It may read the page.
    Yes,
    /// It is nobody's, or not meant for us.
    Nobodys,
    /// Of this user, who may not.
    No(String),
}

/// An answer, until when it is believed.
type Answer = (Verdict, Instant);

/// Those who may read.
pub struct Readers {
    client: Client,
    issuer: Arc<Issuer>,
    audience: String,
    queue: Queue,
    known: Mutex<HashMap<[u8; 32], Answer>>,
}

impl Readers {
    /// Whoever may in the cluster that `client` talks to, and whose tokens are `issuer`'s.
    pub fn new(client: Client, issuer: Arc<Issuer>, domain: &TrustDomain, cluster: &ClusterId) -> Self {
        let audience = auth::debug_audience(domain, cluster);
        let queue = Queue::new(AT_ONCE.0, AT_ONCE.1);
        Self { client, issuer, audience, queue, known: Mutex::default() }
    }

    /// Whether `peer`, who sends `headers`, may read `path`; if not, the answer that says so.
    pub(super) async fn admit(&self, peer: IpAddr, headers: &HeaderMap, path: &str) -> Result<(), Response> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        let (Some(value), None) = (value, values.next()) else { return Err(self.unknown(path)) };
        let token = auth::bare(value).and_then(Token::parse);
        // What is not meant for us is not worth a question.
        let token = token.ok().filter(|token| token.claims().aud.contain(&self.audience));
        let Some(token) = token else { return Err(self.unknown(path)) };
        let key =
            Sha256::new_with_prefix(path).chain_update([0]).chain_update(token.expose()).finalize().into();
        let verdict = self.recall(&key);
        let verdict =
            if let Some(verdict) = verdict { verdict } else { self.learn(peer, key, &token, path).await? };
        match verdict {
            Verdict::Yes => Ok(()),
            Verdict::Nobodys => Err(self.unknown(path)),
            Verdict::No(user) => Err(forbidden(&user, path)),
        }
    }

    /// The verdict by the API server's word, which is kept.
    async fn learn(
        &self,
        peer: IpAddr,
        key: [u8; 32],
        token: &Token<'_>,
        path: &str,
    ) -> Result<Verdict, Response> {
        if self.issuer.disowns(token).await {
            info!(path, "debug page request with a token that the issuer did not sign");
            return Ok(Verdict::Nobodys);
        }
        let Some(_turn) = self.queue.turn(peer).await else {
            return Err(busy("other tokens are being reviewed; try again\n").await);
        };
        let Ok(verdict) = self.review(token, path).await else {
            let why = "the API server did not say whose token that is, or what they may read; try again\n";
            return Err(busy(why).await);
        };
        self.keep(key, verdict.clone());
        Ok(verdict)
    }

    fn recall(&self, key: &[u8; 32]) -> Option<Verdict> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(_, until)| Instant::now() < *until).map(|(verdict, _)| verdict.clone())
    }

    fn keep(&self, key: [u8; 32], verdict: Verdict) {
        let now = Instant::now();
        let until = now + if verdict == Verdict::Yes { YES } else { NO };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, until)| now < *until);
        if known.len() >= KEPT {
            let first = known.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| *key);
            first.map(|key| known.remove(&key));
        }
        known.insert(key, (verdict, until));
    }

    /// What the API server says; an error if it does not.
    async fn review(&self, token: &Token<'_>, path: &str) -> Result<Verdict, ()> {
        let user = match auth::review::ask(&self.client, token, &self.audience).await {
            Ok(user) => user,
            Err(Reason::Unavailable) => return Err(()),
            Err(reason) => {
                info!(?reason, path, "debug page request with an invalid token");
                return Ok(Verdict::Nobodys);
            }
        };
        let name = user.username.clone().unwrap_or_default();
        let question = may_get(user, path);
        let api = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = timeout(auth::PATIENCE, api.create(&PostParams::default(), &question)).await;
        let answer = answer.map_err(|_| warn!("SubjectAccessReview timed out"))?;
        let answer = answer.map_err(|error| warn!(%error, "SubjectAccessReview failed"))?;
        let status = answer.status.unwrap_or_default();
        if status.allowed && status.denied != Some(true) {
            info!(user = ?name, path, "debug page request allowed");
            return Ok(Verdict::Yes);
        }
        info!(user = ?name, path, "debug page request forbidden");
        Ok(Verdict::No(name))
    }

    fn unknown(&self, path: &str) -> Response {
        let words = format!(
            "reading {path} needs a token (hint: bind the ClusterRole smidge-debug to a ServiceAccount, and send \
             \"Authorization: Bearer TOKEN\" with what `kubectl -n NAMESPACE create token ACCOUNT --audience {}` prints)\n",
            self.audience
        );
        (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], words).into_response()
    }
}

fn forbidden(user: &str, path: &str) -> Response {
    let words = format!(
        "user {user:?} may not get {path} (hint: `kubectl create clusterrolebinding NAME --clusterrole smidge-debug \
         --serviceaccount NAMESPACE:ACCOUNT`)\n"
    );
    (StatusCode::FORBIDDEN, words).into_response()
}

fn may_get(user: UserInfo, path: &str) -> SubjectAccessReview {
    let UserInfo { extra, groups, uid, username } = user;
    let page = NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            extra,
            groups,
            non_resource_attributes: Some(page),
            resource_attributes: None,
            uid,
            user: username,
        },
        ..SubjectAccessReview::default()
    }
}
