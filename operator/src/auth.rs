//! Turns the token of a stream, or the certificate of its connection, into the identity of a proxy.
//!
//! Called by the xDS server for each stream, before it answers anything. A stream must present the token that the
//! kubelet projected into its pod: for our audience, bound to the pod by name and UID, signed by the cluster's issuer.
//! Where there is no Kubernetes, `machines` judges the client certificate of the connection instead. `token`, `keys`,
//! `claims` and `reason` are pure; `issuer`, `review` and `pods` query the API server. `rights` is for readers of pages and
//! figures.
//!
//! Does not read what the proxy states about itself: the server compares that with the `Admission`. Tokens are never
//! logged, and clients learn nothing but a gRPC code.

pub mod claims;
pub mod issuer;
pub mod keys;
pub mod machines;
mod metrics;
pub mod pods;
pub mod reason;
pub(crate) mod review;
pub mod rights;
pub mod token;

use std::{sync::Arc, time::Duration};

use claims::{Subject, Verdict, judge};
use issuer::Issuer;
use k8s_openapi::api::core::v1::Pod;
use keys::Known;
use kube::Client;
pub use metrics::Metrics;
use pods::Pods;
use reason::Reason;
use review::Reviewer;
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId, SpiffeId, TrustDomain},
    server::{Admission, Authenticator, Presented, Refusal},
};
use token::Token;
use tonic::metadata::MetadataMap;

use crate::clock::Clock;

/// Time limit of one request to the API server; a stream that waits longer is refused as unavailable, and its client
/// tries again.
pub(crate) const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the audience of the tokens that proxies of `cluster` present.
pub fn audience(domain: &TrustDomain, cluster: &ClusterId) -> String {
    format!("smidge/{domain}/{cluster}")
}

/// Returns the audience of the tokens that the operator's replicas present to each other.
pub fn replica_audience(domain: &TrustDomain, cluster: &ClusterId) -> String {
    format!("{}/replica", audience(domain, cluster))
}

/// Returns the audience of the tokens with which users read the operator's debug pages.
pub fn debug_audience(domain: &TrustDomain, cluster: &ClusterId) -> String {
    format!("{}/debug", audience(domain, cluster))
}

/// Authenticates streams by the projected tokens of one cluster's pods.
pub struct TokenAuthenticator {
    domain: TrustDomain,
    cluster: ClusterId,
    audience: String,
    issuer: Arc<Issuer>,
    reviewer: Reviewer,
    /// Reviewer of replicas' tokens, so that many streams of proxies do not delay them.
    replica_reviewer: Reviewer,
    pods: Arc<Pods>,
    owner: fn(&Pod) -> (String, String),
    clock: Clock,
    metrics: Metrics,
}

/// Settings of an authenticator.
pub struct Settings {
    /// The mesh's trust domain; part of every identity and of the audience.
    pub domain: TrustDomain,
    /// The cluster whose pods these are; part of the audience.
    pub cluster: ClusterId,
    /// The API server of that cluster.
    pub client: Client,
    /// Its pods.
    pub pods: Arc<Pods>,
    /// Function that returns the kind and name of the workload that a pod is an instance of; `lower` has it.
    pub owner: fn(&Pod) -> (String, String),
    /// Wall clock.
    pub clock: Clock,
    /// Metrics of authentication.
    pub metrics: Metrics,
}

impl TokenAuthenticator {
    /// Creates an authenticator; nothing is read before the first stream or `run`.
    pub fn new(settings: Settings) -> Self {
        let Settings { domain, cluster, client, pods, owner, clock, metrics } = settings;
        let audience = audience(&domain, &cluster);
        let issuer = Arc::new(Issuer::new(client.clone()));
        let (reviewer, replica_reviewer) = (Reviewer::new(client.clone()), Reviewer::new(client));
        Self { domain, cluster, audience, issuer, reviewer, replica_reviewer, pods, owner, clock, metrics }
    }

    /// Returns the issuer of the cluster's tokens.
    pub fn issuer(&self) -> Arc<Issuer> {
        Arc::clone(&self.issuer)
    }

