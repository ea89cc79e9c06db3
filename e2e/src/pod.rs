//! Pod of a test: runs commands in it, starts and stops long ones, connects to its ports.
//!
//! All of it goes through the API server, so it works with any cluster that a kubeconfig names.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client,
    api::{AttachParams, AttachedProcess, DeleteParams, ListParams},
};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, Lines,
};

use crate::{Namespace, until};

/// Time limit for a pod with a proxy from its creation to ready, on a machine with other load.
pub const START: Duration = Duration::from_mins(2);

/// Pod, and the container in which commands are run.
#[derive(Clone)]
pub struct Pod {
    api: Api<core::Pod>,
    /// Name of the pod.
    pub name: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// UID of the pod.
    pub uid: String,
    /// IP address of the pod.
    pub address: String,
    container: String,
}

/// Outcome of a command.
#[derive(Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// True if the exit status was 0.
    pub success: bool,
}

/// Returns true if the pod's condition `Ready` is true and the pod is not being deleted.
pub fn is_ready(pod: &core::Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Describes in one line a pod that is not ready.
fn state(pod: &core::Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.init_container_statuses.into_iter().flatten();
    let containers: Vec<String> = containers
        .chain(status.container_statuses.into_iter().flatten())
        .map(|container| {
            let state = serde_json::to_string(&container.state).unwrap_or_default();
            format!(
                "{} (ready {}, restarts {}) {state}",
                container.name, container.ready, container.restart_count
            )
        })
        .collect();
    format!(
        "{} is {}: {}",
        pod.metadata.name.as_deref().unwrap_or("?"),
        status.phase.unwrap_or_default(),
        containers.join("; ")
    )
}

impl Pod {
    /// Returns the addresses of the pod: one of each family.
    pub async fn addresses(&self) -> anyhow::Result<Vec<String>> {
        let status = self.object().await?.status.context("a pod without a status")?;
        Ok(status.pod_ips.into_iter().flatten().map(|it| it.ip).collect())
    }

    /// Returns a port of the pod as in a URL: an address of IPv6 is in brackets.
    pub fn at(&self, port: u16) -> String {
        if self.address.contains(':') {
            format!("[{}]:{port}", self.address)
        } else {
            format!("{}:{port}", self.address)
        }
    }

    /// Returns the pods with label `app`, once there are exactly `count` and all are ready. Commands run in container
    /// `app`.
    pub async fn all(namespace: &Namespace, app: &str, count: usize) -> anyhow::Result<Vec<Self>> {
        let api = namespace.pods();
        let selector = ListParams::default().labels(&format!("app={app}"));
        until(&format!("{count} ready pods of {}/{app}", namespace.name), START, async || {
            let pods = api.list(&selector).await?.items;
            let pods: Vec<_> =
                pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
            let states: Vec<String> = pods.iter().map(state).collect();
            anyhow::ensure!(pods.len() == count && pods.iter().all(is_ready), "{}", states.join("\n"));
            pods.iter().map(|pod| Self::of(api.clone(), pod, app)).collect()
        })
        .await
    }

    /// Returns the one pod with label `app`.
    pub async fn one(namespace: &Namespace, app: &str) -> anyhow::Result<Self> {
        Self::all(namespace, app, 1).await?.pop().context("the pod that was just seen")
    }

    /// Reads `pod`; commands run in `container`.
    pub fn of(api: Api<core::Pod>, pod: &core::Pod, container: &str) -> anyhow::Result<Self> {
        let status = pod.status.as_ref().context("a pod without a status")?;
        Ok(Self {
            api,
            name: pod.metadata.name.clone().context("a pod without a name")?,
            namespace: pod.metadata.namespace.clone().context("a pod without a namespace")?,
            uid: pod.metadata.uid.clone().context("a pod without a UID")?,
            address: status.pod_ip.clone().context("a pod without an address")?,
            container: container.to_owned(),
        })
    }

    /// Returns the same pod with another container for commands.
    #[must_use]
    pub fn container(&self, container: &str) -> Self {
        Self { container: container.to_owned(), ..self.clone() }
    }

    /// Reads the object from the API server.
    pub async fn object(&self) -> anyhow::Result<core::Pod> {
        self.api.get(&self.name).await.with_context(|| format!("failed to get pod {}", self.name))
    }

    /// Runs a command and waits for its end.
    pub async fn exec(&self, command: &[&str]) -> anyhow::Result<Output> {
        let mut process = self.attach(command, false).await?;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let out = process.stdout().context("standard output")?;
        let error = process.stderr().context("standard error")?;
        let status = process.take_status().context("the status")?;
        tokio::try_join!(read_all(out, &mut stdout), read_all(error, &mut stderr))?;
        let status = status.await.context("the command was cut off")?;
        Ok(Output { stdout, stderr, success: status.status.as_deref() == Some("Success") })
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub async fn run(&self, command: &[&str]) -> anyhow::Result<String> {
        let Output { stdout, stderr, success } = self.exec(command).await?;
        anyhow::ensure!(success, "{} in {} failed: {stdout}{stderr}", command.join(" "), self.name);
        Ok(stdout)
    }

    /// Starts a command that writes `started`, and runs until a line on its standard input stops it.
    pub async fn start(&self, command: &[&str]) -> anyhow::Result<Running> {
        let mut process = self.attach(command, true).await?;
        let lines = BufReader::new(process.stdout().context("standard output")?).lines();
        let stderr = process.stderr().context("standard error")?;
        let mut running = Running { process, lines: Box::new(lines), stderr: Box::new(stderr) };
        let line = tokio::time::timeout(Duration::from_secs(20), running.lines.next_line()).await;
        let line = line.with_context(|| format!("{} did not start within 20 s", command.join(" ")))??;
        if line.as_deref() != Some("started") {
            let mut stderr = String::new();
            // Its standard error may never end; the part read so far is enough.
            let _ = tokio::time::timeout(Duration::from_secs(1), running.stderr.read_to_string(&mut stderr))
                .await;
            anyhow::bail!(
                "{} in {} wrote {line:?} before it started: {stderr}",
                command.join(" "),
                self.name
            );
        }
        Ok(running)
    }

    async fn attach(&self, command: &[&str], stdin: bool) -> anyhow::Result<AttachedProcess> {
        let params =
            AttachParams::default().container(&self.container).stdin(stdin).stdout(true).stderr(true);
        let attached = self.api.exec(&self.name, command.iter().copied(), &params).await;
        attached.with_context(|| format!("failed to run {} in {}", command.join(" "), self.name))
    }

    /// Returns the client of its cluster.
    pub(crate) fn client(&self) -> Client {
        self.api.clone().into_client()
    }

    /// Connects to one of its ports from within its network namespace, without a proxy in between.
    pub async fn dial(
        &self,
        port: u16,
    ) -> anyhow::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        let mut forwarder = self.api.portforward(&self.name, &[port]).await;
        let forwarder =
            forwarder.as_mut().map_err(|error| anyhow::anyhow!("failed to reach {}: {error}", self.name))?;
        forwarder.take_stream(port).context("the forwarded port")
    }

    /// Deletes the pod without a grace period.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.api
            .delete(&self.name, &DeleteParams::default().grace_period(0))
            .await
            .context("failed to kill a pod")?;
        Ok(())
    }
}

async fn read_all(mut from: impl AsyncRead + Unpin, to: &mut String) -> anyhow::Result<()> {
    from.read_to_string(to).await.context("failed to read from the command")?;
    Ok(())
}

/// Command that is running in a pod.
pub struct Running {
    process: AttachedProcess,
    lines: Box<Lines<BufReader<tokio::io::ReadHalf<tokio::io::SimplexStream>>>>,
    stderr: Box<tokio::io::ReadHalf<tokio::io::SimplexStream>>,
}

impl Running {
    /// Stops the command, and returns its last line.
    pub async fn stop(mut self) -> anyhow::Result<String> {
        let mut stdin = self.process.stdin().context("standard input")?;
        // A command that has ended by itself has written its report already.
        let _ = stdin.write_all(b"stop\n").await;
        self.ended(Duration::from_secs(20)).await
    }

    /// Waits until the command ends by itself, and returns its last line.
    pub async fn ended(mut self, within: Duration) -> anyhow::Result<String> {
        let mut last = None;
        let read = async {
            while let Some(line) = self.lines.next_line().await? {
                last = Some(line);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(within, read).await.context("the command did not end in time")??;
        last.context("the command ended without a word")
    }
}
