//! State machine of the server's side of one delta xDS stream, without I/O.
//!
//! Pure. Requests, views and the proxy's own certificate go in, responses come out; `server` carries them. Cannot fail
//! or panic, whatever a client sends. The rules are those of the protocol ("Incremental xDS") and of Envoy's behaviour:
//!
//! - additions cluster → endpoints → secret → listener → extension → route, then removals in reverse;
//! - one unanswered response per kind, but endpoints never wait for the answer to their cluster: Envoy withholds it
//!   until the cluster has warmed, and that requires the endpoints, which are therefore sent again after their cluster;
//! - clusters are removed when the listeners that led to them have drained (`on_drained`);
//! - resources that name a cluster (routes, outbound extensions) wait for that answer, as Envoy does not warm routes;
//! - what was refused is not sent again until it changes or is requested anew.

pub mod changes;
mod linger;
mod per_type;
mod policy;
mod secret;
mod topic;
mod wire;

use std::{collections::BTreeSet, sync::Arc};

use changes::Changes;
use linger::Linger;
pub(crate) use per_type::PerType;
use policy::{INBOUND, has_missed_policy};
use secret::Own;
pub use secret::Secret;
use topic::{Held, Offer, Topic, Verdict};
pub use wire::{ErrorDetail, Item, Node, Request, Response};

use crate::{
    resources::{ResourceType, Version},
    view::View,
};

/// The name of the proxy's own certificate on the wire.
pub const IDENTITY: &str = "identity";

/// Name of the listener whose filter chains carry the drain marks.
const INBOUND_LISTENER: &str = "inbound";

/// Maximum number of characters of a client's error message that are kept.
const MAX_NACK_MESSAGE: usize = 1024;

/// The state of one stream.
#[derive(Debug, Default)]
pub struct Session {
    view: Option<Arc<View>>,
    own: Own,
    topics: PerType<Topic>,
    /// Clusters that were sent before the client's first request for endpoints.
    clusters_before_eds: BTreeSet<Arc<str>>,
    nonce: u64,
    counters: PerType<Counters>,
    /// True if the content of users' objects has changed in the view since `take_restated`.
    restated: bool,
    /// Requests from before the first view. Their effect depends on the names in the view.
    buffered_requests: Vec<Request>,
    initial_versions_exceeded: bool,
    linger: Linger,
}

/// Counters of one kind on one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Number of responses that were sent.
    pub responses: u64,
    /// Number of resources in them.
    pub updated: u64,
    /// Number of names in them that do not exist.
    pub removed: u64,
    /// Number of responses that the client refused.
    pub nacks: u64,
}

/// A response that the client refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The kind of everything in it.
    pub kind: ResourceType,
    /// The names in it, of which at least one is at fault.
    pub names: Vec<Arc<str>>,
    /// The client's error message, shortened.
    pub message: String,
}

/// Need of a stream for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretNeed {
    /// None: the client has one, or has not requested one.
    Nothing,
    /// A check of the version that the client holds: `keep_secret` if it is still good, else `on_secret`.
    Judgement(Version),
    /// A new certificate: `on_secret`.
    Issue,
}

impl Session {
    /// Creates the session of a stream without messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns true if this is only an answer to a response: it changes no subscription.
    pub fn is_ack_or_nack(&self, request: &Request) -> bool {
        let asks = !request.subscribe.is_empty() || !request.unsubscribe.is_empty();
        let kind = ResourceType::from_type_url(&request.type_url);
        !asks && kind.is_some_and(|kind| self.topics.get(kind).awaits(&request.response_nonce))
    }

    /// Handles a request, and returns the refusal of a NACK. A kind that is not served is ignored. Before the first
    /// view a request is only buffered, in full: the caller should then read no further.
    pub fn on_request(&mut self, request: &Request) -> Option<Refused> {
        let kind = ResourceType::from_type_url(&request.type_url)?;
        let Some(view) = self.view.as_deref() else {
            self.buffered_requests.push(request.clone());
            return None;
        };
        let topic = self.topics.get_mut(kind);
        let first = !topic.is_opened();
        let names = topic.on_answer(&request.response_nonce, request.error.is_some());
        let shared = |name: &str| view.name(kind, name).map(Arc::clone);
        self.initial_versions_exceeded |=
            topic.on_subscriptions(kind, request, shared, names_of(view, kind)).is_err();
        match kind {
            // The client's initial versions are of its old clusters, and do not warm the new ones.
            ResourceType::Endpoints => {
                for name in &std::mem::take(&mut self.clusters_before_eds) {
                    topic.repeat(name);
                }
            }
            ResourceType::Secret if !topic.is_named(IDENTITY) => self.own = Own::Missing,
            ResourceType::Extension if first => self.renew_drains(),
            _ => {}
        }
        let names = names?;
        self.counters.get_mut(kind).nacks += 1;
        let message = request.error.as_ref().map_or("", |error| error.message.as_str());
        Some(Refused { kind, names, message: message.chars().take(MAX_NACK_MESSAGE).collect() })
    }

