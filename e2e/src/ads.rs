//! Raw client of the control plane: one delta stream, with any token and node claim that a test tries.
//!
//! Uses the protocol as Envoy does, over TLS that trusts only the roots an injected proxy trusts. Keeps no state: a
//! test sends every request and reads every response itself.

use std::{
    collections::BTreeSet,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::rpc::Status as RpcStatus,
};
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    codegen::Service,
    transport::{Channel, Endpoint, Uri},
};

use crate::{Pod, operator};

/// Time without a response after which a stream counts as silent.
pub const SILENCE: Duration = Duration::from_millis(1500);

/// Resource kinds that a proxy subscribes to.
pub const KINDS: &[(&str, &str)] = &[
    ("clusters", "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
    ("endpoints", "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"),
    ("listeners", "type.googleapis.com/envoy.config.listener.v3.Listener"),
    ("routes", "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"),
    ("extensions", "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"),
    ("secrets", "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"),
];

/// Trust in the control plane that a proxy has before its first request.
#[derive(Clone)]
pub struct Trust {
    /// Root certificates, in PEM.
    roots: Vec<String>,
    /// Name that the server's certificate must have.
    server_name: String,
}

impl Trust {
    /// Reads what the proxy of an injected pod trusts from the pod's object, which is readable by any client with
    /// access to the pod.
    pub async fn of(pod: &Pod) -> anyhow::Result<Self> {
        let bootstrap = bootstrap(pod).await?;
        let clusters = bootstrap.pointer("/static_resources/clusters").and_then(Value::as_array);
        let xds =
            clusters.into_iter().flatten().find(|cluster| cluster.get("name") == Some(&Value::from("xds")));
        let tls = xds
            .and_then(|xds| xds.pointer("/transport_socket/typed_config"))
            .context("no TLS to the control plane")?;
        let server_name =
            tls.get("sni").and_then(Value::as_str).context("no SNI to the control plane")?.to_owned();
        let mut roots = Vec::new();
        texts(tls, &mut |text| {
            if text.contains("BEGIN CERTIFICATE") {
                roots.push(text.to_owned());
            }
        });
        anyhow::ensure!(!roots.is_empty(), "no root of the control plane in the bootstrap of {}", pod.name);
        Ok(Self { roots, server_name })
    }

    fn config(&self) -> anyhow::Result<ClientConfig> {
        let mut store = RootCertStore::empty();
        for pem in &self.roots {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                store.add(certificate.context("a root that is no PEM")?)?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(store).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// Returns the bootstrap of the proxy in `pod`, as written in the pod's object.
pub async fn bootstrap(pod: &Pod) -> anyhow::Result<Value> {
    let spec = pod.object().await?.spec.context("a pod without a spec")?;
    let containers = spec.init_containers.into_iter().flatten().chain(spec.containers);
    for container in containers {
        let words: Vec<String> = container.command.into_iter().chain(container.args).flatten().collect();
        let bootstrap = words.iter().skip_while(|word| *word != "--config-yaml").nth(1);
        if let Some(bootstrap) = bootstrap {
            return serde_saphyr::from_str(bootstrap).context("the bootstrap does not parse");
        }
    }
    anyhow::bail!("no proxy in {}", pod.name)
}

fn texts(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => found(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

/// Connector that hands out one connection that exists already.
struct Once<S>(Option<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Service<Uri> for Once<S> {
    type Response = TokioIo<S>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.take();
        Box::pin(
            async move { stream.map(TokioIo::new).ok_or_else(|| std::io::ErrorKind::NotConnected.into()) },
        )
    }
}

/// Connects to a replica of the operator, over TLS that is verified as a proxy verifies it.
pub async fn connect(replica: &Pod, trust: &Trust) -> anyhow::Result<Channel> {
    let stream = handshake(replica, trust).await?;
    let endpoint = Endpoint::from_static("http://smidge");
    endpoint
        .connect_with_connector(Once(Some(stream)))
        .await
        .context("failed to speak HTTP/2 with the operator")
}

/// Opens the TLS connection alone.
pub async fn handshake(
    replica: &Pod,
    trust: &Trust,
) -> anyhow::Result<TlsStream<impl AsyncRead + AsyncWrite + Unpin + Send + use<>>> {
    let name = ServerName::try_from(trust.server_name.clone()).context("a server name that is none")?;
    let connector = TlsConnector::from(Arc::new(trust.config()?));
    let stream = replica.dial(operator::XDS).await?;
    connector
        .connect(name, stream)
        .await
        .context("the operator's certificate is not the one that proxies trust")
}

/// One delta stream.
pub struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    node: Option<Node>,
}

/// Refusal of a stream.
#[derive(Debug)]
pub struct Refused {
    /// The gRPC code.
    pub code: tonic::Code,
    /// Message and metadata of the status.
    pub message: String,
    /// Number of responses before the refusal.
    pub responses: usize,
}

impl Stream {
    /// Opens a stream with this token, as the node `node` (`<pod>.<namespace>`).
    ///
    /// The error is the status of the refusal, if the server refuses before it sends headers.
    pub async fn open(channel: Channel, token: Option<&str>, node: &str) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().map_err(|_| Status::internal("no header value"))?;
            request.metadata_mut().insert("authorization", value);
        }
        let node = Node { id: node.to_owned(), ..Node::default() };
        // The first request is sent at once, as Envoy does: some servers send headers only with their first response.
        let mut stream = DeltaDiscoveryRequest { node: Some(node), ..DeltaDiscoveryRequest::default() };
        KINDS
            .iter()
            .filter(|(kind, _)| *kind == "clusters")
            .for_each(|(_, url)| (*url).clone_into(&mut stream.type_url));
        let node = stream.node.clone();
        requests.send(stream).await.map_err(|_| Status::internal("the stream is closed"))?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.delta_aggregated_resources(request).await?.into_inner();
        Ok(Self { requests, responses, node })
    }

    /// Opens a stream that must be refused, and returns the refusal with the number of responses before it. Fails if
    /// the stream ends without a status.
    pub async fn refusal(channel: Channel, token: Option<&str>, node: &str) -> anyhow::Result<Refused> {
        let refused = |status: &Status, responses| Refused {
            code: status.code(),
            message: format!("{} {:?}", status.message(), status.metadata()),
            responses,
        };
        let mut stream = match Self::open(channel, token, node).await {
            Err(status) => return Ok(refused(&status, 0)),
            Ok(stream) => stream,
        };
        for (kind, _) in KINDS {
            // A stream that is refused already accepts no request, which is as good.
            let _ = stream.subscribe(kind, &["*"]).await;
        }
        let mut responses = 0;
        loop {
            let next = tokio::time::timeout(Duration::from_secs(10), stream.responses.message()).await;
            match next.context("the stream is neither refused nor answered")? {
                Ok(Some(_)) => responses += 1,
                Ok(None) => anyhow::bail!("the stream ended without a status, after {responses} responses"),
                Err(status) => return Ok(refused(&status, responses)),
            }
        }
    }

    /// Subscribes to names of a kind (a key of `KINDS`).
    pub async fn subscribe(&mut self, kind: &str, names: &[&str]) -> anyhow::Result<()> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.send(DeltaDiscoveryRequest {
            type_url: url(kind)?.to_owned(),
            resource_names_subscribe: names,
            node: self.node.clone(),
            ..DeltaDiscoveryRequest::default()
        })
        .await
    }

    /// Sends the ACK of a response, or its NACK with the message `complaint`.
    pub async fn answer(
        &mut self,
        response: &DeltaDiscoveryResponse,
        complaint: Option<&str>,
    ) -> anyhow::Result<()> {
        let error_detail =
            complaint.map(|message| RpcStatus { code: 3, message: message.to_owned(), details: vec![] });
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..DeltaDiscoveryRequest::default()
        })
        .await
    }

    async fn send(&mut self, request: DeltaDiscoveryRequest) -> anyhow::Result<()> {
        self.requests.send(request).await.context("the stream is closed")
    }

    /// Returns the next response, which the caller must acknowledge.
    pub async fn next(&mut self) -> anyhow::Result<DeltaDiscoveryResponse> {
        self.responses.message().await.context("the stream was refused")?.context("the stream ended")
    }

    /// Acknowledges every response until the stream is silent, and returns the responses.
    pub async fn drain(&mut self) -> anyhow::Result<Vec<DeltaDiscoveryResponse>> {
        let mut all = Vec::new();
        while let Ok(next) = tokio::time::timeout(SILENCE, self.responses.message()).await {
            let response = next.context("the stream was refused")?.context("the stream ended")?;
            self.answer(&response, None).await?;
            all.push(response);
        }
        Ok(all)
    }

    /// Waits for the end of the stream, regardless of the responses before it.
    pub async fn end(&mut self, within: Duration) -> anyhow::Result<()> {
        let ended = async { while let Ok(Some(_)) = self.responses.message().await {} };
        tokio::time::timeout(within, ended).await.context("the stream goes on")
    }
}

/// Returns the type URL of a key of `KINDS`.
pub fn url(kind: &str) -> anyhow::Result<&'static str> {
    KINDS
        .iter()
        .find(|(word, _)| *word == kind)
        .map(|(_, url)| *url)
        .with_context(|| format!("no kind {kind}"))
}

/// Returns the names of the resources in `responses`.
pub fn names(responses: &[DeltaDiscoveryResponse]) -> BTreeSet<String> {
    responses.iter().flat_map(|response| &response.resources).map(|resource| resource.name.clone()).collect()
}
