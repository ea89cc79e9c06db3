//! A raw client of the control plane: one delta stream, with whatever token and claim a test wants to try.
//!
//! Speaks the protocol as Envoy does, over TLS that trusts what an injected proxy trusts, and nothing else. Keeps no
//! state: what a test asks for and what comes back is all there is.

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

/// For how long a stream may keep silent before it has nothing more to say.
pub const SILENCE: Duration = Duration::from_millis(1500);

/// The kinds that a proxy asks for.
pub const KINDS: &[(&str, &str)] = &[
    ("clusters", "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
    ("endpoints", "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"),
    ("listeners", "type.googleapis.com/envoy.config.listener.v3.Listener"),
    ("routes", "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"),
    ("extensions", "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"),
    ("secrets", "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"),
];

/// What a proxy knows of the control plane before it has asked it anything.
#[derive(Clone)]
pub struct Trust {
    /// The roots, PEM.
    roots: Vec<String>,
    /// The name that the server must have.
    server_name: String,
}

impl Trust {
    /// What the proxy of an injected pod was given, read from the pod as anyone could read it.
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

/// The bootstrap of the proxy in `pod`, as it stands in the pod's object.
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

/// Brings one connection that is made already.
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

/// A connection to a replica of the operator, over TLS that is verified as a proxy would verify it.
pub async fn connect(replica: &Pod, trust: &Trust) -> anyhow::Result<Channel> {
    let stream = handshake(replica, trust).await?;
    let endpoint = Endpoint::from_static("http://smidge");
    endpoint
        .connect_with_connector(Once(Some(stream)))
        .await
        .context("failed to speak HTTP/2 with the operator")
}

/// The TLS connection alone.
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

/// How a stream was refused.
#[derive(Debug)]
pub struct Refused {
    /// The gRPC code.
    pub code: tonic::Code,
    /// Everything that came with it.
    pub message: String,
    /// What came before it.
    pub responses: usize,
}

impl Stream {
    /// Opens a stream with this token, claiming to be the node `node` (`<pod>.<namespace>`).
    ///
    /// The error is the refusal, if the server refuses before it answers.
    pub async fn open(channel: Channel, token: Option<&str>, node: &str) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().map_err(|_| Status::internal("no header value"))?;
            request.metadata_mut().insert("authorization", value);
        }
        let node = Node { id: node.to_owned(), ..Node::default() };
        // Asked at once, as Envoy does: some servers answer with headers only when there is something to say.
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

    /// Opens a stream that must be refused, and says how. Fails if the server answers anything.
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
            // A stream that was refused already takes no request, which is as good.
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

    /// Asks for names of a kind (a word of `KINDS`).
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

    /// Takes a response, or refuses it.
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

    /// The next response, which is to be answered.
    pub async fn next(&mut self) -> anyhow::Result<DeltaDiscoveryResponse> {
        self.responses.message().await.context("the stream was refused")?.context("the stream ended")
    }

    /// Takes every response until the stream is silent.
    pub async fn drain(&mut self) -> anyhow::Result<Vec<DeltaDiscoveryResponse>> {
        let mut all = Vec::new();
        while let Ok(next) = tokio::time::timeout(SILENCE, self.responses.message()).await {
            let response = next.context("the stream was refused")?.context("the stream ended")?;
            self.answer(&response, None).await?;
            all.push(response);
        }
        Ok(all)
    }

    /// Waits for the end of the stream, whatever comes before it.
    pub async fn end(&mut self, within: Duration) -> anyhow::Result<()> {
        let ended = async { while let Ok(Some(_)) = self.responses.message().await {} };
        tokio::time::timeout(within, ended).await.context("the stream goes on")
    }
}

/// The type URL of a word of `KINDS`.
pub fn url(kind: &str) -> anyhow::Result<&'static str> {
    KINDS
        .iter()
        .find(|(word, _)| *word == kind)
        .map(|(_, url)| *url)
        .with_context(|| format!("no kind {kind}"))
}

/// The names of the resources in `responses`.
pub fn names(responses: &[DeltaDiscoveryResponse]) -> BTreeSet<String> {
    responses.iter().flat_map(|response| &response.resources).map(|resource| resource.name.clone()).collect()
}
