//! Asks the other replicas, while this one leads, what their proxies have acknowledged.
//!
//! Started by `runtime`. One connection a replica, one question at a time, which the other side holds until it has news.
//! A replica that cannot be asked has no counts here, so its proxies count as silent, and it holds up nobody.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tracing::{debug, info};
use zeroize::Zeroizing;

use super::{PATH, decode, serve};
use crate::{lease::Leader, publish::Published, status::programmed::AckCounts};

/// For a connection to be there and trusted.
const CONNECT: Duration = Duration::from_secs(3);
/// For an answer, beside what it may wait for news.
const ANSWER: Duration = Duration::from_secs(5);
/// The pause after a failure doubles from the one to the other.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// Some 100,000 objects.
const LARGEST: usize = 32 << 20;

/// Why a replica could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No root, or no name, to trust it by.
    #[error("nothing to trust other replicas by")]
    Trust(#[from] rustls::Error),
    /// Our own token could not be read.
    #[error("failed to read our own token")]
    Token(#[source] std::io::Error),
    /// It is not there.
    #[error("failed to connect")]
    Connect(#[from] std::io::Error),
    /// It did not answer as it should.
    #[error("failed to ask")]
    Http(#[from] hyper::Error),
    /// It answered too much, or broke off.
    #[error("failed to read the answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("it took too long")]
    Timeout(#[from] tokio::time::error::Elapsed),
    /// It does not answer us.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// It answered something else.
    #[error("invalid response")]
    Answer(#[from] serde_json::Error),
}

/// How to reach other replicas, and whom to believe.
pub struct PeerPoller {
    /// What was published: it has the replicas' addresses.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// Whether this replica leads.
    pub leader: watch::Receiver<Leader>,
    /// The name of this pod.
    pub name: String,
    /// How one replica is asked.
    pub asker: Arc<PeerClient>,
    /// Where the counts go.
    pub replicas: watch::Sender<Arc<BTreeMap<String, AckCounts>>>,
    /// How many replicas were heard.
    pub heard: Gauge,
}

/// How one replica is asked.
pub struct PeerClient {
    tls: TlsConnector,
    server_name: ServerName<'static>,
    token: PathBuf,
    port: u16,
}

/// Registers the metric; the caller chooses the prefix.
pub fn heard(registry: &mut Registry) -> Gauge {
    let heard = Gauge::default();
    registry.register(
        "peers_reporting",
        "Other replicas whose acknowledgement counts the leader has",
        heard.clone(),
    );
    heard
}

impl PeerPoller {
    /// Keeps asking while this replica leads, until the publisher ends.
    pub async fn keep(mut self) {
        let mut followed: BTreeMap<(String, IpAddr), AbortHandle> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let replicas = Arc::new(std::mem::take(&mut self.replicas));
        let mut counts = replicas.subscribe();
        loop {
            let wanted = self.wanted();
            followed.retain(|peer, task| {
                let stays = wanted.contains(peer);
                if !stays {
                    task.abort();
                    forget(&replicas, &peer.0);
                }
                stays
            });
            for peer in wanted {
                let (asker, replicas) = (Arc::clone(&self.asker), Arc::clone(&replicas));
                let (name, address) = peer.clone();
                followed.entry(peer).or_insert_with(|| {
                    tasks.spawn(async move { asker.follow(&name, address, &replicas).await })
                });
            }
            // A task that was told to end may have been about to tell.
            retain(&replicas, |name| followed.keys().any(|(peer, _)| peer == name));
            tokio::select! {
                changed = self.published.changed() => if changed.is_err() { return },
                Ok(()) = self.leader.changed() => {}
                Some(_) = tasks.join_next() => {}
                Ok(()) = counts.changed() => {}
            }
            self.heard.set(i64::try_from(replicas.borrow().len()).unwrap_or(i64::MAX));
        }
    }

    fn wanted(&mut self) -> Vec<(String, IpAddr)> {
        if *self.leader.borrow_and_update() != Leader::Me {
            return Vec::new();
        }
        let published = self.published.borrow_and_update().clone();
        let all = published.map(|published| serve::replicas(&published, &self.name)).unwrap_or_default();
        all.into_iter().filter(|(name, _)| *name != self.name).collect()
    }
}

fn forget(replicas: &watch::Sender<Arc<BTreeMap<String, AckCounts>>>, name: &str) {
    retain(replicas, |known| known != name);
}

/// Forgets all others.
fn retain(replicas: &watch::Sender<Arc<BTreeMap<String, AckCounts>>>, is_kept: impl Fn(&str) -> bool) {
    replicas.send_if_modified(|replicas| {
        let is_less = !replicas.keys().all(|name| is_kept(name));
        if is_less {
            Arc::make_mut(replicas).retain(|name, _| is_kept(name));
        }
        is_less
    });
}

impl PeerClient {
    /// Believes who shows a certificate for `server_name` under `roots`; shows the token in `token`.
    pub fn new(roots: &[String], server_name: &str, token: PathBuf, port: u16) -> Result<Self, FetchError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            for certificate in CertificateDer::pem_slice_iter(root.as_bytes()) {
                let broken = |_| rustls::Error::General("a root that is no PEM".to_owned());
                store.add(certificate.map_err(broken)?)?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let no_name = |_| rustls::Error::General("a name that is none".to_owned());
        let server_name = ServerName::try_from(server_name.to_owned()).map_err(no_name)?;
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), server_name, token, port })
    }

    /// Asks one replica for ever.
    async fn follow(
        &self,
        name: &str,
        address: IpAddr,
        replicas: &watch::Sender<Arc<BTreeMap<String, AckCounts>>>,
    ) {
        let (first, last) = RETRY;
        let mut pause = first;
        loop {
            let mut heard = false;
            let error = self
                .ask(SocketAddr::new(address, self.port), |tallies| {
                    heard = true;
                    replicas.send_modify(|replicas| {
                        Arc::make_mut(replicas).insert(name.to_owned(), tallies);
                    });
                })
                .await;
            forget(replicas, name);
            if heard {
                pause = first;
            }
            if let Err(error) = error {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                info!(replica = name, %error, cause, "peer unreachable, its proxies count as not reporting");
            }
            sleep(pause).await;
            pause = (pause * 2).min(last);
        }
    }

    /// Asks over one connection until it breaks.
    pub async fn ask(&self, address: SocketAddr, mut tell: impl FnMut(AckCounts)) -> Result<(), FetchError> {
        let token =
            tokio::fs::read_to_string(&self.token).await.map(Zeroizing::new).map_err(FetchError::Token)?;
        let connected = async {
            let stream = TcpStream::connect(address).await?;
            let stream = self.tls.connect(self.server_name.clone(), stream).await?;
            Ok::<_, FetchError>(http1::handshake(TokioIo::new(stream)).await?)
        };
        let (mut sender, connection) = timeout(CONNECT, connected).await??;
        debug!(%address, "requesting peer");
        let asking = async {
            let mut tag = None;
            loop {
                let news = question(&mut sender, &token, tag.as_deref());
                if let Some((tallies, new)) = timeout(serve::HOLD + ANSWER, news).await?? {
                    tell(tallies);
                    tag = new;
                }
            }
        };
        tokio::select! {
            result = asking => result,
            result = connection => Ok(result?),
        }
    }
}

/// One question; nothing if the replica has nothing new.
async fn question(
    sender: &mut SendRequest<Empty<Bytes>>,
    token: &str,
    tag: Option<&str>,
) -> Result<Option<(AckCounts, Option<String>)>, FetchError> {
    let bearer = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut bearer =
        header::HeaderValue::from_str(&bearer).map_err(|error| FetchError::Body(error.into()))?;
    // No log shows it, and no table of HTTP headers keeps it.
    bearer.set_sensitive(true);
    let mut request = Request::get(PATH).header(header::HOST, "smidge").header(header::AUTHORIZATION, bearer);
    if let Some(tag) = tag {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    let request = request.body(Empty::new()).map_err(|error| FetchError::Body(error.into()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let body =
        Limited::new(response.into_body(), LARGEST).collect().await.map_err(FetchError::Body)?.to_bytes();
    match status {
        StatusCode::NOT_MODIFIED => Ok(None),
        StatusCode::OK => Ok(Some((decode(&body)?, tag))),
        other => Err(FetchError::Status(other)),
    }
}
