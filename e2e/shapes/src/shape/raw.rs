//! HTTP/1.1 as bytes: for shapes in which the bytes matter, and no client library sends them.

use std::fmt::Write as _;

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::Args;

/// Longest line that is read, in bytes.
const LINE: usize = 1 << 20;

/// A connection.
pub struct Raw {
    stream: BufReader<TcpStream>,
    host: String,
}

/// A response.
#[derive(Debug, Default)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
    /// Lines after the last part of a chunked body.
    pub trailers: Vec<String>,
}

impl Raw {
    /// Connects to a port of the server.
    pub async fn connect(args: &Args, port: u16) -> anyhow::Result<Self> {
        let stream = args.connect(port).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: format!("{}:{port}", args.server) })
    }

    /// Sends the head of a request, with `Host` and these lines.
    pub async fn head(&mut self, request: &str, lines: &[&str]) -> anyhow::Result<()> {
        let mut head = format!("{request} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for line in lines {
            let _ = write!(head, "{line}\r\n");
        }
        self.send(&(head + "\r\n")).await
    }

    /// Sends bytes.
    pub async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.stream.write_all(text.as_bytes()).await.context("failed to send")
    }

    /// Receives the head of a response, and returns its status and its lines in lower case.
    pub async fn response_head(&mut self) -> anyhow::Result<(u16, Vec<String>)> {
        let first = self.line().await?;
        let status = first.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no status in {first:?}"))?;
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok((status, lines));
            }
            lines.push(line.to_ascii_lowercase());
        }
    }

    /// Receives a response; `bodiless` for those to HEAD.
    pub async fn response(&mut self, bodiless: bool) -> anyhow::Result<Response> {
        let (status, lines) = self.response_head().await?;
        let mut response = Response { status, ..Response::default() };
        if bodiless || status == 204 || status == 304 {
            return Ok(response);
        }
        if lines.iter().any(|line| line == "transfer-encoding: chunked") {
            return self.chunks(response).await;
        }
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("a response without a length")?.parse()?;
        response.body = vec![0; length.min(LINE)];
        self.stream.read_exact(&mut response.body).await.context("failed to read a body")?;
        Ok(response)
    }

    async fn chunks(&mut self, mut response: Response) -> anyhow::Result<Response> {
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)?;
            if size == 0 {
                break;
            }
            let mut part = vec![0; size.min(LINE)];
            self.stream.read_exact(&mut part).await.context("failed to read a part of a body")?;
            response.body.extend(part);
            self.line().await?;
        }
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(response);
            }
            response.trailers.push(line.to_ascii_lowercase());
        }
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let mut limited = (&mut self.stream).take(u64::try_from(LINE)?);
        let size = limited.read_line(&mut line).await.context("failed to read a line")?;
        anyhow::ensure!(size > 0, "the connection was closed");
        Ok(line.trim_end().to_owned())
    }
}
