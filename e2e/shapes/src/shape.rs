//! Turns the table of shapes into calls, and each call into one line of JSON: the shape, and what was seen.
//!
//! What is seen holds nothing that two runs would see differently, so a caller compares it with what it saw elsewhere.

use std::time::Duration;

use anyhow::Context as _;
use futures::{FutureExt as _, future::BoxFuture};
use serde_json::json;
use tokio::net::TcpStream;

mod cluster;
mod connection;
mod http1;
mod http2;
mod large;
mod raw;
mod stream;

/// Time limit of a shape, unless it is a large body.
const LIMIT: Duration = Duration::from_secs(30);

/// Arguments of `try`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Host of the server.
    #[arg(long)]
    pub server: String,
    /// Size of the largest bodies, in MiB.
    #[arg(long, default_value_t = 16)]
    pub body: usize,
    /// Number of connections that are open at once.
    #[arg(long, default_value_t = 200)]
    pub connections: usize,
    /// Only the shapes whose names contain this.
    #[arg(long, default_value = "")]
    pub only: String,
}

impl Args {
    async fn connect(&self, port: u16) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect((self.server.as_str(), port)).await;
        stream.with_context(|| format!("failed to connect to port {port}"))
    }
}

type Seen = BoxFuture<'static, anyhow::Result<String>>;
type Shape = (&'static str, fn(Args) -> Seen);

const SHAPES: &[Shape] = &[
    ("HTTP/1.1, two requests on one connection", |args| http1::kept(args).boxed()),
    ("HTTP/1.1, a connection for each request", |args| http1::closed(args).boxed()),
    ("HTTP/1.1, three requests at once (pipelining)", |args| http1::pipelined(args).boxed()),
    ("HTTP/1.1, chunked bodies both ways", |args| http1::chunked(args).boxed()),
    ("HTTP/1.1, HEAD, 204, 304 and then 200 on one connection", |args| http1::without_bodies(args).boxed()),
    ("HTTP/1.1, `Expect: 100-continue`", |args| http1::expect(args).boxed()),
    ("HTTP/1.1, `Expect: 100-continue`, body not wanted", |args| http1::expect_refused(args).boxed()),
    ("HTTP/1.1, trailers of a response", |args| http1::response_trailers(args).boxed()),
    ("HTTP/1.1, trailers of a request", |args| http1::request_trailers(args).boxed()),
    ("HTTP/1.1, absolute URL at an HTTP port", |args| http1::absolute(args).boxed()),
    ("HTTP/1.1, port that declares no protocol", |args| http1::undeclared(args).boxed()),
    ("HTTP/1.1, privileged port", |args| http1::privileged(args).boxed()),
    ("request head of 60 KB", |args| large::request_head(args, 60_000).boxed()),
    ("request head of 200 KB", |args| large::request_head(args, 200_000).boxed()),
    ("response head of 60 KB", |args| large::response_head(args, 60_000).boxed()),
    ("response head of 200 KB", |args| large::response_head(args, 200_000).boxed()),
    ("large body of a request", |args| large::upload(args).boxed()),
    ("large body of a response", |args| large::download(args).boxed()),
    ("HTTP/2 cleartext, four requests on one connection", |args| http2::at_http(args).boxed()),
    ("HTTP/2 cleartext, port that declares no protocol", |args| http2::undeclared(args).boxed()),
    ("HTTP/2 cleartext, trailers of a response", |args| http2::response_trailers(args).boxed()),
    ("gRPC, unary", |args| http2::unary(args).boxed()),
    ("gRPC, stream of responses", |args| http2::down(args).boxed()),
    ("gRPC, stream of requests", |args| http2::up(args).boxed()),
    ("gRPC, both streams, message by message", |args| http2::both(args).boxed()),
    ("gRPC, 20 deadlines that pass", |args| http2::deadlines(args).boxed()),
    ("WebSocket", |args| stream::websocket(args).boxed()),
    ("server-sent events, each after the one before was received", |args| stream::events(args).boxed()),
    ("TCP, message by message", |args| stream::echo(args).boxed()),
    ("TCP, one side ended (half-close)", |args| stream::half_close(args).boxed()),
    ("TCP, port that declares no protocol", |args| stream::echo_undeclared(args).boxed()),
    ("TCP, 20 ports", |args| stream::many_ports(args).boxed()),
    ("TCP, many connections at once", |args| stream::many_connections(args).boxed()),
    ("server speaks first", |args| stream::greeting(args).boxed()),
    ("server speaks first, port that declares no protocol", |args| stream::greeting_undeclared(args).boxed()),
    ("server speaks first, then a dialogue (SMTP)", |args| stream::dialogue(args).boxed()),
    ("TLS of the application", |args| stream::tls(args).boxed()),
    ("TLS of the application, port that declares no protocol", |args| stream::tls_undeclared(args).boxed()),
    ("forward proxy, CONNECT", |args| stream::forward_connect(args).boxed()),
    ("forward proxy, absolute URL", |args| stream::forward_absolute(args).boxed()),
    ("DNS over UDP", |args| cluster::dns_udp(args).boxed()),
    ("DNS over TCP", |args| cluster::dns_tcp(args).boxed()),
    ("API server, with the pod's token", |args| cluster::api_server(args).boxed()),
];

/// Calls the server in every shape.
pub async fn run(args: Args) -> anyhow::Result<()> {
    for (name, shape) in SHAPES.iter().filter(|(name, _)| name.contains(&args.only)) {
        let limit = if name.starts_with("large") { LIMIT * 10 } else { LIMIT };
        let seen = match tokio::time::timeout(limit, shape(args.clone())).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => format!("failed: {error:#}"),
            Err(_) => "failed: no end within the time limit".to_owned(),
        };
        println!("{}", json!({"shape": name, "seen": seen}));
    }
    Ok(())
}
