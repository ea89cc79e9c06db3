//! Object that is being changed and watched: the start time of every latency.
//!
//! Created by `cluster`. Each has a thread, a runtime and connections of its own: the thread of the scenarios may have
//! fifty other changes to make, and a time that is taken late makes a latency too short.

use std::{
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::Context as _;
use futures::{AsyncBufRead, AsyncBufReadExt as _, StreamExt as _};
use hyper::{Method, Request};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::{Cluster, TIMEOUT};

/// Version of the object, and the time of its watch event.
type Event = (String, Instant);
/// Patch to be made, and the channel for the time of its event.
type Order = (Value, oneshot::Sender<anyhow::Result<Instant>>);

/// Object that is being changed and watched.
pub struct Watched {
    orders: mpsc::UnboundedSender<Order>,
}

impl Watched {
    /// Starts to watch one object.
    pub async fn begin(cluster: &Cluster, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let path = cluster.path(kind, namespace)?;
        let only = format!("fieldSelector=metadata.name%3D{name}");
        // From the version of the list and not of the object: a version before thousands of other changes is too old to
        // watch from.
        let list = cluster.call(Method::GET, &format!("{path}?{only}"), None).await?;
        let from = version(&list).context("a list without a version")?;
        let uri = format!("{path}?watch=1&resourceVersion={from}&{only}");
        let object = format!("{path}/{name}");
        let (orders, ordered) = mpsc::unbounded_channel();
        let (begun, has_begun) = oneshot::channel();
        let config = cluster.config.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            hurry();
            runtime.block_on(work(config, &uri, &object, begun, ordered));
        };
        std::thread::Builder::new().name("watch".to_owned()).spawn(work)?;
        let has_begun = tokio::time::timeout(TIMEOUT, has_begun).await;
        has_begun.context("a watch does not begin")?.context("the thread of a watch has ended")??;
        Ok(Self { orders })
    }

    /// Changes the object; returns the time at which the API server first reported exactly this change: in the watch,
    /// or in the response.
    pub async fn change(&mut self, patch: &Value) -> anyhow::Result<Instant> {
        let (reply, answer) = oneshot::channel();
        self.orders.send((patch.clone(), reply)).ok().context("the thread of a watch has ended")?;
        answer.await.context("the thread of a watch has ended")?
    }
}

/// Gives this thread real-time priority. It does almost nothing but read the clock. Without the permission for that the
/// thread keeps its normal priority, and its times may be late.
fn hurry() {
    let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
    let Some(thread) = thread.file_name() else { return };
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--pid", "1"]).arg(thread);
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Makes changes until the channel of orders is closed.
async fn work(
    config: kube::Config,
    uri: &str,
    object: &str,
    begun: oneshot::Sender<anyhow::Result<()>>,
    mut ordered: mpsc::UnboundedReceiver<Order>,
) {
    let open = async {
        let cluster = Cluster::of(config)?;
        let lines = cluster.client.request_stream(Request::get(uri).body(Vec::new())?).await?;
        anyhow::Ok((cluster, lines))
    };
    let (cluster, lines) = match open.await {
        Ok(open) => open,
        Err(error) => {
            let _ = begun.send(Err(error));
            return;
        }
    };
    let (sender, mut events) = mpsc::unbounded_channel();
    tokio::spawn(read_events(Box::pin(lines), sender));
    let _ = begun.send(Ok(()));
    while let Some((patch, reply)) = ordered.recv().await {
        let _ = reply.send(change(&cluster, object, &patch, &mut events).await);
    }
}

/// Records the time of each line.
async fn read_events(lines: impl AsyncBufRead + Unpin, sender: mpsc::UnboundedSender<Event>) {
    let mut lines = lines.lines();
    while let Some(Ok(line)) = lines.next().await {
        let at = Instant::now();
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let version = event.get("object").and_then(version).unwrap_or_default();
        if sender.send((version, at)).is_err() {
            return;
        }
    }
}

async fn change(
    cluster: &Cluster,
    object: &str,
    patch: &Value,
    events: &mut mpsc::UnboundedReceiver<Event>,
) -> anyhow::Result<Instant> {
    let changed = cluster.call(Method::PATCH, object, Some(patch)).await?;
    let answered = Instant::now();
    let wanted = version(&changed).context("an answer without a version")?;
    let reported = async {
        while let Some((version, at)) = events.recv().await {
            if version == wanted {
                return Some(at);
            }
        }
        None
    };
    let reported = tokio::time::timeout(TIMEOUT, reported).await;
    let reported = reported.context("the watch did not report a change")?.context("the watch has ended")?;
    Ok(reported.min(answered))
}

fn version(object: &Value) -> Option<String> {
    Some(object.pointer("/metadata/resourceVersion")?.as_str()?.to_owned())
}
