//! A control plane that only records who opened a stream, for tests of the bootstrap.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
};
use futures::Stream;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Certificate, Identity, ServerTlsConfig},
};

/// The name that proxies demand.
pub const NAME: &str = "smidge.smidge-system.svc";

/// Credentials and node of a proxy that opened a stream.
pub struct Opened {
    pub authorization: Option<String>,
    /// The leaf of the client's certificate.
    pub certificate: Option<Vec<u8>>,
    pub node: String,
}

/// The server; it ends with the test's runtime.
pub struct Server {
    pub port: u16,
    /// The root of its certificate.
    pub root: String,
    opened: mpsc::Receiver<Opened>,
    end: broadcast::Sender<()>,
    answer: watch::Sender<bool>,
}

impl Server {
    /// Serves with a certificate for `name`.
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, None).await
    }

    /// Serves with a certificate for `name` those clients which present one of the authority `clients`.
    pub async fn start_with(name: &str, clients: Option<&Authority>) -> Self {
        let authority = authority("the active root");
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &authority.issuer)
            .unwrap();
        let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(leaf.pem(), key.serialize_pem()));
        if let Some(clients) = clients {
            tls = tls.client_ca_root(Certificate::from_pem(&clients.pem));
        }
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (send, opened) = mpsc::channel(100);
        let (end, _) = broadcast::channel(1);
        let (answer, _) = watch::channel(false);
        let service = Service { opened: send, end: end.clone(), answer: answer.clone() };
        let serving = tonic::transport::Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(AggregatedDiscoveryServiceServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Self { port, root: authority.pem, opened, end, answer }
    }

    /// Returns the next stream that is opened, if one is in time.
    pub async fn stream(&mut self, within: Duration) -> Option<Opened> {
        timeout(within, self.opened.recv()).await.ok().flatten()
    }

    /// Ends every stream; proxies reconnect.
    pub fn end_streams(&self) {
        // Without a stream there is no receiver, and no stream to end.
        let _ = self.end.send(());
    }

    /// Sends every proxy empty responses, which are a configuration.
    pub fn answer(&self) {
        self.answer.send_replace(true);
    }
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Issues a client certificate for `key`.
    pub fn client(&self, key: &KeyPair) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            vec![SanType::URI("spiffe://cluster.local/machine/shop/web-0".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.issuer).unwrap()
    }
}

pub fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

/// A standby root.
pub fn unrelated_root() -> String {
    authority("a root that stands by").pem
}

struct Service {
    opened: mpsc::Sender<Opened>,
    end: broadcast::Sender<()>,
    answer: watch::Sender<bool>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let authorization =
            request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let certificate = request.peer_certs().and_then(|chain| Some(chain.first()?.to_vec()));
        let (send, responses) = mpsc::channel(10);
        let opened = self.opened.clone();
        let (mut end, mut answer) = (self.end.subscribe(), self.answer.subscribe());
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let mut first = true;
            let mut types = Vec::new();
            loop {
                tokio::select! {
                    message = requests.message() => {
                        let Ok(Some(message)) = message else { return };
                        let node = message.node.unwrap_or_default().id;
                        if std::mem::take(&mut first) {
                            let _ = opened.send(Opened {
                                authorization: authorization.clone(),
                                certificate: certificate.clone(),
                                node,
                            }).await;
                        }
                        if message.response_nonce.is_empty() {
                            types.push(message.type_url);
                        }
                    }
                    _ = end.recv() => {
                        let _ = send.send(Err(Status::unavailable("ended by the test"))).await;
                        return;
                    }
                    () = async { drop(answer.wait_for(|answer| *answer).await) }, if !types.is_empty() => {
                        for type_url in types.drain(..) {
                            let nonce = "1".to_owned();
                            let nothing = DeltaDiscoveryResponse { type_url, nonce, ..Default::default() };
                            let _ = send.send(Ok(nothing)).await;
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}
