//! Simulates up to ten thousand proxies in one thread: sockets, TLS and time around `http2` and `sidecar`.
//!
//! Controlled by the scenarios through `Fleet`. The machine that measures is also the one that is measured, so this
//! does as little as a client can: one thread, one poll, a read and a write for each message, no task and no timer for
//! each proxy. Each proxy has a connection of its own, as sidecars do.

mod connecting;
mod expectation;
mod link;
mod pushing;
mod totals;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use mio::{Events, Poll, Token, Waker};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::sync::oneshot;

use crate::{
    behaviour::Behaviour,
    names::Names,
    push::Push,
    sidecar::Sidecar,
    wire::{self, Kind},
};
pub use connecting::Connected;
use connecting::{Connecting, RETRY_DELAY};
use expectation::Expectation;
use link::Link;
use pushing::Pushing;
pub use totals::Totals;

/// Token by which the controlling thread wakes the poll. No proxy has it.
const WAKE: Token = Token(usize::MAX);
/// Shortest wait for the next push: those that are due by then are sent together.
const PUSH_DELAY: Duration = Duration::from_millis(2);
/// Time limit for the thread to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Identity of a proxy.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Node id, as `<pod>.<namespace>`.
    pub node: String,
    /// Token of its pod; empty for a machine.
    pub token: String,
    /// TLS configuration with its client certificate, if it has one: that of a machine.
    pub tls: Option<Arc<ClientConfig>>,
}

/// Server that proxies connect to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Addresses, used in turn: one address has too few ports for ten thousand proxies that connect and disconnect.
    pub addresses: Vec<SocketAddr>,
    pub tls: Arc<ClientConfig>,
    pub server_name: ServerName<'static>,
    /// For the baseline server, which ignores requests: the number of messages that it sends on each connection.
    pub script: Option<usize>,
    /// Maximum number of proxies that are being configured concurrently.
    pub window: usize,
}

enum Command {
    Slots(Vec<Slot>),
    Connect {
        target: Target,
        count: usize,
        reply: oneshot::Sender<Connected>,
    },
    Expect {
        kind: Kind,
        name: String,
        count: usize,
        reply: oneshot::Sender<Vec<Instant>>,
    },
    /// Has that number of proxies push statistics once in a period, or none.
    Push(Option<(Push, usize, Duration)>),
    Totals(oneshot::Sender<Totals>),
    /// Closes every connection; with `true`, proxies drop the resources that they hold.
    Disconnect(bool, oneshot::Sender<()>),
}

/// Thread with the proxies.
pub struct Fleet {
    commands: mpsc::Sender<Command>,
    waker: Arc<Waker>,
    progress: Arc<AtomicUsize>,
    /// Identities that were set, for fleets beside this one.
    slots: Mutex<Vec<Slot>>,
}