    /// Keeps the issuer's keys current. Never returns.
    pub async fn run(&self) {
        self.issuer.run().await;
    }

    /// Returns the living pod of the token in `authorization`, the one header of a request. The token must be meant for
    /// other replicas of the operator, not for proxies' streams.
    pub async fn replica(&self, authorization: Option<&str>) -> Result<Subject, Reason> {
        let token = Token::parse(bare(authorization.ok_or(Reason::NoToken)?)?)?;
        let audience = replica_audience(&self.domain, &self.cluster);
        let subject = self.prove(&token, &audience, &self.replica_reviewer).await?;
        let (_, _gone) = self.pods.find(&subject).await?;
        Ok(subject)
    }

    /// Returns the admission or the reason of the refusal; `about` is set to the token's account and pod as soon as
    /// they are known.
    async fn judge(&self, metadata: &MetadataMap, about: &mut String) -> Result<Admission, Reason> {
        let token = Token::parse(bearer(metadata)?)?;
        let subject = self.prove(&token, &self.audience, &self.reviewer).await?;
        *about = format!("{} of pod {}/{}", subject.user(), subject.namespace, subject.pod);
        let (pod, gone) = self.pods.find(&subject).await?;
        let (workload_kind, workload_name) = (self.owner)(&pod);
        let left = subject.expires - self.clock.now().unix_timestamp();
        Ok(Admission {
            proxy: ProxyId {
                cluster: self.cluster.clone(),
                namespace: subject.namespace.clone(),
                instance: subject.pod,
            },
            identity: SpiffeId {
                trust_domain: self.domain.clone(),
                namespace: subject.namespace,
                service_account: subject.service_account,
            },
            workload_kind,
            workload_name,
            expires_in: Duration::from_secs(left.try_into().unwrap_or_default()),
            gone,
        })
    }

    /// Returns the pod that `token` proves: by the keys in memory, by those that are then read, or, where these cannot
    /// decide, by a review of the API server. A forged token causes no review where the keys can decide.
    async fn prove(&self, token: &Token<'_>, audience: &str, reviewer: &Reviewer) -> Result<Subject, Reason> {
        let judged = |known: Option<Arc<Known>>| {
            judge(token, known.as_deref(), audience, self.clock.now().unix_timestamp())
        };
        let mut verdict = judged(self.issuer.known());
        if matches!(verdict, Verdict::Open(_) | Verdict::UnknownKey) {
            self.issuer.refresh().await;
            verdict = judged(self.issuer.known());
        }
        match verdict {
            Verdict::Good(subject) => Ok(subject),
            Verdict::Refused(reason) => Err(reason),
            Verdict::UnknownKey => Err(Reason::UnknownKey),
            Verdict::Open(subject) => {
                reviewer.review(token, audience, &subject).await?;
                Ok(subject)
            }
        }
    }
}

impl Authenticator for TokenAuthenticator {
    /// Admits by the token alone; a certificate is not needed and not read.
    async fn admit(&self, presented: &Presented<'_>) -> Result<Admission, Refusal> {
        let mut about = String::new();
        let result = self.judge(presented.metadata, &mut about).await;
        self.metrics.judged(result.as_ref().map(|_| ()).map_err(|reason| *reason));
        result.map_err(|reason| reason.refusal(&about))
    }
}

/// Returns the one bearer token of a request.
fn bearer(metadata: &MetadataMap) -> Result<&str, Reason> {
    let mut values = metadata.get_all("authorization").iter();
    let value = values.next().ok_or(Reason::NoToken)?.to_str().map_err(|_| Reason::Malformed)?;
    if values.next().is_some() {
        return Err(Reason::Malformed);
    }
    bare(value)
}

/// Returns the token in the value of the header.
pub(crate) fn bare(value: &str) -> Result<&str, Reason> {
    let (scheme, token) = value.split_once(' ').ok_or(Reason::Malformed)?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).ok_or(Reason::Malformed)
}
