//! Runs one admitted stream: waits for the client, the snapshot, the certificate and the end; the session answers.
//!
//! Polled by the task that gRPC runs for the stream, only as fast as the client reads: there is no queue between, so a
//! slow client makes its own session skip steps and delays no other stream. Decides nothing about the protocol.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt,
    future::{BoxFuture, OptionFuture},
    stream,
};
use tokio::{
    sync::watch,
    task::{JoinSet, coop::consume_budget},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tonic::{Status, Streaming};

use super::{
    Admission, Authenticator, CertSource, Credentials, Holder, IssueError, Nack, Refusal, RefusalReason,
    Shared, codec::Responses, connect_limiter::ConnectPermit, proxies::Entry, request_rate::RequestRate,
    snapshot_hub::Subscription, versions::EnvoyVersion,
};
use crate::{
    backoff::Backoff,
    delta::{PerType, Request, Response, Secret, SecretNeed, Session},
    mesh::text::brief,
    resources::{ResourceType, Version},
};

/// Maximum number of characters of a peer's text that are repeated.
const MAX_MESSAGE: usize = 1000;
/// Delays before another attempt to issue a certificate that failed.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_mins(1) };

/// Returns the responses of the stream that `admission` admits, which holds `permit` until its client has everything.
pub(super) fn run<A, C, S>(
    shared: Arc<Shared<A, C, S>>,
    admission: Admission,
    requests: Streaming<Request>,
    permit: ConnectPermit,
) -> Result<Responses, Refusal>
where
    A: Authenticator,
    C: CertSource,
    S: Send + Sync + 'static,
{
    let stream = Stream::new(shared, admission, requests, permit)?;
    Ok(Box::pin(stream::unfold(Some(stream), |stream| async {
        let mut stream = stream?;
        match stream.next().await {
            Ok(response) => Some((Ok(response), Some(stream))),
            Err(End::Quietly) => None,
            Err(End::With(status)) => Some((Err(status), None)),
        }
    })))
}

/// End of a stream.
enum End {
    Quietly,
    With(Status),
}

/// Events of a stream.
enum Event {
    Request(Option<Result<Request, Status>>),
    Snapshot,
    Issued(Result<Credentials, IssueError>),
    Issuers,
    Due,
    Resumed,
    Drained,
    OutOfPatience,
    End(&'static str),
}

struct Stream<A, C, S> {
    shared: Arc<Shared<A, C, S>>,
    session: Session,
    entry: Entry,
    holder: Arc<Holder>,
    requests: Streaming<Request>,
    subscription: Subscription<S>,
    drain: watch::Receiver<bool>,
    issuers: watch::Receiver<u64>,
    gone: BoxFuture<'static, ()>,
    expiry: std::pin::Pin<Box<Sleep>>,
    /// Time limit until the client has sent its node and has a view.
    patience: std::pin::Pin<Box<Sleep>>,
    introduced: bool,
    /// Held until the client has everything for the first time.
    permit: Option<ConnectPermit>,
    request_rate: RequestRate,
    leaf: Leaf,
    /// Time at which clusters that wait for their removal are removed.
    drained: Option<Instant>,
    /// The response of each kind that has no answer yet: its nonce, and the time of sending.
    unanswered: PerType<Option<(u64, Instant)>>,
}

/// The certificate of the stream's proxy.
#[derive(Default)]
struct Leaf {
    /// Version that the proxy has, or will have when it reads on.
    version: Option<Version>,
    /// Time at which to renew it.
    due: Option<Instant>,
    /// Issues the next one, one at a time, unless it is empty; ends with the stream.
    issuing: JoinSet<Result<Credentials, IssueError>>,
    failures: u32,
}

impl<A: Authenticator, C: CertSource, S: Send + Sync + 'static> Stream<A, C, S> {
    fn new(
        shared: Arc<Shared<A, C, S>>,
        admission: Admission,
        requests: Streaming<Request>,
        permit: ConnectPermit,
    ) -> Result<Self, Refusal> {
        let server = &shared.server;
        let Admission { proxy, identity, workload_kind, workload_name, expires_in, gone } = admission;
        let Some(entry) = server.proxies.enter(proxy.clone(), identity.clone()) else {
            return Err(Refusal { reason: RefusalReason::TooManyStreams, detail: proxy.to_string() });
        };
        server.metrics.streams.inc();
        let subscription = server.hub.subscribe(proxy.clone());
        let ends_in = jittered(expires_in, &(&proxy, entry.stream));
        tracing::info!(%proxy, %identity, stream = entry.stream, "proxy connected");
        Ok(Self {
            session: Session::new(),
            entry,
            requests,
            subscription,
            drain: shared.drain.clone(),
            issuers: server.certificates.issuers(),
            gone,
            expiry: Box::pin(sleep(ends_in)),
            patience: Box::pin(sleep(server.settings.patience)),
            introduced: false,
            permit: Some(permit),
            request_rate: RequestRate::default(),
            leaf: Leaf::default(),
            drained: None,
            unanswered: PerType::default(),
            holder: Arc::new(Holder { proxy, identity, workload_kind, workload_name }),
            shared,
        })
    }

    /// Waits for the next response, without a time limit.
    async fn next(&mut self) -> Result<Response, End> {
        loop {
            self.renew_leaf();
            if let Some(response) = self.introduced.then(|| self.session.next_response()).flatten() {
                self.count(&response);
                return Ok(response);
            }
            if self.session.lingers() && self.drained.is_none() {
                self.drained = after(self.shared.server.settings.linger);
            }
            if self.entry.update(&mut self.session, self.leaf.version.as_ref()) {
                self.permit = None;
            }
            let event = self.event().await;
            if matches!(event, Event::Request(_)) {
                // A client that floods would occupy its thread for as long as there is something to read.
                consume_budget().await;
            }
            self.on_event(event)?;
        }
    }

    /// Waits for the next event of the stream. Safe to drop before it completes.
    async fn event(&mut self) -> Event {
        let seen = self.session.view().is_some();
        // Further requests of a client that connected before its view exists have to wait.
        let paused_until = self.request_rate.paused_until();
        let listening = (seen || !self.introduced) && paused_until.is_none();
        let waiting = !seen || !self.introduced;
        let due = OptionFuture::from(self.leaf.due.map(sleep_until));
        let paused = OptionFuture::from(paused_until.map(sleep_until));
        let drained = OptionFuture::from(self.drained.map(sleep_until));
        tokio::select! {
            biased;
            () = &mut self.gone => Event::End("its workload has ended"),
            () = &mut self.expiry => Event::End("its token expires"),
            _ = &mut self.entry.replaced => Event::End("replaced by a newer stream of the same proxy"),
            Ok(()) = self.drain.changed() => Event::End("the server ends"),
            request = self.requests.next(), if listening => Event::Request(request),
            () = self.subscription.changed() => Event::Snapshot,
            Some(result) = self.leaf.issuing.join_next() => {
                Event::Issued(result.unwrap_or_else(|error| Err(IssueError(error.to_string()))))
            }
            Ok(()) = self.issuers.changed() => Event::Issuers,
            Some(()) = due => Event::Due,
            Some(()) = paused => Event::Resumed,
            Some(()) = drained => Event::Drained,
            () = &mut self.patience, if waiting => Event::OutOfPatience,
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Request(Some(Ok(request))) => self.on_request(&request)?,
            Event::Request(Some(Err(status))) => return Err(End::With(status)),
            Event::Request(None) => return Err(End::Quietly),
            Event::Snapshot => self.on_snapshot(),
            Event::Issued(result) => self.on_leaf(result),
            Event::Issuers => {
                let judge = |version| self.shared.server.certificates.renew_in(&self.holder, version);
                self.leaf.due =
                    self.leaf.version.as_ref().map(|v| Instant::now() + judge(v).unwrap_or_default());
            }
            Event::Due => {
                self.leaf.due = None;
                self.issue();
            }
            Event::Resumed => self.request_rate.renew(),
            Event::Drained => {
                self.drained = None;
                self.session.on_drained();
            }
            Event::OutOfPatience => return Err(End::With(RefusalReason::Unavailable.status())),
            Event::End(reason) => {
                tracing::info!(proxy = %self.holder.proxy, reason, "ending stream");
                return Err(End::Quietly);
            }
        }
        if self.session.claims_too_much() {
            return Err(self.refuse(RefusalReason::TooManyInitialVersions, ""));
        }
        Ok(())
    }

    /// Returns the end of a stream that is refused because of a message of its client.
    fn refuse(&self, reason: RefusalReason, detail: &str) -> End {
        let detail = brief(detail, MAX_MESSAGE);
        tracing::warn!(proxy = %self.holder.proxy, reason = reason.as_str(), detail, "stream refused");
        self.shared.server.metrics.refuse(reason);
        End::With(reason.status())
    }

    fn on_request(&mut self, request: &Request) -> Result<(), End> {
        self.check_claim(request)?;
        let names = self.session.view().map_or(0, |view| view.resources.len());
        if !self.session.is_ack_or_nack(request) && self.request_rate.record(names) {
            tracing::warn!(proxy = %self.holder.proxy, "proxy exceeds request rate, reads paused");
            self.shared.server.metrics.throttled.inc();
        }
        self.measure(request);
        let Some(mut refused) = self.session.on_request(request) else { return Ok(()) };
        // Envoy quotes what it refuses, and a client of this port need not be Envoy.
        refused.message = brief(&refused.message, MAX_MESSAGE);
        let proxy = &self.holder.proxy;
        tracing::warn!(%proxy, kind = ?refused.kind, names = ?refused.names, message = refused.message, "response rejected");
        let server = &self.shared.server;
        server.metrics.of(refused.kind).nacks.inc();
        self.entry.record_nack(&refused);
        // A full queue means that the reporter has enough to report.
        let _ = server.nacks.try_send(Nack { proxy: proxy.clone(), refused });
        Ok(())
    }

    /// Checks that the client claims to be the admitted instance; clients may omit the claim after their first message.
    fn check_claim(&mut self, request: &Request) -> Result<(), End> {
        let proxy = &self.holder.proxy;
        let right = match &request.node {
            Some(node) => node.id == format!("{}.{}", proxy.instance, proxy.namespace),
            None => self.introduced,
        };
        if right {
            if let Some(node) = &request.node {
                self.entry.record_version(EnvoyVersion::named(node));
            }
            self.introduced = true;
            return Ok(());
        }
        let claimed = request.node.as_ref().map_or("", |node| node.id.as_str());
        Err(self.refuse(RefusalReason::NodeIdMismatch, claimed))
    }

    /// Measures the time that the proxy took to answer a response.
    fn measure(&mut self, request: &Request) {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else { return };
        let is_of = |(nonce, _): &mut (u64, Instant)| request.response_nonce == nonce.to_string();
        if let Some((_, sent)) = self.unanswered.get_mut(kind).take_if(is_of) {
            let seconds = sent.elapsed().as_secs_f64();
            self.shared.server.metrics.of(kind).acknowledgement.observe(seconds);
        }
    }

    fn on_snapshot(&mut self) {
        // A proxy that is no longer in the mesh keeps what it has: its stream ends with its workload.
        let Some(view) = self.subscription.view() else { return };
        match self.session.view() {
            Some(old) if Arc::ptr_eq(old, &view) => return,
            Some(old) => {
                let changes = self.shared.memo.between(old, &view);
                self.session.on_changes(view, &changes);
            }
            None => self.session.on_view(view),
        }
        self.shared.server.metrics.view_updates.inc();
    }

    /// Requests a certificate for the client, unless the one that it has is still good.
    fn renew_leaf(&mut self) {
        if !self.leaf.issuing.is_empty() {
            return;
        }
        match self.session.secret_need() {
            SecretNeed::Nothing => {}
            SecretNeed::Issue => self.issue(),
            SecretNeed::Judgement(held) => {
                match self.shared.server.certificates.renew_in(&self.holder, &held) {
                    Some(good_for) => {
                        self.session.keep_secret();
                        self.leaf.version = Some(held);
                        self.leaf.due = after(good_for);
                    }
                    None => self.issue(),
                }
            }
        }
    }

    fn issue(&mut self) {
        let (shared, holder) = (Arc::clone(&self.shared), Arc::clone(&self.holder));
        let pause = RETRY.delay(self.leaf.failures);
        // A task that is under way or pausing is out of date, and would continue beside the new one for ever.
        self.leaf.issuing = JoinSet::new();
        // Renewals that fall together are limited, in tasks of their own as `ComputeLimiter` requires.
        self.leaf.issuing.spawn(async move {
            sleep(pause).await;
            shared.server.compute_limiter.run(shared.server.certificates.issue(&holder)).await
        });
    }

    fn on_leaf(&mut self, result: Result<Credentials, IssueError>) {
        match result {
            Ok(Credentials { chain, key, version }) => {
                self.leaf.failures = 0;
                let good_for = self.shared.server.certificates.renew_in(&self.holder, &version);
                // A new leaf that is due at once is the fault of its source; it must not become a busy loop.
                self.leaf.due = after(good_for.unwrap_or(RETRY.longest));
                self.session.on_secret(Secret::new(version.clone(), &chain, &key));
                self.leaf.version = Some(version);
            }
            Err(error) => {
                self.leaf.failures = self.leaf.failures.saturating_add(1);
                tracing::warn!(proxy = %self.holder.proxy, %error, "failed to issue certificate, the proxy keeps its current one");
                self.shared.server.metrics.certificate_failures.inc();
                self.issue();
            }
        }
    }

    fn count(&mut self, response: &Response) {
        *self.unanswered.get_mut(response.kind) = Some((response.nonce, Instant::now()));
        let metrics = self.shared.server.metrics.of(response.kind);
        metrics.responses.inc();
        metrics.resources.inc_by(response.updated.len() as u64);
        metrics.removals.inc_by(response.removed.len() as u64);
        metrics.bytes.inc_by(response.encoded_len() as u64);
    }
}

impl<A, C, S> Drop for Stream<A, C, S> {
    fn drop(&mut self) {
        self.shared.server.metrics.streams.dec();
        tracing::info!(proxy = %self.holder.proxy, stream = self.entry.stream, "proxy disconnected");
    }
}

/// Returns the time after `pause`; `None`, which means never, if it cannot be represented.
fn after(pause: Duration) -> Option<Instant> {
    Instant::now().checked_add(pause)
}

/// Returns between nine tenths and all of `whole`, so that streams that connected together do not end together.
fn jittered(whole: Duration, seed: &impl Hash) -> Duration {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    let thousandth = u32::try_from(hasher.finish() % 101).unwrap_or_default();
    whole / 1000 * (900 + thousandth)
}
