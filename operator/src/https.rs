//! Serves a router over HTTPS: connections of `tls`, each served by `http`.
//!
//! Used by `runtime` for the webhooks and for the queries of other replicas. Decides nothing about requests, and holds no
//! certificate: the configuration's resolver does.

use std::{collections::BTreeSet, future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::{Extension, Router};
use rustls_pki_types::CertificateDer;
use smidge_xds::server::ComputeLimiter;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tracing::info_span;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{http, listen, shares::Shares, tls};

/// Maximum number of concurrent handshakes of one address: an API server opens a connection for each call of a burst.
const HANDSHAKES: usize = 256;
/// Time limit of calls in progress after the stop signal.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Names in the certificate that the client of a connection has presented, as an extension of its requests. The
/// configuration's verifier decides whether the certificate was verified before.
#[derive(Debug, Clone)]
pub struct ClientNames(pub(crate) Arc<BTreeSet<String>>);

/// Certificate chain that the client of a connection has presented, its own first, as an extension of its requests.
#[derive(Debug, Clone)]
pub struct ClientChain(pub Arc<Vec<CertificateDer<'static>>>);

impl ClientNames {
    /// Reads the common names and the DNS names from a certificate.
    fn of(leaf: &CertificateDer<'_>) -> Self {
        let Ok((_, leaf)) = X509Certificate::from_der(leaf) else { return Self(Arc::default()) };
        let common = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let alternative = leaf.subject_alternative_name().ok().flatten();
        let alternative = alternative.iter().flat_map(|names| &names.value.general_names);
        let dns = alternative
            .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None });
        Self(Arc::new(common.chain(dns).map(str::to_owned).collect()))
    }
}

/// Serves `router` over TLS until `shutdown` completes, and then waits for calls in progress.
pub async fn serve(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stop, stopped) = watch::channel(());
    let places = Shares::new(http::CONNECTIONS.0, http::CONNECTIONS.1);
    let (accepted, mut arriving) = mpsc::channel(1);
    // A separate limiter: API servers must not wait behind a large number of proxies.
    let mut accepting = Box::pin(tls::accept(listener, config, ComputeLimiter::new(1), HANDSHAKES, accepted));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = &mut accepting => break,
            Some(_) = connections.join_next() => {}
            Some(Ok(stream)) = arriving.recv() => start(&mut connections, stream, &places, &router, &stopped),
        }
    }
    // New clients find the port closed and connect to another replica.
    drop(accepting);
    drop(stop);
    let end = async {
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                // Its handshake was in progress.
                Some(Ok(stream)) = arriving.recv() => start(&mut connections, stream, &places, &router, &stopped),
                else => break,
            }
        }
    };
    // Connections that do not end in time are aborted when the set is dropped.
    let _ = timeout(DRAIN_TIMEOUT, end).await;
    Ok(())
}

/// Serves a connection, unless its peer has the maximum number of connections.
fn start(
    connections: &mut JoinSet<()>,
    stream: TlsStream<TcpStream>,
    places: &Shares,
    router: &Router,
    stopped: &watch::Receiver<()>,
) {
    let Ok(peer) = stream.get_ref().0.peer_addr().map(listen::canonical) else { return };
    let span = info_span!("https", peer = display(peer));
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    match chain.first().map(ClientNames::of) {
        None => http::start(connections, places, (stream, peer), (router, stopped), span),
        Some(names) => {
            let chain = ClientChain(Arc::new(chain.to_vec()));
            let router = router.clone().layer(Extension(names)).layer(Extension(chain));
            http::start(connections, places, (stream, peer), (&router, stopped), span);
        }
    }
}
