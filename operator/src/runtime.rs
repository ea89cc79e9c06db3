//! Starts the long-lived tasks of the operator, passes each what it needs, and ends them together.
//!
//! Called by `cli::run`; the only place that spawns such tasks. Reads as a list of them; decides nothing.

pub mod access_logs;
mod kubernetes;
mod pages;
mod pipeline;
pub mod prometheus;
pub mod sidecar;
pub mod standalone;
mod status;
mod switch;
pub mod telemetry;
pub mod traces;
mod traffic;
mod traffic_api;
pub mod trim;
pub mod watches;
mod webhooks;
mod xds;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::builder::ArgPredicate;
use futures::future::BoxFuture;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tracing::{Instrument, error, info, info_span};

use smidge_xds::bootstrap::Family;

use crate::{ca, clock::Clock, injector, peers, source::folder::FolderError, webhook::callers::CallersError};

/// Time limit for tasks to end after the stop signal. Kubernetes kills after 30 s.
const DRAIN: Duration = Duration::from_secs(10);

/// Settings of the operator, as flags of `smidge run` and variables of its environment.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Settings of a control plane without an API server.
    #[command(flatten)]
    pub standalone: standalone::Standalone,
    /// SPIFFE trust domain of the mesh.
    #[arg(long, env = "SMIDGE_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: String,
    /// Name of this cluster in the mesh.
    #[arg(long, env = "SMIDGE_CLUSTER_NAME", default_value = "local")]
    pub cluster_name: String,
    /// DNS domain of the cluster's Services.
    #[arg(long, env = "SMIDGE_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Namespace that the operator runs in, which holds its authorities.
    #[arg(long, env = "SMIDGE_SYSTEM_NAMESPACE", default_value = "smidge-system")]
    pub system_namespace: String,
    /// Name of the pod that this process runs in: identifies the replica where only one may act.
    #[arg(long, env = "POD_NAME", default_value = "smidge")]
    pub pod_name: String,
    /// DaemonSet of the CNI plugin in that namespace: nodes on which its pod is ready lose the taint
    /// smidge.mesh/cni-not-ready. Without it, nodes are not changed.
    #[arg(long, env = "SMIDGE_CNI_DAEMON_SET", value_name = "NAME", conflicts_with = "dir")]
    pub cni_daemon_set: Option<String>,
    /// Image of the sidecar: a stock Envoy.
    #[arg(long, env = "SMIDGE_PROXY_IMAGE", default_value = "envoyproxy/envoy:distroless-v1.40.0")]
    pub proxy_image: String,
    /// Version of that Envoy, for example 1.40.0; by default the one in the image's tag. Before 1.37, and if it is not
    /// known, no statistics of traffic are collected.
    #[arg(long, env = "SMIDGE_PROXY_VERSION")]
    pub proxy_version: Option<String>,
    /// Image of the init container that redirects traffic: that of this program.
    #[arg(long, env = "SMIDGE_INIT_IMAGE", required_unless_present = "dir")]
    pub init_image: Option<String>,
    /// Pull policy of the injected images.
    #[arg(long, env = "SMIDGE_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub image_pull_policy: String,
    /// Settings of the injected containers.
    #[command(flatten)]
    pub sidecar: sidecar::Sidecar,
    /// Settings of the access logs of sidecars.
    #[command(flatten)]
    pub access_logs: access_logs::AccessLogFlags,
    /// Settings of the traces of sidecars.
    #[command(flatten)]
    pub traces: traces::TraceFlags,
    /// Settings of the spans and log records of the operator itself.
    #[command(flatten)]
    pub telemetry: telemetry::TelemetryFlags,
    /// First address of the operator's own pod. The first address of every pod that it injects is of the same family.
    #[arg(long, env = "POD_IP", value_name = "ADDRESS")]
    pub pod_address: Option<IpAddr>,
    /// Address of the xDS server. [::] is every address of both families.
    #[arg(long, env = "SMIDGE_XDS_LISTEN", default_value = "[::]:15012")]
    pub xds_listen: SocketAddr,
    /// Address of the webhook server.
    #[arg(long, env = "SMIDGE_WEBHOOK_LISTEN", default_value = "[::]:9443")]
    pub webhook_listen: SocketAddr,
    /// File with PEM certificates of the authorities that sign the client certificate which the API server presents to
    /// webhooks. Without it, the webhook server answers every client that reaches it. The file is read at the start.
    #[arg(long, env = "SMIDGE_WEBHOOK_CLIENT_CA", value_name = "FILE")]
    pub webhook_client_ca: Option<PathBuf>,
    /// Common name or DNS name of which that certificate must have one; may be repeated. Without it, any certificate of
    /// these authorities is accepted.
    #[arg(long = "webhook-client-name", requires = "webhook_client_ca", value_name = "NAME")]
    pub webhook_client_names: Vec<String>,
    /// Address of the server of TrafficMetrics, which the API server calls for the API group metrics.smi-spec.io. Without
    /// it, there is no such server.
    #[arg(long, env = "SMIDGE_TRAFFIC_API_LISTEN", value_name = "ADDRESS", conflicts_with = "dir")]
    pub traffic_api_listen: Option<SocketAddr>,
    /// Settings of what Prometheus reads, and of Prometheus as the source of TrafficMetrics.
    #[command(flatten)]
    pub prometheus: prometheus::Prometheus,
    /// Lifetime of the certificates of workloads, in seconds. Each is renewed between a half and two thirds of it; a sidecar
    /// that reaches no operator until it ends can make no new connections.
    #[arg(
        long,
        env = "SMIDGE_LEAF_LIFETIME_SECONDS",
        default_value_t = 86_400,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(60..=2_592_000)
    )]
    pub leaf_lifetime_seconds: u64,
    /// Address of the operator's own pages. With --dir, the default is 127.0.0.1:15014.
    #[arg(
        long,
        env = "SMIDGE_ADMIN_LISTEN",
        default_value = "[::]:15014",
        default_value_if("dir", ArgPredicate::IsPresent, "127.0.0.1:15014")
    )]
    pub admin_listen: SocketAddr,
    /// Address at which replicas of the operator query each other for what proxies have acknowledged.
    #[arg(long, env = "SMIDGE_PEER_LISTEN", default_value = "[::]:15013")]
    pub peer_listen: SocketAddr,
    /// File with the token that this replica presents to others.
    #[arg(long, env = "SMIDGE_PEER_TOKEN", default_value = "/var/run/secrets/smidge.mesh/peer-token")]
    pub peer_token: PathBuf,
}

