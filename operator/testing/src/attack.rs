//! Attacks on the operator's ports: bodies without an end, costly reviews, silence, pages that no peer reads.
//!
//! Used by the load test of the webhooks, which counts memory, and by the bench, which measures the effect on other
//! clients. An attack runs until it is dropped. It holds only as many connections as a program may have open files for.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    reviews::{admission, conversion, matches},
    webhook::{Body, Webhook, post},
};

/// Time limit of one step.
const STEP: Duration = Duration::from_secs(10);
/// Number of concurrent loops of one attack.
const LOOPS: usize = 4;

/// Addresses that are attacked, and the source address.
#[derive(Clone)]
pub struct Target {
    pub webhook: Webhook,
    pub pages: SocketAddr,
    pub from: Ipv4Addr,
}

/// The attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Two connections of 200 streams, each with 8 MB that do not end.
    EndlessBodies,
    /// Conversions of objects that no API server stores.
    OversizedConversions,
    /// Conversions of the largest objects that an API server stores.
    Conversions,
    /// Updates of such objects, which the webhook validates.
    Verdicts,
    /// Pods that consist of small maps.
    Injections,
    /// Connections to the webhooks that send nothing, before TLS and after it.
    Silence,
    /// Connections to the pages that send nothing.
    SilentReaders,
    /// Connections that request pages and read none of them.
    UnreadPages,
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndlessBodies => "endless-bodies",
            Self::OversizedConversions => "oversized-conversions",
            Self::Conversions => "conversions",
            Self::Verdicts => "verdicts",
            Self::Injections => "injections",
            Self::Silence => "silence",
            Self::SilentReaders => "silent-readers",
            Self::UnreadPages => "unread-pages",
        })
    }
}

impl Attack {
    /// Attacks on the webhooks.
    pub const WEBHOOKS: [Self; 6] = [
        Self::EndlessBodies,
        Self::OversizedConversions,
        Self::Conversions,
        Self::Verdicts,
        Self::Injections,
        Self::Silence,
    ];
    /// Attacks on the pages.
    pub const PAGES: [Self; 2] = [Self::SilentReaders, Self::UnreadPages];

    /// Returns the attack with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::WEBHOOKS.into_iter().chain(Self::PAGES).find(|attack| attack.to_string() == name)
    }

    /// Starts the attack, which ends when the set is dropped.
    pub fn start(self, target: &Target) -> JoinSet<()> {
        let Target { webhook, pages, from } = target.clone();
        let task: BoxFuture<'static, ()> = match self {
            Self::EndlessBodies => Box::pin(endless_bodies(webhook, from)),
            Self::Silence => Box::pin(silence(webhook, from)),
            Self::SilentReaders => Box::pin(readers(pages, from, "")),
            Self::UnreadPages => {
                Box::pin(readers(pages, from, "GET /metrics HTTP/1.1\r\nhost: smidge\r\n\r\n"))
            }
            Self::OversizedConversions => {
                return loops(&webhook, from, ("/convert", &conversion(150_000)), 1);
            }
            Self::Conversions => return loops(&webhook, from, ("/convert", &conversion(37_000)), LOOPS),
            Self::Verdicts => {
                let group = r#"{"group":"specs.smi-spec.io","kind":"HTTPRouteGroup"}"#;
                let review = admission(group, "UPDATE", &matches(37_000));
                return loops(&webhook, from, ("/validate", &review), LOOPS);
            }
            Self::Injections => {
                let maps = format!(r#"{{"spec":[{}{{}}]}}"#, r#"{"":0},"#.repeat(80_000));
                let review = admission(r#"{"group":"","kind":"Pod"}"#, "CREATE", &maps);
                return loops(&webhook, from, ("/inject", &review), LOOPS);
            }
        };
        [task].into_iter().collect()
    }
}

/// Sends the same request over and over, in `times` concurrent loops.
fn loops(
    webhook: &Webhook,
    from: Ipv4Addr,
    (path, body): (&'static str, &Bytes),
    times: usize,
) -> JoinSet<()> {
    let one = |_| {
        let (webhook, body) = (webhook.clone(), body.clone());
        async move {
            loop {
                if webhook.ask(from, path, body.clone()).await.is_none() {
                    // The request was refused before it was read.
                    sleep(Duration::from_millis(1)).await;
                }
            }
        }
    };
    (0..times).map(one).collect()
}

async fn endless_bodies(webhook: Webhook, from: Ipv4Addr) {
    let chunk = Bytes::from(vec![b' '; 64 << 10]);
    loop {
        let mut streams = JoinSet::new();
        for _ in 0..2 {
            let Some(sender) = webhook.http2(from).await else { continue };
            for _ in 0..200 {
                let (mut sender, chunk) = (sender.clone(), chunk.clone());
                streams.spawn(async move {
                    let frames = stream::repeat(chunk).take(125).map(|chunk| Ok(Frame::data(chunk)));
                    let body = Body::new(StreamBody::new(frames.chain(stream::pending())));
                    let _ = sender.send_request(post("/convert", body)).await;
                });
            }
        }
        streams.join_all().await;
    }
}

async fn silence(webhook: Webhook, from: Ipv4Addr) {
    let mut silent = Vec::new();
    let mut shaken = Vec::new();
    loop {
        for _ in 0..100 {
            silent.extend(timeout(STEP, webhook.socket(from)).await.ok().and_then(Result::ok));
        }
        shaken.extend(timeout(STEP, webhook.connection(from)).await.ok().and_then(Result::ok));
        silent.drain(..silent.len().saturating_sub(300));
        shaken.drain(..shaken.len().saturating_sub(100));
    }
}

/// Opens connections from eight addresses that send `request` a few times, and read nothing.
async fn readers(pages: SocketAddr, from: Ipv4Addr, request: &'static str) {
    let mut held = Vec::new();
    let [a, b, c, d] = from.octets();
    for number in (0_u8..8).cycle() {
        let from = Ipv4Addr::new(a, b, c.wrapping_add(number), d);
        if let Ok(Ok(mut stream)) = timeout(STEP, connect(pages, from)).await {
            let _ = stream.write_all(request.repeat(8).as_bytes()).await;
            held.push(stream);
        }
        held.drain(..held.len().saturating_sub(400));
    }
}

async fn connect(to: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}