impl Fleet {
    /// Starts a fleet without proxies.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_as("fleet", Behaviour::Honest)
    }

    /// Starts another fleet in a thread of its own, for some of the proxies of this one, which must not be
    /// connected here.
    pub fn beside(&self, slots: &[usize], behaviour: Behaviour) -> anyhow::Result<Self> {
        let all = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let some = slots.iter().map(|slot| all.get(*slot).cloned()).collect::<Option<Vec<Slot>>>();
        let fleet = Self::start_as("proxies", behaviour)?;
        fleet.slot(some.context("no such slots")?)?;
        Ok(fleet)
    }

    fn start_as(name: &str, behaviour: Behaviour) -> anyhow::Result<Self> {
        let poll = Poll::new().context("failed to make a poll")?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (commands, orders) = mpsc::channel();
        let progress = Arc::new(AtomicUsize::new(0));
        let reported = Arc::clone(&progress);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(poll, behaviour, reported, &orders))?;
        Ok(Self { commands, waker, progress, slots: Mutex::default() })
    }

    /// Returns the number of proxies of the last call to `connect` that are configured.
    pub fn progress(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.progress)
    }

    fn send(&self, command: Command) -> anyhow::Result<()> {
        self.commands.send(command).ok().context("the fleet has ended")?;
        Ok(self.waker.wake()?)
    }

    /// Sets the identities of all proxies. None may be connected.
    pub fn slot(&self, slots: Vec<Slot>) -> anyhow::Result<()> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&slots);
        self.send(Command::Slots(slots))
    }

    /// Connects the first `count` proxies concurrently; returns when all are configured.
    pub async fn connect(
        &self,
        target: &Target,
        count: usize,
        within: Duration,
    ) -> anyhow::Result<Connected> {
        let (reply, answer) = oneshot::channel();
        self.progress.store(0, Ordering::Relaxed);
        self.send(Command::Connect { target: target.clone(), count, reply })?;
        let connected = tokio::time::timeout(within, answer).await;
        match connected {
            Ok(connected) => connected.context("the fleet has ended"),
            Err(_) => anyhow::bail!(
                "not all of {count} proxies were configured in time: {:?}",
                self.totals().await?
            ),
        }
    }

    /// Returns the times of the first change of `name` at each of `count` proxies. To be called before the change is
    /// made.
    pub fn expect(
        &self,
        kind: Kind,
        name: &str,
        count: usize,
    ) -> anyhow::Result<oneshot::Receiver<Vec<Instant>>> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Expect { kind, name: name.to_owned(), count, reply })?;
        Ok(answer)
    }

    /// Has the first `count` proxies push statistics once in `period`, until `push` is called with `None`.
    pub fn push(&self, pushing: Option<(Push, usize, Duration)>) -> anyhow::Result<()> {
        self.send(Command::Push(pushing))
    }

    /// Returns the totals received so far.
    pub async fn totals(&self) -> anyhow::Result<Totals> {
        self.ask(Command::Totals).await
    }

    /// Closes every connection.
    pub async fn disconnect(&self, forget: bool) -> anyhow::Result<()> {
        self.ask(|reply| Command::Disconnect(forget, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> anyhow::Result<T> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        let answer = tokio::time::timeout(TIMEOUT, answer).await;
        answer.context("the fleet does not answer")?.context("the fleet has ended")
    }
}

/// State of the thread.
struct Crew {
    poll: Poll,
    behaviour: Behaviour,
    slots: Vec<Slot>,
    sidecars: Vec<Sidecar>,
    links: Vec<Option<Link>>,
    names: Names,
    totals: Totals,
    /// Number of pushes that their connection did not take.
    not_taken: u64,
    expected: Option<Expectation>,
    connecting: Option<Connecting>,
    pushing: Option<Pushing>,
    progress: Arc<AtomicUsize>,
    buffer: Vec<u8>,
}

fn run(poll: Poll, behaviour: Behaviour, progress: Arc<AtomicUsize>, orders: &mpsc::Receiver<Command>) {
    let mut crew = Crew {
        poll,
        behaviour,
        slots: Vec::new(),
        sidecars: Vec::new(),
        links: Vec::new(),
        names: Names::default(),
        totals: Totals::default(),
        not_taken: 0,
        expected: None,
        connecting: None,
        pushing: None,
        progress,
        buffer: vec![0; 256 * 1024],
    };
    let mut events = Events::with_capacity(1024);
    loop {
        let retry = crew.connecting.as_ref().is_some_and(Connecting::waits).then_some(RETRY_DELAY);
        let push = crew.pushing.as_ref().map(|pushing| pushing.wait().max(PUSH_DELAY));
        match crew.poll.poll(&mut events, retry.into_iter().chain(push).min()) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
            _ => {}
        }
        for event in &events {
            if event.token() == WAKE {
                loop {
                    match orders.try_recv() {
                        Ok(command) => crew.obey(command),
                        Err(mpsc::TryRecvError::Empty) => break,
                        Err(mpsc::TryRecvError::Disconnected) => return,
                    }
                }
            } else {
                crew.on_socket(event.token().0);
            }
        }
        crew.fill();
        crew.push();
    }
}