    /// Sets the view of the proxy. No request is answered before the first view.
    pub fn on_view(&mut self, view: Arc<View>) {
        let changes = self.view.as_ref().map(|old| changes::between(old, &view)).unwrap_or_default();
        self.on_changes(view, &changes);
    }

    /// Does what `on_view` does, for a caller that knows what differs from the previous view (`changes::Memo`).
    pub fn on_changes(&mut self, view: Arc<View>, changes: &Changes) {
        let Some(old) = self.view.take() else { return self.on_first_view(view) };
        for key in changes {
            let before = old.resources.get(key);
            let topic = self.topics.get_mut(key.0);
            topic.on_presence(&key.1, || before.is_none() || view.resources.contains_key(key));
            topic.on_change(&key.1, before.map(|resource| &resource.version));
            self.restated |= key.0.is_stated();
        }
        self.view = Some(view);
    }

    fn on_first_view(&mut self, view: Arc<View>) {
        self.restated = view.resources.keys().any(|(kind, _)| kind.is_stated());
        self.view = Some(view);
        for request in std::mem::take(&mut self.buffered_requests) {
            // Nothing was sent yet that could be refused.
            drop(self.on_request(&request));
        }
    }

    /// Returns true if the client claims to hold more than a proxy can have been sent: the stream must end.
    pub fn claims_too_much(&self) -> bool {
        self.initial_versions_exceeded
    }

    /// Drains for a TCP policy that changed while the proxy was away and may have shrunk: connections that the old one
    /// allowed end with the listener's drain marks, which a proxy that connects anew is not sent otherwise.
    fn renew_drains(&mut self) {
        let Some(view) = &self.view else { return };
        if has_missed_policy(self.topics.get(ResourceType::Extension), view) {
            self.topics.get_mut(ResourceType::Listener).invalidate(&Arc::from(INBOUND_LISTENER));
        }
    }

    /// Returns the view of the client.
    pub fn view(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }

    /// Returns true if more than clusters and endpoints has changed in the view since the last call.
    pub fn take_restated(&mut self) -> bool {
        std::mem::take(&mut self.restated)
    }

    /// Returns what the stream now needs of the certificate source.
    pub fn secret_need(&self) -> SecretNeed {
        let topic = self.topics.get(ResourceType::Secret);
        if !topic.is_named(IDENTITY) || matches!(self.own, Own::Ready(_)) {
            return SecretNeed::Nothing;
        }
        match topic.pending.get(IDENTITY).map(|lag| &lag.held) {
            Some(Held::Initial(version)) => SecretNeed::Judgement(version.clone()),
            Some(Held::Requested | Held::Nothing) => SecretNeed::Issue,
            Some(Held::Sent(_) | Held::Unknown) | None => SecretNeed::Nothing,
        }
    }

    /// Keeps the certificate that the client reports to hold, as it is still good.
    pub fn keep_secret(&mut self) {
        self.topics.get_mut(ResourceType::Secret).pending.remove(IDENTITY);
        self.own = Own::Held;
    }

    /// Takes a new certificate of the proxy's own. Wiped at once if the client no longer wants one.
    pub fn on_secret(&mut self, secret: Secret) {
        let topic = self.topics.get_mut(ResourceType::Secret);
        if topic.is_named(IDENTITY) {
            topic.on_change(&Arc::from(IDENTITY), None);
            self.own = Own::Ready(secret);
        }
    }

    /// Returns the counters of `kind`.
    pub fn counters(&self, kind: ResourceType) -> Counters {
        *self.counters.get(kind)
    }

    /// Returns true if the client has subscribed, has answered every response, and nothing is left to send. What it
    /// refused, its certificate, and clusters that wait for their removal do not count.
    pub fn is_settled(&mut self) -> bool {
        let Self { view: Some(view), own, topics, .. } = self else { return false };
        ResourceType::ALL.into_iter().all(|kind| {
            let topic = topics.get_mut(kind);
            if kind.is_wildcard() && !topic.is_opened() {
                return false;
            }
            let mut settled = !topic.unanswered && !topic.is_outstanding();
            topic.review(
                |name| offer(view, own, kind, name),
                |_, verdict| {
                    let lingers = kind == ResourceType::Cluster && verdict == Verdict::Remove;
                    settled &= lingers || verdict == Verdict::Wait;
                },
            );
            settled
        })
    }

    /// Returns the names that the client refused in their current version.
    pub fn refused(&self) -> impl Iterator<Item = (ResourceType, Arc<str>)> {
        let of = |kind| self.topics.get(kind).refused().map(move |name| (kind, Arc::clone(name)));
        ResourceType::ALL.into_iter().flat_map(of)
    }

