//! Answers connections of bytes: an echo, a dialogue that the server begins, a forward proxy of HTTP.

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy, copy_bidirectional},
    net::TcpStream,
};

/// First line of a server that sends first.
pub const GREETING: &str = "220 shapes ready";

/// Sends back what it receives; when the client has ended its side, sends `end` and ends its own.
pub async fn echo(mut stream: TcpStream) -> anyhow::Result<()> {
    let (mut reader, mut writer) = stream.split();
    copy(&mut reader, &mut writer).await?;
    writer.write_all(b"end").await?;
    writer.shutdown().await.context("failed to end an echo")
}

/// Sends a greeting, then an answer to each line; ends after `QUIT`.
pub async fn dialogue(stream: TcpStream) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("{GREETING}\r\n").as_bytes()).await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let command = line.trim().to_owned();
        stream.write_all(format!("250 {command}\r\n").as_bytes()).await?;
        if command == "QUIT" {
            break;
        }
        line.clear();
    }
    Ok(())
}

/// Serves one request of `CONNECT`, or of a URL in absolute form.
pub async fn forward(stream: TcpStream) -> anyhow::Result<()> {
    let mut client = BufReader::new(stream);
    let mut head = String::new();
    while client.read_line(&mut head).await? > 0 && !head.ends_with("\r\n\r\n") {
        anyhow::ensure!(head.len() < 8192, "the head of a request is too long");
    }
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method == "CONNECT" {
        let mut server = TcpStream::connect(target).await?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let rest = target.strip_prefix("http://").context("neither CONNECT nor an absolute URL")?;
    let (host, path) = rest.split_once('/').context("a URL without a path")?;
    let mut server = TcpStream::connect(host).await?;
    let request = format!("{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    server.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    client.write_all(&answer).await?;
    client.shutdown().await.context("failed to end an answer")
}
