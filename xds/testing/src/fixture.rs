//! Server with fake proxies, views and certificates, for tests that are its clients.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use hyper::body::Bytes;
use prometheus_client::registry::Registry;
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId, SpiffeId},
    metrics::Metrics,
    resources::{Resource, ResourceType, Version},
    server::{
        Admission, Authenticator, CertSource, ComputeLimiter, Credentials, Holder, IssueError, Nack,
        Presented, Proxies, Refusal, RefusalReason, Reports, Server, Settings, SnapshotHub,
    },
    snapshot::Recipients,
    view::{Named, View},
};
use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

/// Private key of every fake certificate.
pub const KEY: &str = "-----BEGIN PRIVATE KEY----- must not be seen";

/// Views by proxy.
pub type Snapshot = BTreeMap<ProxyId, Arc<View>>;

/// Namespace of every proxy.
pub const NAMESPACE: &str = "shop";

pub fn proxy(name: &str) -> ProxyId {
    ProxyId { cluster: ClusterId::default(), namespace: NAMESPACE.to_owned(), instance: name.to_owned() }
}

/// Builds a view of resources without content, from kind, name and version.
pub fn view(resources: &[(ResourceType, &str, &str)]) -> Arc<View> {
    filled(resources.iter().map(|(kind, name, version)| (*kind, *name, *version, Vec::new())))
}

pub fn filled<'a>(
    resources: impl IntoIterator<Item = (ResourceType, &'a str, &'a str, Vec<u8>)>,
) -> Arc<View> {
    let resources = resources.into_iter().map(|(kind, name, version, body)| {
        let name: Arc<str> = name.into();
        let resource =
            Resource { kind, name: Arc::clone(&name), version: Version::new(version), body: body.into() };
        ((kind, name), Arc::new(resource))
    });
    Arc::new(View::from(resources.collect::<Named>()))
}

/// Authenticator that accepts `Bearer <instance>` as the token of the instance. It refuses the instance `forged`, and
/// never decides on `unjudged`.
#[derive(Clone)]
pub struct Tokens {
    pub expires_in: Duration,
    pub gone: watch::Sender<bool>,
    /// Number of verifications.
    pub judged: Arc<AtomicU64>,
}

impl Tokens {
    /// Returns the number of tokens that were verified.
    pub fn admitted(&self) -> u64 {
        self.judged.load(Ordering::SeqCst)
    }
}

impl Authenticator for Tokens {
    async fn admit(&self, presented: &Presented<'_>) -> Result<Admission, Refusal> {
        let refuse = |reason| Refusal { reason, detail: "secret-service of ns".to_owned() };
        let token = presented.metadata.get("authorization").ok_or_else(|| refuse(RefusalReason::NoToken))?;
        let name = token.to_str().ok().and_then(|token| token.strip_prefix("Bearer "));
        let name =
            name.filter(|name| *name != "forged").ok_or_else(|| refuse(RefusalReason::InvalidToken))?;
        if name == "unjudged" {
            std::future::pending::<()>().await;
        }
        self.judged.fetch_add(1, Ordering::SeqCst);
        let mut gone = self.gone.subscribe();
        Ok(Admission {
            proxy: proxy(name),
            identity: identity(name),
            workload_kind: "Deployment".to_owned(),
            workload_name: name.to_owned(),
            expires_in: self.expires_in,
            gone: async move { drop(gone.wait_for(|gone| *gone).await) }.boxed(),
        })
    }
}

pub fn identity(name: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/{name}").parse().unwrap()
}

/// Issuer of leaf certificates of version `<instance> <issuer> <number>`, valid for an hour under the current issuer.
#[derive(Clone)]
pub struct Leaves {
    /// Number of requests for a certificate.
    pub asked: Arc<AtomicU64>,
    pub issued: Arc<AtomicU64>,
    pub fails: Arc<AtomicBool>,
    pub issuer: watch::Sender<u64>,
    /// The chain and the key, if real ones are needed.
    pub real: Option<Arc<(String, String)>>,
}

