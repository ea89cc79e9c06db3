//! Delta client over an in-memory connection.

use std::{
    collections::HashMap,
    future::Ready,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::rpc::Status as Complaint,
};
use hyper_util::rt::TokioIo;
use smidge_xds::{
    resources::ResourceType,
    server::{Authenticator, CertSource, Server},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    codegen::{Service, http::Uri},
    transport::{Channel, Endpoint},
};

/// Time limit of every wait, longer than any of them takes.
const DEADLINE: Duration = Duration::from_mins(1);

/// Running server, reached through memory.
pub struct Net {
    connections: mpsc::UnboundedSender<io::Result<DuplexStream>>,
    stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<()>,
}

impl Net {
    pub fn serve<A, C, S>(server: Server<A, C, S>) -> Self
    where
        A: Authenticator,
        C: CertSource,
        S: Send + Sync + 'static,
    {
        let (connections, incoming) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let incoming = tokio_stream::wrappers::UnboundedReceiverStream::new(incoming);
        let task = tokio::spawn(async move {
            server.serve(incoming, async { drop(stopped.await) }).await.unwrap();
        });
        Self { connections, stop: Some(stop), task }
    }

    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Opens a stream whose connection reads no more bytes once the flag is set.
    pub async fn stoppable(&self, token: Option<&str>) -> (Client, Arc<AtomicBool>) {
        let stopped = Arc::<AtomicBool>::default();
        (self.open_over(None, Arc::clone(&stopped), token).await.unwrap(), stopped)
    }

    /// Connects without a stream. The connection reads no more bytes once the flag is set.
    pub async fn channel(&self, window: Option<u32>, stopped: Arc<AtomicBool>) -> Channel {
        let (near, far) = tokio::io::duplex(1 << 16);
        let near = Stoppable(near, stopped);
        self.connections.send(Ok(far)).unwrap();
        let endpoint = Endpoint::from_static("http://server").initial_stream_window_size(window);
        soon("a connection", endpoint.connect_with_connector(Once(Some(near)))).await.unwrap()
    }

    /// Opens a stream with a token.
    pub async fn open(&self, token: Option<&str>) -> Result<Client, Status> {
        self.open_with(token, None).await
    }

    /// Opens a stream on which the server may send `window` bytes before the client reads.
    pub async fn open_with(&self, token: Option<&str>, window: Option<u32>) -> Result<Client, Status> {
        self.open_over(window, Arc::default(), token).await
    }

    async fn open_over(
        &self,
        window: Option<u32>,
        stopped: Arc<AtomicBool>,
        token: Option<&str>,
    ) -> Result<Client, Status> {
        open(self.channel(window, stopped).await, token).await
    }

    /// Connects a regular client of that name.
    pub async fn connect(&self, name: &str) -> Client {
        let client = self.open(Some(name)).await.unwrap();
        client.introduce(name).await;
        client
    }

    /// Returns the status of the state-of-the-harness variant.
    pub async fn state_of_the_world(&self) -> Status {
        let mut service = AggregatedDiscoveryServiceClient::new(self.channel(None, Arc::default()).await);
        let requests = futures::stream::pending::<DiscoveryRequest>();
        let answer = service.stream_aggregated_resources(Request::new(requests));
        soon("an answer", answer).await.unwrap_err()
    }
}

async fn open(channel: Channel, token: Option<&str>) -> Result<Client, Status> {
    let (requests, receiver) = mpsc::channel(16);
    let mut request = Request::new(ReceiverStream::new(receiver));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let mut service = AggregatedDiscoveryServiceClient::new(channel);
    let answer = service.delta_aggregated_resources(request);
    let responses = soon("the stream opens", answer).await?.into_inner();
    Ok(Client { requests, responses })
}

/// Opens a stream without a token over a connection of the caller's.
pub async fn open_on<I>(connection: I) -> Result<Client, Status>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let endpoint = Endpoint::from_static("http://server");
    let connecting = endpoint.connect_with_connector(Once(Some(connection)));
    let channel =
        soon("a connection", connecting).await.map_err(|error| Status::unavailable(error.to_string()))?;
    open(channel, None).await
}

pub fn node(name: &str) -> Node {
    Node { id: format!("{name}.shop"), ..Node::default() }
}

pub struct Client {
    pub requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub responses: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    pub async fn send(&self, request: DeltaDiscoveryRequest) {
        soon("the connection takes a message", self.requests.send(request)).await.unwrap();
    }

    pub async fn introduce(&self, name: &str) {
        self.send(DeltaDiscoveryRequest { node: Some(node(name)), ..DeltaDiscoveryRequest::default() }).await;
    }

    /// Subscribes, with the versions of resources that the client has from before.
    pub async fn want(&self, kind: ResourceType, names: &[&str], held: &[(&str, &str)]) {
        let held = held.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
        self.send(DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            initial_resource_versions: held.collect::<HashMap<_, _>>(),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// Receives the next response and acknowledges it.
    pub async fn next(&mut self) -> DeltaDiscoveryResponse {
        let response = self.receive().await;
        self.answer(&response, None).await;
        response
    }

    pub async fn receive(&mut self) -> DeltaDiscoveryResponse {
        let next = timeout(Duration::from_secs(5), self.responses.message()).await;
        next.expect("nothing came").unwrap().expect("the stream has ended")
    }

    pub async fn answer(&self, response: &DeltaDiscoveryResponse, complaint: Option<&str>) {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: complaint
                .map(|text| Complaint { message: text.to_owned(), ..Complaint::default() }),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// Asserts that no response arrives while time passes. The clock is paused, so it passes at once.
    pub async fn receives_nothing(&mut self) {
        let next = timeout(Duration::from_secs(5), self.responses.message()).await;
        assert!(next.is_err(), "heard {next:?}");
    }

    /// Returns the status with which the stream ends. No other response may arrive.
    pub async fn ends(&mut self) -> (Code, String) {
        match timeout(Duration::from_secs(100_000), self.responses.message()).await.expect("still open") {
            Ok(None) => (Code::Ok, String::new()),
            Ok(Some(response)) => panic!("heard {response:?}"),
            Err(status) => (status.code(), status.message().to_owned()),
        }
    }
}

/// Waits, up to the time limit.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

/// Waits until a condition is true. The clock is paused, so it advances when no task has work to do.
pub async fn until(what: &str, is_true: impl Fn() -> bool) {
    let wait = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(what, wait).await;
}

/// Returns the names and versions in a response.
pub fn sent(response: &DeltaDiscoveryResponse) -> Vec<(&str, &str)> {
    response.resources.iter().map(|resource| (resource.name.as_str(), resource.version.as_str())).collect()
}

/// Connection from which no more bytes are read once the flag is set.
struct Stoppable(DuplexStream, Arc<AtomicBool>);

impl Stoppable {
    fn is_stopped(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }
}

impl AsyncRead for Stoppable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_stopped() { Poll::Pending } else { Pin::new(&mut self.0).poll_read(cx, buf) }
    }
}

impl AsyncWrite for Stoppable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connector that returns this connection once.
struct Once<I>(Option<I>);

impl<I> Service<Uri> for Once<I> {
    type Response = TokioIo<I>;
    type Error = io::Error;
    type Future = Ready<Result<Self::Response, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        std::future::ready(self.0.take().map(TokioIo::new).ok_or(io::ErrorKind::NotConnected.into()))
    }
}
