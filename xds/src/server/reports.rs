//! Receives the statistics that proxies push, by the unary method of OTLP's metrics service.
//!
//! On the same port as the streams, and authenticated like them, so a proxy reports about itself only. `codec` passes
//! the requests here; an implementation of `Reports` gets the messages. Knows nothing of their content. What a proxy can
//! cause is bounded: by [`BURST`], by the bytes that are being received, and, for the computation, by the
//! server's `ComputeLimiter`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture, future::Shared};
use http_body_util::BodyExt as _;
use prost::bytes::{Buf as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};
use tonic::{Status, body::Body, codegen::http};

use super::{
    auth::{Admission, Presented},
    codec::PREFIX,
};
use crate::mesh::id::ProxyId;

/// Path of the method.
pub(super) const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Maximum number of messages that a proxy may send at once: those of one push. It may send one more each second.
const BURST: u64 = 8;
/// Time limit of receiving a message. The next push has all that is missing.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of what is being received, of one proxy and of all, in bytes.
const RECEIVING: (usize, usize) = (8 << 20, 64 << 20);
/// Maximum number of credentials that are remembered, and of proxies whose rate is.
const REMEMBERED: usize = 32_768;

/// Receives statistics. Implemented by `operator::traffic::receiver` and by tests.
pub trait Reports: Send + Sync + 'static {
    /// Takes a message of `proxy`, an `ExportMetricsServiceRequest` that was not decoded yet. It is called with a permit
    /// of the server's `ComputeLimiter`, so it must not wait for anything.
    fn report(&self, proxy: &ProxyId, message: Bytes);
}

/// Credentials that were verified.
struct Verified {
    proxy: ProxyId,
    until: Instant,
    gone: Shared<BoxFuture<'static, ()>>,
}

/// Rate of a proxy.
struct Rate {
    messages: u64,
    refilled: Instant,
    receiving: usize,
}

/// State of all proxies that push.
#[derive(Default)]
pub(super) struct Pushes {
    verified: Mutex<HashMap<[u8; 32], Verified>>,
    rates: Arc<Mutex<Rates>>,
}

#[derive(Default)]
struct Rates {
    proxies: HashMap<ProxyId, Rate>,
    receiving: usize,
}

/// A message that is being received.
pub(super) struct Receiving {
    rates: Arc<Mutex<Rates>>,
    proxy: ProxyId,
    bytes: usize,
}

fn locked<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change leaves the state usable, so it is after a panic of another thread as well.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the digest of credentials.
pub(super) fn key(presented: &Presented<'_>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for value in presented.metadata.get_all("authorization") {
        digest.update(value.as_bytes());
        digest.update([0]);
    }
    for certificate in presented.chain {
        digest.update(certificate);
    }
    digest.finalize().into()
}

impl Pushes {
    /// Returns the proxy that has presented these credentials before, if they are still valid.
    pub fn known(&self, key: &[u8; 32]) -> Option<ProxyId> {
        let mut all = locked(&self.verified);
        let verified = all.get(key)?;
        if verified.until > Instant::now() && verified.gone.clone().now_or_never().is_none() {
            return Some(verified.proxy.clone());
        }
        all.remove(key);
        None
    }

    /// Remembers credentials that were verified.
    pub fn remember(&self, key: [u8; 32], admission: Admission) -> ProxyId {
        let Admission { proxy, expires_in, gone, .. } = admission;
        let now = Instant::now();
        let mut all = locked(&self.verified);
        if all.len() >= REMEMBERED {
            all.retain(|_, verified| verified.until > now);
        }
        if all.len() < REMEMBERED {
            all.insert(key, Verified { proxy: proxy.clone(), until: now + expires_in, gone: gone.shared() });
        }
        proxy
    }

    /// Admits a message of a proxy, unless it has sent too many.
    pub fn admit(&self, proxy: &ProxyId) -> Option<Receiving> {
        let now = Instant::now();
        let mut all = locked(&self.rates);
        if all.proxies.len() >= REMEMBERED && !all.proxies.contains_key(proxy) {
            let is_full =
                |rate: &Rate| rate.receiving == 0 && now - rate.refilled >= Duration::from_secs(BURST);
            all.proxies.retain(|_, rate| !is_full(rate));
            if all.proxies.len() >= REMEMBERED {
                return None;
            }
        }
        let new = || Rate { messages: BURST, refilled: now, receiving: 0 };
        let rate = all.proxies.entry(proxy.clone()).or_insert_with(new);
        let refills = (now - rate.refilled).as_secs();
        if refills > 0 {
            rate.messages = BURST.min(rate.messages.saturating_add(refills));
            rate.refilled =
                if rate.messages == BURST { now } else { rate.refilled + Duration::from_secs(refills) };
        }
        rate.messages = rate.messages.checked_sub(1)?;
        Some(Receiving { rates: Arc::clone(&self.rates), proxy: proxy.clone(), bytes: 0 })
    }
}

impl Receiving {
    /// Takes room for more bytes; returns false if there is none.
    fn grow(&mut self, bytes: usize) -> bool {
        let mut all = locked(&self.rates);
        let in_all = all.receiving.saturating_add(bytes);
        let Some(rate) = all.proxies.get_mut(&self.proxy) else { return false };
        let of_proxy = rate.receiving.saturating_add(bytes);
        if of_proxy > RECEIVING.0 || in_all > RECEIVING.1 {
            return false;
        }
        rate.receiving = of_proxy;
        all.receiving = in_all;
        self.bytes += bytes;
        true
    }

    /// Receives the one message of a request, of at most `max` bytes.
    pub async fn receive(&mut self, body: Body, max: usize) -> Result<Bytes, Status> {
        let received = timeout(RECEIVE_TIMEOUT, self.read(body, max)).await;
        received.unwrap_or_else(|_| Err(Status::deadline_exceeded("the message was not received in time")))
    }

    async fn read(&mut self, mut body: Body, max: usize) -> Result<Bytes, Status> {
        let mut message = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if message.len() + data.len() > max + PREFIX || !self.grow(data.len()) {
                return Err(Status::resource_exhausted("the message is too large"));
            }
            message.extend_from_slice(&data);
        }
        // A flag of compression, and the length.
        let is_whole = message.len() >= PREFIX && message.get_u8() == 0 && {
            let len = message.get_u32();
            usize::try_from(len).is_ok_and(|len| len == message.len())
        };
        if is_whole { Ok(message.freeze()) } else { Err(Status::invalid_argument("expected one message")) }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let mut all = locked(&self.rates);
        all.receiving = all.receiving.saturating_sub(self.bytes);
        if let Some(rate) = all.proxies.get_mut(&self.proxy) {
            rate.receiving = rate.receiving.saturating_sub(self.bytes);
        }
    }
}

/// Splits a request into what authenticates it and its body.
pub(super) fn split(request: http::Request<Body>) -> (tonic::Request<()>, Body) {
    let (parts, body) = request.into_parts();
    let metadata = tonic::metadata::MetadataMap::from_headers(parts.headers);
    (tonic::Request::from_parts(metadata, parts.extensions, ()), body)
}