impl CertSource for Leaves {
    async fn issue(&self, holder: &Holder) -> Result<Credentials, IssueError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            return Err(IssueError("the issuer is away".to_owned()));
        }
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        let version = format!("{} {} {number}", holder.proxy.instance, *self.issuer.borrow());
        let made_up = || (format!("chain of {}", holder.identity), KEY.to_owned());
        let (chain, key) = self.real.as_deref().cloned().unwrap_or_else(made_up);
        Ok(Credentials { chain, key: Zeroizing::new(key), version: Version::new(&version) })
    }

    fn renew_in(&self, holder: &Holder, held: &Version) -> Option<Duration> {
        let ours = format!("{} {} ", holder.proxy.instance, *self.issuer.borrow());
        held.as_str().starts_with(&ours).then_some(Duration::from_hours(1))
    }

    fn issuers(&self) -> watch::Receiver<u64> {
        self.issuer.subscribe()
    }
}

/// Messages with statistics, by the proxy that has pushed them.
#[derive(Debug, Clone, Default)]
pub struct Messages(pub Arc<Mutex<Vec<(ProxyId, Bytes)>>>);

impl Reports for Messages {
    fn report(&self, proxy: &ProxyId, message: Bytes) {
        self.0.lock().unwrap().push((proxy.clone(), message));
    }
}

/// Handles of a server: its inputs, and the means to observe it.
pub struct Handles {
    pub hub: SnapshotHub<Snapshot>,
    pub tokens: Tokens,
    pub leaves: Leaves,
    pub metrics: Metrics,
    pub registry: Registry,
    pub proxies: Proxies,
    pub reports: Messages,
    pub nacks: mpsc::Receiver<Nack>,
}

impl Handles {
    pub fn publish(&self, views: &[(&str, &Arc<View>)]) {
        self.publish_to(None, views);
    }

    /// Publishes a snapshot to the `concerned` proxies, or to all of them.
    pub fn publish_to(&self, concerned: Option<&[ProxyId]>, views: &[(&str, &Arc<View>)]) {
        let snapshot = views.iter().map(|(name, view)| (proxy(name), Arc::clone(view))).collect();
        self.hub.publish(Arc::new(snapshot), |_| match concerned {
            Some(proxies) => Recipients::These(Box::new(proxies.iter())),
            None => Recipients::All,
        });
    }

    /// Returns the metrics in the form in which they are scraped.
    pub fn scrape(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// Builds a server without clients, and its handles. With a real certificate its clients are real proxies, which are sent one
/// mesh after the other: they do not wait for what drains.
pub fn server(real: Option<(String, String)>) -> (Server<Tokens, Leaves, Snapshot>, Handles) {
    let linger = real.as_ref().map_or(Settings::default().linger, |_| Duration::from_millis(50));
    let (nack_sender, nacks) = mpsc::channel(16);
    let mut registry = Registry::default();
    let handles = Handles {
        hub: SnapshotHub::new(|snapshot: &Snapshot, proxy| snapshot.get(proxy).cloned()),
        tokens: Tokens {
            expires_in: Duration::from_hours(10),
            gone: watch::Sender::new(false),
            judged: Arc::default(),
        },
        leaves: Leaves {
            asked: Arc::default(),
            issued: Arc::default(),
            fails: Arc::default(),
            issuer: watch::Sender::new(1),
            real: real.map(Arc::new),
        },
        metrics: Metrics::register(&mut registry),
        registry,
        proxies: Proxies::default(),
        reports: Messages::default(),
        nacks,
    };
    let server = Server {
        authenticator: handles.tokens.clone(),
        certificates: handles.leaves.clone(),
        hub: handles.hub.clone(),
        metrics: handles.metrics.clone(),
        proxies: handles.proxies.clone(),
        reports: Arc::new(handles.reports.clone()),
        nacks: nack_sender,
        compute_limiter: ComputeLimiter::half(),
        settings: Settings { linger, ..Settings::default() },
    };
    (server, handles)
}