impl Crew {
    fn obey(&mut self, command: Command) {
        match command {
            Command::Slots(slots) => {
                self.sidecars = slots.iter().map(|_| Sidecar::default()).collect();
                self.links = slots.iter().map(|_| None).collect();
                self.slots = slots;
            }
            Command::Connect { target, count, reply } => {
                let count = count.min(self.slots.len());
                let queue = (0..count).filter(|slot| self.links[*slot].is_none()).collect();
                self.connecting = Connecting::start(target, queue, Arc::clone(&self.progress), reply);
            }
            Command::Expect { kind, name, count, reply } => {
                let name = self.names.id(name.as_bytes());
                self.expected = Some(Expectation::new((kind, name), self.slots.len(), count, reply));
            }
            Command::Push(pushing) => {
                self.pushing = pushing.map(|(push, count, period)| Pushing::start(push, count, period));
            }
            Command::Totals(reply) => {
                let calls = self.links.iter().flatten().map(Link::calls);
                let (answered, reset) =
                    calls.fold((0, 0), |(answered, reset), it| (answered + it.answered, reset + it.reset));
                self.totals.pushes_answered = answered;
                self.totals.pushes_failed = reset + self.not_taken;
                self.totals.open = self.links.iter().flatten().count() as u64;
                self.totals.held = self.sidecars.iter().map(Sidecar::holds).sum::<usize>() as u64;
                let Self { links, buffer, .. } = self;
                // Only proxies that read nothing have unread bytes, and other fleets would need thousands of system
                // calls.
                if self.behaviour == Behaviour::Deaf {
                    self.totals.unread = links.iter().flatten().map(|link| link.unread(buffer)).sum();
                }
                let _ = reply.send(self.totals);
            }
            Command::Disconnect(forget, reply) => {
                self.links.iter_mut().for_each(|link| *link = None);
                self.connecting = None;
                if forget {
                    self.sidecars.iter_mut().for_each(|sidecar| *sidecar = Sidecar::default());
                }
                let _ = reply.send(());
            }
        }
    }

    /// Starts as many connections as may be in progress.
    fn fill(&mut self) {
        let Some(connecting) = &mut self.connecting else { return };
        while let Some(slot) = connecting.next() {
            match Link::open(slot, &self.slots[slot], &connecting.target, self.poll.registry()) {
                Ok(link) => self.links[slot] = Some(link),
                Err(_) => connecting.retry(slot),
            }
        }
    }

    /// Sends the pushes that are due.
    fn push(&mut self) {
        let (Some(pushing), Some(connecting)) = (&mut self.pushing, &self.connecting) else { return };
        let authority = connecting.target.server_name.to_str();
        while let Some((slot, message)) = pushing.next() {
            let token = self.slots.get(slot).map_or("", |slot| &slot.token);
            let link = self.links.get_mut(slot).and_then(Option::as_mut);
            if link.is_some_and(|link| link.call((&authority, token), &message)) {
                self.totals.pushes += 1;
                self.totals.push_bytes += message.len() as u64;
            } else {
                self.not_taken += 1;
            }
        }
    }

    fn on_socket(&mut self, slot: usize) {
        let Self { behaviour, slots, sidecars, links, names, totals, expected, connecting, buffer, .. } =
            self;
        let Some(entry) = links.get_mut(slot) else { return };
        let Some(link) = entry else { return };
        let sidecar = &mut sidecars[slot];
        let behaviour = if link.configured { *behaviour } else { Behaviour::Honest };
        if behaviour == Behaviour::Deaf {
            return;
        }
        if !link.opened {
            sidecar.open(&slots[slot].node, names, &mut link.outbox);
            link.opened = true;
        }
        let goes_on = link.pump(buffer, |message, outbox| {
            let at = Instant::now();
            totals.messages += 1;
            totals.bytes += message.len() as u64;
            let Some(response) = wire::response(message) else { return };
            totals.resources[response.kind as usize] += response.resources.len() as u64;
            totals.bodies +=
                response.resources.iter().map(|resource| resource.body.len() as u64).sum::<u64>();
            totals.removed += response.removed.len() as u64;
            if behaviour != Behaviour::Honest {
                behaviour.answer(&response, outbox);
                return;
            }
            sidecar.take(&response, names, outbox, |change| {
                if let Some(expected) = expected {
                    expected.see(slot, change, at);
                }
            });
        });
        totals.wire += std::mem::take(&mut link.received);
        let configured = match connecting.as_ref().and_then(|connecting| connecting.target.script) {
            Some(messages) => link.messages >= messages,
            None => sidecar.is_configured(),
        };
        if !link.configured && configured {
            link.configured = true;
            if let Some(connecting) = connecting {
                connecting.arrive();
            }
        }
        if !goes_on {
            let was_configured = link.configured;
            *entry = None;
            totals.ended += 1;
            if let Some(connecting) = connecting.as_mut().filter(|_| !was_configured) {
                connecting.retry(slot);
            }
        }
    }
}