    /// Returns the next response to send. To be called until it returns nothing, after every other call.
    pub fn next_response(&mut self) -> Option<Response> {
        let view = Arc::clone(self.view.as_ref()?);
        let mut withheld = false;
        for kind in ResourceType::ALL {
            let (picked, all) = self.pick(&view, kind, &[Verdict::Update, Verdict::Deny]);
            let unanswered = self.topics.get(kind).unanswered;
            if !picked.is_empty() || (unanswered && !self.topics.get(kind).is_outstanding()) {
                return Some(self.respond(&view, kind, picked));
            }
            withheld |= all > 0;
        }
        if withheld {
            return None;
        }
        for kind in ResourceType::ALL.into_iter().rev() {
            let (mut picked, all) = self.pick(&view, kind, &[Verdict::Remove]);
            if kind == ResourceType::Cluster {
                self.linger.retain(|name| view.get(kind, name).is_none());
                picked.retain(|(name, _)| self.linger.is_over(name));
            }
            if all > 0 {
                return (!picked.is_empty()).then(|| self.respond(&view, kind, picked));
            }
        }
        None
    }

    /// Returns true while clusters wait for their removal.
    pub fn lingers(&self) -> bool {
        self.linger.waits()
    }

    /// Notes that `lingers` was true for the time in which listeners drain. A cluster is removed after the second time.
    pub fn on_drained(&mut self) {
        self.linger.age();
    }

    /// Returns the names of `kind` with one of these verdicts that may be sent now, and the number of all of them.
    fn pick(
        &mut self,
        view: &View,
        kind: ResourceType,
        verdicts: &[Verdict],
    ) -> (Vec<(Arc<str>, Verdict)>, usize) {
        let warming = self.topics.get(ResourceType::Cluster).is_outstanding();
        let own = &self.own;
        let topic = self.topics.get_mut(kind);
        let (mut picked, mut all, mut alone) = (Vec::new(), 0, false);
        let outstanding = topic.is_outstanding();
        topic.review(
            |name| offer(view, own, kind, name),
            |name, verdict| {
                if !verdicts.contains(&verdict) {
                    return;
                }
                all += 1;
                let policy = kind == ResourceType::Extension && name.starts_with(INBOUND);
                let names_clusters =
                    kind == ResourceType::Route || (kind == ResourceType::Extension && !policy);
                let gated = verdict == Verdict::Update && names_clusters && warming;
                // Envoy stops at the first bad extension of a response: no policy may be lost because of another one.
                if outstanding || gated || alone || (policy && !picked.is_empty()) {
                    return;
                }
                alone = policy;
                picked.push((Arc::clone(name), verdict));
            },
        );
        (picked, all)
    }

    fn respond(&mut self, view: &View, kind: ResourceType, picked: Vec<(Arc<str>, Verdict)>) -> Response {
        self.nonce += 1;
        let mut response = Response { kind, nonce: self.nonce, updated: Vec::new(), removed: Vec::new() };
        let mut sent = Vec::with_capacity(picked.len());
        for (name, verdict) in picked {
            let item = if verdict == Verdict::Update { self.take_item(view, kind, &name) } else { None };
            sent.push((Arc::clone(&name), item.as_ref().map(|item| item.version().clone())));
            match item {
                Some(item) => {
                    if kind == ResourceType::Cluster {
                        self.follow(&name);
                    }
                    response.updated.push(item);
                }
                None => response.removed.push(name),
            }
        }
        let counters = self.counters.get_mut(kind);
        counters.responses += 1;
        counters.updated += response.updated.len() as u64;
        counters.removed += response.removed.len() as u64;
        self.topics.get_mut(kind).on_sent(response.nonce, sent);
        response
    }

    /// Marks the endpoints of a cluster to be sent again, as the cluster is being sent.
    fn follow(&mut self, name: &Arc<str>) {
        let endpoints = self.topics.get_mut(ResourceType::Endpoints);
        if endpoints.is_opened() {
            endpoints.repeat(name);
        } else {
            self.clusters_before_eds.insert(Arc::clone(name));
        }
    }

    fn take_item(&mut self, view: &View, kind: ResourceType, name: &Arc<str>) -> Option<Item> {
        if is_own(kind, name) {
            return match std::mem::replace(&mut self.own, Own::Held) {
                Own::Ready(secret) => Some(Item::Own(secret)),
                Own::Missing | Own::Held => None,
            };
        }
        view.get(kind, name).map(|resource| Item::Shared(Arc::clone(resource)))
    }
}

fn is_own(kind: ResourceType, name: &str) -> bool {
    kind == ResourceType::Secret && name == IDENTITY
}

fn offer<'v>(view: &'v View, own: &'v Own, kind: ResourceType, name: &Arc<str>) -> Offer<'v> {
    if is_own(kind, name) {
        return own.offer();
    }
    let resource = view.get(kind, name);
    resource.map_or(Offer::Absent, |resource| Offer::Present(&resource.version))
}

/// Returns the names of `kind` in the view.
fn names_of(view: &View, kind: ResourceType) -> impl Iterator<Item = &Arc<str>> {
    let all = view.resources.range((kind, Arc::from(""))..).map(|((kind, name), _)| (*kind, name));
    all.take_while(move |(of, _)| *of == kind).map(|(_, name)| name)
}
