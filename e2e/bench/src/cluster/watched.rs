//! An object that is being changed and watched: the clock of every latency.
//!
//! Made by `cluster`. Each has a thread, a runtime and connections of its own: the thread of the scenarios may have fifty
//! other changes to make, and a moment that is taken late makes a latency short.

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

use super::{Cluster, PATIENCE};

/// A version of the object, and when the watch told of it.
type Event = (String, Instant);
/// A patch to be made, and who wants to know when it was told of.
type Order = (Value, oneshot::Sender<anyhow::Result<Instant>>);

/// An object that is being changed and watched.
pub struct Watched {
    orders: mpsc::UnboundedSender<Order>,
}

impl Watched {
    /// Begins to watch one object.
    pub async fn begin(cluster: &Cluster, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let path = cluster.path(kind, namespace)?;
        let only = format!("fieldSelector=metadata.name%3D{name}");
        // From the list and not from the object: a version from before thousands of other changes is too old to watch from.
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
        let has_begun = tokio::time::timeout(PATIENCE, has_begun).await;
        has_begun.context("a watch does not begin")?.context("the thread of a watch has ended")??;
        Ok(Self { orders })
    }

    /// Changes the object; the answer is the moment at which the API server first told of exactly this change: by the
    /// watch, or by the answer.
    pub async fn change(&mut self, patch: &Value) -> anyhow::Result<Instant> {
        let (reply, answer) = oneshot::channel();
        self.orders.send((patch.clone(), reply)).ok().context("the thread of a watch has ended")?;
        answer.await.context("the thread of a watch has ended")?
    }
}

/// Lets this thread run before whatever else there is to be run. It does next to nothing, and what it does is look at the
/// clock. Where that is not allowed, it is as late as it is.
fn hurry() {
    let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
    let Some(thread) = thread.file_name() else { return };
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--pid", "1"]).arg(thread);
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Makes changes until nobody orders any more.
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
    let (told, mut events) = mpsc::unbounded_channel();
    tokio::spawn(hear(Box::pin(lines), told));
    let _ = begun.send(Ok(()));
    while let Some((patch, reply)) = ordered.recv().await {
        let _ = reply.send(change(&cluster, object, &patch, &mut events).await);
    }
}

/// Notes when each line has come.
async fn hear(lines: impl AsyncBufRead + Unpin, told: mpsc::UnboundedSender<Event>) {
    let mut lines = lines.lines();
    while let Some(Ok(line)) = lines.next().await {
        let at = Instant::now();
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let version = event.get("object").and_then(version).unwrap_or_default();
        if told.send((version, at)).is_err() {
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
    let told = async {
        while let Some((version, at)) = events.recv().await {
            if version == wanted {
                return Some(at);
            }
        }
        None
    };
    let told = tokio::time::timeout(PATIENCE, told).await;
    let told = told.context("the watch did not tell of a change")?.context("the watch has ended")?;
    Ok(told.min(answered))
}

fn version(object: &Value) -> Option<String> {
    Some(object.pointer("/metadata/resourceVersion")?.as_str()?.to_owned())
}
