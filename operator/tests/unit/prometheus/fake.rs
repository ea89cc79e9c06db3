//! A stand-in for Prometheus on loopback, which answers each query as a test wants it to, right or wrong.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};

/// Answer of the stand-in to a query.
#[derive(Clone)]
pub enum Reply {
    /// These bytes; then the connection ends.
    Bytes(String),
    /// These bytes; then nothing.
    Stall(String),
    /// The first bytes, and the second ones without end.
    Endless(&'static str, String),
}

/// A request that the stand-in has received.
#[derive(Clone, Default)]
pub struct Received {
    pub head: String,
    pub query: String,
    pub timeout: String,
}

/// A stand-in that runs until its test ends.
pub struct Fake {
    pub url: String,
    pub received: Arc<Mutex<Vec<Received>>>,
}

/// Reads a request; `None` if the connection ends before.
pub async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
                let field = |name: &str| {
                    let mut fields = form_urlencoded::parse(body.as_bytes());
                    fields
                        .find(|(key, _)| key == name)
                        .map(|(_, value)| value.into_owned())
                        .unwrap_or_default()
                };
                return Some(Received {
                    query: field("query"),
                    timeout: field("timeout"),
                    head: head.to_owned(),
                });
            }
        }
        let mut more = [0; 4_096];
        let count = stream.read(&mut more).await.ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&more[..count]);
    }
}

/// Sends a reply.
pub async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: Reply) {
    match reply {
        Reply::Bytes(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Reply::Stall(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            std::future::pending::<()>().await;
        }
        Reply::Endless(first, rest) => {
            let mut sent = stream.write_all(first.as_bytes()).await;
            while sent.is_ok() {
                sent = stream.write_all(rest.as_bytes()).await;
            }
        }
    }
}

impl Fake {
    /// Starts a stand-in that answers each query by `reply`.
    pub async fn start<R: Future<Output = Reply> + Send>(
        reply: impl Fn(Received) -> R + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (reply, seen) = (reply.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Some(request) = request(&mut stream).await else { return };
                    seen.lock().unwrap().push(request.clone());
                    let reply = reply(request).await;
                    answer(stream, reply).await;
                });
            }
        });
        Self { url, received }
    }

    /// Starts one that gives each query the same answer.
    pub async fn always(reply: Reply) -> Self {
        Self::start(move |_| std::future::ready(reply.clone())).await
    }
}