impl Settings {
    /// Returns the names by which proxies and the API server call a Service of the operator.
    fn names_of(&self, service: &str) -> Vec<String> {
        let Self { system_namespace, cluster_domain, .. } = self;
        let name = format!("{service}.{system_namespace}.svc");
        let qualified = format!("{name}.{cluster_domain}");
        vec![name, qualified]
    }

    /// Returns the settings of the injector, which are the same for every injected pod.
    fn injector(
        &self,
        control_plane_roots: Vec<String>,
        probe_key: injector::ProbeKey,
    ) -> injector::Settings {
        self.sidecar.apply(injector::Settings {
            proxy_image: self.proxy_image.clone(),
            proxy_version: self.proxy_version.clone(),
            init_image: self.init_image.clone().unwrap_or_default(),
            image_pull_policy: self.image_pull_policy.clone(),
            trust_domain: self.trust_domain.clone(),
            cluster_name: self.cluster_name.clone(),
            cluster_domain: self.cluster_domain.clone(),
            system_namespace: self.system_namespace.clone(),
            xds_port: self.xds_listen.port(),
            control_plane_roots,
            probe_key,
            family: match self.pod_address {
                Some(IpAddr::V6(_)) => Family::V6,
                _ => Family::V4,
            },
            ..injector::Settings::default()
        })
    }
}

