//! A collector of OpenTelemetry that keeps the spans and log records that it is sent, by OTLP over gRPC.

use std::{
    convert::Infallible,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http_body_util::{BodyExt as _, Collected, StreamBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Frame, Incoming},
    header::HeaderValue,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use prost::Message;

/// A span, as far as tests read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of the resource that sent it.
    pub service: String,
    /// Identifiers in hexadecimal; `parent` is empty for the first span of a trace.
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    /// 2 for a server's span, 3 for a client's.
    pub kind: i32,
    /// True if it has failed.
    pub is_error: bool,
    /// Attributes that are texts or whole numbers.
    pub attributes: Vec<(String, String)>,
    /// Attributes of the resource that sent it.
    pub resource: Vec<(String, String)>,
}

impl Span {
    /// Returns the value of an attribute.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// A log record, as far as tests read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Name of the severity.
    pub severity: String,
    /// The message.
    pub message: String,
    /// Identifier of the trace in hexadecimal; empty outside of one.
    pub trace: String,
    /// Name of its scope: the module that it is of.
    pub scope: String,
}

/// Running collector.
pub struct Collector {
    pub address: SocketAddr,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    spans: Mutex<Vec<Span>>,
    records: Mutex<Vec<Record>>,
    /// True if answers begin and never end.
    stalls: bool,
}

impl Collector {
    /// Starts a collector.
    pub fn start() -> Self {
        Self::keeping(Kept::default())
    }

    /// Starts a collector whose answers begin and never end.
    pub fn stalling() -> Self {
        Self::keeping(Kept { stalls: true, ..Kept::default() })
    }

    fn keeping(kept: Kept) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let keeper = Arc::new(kept);
        let kept = Arc::clone(&keeper);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let kept = Arc::clone(&kept);
                    tokio::spawn(async move {
                        let take = service_fn(|request| take(request, Arc::clone(&kept)));
                        let builder = Builder::new(TokioExecutor::new());
                        // An error is the end of a connection.
                        drop(builder.serve_connection(TokioIo::new(stream), take).await);
                    });
                }
            });
        });
        Self { address, kept: keeper }
    }

    /// Returns the spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().unwrap().clone()
    }

    /// Returns the log records so far.
    pub fn records(&self) -> Vec<Record> {
        self.kept.records.lock().unwrap().clone()
    }
}

type Answer = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

async fn take(request: Request<Incoming>, kept: Arc<Kept>) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    // A message of gRPC has a head of five bytes.
    let sent = body.get(5..).unwrap_or_default();
    match path.as_str() {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
            let spans = Export::decode(sent).unwrap().resource_spans;
            kept.spans.lock().unwrap().extend(spans.into_iter().flat_map(ResourceSpans::read));
        }
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => {
            let logs = ExportLogs::decode(sent).unwrap().resource_logs;
            let records = logs.into_iter().flat_map(|logs| logs.scope_logs).flat_map(ScopeLogs::read);
            kept.records.lock().unwrap().extend(records);
        }
        _ => panic!("no collector has {path}"),
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let frames = [Ok(Frame::data(Bytes::from_static(&[0; 5]))), Ok(Frame::trailers(trailers))];
    let frames = if kept.stalls { stream::pending().boxed() } else { stream::iter(frames).boxed() };
    let mut answer = Response::new(StreamBody::new(frames));
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(answer)
}

/// `ExportTraceServiceRequest` of OTLP, and what it has, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<WireSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct SpanStatus {
    /// 2 for an error.
    #[prost(int32, tag = "3")]
    code: i32,
}

/// `ExportLogsServiceRequest` of OTLP, and what it has, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct ExportLogs {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceLogs {
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<WireRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireRecord {
    #[prost(string, tag = "3")]
    severity: String,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(bytes = "vec", tag = "9")]
    trace_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

impl AnyValue {
    fn read(self) -> String {
        self.text.or_else(|| Some(self.number?.to_string())).unwrap_or_default()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl ResourceSpans {
    fn read(self) -> Vec<Span> {
        let texts = |attributes: Vec<KeyValue>| {
            let text = |it: KeyValue| (it.key, it.value.unwrap_or_default().read());
            attributes.into_iter().map(text).collect::<Vec<_>>()
        };
        let resource = texts(self.resource.unwrap_or_default().attributes);
        let service = resource.iter().find(|(key, _)| key == "service.name");
        let service = service.map(|(_, name)| name.clone()).unwrap_or_default();
        let spans = self.scope_spans.into_iter().flat_map(|scope| scope.spans);
        let read = |span: WireSpan| Span {
            service: service.clone(),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            name: span.name,
            kind: span.kind,
            is_error: span.status.is_some_and(|status| status.code == 2),
            attributes: texts(span.attributes),
            resource: resource.clone(),
        };
        spans.map(read).collect()
    }
}

impl ScopeLogs {
    fn read(self) -> Vec<Record> {
        let scope = self.scope.unwrap_or_default().name;
        let read = |record: WireRecord| Record {
            severity: record.severity,
            message: record.body.unwrap_or_default().read(),
            trace: hex(&record.trace_id),
            scope: scope.clone(),
        };
        self.log_records.into_iter().map(read).collect()
    }
}
