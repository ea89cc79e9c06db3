//! Shapes of streams: WebSocket, server-sent events, bytes, servers that send first, TLS of the application, forward proxies.

use anyhow::Context as _;
use axum::body::Body;
use futures::{SinkExt as _, StreamExt as _, future::try_join_all};
use http_body_util::BodyExt as _;
use hyper::Request;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_tungstenite::{client_async, tungstenite::Message};

use super::{Args, connection, raw::Raw};
use crate::{ports, tcp, tls};

pub async fn websocket(args: Args) -> anyhow::Result<String> {
    let url = format!("ws://{}:{}/websocket", args.server, ports::HTTP);
    let (mut socket, response) = client_async(url, args.connect(ports::HTTP).await?).await?;
    let mut back = 0;
    for number in 0..3 {
        let message = Message::text(number.to_string());
        socket.send(message.clone()).await?;
        back += usize::from(socket.next().await.context("the socket was closed")?? == message);
    }
    socket.close(None).await?;
    Ok(format!("{}, {back} messages back", response.status().as_u16()))
}

pub async fn events(args: Args) -> anyhow::Result<String> {
    let get = |path: &str| Request::get(path).header("host", &args.server).body(Body::empty());
    let mut body = connection::response(&args, ports::HTTP, get("/events")?).await?.into_body();
    let mut events = 0;
    while let Some(frame) = body.frame().await {
        events += usize::from(frame?.is_data());
        connection::http1(&args, ports::HTTP, get("/acknowledge")?).await?;
    }
    Ok(format!("{events} events"))
}

async fn echo_at(args: &Args, port: u16) -> anyhow::Result<usize> {
    let mut stream = args.connect(port).await?;
    stream.set_nodelay(true)?;
    let mut back = 0;
    for number in 0..5_u8 {
        let message = [b'm', number];
        stream.write_all(&message).await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.context("the connection was closed")?;
        back += usize::from(answer == message);
    }
    Ok(back)
}

pub async fn echo(args: Args) -> anyhow::Result<String> {
    Ok(format!("{} messages back", echo_at(&args, ports::ECHO).await?))
}

pub async fn echo_undeclared(args: Args) -> anyhow::Result<String> {
    Ok(format!("{} messages back", echo_at(&args, ports::ECHO_UNDECLARED).await?))
}

pub async fn half_close(args: Args) -> anyhow::Result<String> {
    let mut stream = args.connect(ports::ECHO).await?;
    // Not with the first bytes: Envoy reads those before it knows where to, and then takes the end for the end of both sides.
    stream.write_all(b"?").await?;
    anyhow::ensure!(stream.read_u8().await? == b'?', "another byte came back");
    stream.write_all(b"last words, ").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(format!("received {answer:?}"))
}

pub async fn many_ports(args: Args) -> anyhow::Result<String> {
    let ports = (ports::MANY..ports::MANY + ports::MANY_COUNT).map(|port| echo_at(&args, port));
    let answered = try_join_all(ports).await?.into_iter().filter(|back| *back == 5).count();
    Ok(format!("{answered} ports answered"))
}

pub async fn many_connections(args: Args) -> anyhow::Result<String> {
    let mut open = Vec::new();
    for _ in 0..args.connections {
        let mut stream = args.connect(ports::ECHO).await?;
        stream.write_all(b"?").await?;
        open.push(stream);
    }
    let mut answered = 0;
    for stream in &mut open {
        answered += usize::from(stream.read_u8().await? == b'?');
    }
    Ok(format!("all answered: {}", answered == args.connections))
}

async fn greeting_at(args: &Args, port: u16) -> anyhow::Result<String> {
    let mut line = String::new();
    let size = BufReader::new(args.connect(port).await?).read_line(&mut line).await?;
    anyhow::ensure!(size > 0, "the connection was closed");
    Ok(format!("received {:?}", line.trim()))
}

pub async fn greeting(args: Args) -> anyhow::Result<String> {
    greeting_at(&args, ports::GREETING).await
}

pub async fn greeting_undeclared(args: Args) -> anyhow::Result<String> {
    greeting_at(&args, ports::GREETING_UNDECLARED).await
}

pub async fn dialogue(args: Args) -> anyhow::Result<String> {
    let mut stream = BufReader::new(args.connect(ports::DIALOGUE).await?);
    let mut seen = Vec::new();
    for command in ["HELO\r\n", "NOOP\r\n", "QUIT\r\n", ""] {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        seen.push(line.split_whitespace().next().unwrap_or("nothing").to_owned());
        stream.write_all(command.as_bytes()).await?;
    }
    let first = seen.first().is_some_and(|code| tcp::GREETING.starts_with(code.as_str()));
    Ok(format!("greeting first: {first}, answers {}", seen.join(" ")))
}

async fn tls_at(args: &Args, port: u16) -> anyhow::Result<String> {
    let get = Request::get("/certificate").header("host", &args.server).body(Body::empty())?;
    let (_, certificate) = connection::http1(args, ports::HTTP, get).await?;
    let stream = tls::connect(args.connect(port).await?, certificate.to_vec().into()).await?;
    let (_, session) = stream.get_ref();
    let protocol = String::from_utf8_lossy(session.alpn_protocol().unwrap_or_default()).into_owned();
    let mut sender = connection::http2(stream).await?;
    let get = Request::get(format!("https://{}/", args.server)).body(Body::empty())?;
    let status = sender.send_request(get).await?.status();
    Ok(format!("the server's certificate, {protocol}, {}", status.as_u16()))
}

pub async fn tls(args: Args) -> anyhow::Result<String> {
    tls_at(&args, ports::TLS).await
}

pub async fn tls_undeclared(args: Args) -> anyhow::Result<String> {
    tls_at(&args, ports::TLS_UNDECLARED).await
}

pub async fn forward_connect(args: Args) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::FORWARD_PROXY).await?;
    raw.send(&format!("CONNECT localhost:{} HTTP/1.1\r\n\r\n", ports::HTTP)).await?;
    let (connected, _) = raw.response_head().await?;
    raw.head("GET /", &[]).await?;
    Ok(format!("{connected}, through it {}", raw.response(false).await?.status))
}

pub async fn forward_absolute(args: Args) -> anyhow::Result<String> {
    let mut raw = Raw::connect(&args, ports::FORWARD_PROXY).await?;
    raw.head(&format!("GET http://localhost:{}/", ports::HTTP), &[]).await?;
    Ok(raw.response(false).await?.status.to_string())
}