/// Errors that keep the operator from starting, or end it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime or a signal handler could not be set up.
    #[error("failed to set up the process")]
    Process(#[source] io::Error),
    /// No API server is configured.
    #[error("failed to find the API server; hint: run inside a cluster, or set KUBECONFIG")]
    Client(#[source] Box<kube::Error>),
    /// A port is taken, for example.
    #[error("failed to listen on {address} for {server}")]
    Listen {
        /// The server.
        server: &'static str,
        /// Its address.
        address: SocketAddr,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The folder of manifests cannot be served.
    #[error("failed to serve the folder of --dir")]
    Folder(#[from] FolderError),
    /// The authorities in the folder of state cannot be used.
    #[error(transparent)]
    Authorities(ca::root::RootError),
    /// A serving certificate could not be issued.
    #[error("failed to set up TLS for {server}")]
    Tls {
        /// The server.
        server: &'static str,
        /// Error of the authority.
        #[source]
        source: ca::ServingError,
    },
    /// The requests and limits of injected containers contradict each other.
    #[error("invalid settings of injected containers: {0}")]
    Sidecar(String),
    /// The settings of Prometheus as the source of TrafficMetrics contradict each other.
    #[error("invalid settings of Prometheus: {0}")]
    Prometheus(&'static str),
    /// The client certificates of webhook callers could not be set up.
    #[error("failed to set up the client certificates of the webhooks")]
    Callers(#[from] CallersError),
    /// The client of other replicas could not be set up.
    #[error("failed to set up the questions to other replicas")]
    Replicas(#[source] peers::fetch::FetchError),
    /// A task that must run until the operator stops has ended.
    #[error("{task} has ended by itself, which is a bug")]
    Ended {
        /// The task.
        task: String,
    },
}

/// Runs the operator until it receives a stop signal.
pub fn start(settings: Settings) -> Result<(), Error> {
    // Two providers can be compiled in; a process must select one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Process)?;
    runtime.block_on(run(settings))
}

/// Tasks, by name.
struct Tasks {
    set: JoinSet<Cow<'static, str>>,
    names: BTreeSet<Cow<'static, str>>,
    stop: watch::Sender<bool>,
}

impl Tasks {
    fn spawn(&mut self, name: impl Into<Cow<'static, str>>, task: impl Future<Output = ()> + Send + 'static) {
        let name = name.into();
        self.names.insert(name.clone());
        let span = info_span!("task", name = &*name);
        self.set.spawn(
            async move {
                task.await;
                name
            }
            .instrument(span),
        );
    }

    /// Returns a future that completes when the operator stops.
    fn stopping(&self) -> BoxFuture<'static, ()> {
        let mut stop = self.stop.subscribe();
        Box::pin(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
    }
}

/// State that every part uses.
struct Core {
    settings: Settings,
    clock: Clock,
    authorities: Arc<ca::Authorities>,
}

async fn run(settings: Settings) -> Result<(), Error> {
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let mut tasks = Tasks { set: JoinSet::new(), names: BTreeSet::new(), stop: watch::Sender::new(false) };
    let standalone::Standalone { dir, state } = settings.standalone.clone();
    match dir.zip(state) {
        Some((dir, state)) => standalone::start(settings, (&dir, &state), &mut tasks).await?,
        None => kubernetes::start(settings, &mut tasks).await?,
    }
    supervise(tasks).await
}

/// Maximum number of connections that the kernel keeps before they are accepted. A connection beyond that is dropped,
/// and its client retries after a second, then two, then four; the usual 128 are fewer than the proxies that can
/// reconnect at once. The kernel has a limit of its own (`net.core.somaxconn`, 4096).
const BACKLOG: u32 = 4096;

fn listen(server: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let listener = crate::listen::listen(address, BACKLOG, None).map_err(|source| Error::Listen {
        server,
        address,
        source,
    })?;
    info!(server, %address, "listening");
    Ok(listener)
}

/// Waits for a stop signal, or for a task that ends unexpectedly; then stops all tasks.
async fn supervise(mut tasks: Tasks) -> Result<(), Error> {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(Error::Process)?;
    let ended = tokio::select! {
        ended = tasks.set.join_next() => Some(ended),
        _ = terminate.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
    };
    tasks.stop.send_replace(true);
    if let Some(ended) = ended {
        let task = ended.and_then(Result::ok).map_or("a task that panicked".to_owned(), Cow::into_owned);
        error!(task, "task ended unexpectedly");
        return Err(Error::Ended { task });
    }
    info!("stopping");
    // Waits for the xDS server and the webhooks, which end with their connections, and for the leader, which releases its
    // lease. A control plane without an API server has the first of these only.
    let mut finishing = BTreeSet::from(["xds", "leader", "webhooks"]);
    finishing.retain(|name| tasks.names.contains(*name));
    let _ = tokio::time::timeout(DRAIN, async {
        while !finishing.is_empty()
            && let Some(Ok(task)) = tasks.set.join_next().await
        {
            finishing.remove(&*task);
        }
    })
    .await;
    Ok(())
}
