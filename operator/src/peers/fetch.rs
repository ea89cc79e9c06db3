//! Fetches from the other replicas, while this one leads, the acknowledgement counts of their proxies.
//!
//! Impure. Started by `runtime`. One connection a replica, one request at a time, which the other side holds until its
//! counts change. A replica that cannot be reached has no counts here, so its proxies count as not reporting, and it
//! delays no other replica.

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
use smidge_xds::backoff::Backoff;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tracing::{debug, info};
use zeroize::Zeroizing;

use super::{PATH, decode, serve};
use crate::{lease::Leader, publish::Published, status::programmed::AckCounts};

/// Time limit of a connection and its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit of an answer, in addition to the time for which the other side holds it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Delays before another attempt to reach a replica that failed.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(15) };
/// Maximum size of an answer, in bytes: about 100,000 objects.
const MAX_RESPONSE: usize = 32 << 20;

/// Errors of fetching the counts of a replica.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No root certificate or no server name to verify the replica with.
    #[error("nothing to trust other replicas by")]
    Trust(#[from] rustls::Error),
    /// This replica's token could not be read.
    #[error("failed to read our own token")]
    Token(#[source] std::io::Error),
    /// No connection could be established.
    #[error("failed to connect")]
    Connect(#[from] std::io::Error),
    /// The replica broke HTTP.
    #[error("failed to ask")]
    Http(#[from] hyper::Error),
    /// The answer is too large, or ended early.
    #[error("failed to read the answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The time limit has passed.
    #[error("it took too long")]
    Timeout(#[from] tokio::time::error::Elapsed),
    /// The replica refused the request.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// The answer is not in the form of counts.
    #[error("invalid response")]
    Answer(#[from] serde_json::Error),
}

/// Poller of the other replicas.
pub struct PeerPoller {
    /// The last publication: it has the addresses of the replicas.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// The present leader.
    pub leader: watch::Receiver<Leader>,
    /// Name of this pod.
    pub name: String,
    /// Client of other replicas.
    pub asker: Arc<PeerClient>,
    /// Receives the counts, by replica.
    pub replicas: watch::Sender<Arc<BTreeMap<String, AckCounts>>>,
    /// Number of replicas that have reported.
    pub reporting: Gauge,
}

type Sender = SendRequest<Empty<Bytes>>;
type Connection = http1::Connection<TokioIo<TlsStream<TcpStream>>, Empty<Bytes>>;

/// Client of other replicas.
pub struct PeerClient {
    tls: TlsConnector,
    server_name: ServerName<'static>,
    token: PathBuf,
    port: u16,
}

/// Registers the metric of reporting replicas; the caller chooses the prefix.
pub fn reporting(registry: &mut Registry) -> Gauge {
    let reporting = Gauge::default();
    registry.register(
        "peers_reporting",
        "Other replicas whose acknowledgement counts the leader has",
        reporting.clone(),
    );
    reporting
}

impl PeerPoller {
    /// Polls while this replica leads, until the publisher ends.
    pub async fn run(mut self) {
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
            // A task may have sent its counts after it was aborted.
            retain(&replicas, |name| followed.keys().any(|(peer, _)| peer == name));
            tokio::select! {
                changed = self.published.changed() => if changed.is_err() { return },
                Ok(()) = self.leader.changed() => {}
                Some(_) = tasks.join_next() => {}
                Ok(()) = counts.changed() => {}
            }
            self.reporting.set(i64::try_from(replicas.borrow().len()).unwrap_or(i64::MAX));
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

/// Removes the counts of all replicas that `is_kept` does not accept.
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
    /// Builds a client that accepts servers with a certificate for `server_name` under `roots`, and sends the token in
    /// the file `token`.
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

    /// Polls one replica until the task is aborted; connects again after a failure.
    async fn follow(
        &self,
        name: &str,
        address: IpAddr,
        replicas: &watch::Sender<Arc<BTreeMap<String, AckCounts>>>,
    ) {
        let mut failures = 0_u32;
        loop {
            let mut has_reported = false;
            let error = self
                .ask(SocketAddr::new(address, self.port), |counts| {
                    has_reported = true;
                    replicas.send_modify(|replicas| {
                        Arc::make_mut(replicas).insert(name.to_owned(), counts);
                    });
                })
                .await;
            forget(replicas, name);
            failures = if has_reported { 1 } else { failures.saturating_add(1) };
            if let Err(error) = error {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                info!(replica = name, %error, cause, "peer unreachable, its proxies count as not reporting");
            }
            sleep(RETRY.delay(failures)).await;
        }
    }

    async fn connect(
        &self,
        address: SocketAddr,
    ) -> Result<(Sender, Connection, Zeroizing<String>), FetchError> {
        let token =
            tokio::fs::read_to_string(&self.token).await.map(Zeroizing::new).map_err(FetchError::Token)?;
        let connected = async {
            let stream = TcpStream::connect(address).await?;
            let stream = self.tls.connect(self.server_name.clone(), stream).await?;
            Ok::<_, FetchError>(http1::handshake(TokioIo::new(stream)).await?)
        };
        let (sender, connection) = timeout(CONNECT_TIMEOUT, connected).await??;
        Ok((sender, connection, token))
    }

    /// Requests a path of one replica, over a connection of its own. The caller limits the time; an answer of more than
    /// `max` bytes is an error.
    pub async fn get(&self, address: SocketAddr, path: &str, max: usize) -> Result<Bytes, FetchError> {
        let (mut sender, connection, token) = self.connect(address).await?;
        let asking = async {
            let request = Request::get(path).header(header::HOST, "smidge");
            let request = request.header(header::AUTHORIZATION, bearer(&token)?).body(Empty::new());
            let request = request.map_err(|error| FetchError::Body(error.into()))?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), max).collect().await.map_err(FetchError::Body)?;
            if status == StatusCode::OK { Ok(body.to_bytes()) } else { Err(FetchError::Status(status)) }
        };
        // The connection ends by itself once it is answered.
        let (mut asking, mut connection) = (std::pin::pin!(asking), std::pin::pin!(connection));
        tokio::select! {
            answer = &mut asking => answer,
            ended = &mut connection => {
                ended?;
                asking.await
            }
        }
    }

    /// Polls over one connection until it fails; `report` receives the counts.
    pub async fn ask(
        &self,
        address: SocketAddr,
        mut report: impl FnMut(AckCounts),
    ) -> Result<(), FetchError> {
        let (mut sender, connection, token) = self.connect(address).await?;
        debug!(%address, "requesting peer");
        let asking = async {
            let mut tag = None;
            loop {
                let news = question(&mut sender, &token, tag.as_deref());
                if let Some((counts, new)) = timeout(serve::POLL_TIMEOUT + RESPONSE_TIMEOUT, news).await?? {
                    report(counts);
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

/// Returns the value of the header with a token.
fn bearer(token: &str) -> Result<header::HeaderValue, FetchError> {
    let bearer = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut bearer =
        header::HeaderValue::from_str(&bearer).map_err(|error| FetchError::Body(error.into()))?;
    // The value is left out of logs and of HTTP header tables.
    bearer.set_sensitive(true);
    Ok(bearer)
}

/// Sends one request; returns `None` if the counts of the replica are those of `tag`.
async fn question(
    sender: &mut Sender,
    token: &str,
    tag: Option<&str>,
) -> Result<Option<(AckCounts, Option<String>)>, FetchError> {
    let bearer = bearer(token)?;
    let mut request = Request::get(PATH).header(header::HOST, "smidge").header(header::AUTHORIZATION, bearer);
    if let Some(tag) = tag {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    let request = request.body(Empty::new()).map_err(|error| FetchError::Body(error.into()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let body = Limited::new(response.into_body(), MAX_RESPONSE)
        .collect()
        .await
        .map_err(FetchError::Body)?
        .to_bytes();
    match status {
        StatusCode::NOT_MODIFIED => Ok(None),
        StatusCode::OK => Ok(Some((decode(&body)?, tag))),
        other => Err(FetchError::Status(other)),
    }
}
