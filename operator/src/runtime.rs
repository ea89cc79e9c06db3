//! Starts the long-lived tasks of the operator, hands each what it needs, and ends them together.
//!
//! Called by `cli::run`; the only place that spawns such tasks. Reads as the list of what runs; decides nothing.

mod watches;

use std::{collections::BTreeSet, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kube::Client;
use prometheus_client::registry::Registry;
use smidge_xds::{
    mesh::id::{ClusterId, TrustDomain},
    server::{self, Proxies, Server, Views},
    snapshot::Snapshot,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{Instrument, error, info, info_span};

use crate::{
    admin, auth, ca,
    clock::Clock,
    finding::Finding,
    injector,
    inputs::Inputs,
    publish::{self, Outputs},
    report, tls, webhook,
};

/// How long tasks may take to end after they were told to. Kubernetes kills after 30 s.
const DRAIN: Duration = Duration::from_secs(10);

/// The webhook configuration that the chart installs.
const INJECTOR: &str = "smidge-injector";

/// What the command line settles.
#[derive(Debug, Clone)]
pub struct Settings {
    /// SPIFFE trust domain.
    pub trust_domain: String,
    /// Name of this cluster in the mesh.
    pub cluster_name: String,
    /// DNS domain of the cluster's Services.
    pub cluster_domain: String,
    /// Namespace of the operator.
    pub system_namespace: String,
    /// Image of the sidecar.
    pub proxy_image: String,
    /// Image of the init container.
    pub init_image: String,
    /// Pull policy of both.
    pub image_pull_policy: String,
    /// Address of the xDS server.
    pub xds_listen: SocketAddr,
    /// Address of the webhook server.
    pub webhook_listen: SocketAddr,
    /// Address of the operator's own pages.
    pub admin_listen: SocketAddr,
}

impl Settings {
    /// The names by which proxies and the API server call the operator's Service.
    fn service_names(&self) -> Vec<String> {
        let Self { system_namespace, cluster_domain, .. } = self;
        let name = format!("smidge.{system_namespace}.svc");
        let qualified = format!("{name}.{cluster_domain}");
        vec![name, qualified]
    }

    /// What every injected pod gets.
    fn injector(&self, control_plane_roots: Vec<String>) -> injector::Settings {
        injector::Settings {
            proxy_image: self.proxy_image.clone(),
            init_image: self.init_image.clone(),
            image_pull_policy: self.image_pull_policy.clone(),
            trust_domain: self.trust_domain.clone(),
            cluster_name: self.cluster_name.clone(),
            cluster_domain: self.cluster_domain.clone(),
            system_namespace: self.system_namespace.clone(),
            xds_port: self.xds_listen.port(),
            control_plane_roots,
            ..injector::Settings::default()
        }
    }
}

/// Why the operator could not start, or had to end.
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
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A serving certificate could not be made.
    #[error("failed to set up TLS for {server}")]
    Tls {
        /// The server.
        server: &'static str,
        /// What the authority says.
        #[source]
        source: ca::ServingError,
    },
    /// A task that should run for ever has ended.
    #[error("{task} has ended by itself, which is a bug")]
    Ended {
        /// The task.
        task: &'static str,
    },
}

/// Runs the operator until it is told to stop.
pub fn start(settings: Settings) -> Result<(), Error> {
    // Two providers can be compiled in; a process must say which one it means.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Process)?;
    runtime.block_on(run(settings))
}

/// The tasks, by name.
struct Tasks {
    set: JoinSet<&'static str>,
    stop: watch::Sender<bool>,
}

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let span = info_span!("task", name);
        self.set.spawn(
            async move {
                task.await;
                name
            }
            .instrument(span),
        );
    }

    /// Completes when the operator is told to stop.
    fn stopping(&self) -> BoxFuture<'static, ()> {
        let mut stop = self.stop.subscribe();
        Box::pin(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
    }
}

/// What every part is given.
struct Core {
    settings: Settings,
    client: Client,
    clock: Clock,
    authorities: Arc<ca::Authorities>,
}

async fn run(settings: Settings) -> Result<(), Error> {
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let client = Client::try_default().await.map_err(|error| Error::Client(Box::new(error)))?;
    let mut registry = Registry::with_prefix("smidge");
    let mut tasks = Tasks { set: JoinSet::new(), stop: watch::Sender::new(false) };
    let core = open(settings, client, &mut registry).await;

    let maintained = Arc::clone(&core.authorities);
    tasks.spawn("authorities", async move { maintained.maintain().await });
    let pipeline = pipeline(&core, &mut registry, &mut tasks);
    let proxies = xds(&core, &pipeline, &mut registry, &mut tasks).await?;
    webhooks(&core, &mut tasks).await?;
    pages(&core, &pipeline, proxies, registry, &mut tasks).await?;
    supervise(tasks).await
}

async fn open(settings: Settings, client: Client, registry: &mut Registry) -> Core {
    let clock = Clock::system();
    let secrets = ca::Secrets::new(client.clone(), &settings.system_namespace);
    let metrics = ca::Metrics::register(registry.sub_registry_with_prefix("ca"));
    let domain = TrustDomain(settings.trust_domain.clone());
    let authorities = Arc::new(ca::open(secrets, domain, clock.clone(), metrics).await);
    Core { settings, client, clock, authorities }
}

/// What the pipeline publishes.
struct Pipeline {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    findings: watch::Receiver<Arc<Vec<Finding>>>,
    awaited: watch::Receiver<BTreeSet<&'static str>>,
    pods: Arc<auth::pods::Pods>,
}

/// watch → publish → report.
fn pipeline(core: &Core, registry: &mut Registry, tasks: &mut Tasks) -> Pipeline {
    let Core { settings, client, authorities, .. } = core;
    let (edits, changes) = mpsc::channel(1024);
    let watches = watches::spawn(client, &edits, |name, task| tasks.spawn(name, task));
    let (snapshots, findings, awaited) =
        (watch::Sender::new(None), watch::Sender::new(Arc::default()), watch::Sender::new(watches.kinds));
    let pipeline = Pipeline {
        snapshots: snapshots.subscribe(),
        findings: findings.subscribe(),
        awaited: awaited.subscribe(),
        pods: watches.pods,
    };
    let inputs = Inputs {
        roots: authorities.workload_bundle().roots,
        trust_domain: TrustDomain(settings.trust_domain.clone()),
        cluster_domain: settings.cluster_domain.clone(),
        system_namespace: settings.system_namespace.clone(),
        ..Inputs::default()
    };
    let outputs = Outputs { snapshots, findings, awaited };
    let metrics = publish::Metrics::register(registry);
    let cluster = ClusterId(settings.cluster_name.clone());
    tasks.spawn("publish", publish::publish(cluster, inputs, changes, outputs, metrics));
    let metrics = report::Metrics::register(registry);
    tasks.spawn("report", report::report(client.clone(), pipeline.findings.clone(), metrics));
    pipeline
}

/// Serves snapshots and certificates to proxies.
async fn xds(
    core: &Core,
    pipeline: &Pipeline,
    registry: &mut Registry,
    tasks: &mut Tasks,
) -> Result<Proxies, Error> {
    let Core { settings, client, clock, authorities } = core;
    let listener = listen("xds", settings.xds_listen).await?;
    let failed = |source| Error::Tls { server: "xds", source };
    let certificate =
        Arc::new(authorities.control_plane_certificate(settings.service_names()).map_err(failed)?);
    let config = certificate.tls(&[b"h2"]).map_err(failed)?;
    tasks.spawn("xds certificate", certificate.keep_fresh());
    let (accepted, connections) = mpsc::channel(64);
    tasks.spawn("xds listener", tls::accept(listener, config, accepted));

    let authenticator = Arc::new(auth::TokenAuthenticator::new(auth::Settings {
        domain: TrustDomain(settings.trust_domain.clone()),
        cluster: ClusterId(settings.cluster_name.clone()),
        client: client.clone(),
        pods: Arc::clone(&pipeline.pods),
        owner: crate::lower::workload::owner,
        clock: clock.clone(),
        metrics: auth::Metrics::register(registry.sub_registry_with_prefix("auth")),
    }));
    let maintained = Arc::clone(&authenticator);
    tasks.spawn("token keys", async move { maintained.maintain().await });

    let (nacks, refused) = mpsc::channel(256);
    tasks.spawn("refusals", report::refusals(client.clone(), refused));
    let proxies = Proxies::default();
    let server = Server {
        authenticator,
        certificates: authorities.leaves(),
        views: Views { snapshots: pipeline.snapshots.clone(), view: Snapshot::view },
        metrics: smidge_xds::metrics::Metrics::register(registry.sub_registry_with_prefix("xds")),
        proxies: proxies.clone(),
        nacks,
        settings: server::Settings::default(),
    };
    let stop = tasks.stopping();
    tasks.spawn("xds", async move {
        if let Err(error) = server.serve(ReceiverStream::new(connections), stop).await {
            error!(%error, "the xDS server has ended");
        }
    });
    Ok(proxies)
}

/// Injects proxies into pods.
async fn webhooks(core: &Core, tasks: &mut Tasks) -> Result<(), Error> {
    let Core { settings, client, authorities, .. } = core;
    let listener = listen("webhooks", settings.webhook_listen).await?;
    let failed = |source| Error::Tls { server: "webhooks", source };
    let certificate = Arc::new(authorities.webhook_certificate(settings.service_names()).map_err(failed)?);
    let config = certificate.tls(&[b"h2", b"http/1.1"]).map_err(failed)?;
    tasks.spawn("webhook certificate", certificate.keep_fresh());
    let stop = tasks.stopping();
    let (injector, settings) = watch::channel(Arc::new(settings.injector(authorities.control_plane_roots())));
    tasks.spawn("webhooks", async move {
        // Held for as long as the server runs: the roots change when the authority's do, which nothing does yet.
        let _injector = injector;
        if let Err(error) = webhook::serve(listener, config, webhook::router(settings), stop).await {
            error!(%error, "the webhook server has ended");
        }
    });
    let (bundle, bundles) = watch::channel(authorities.webhook_ca_bundle());
    let client = client.clone();
    tasks.spawn("caBundle", async move {
        let _bundle = bundle;
        webhook::ca_bundle::keep(client, INJECTOR, bundles).await;
    });
    Ok(())
}

/// Shows what goes on.
async fn pages(
    core: &Core,
    pipeline: &Pipeline,
    proxies: Proxies,
    registry: Registry,
    tasks: &mut Tasks,
) -> Result<(), Error> {
    let listener = listen("pages", core.settings.admin_listen).await?;
    let router = admin::router(admin::Pages {
        awaited: pipeline.awaited.clone(),
        snapshots: pipeline.snapshots.clone(),
        findings: pipeline.findings.clone(),
        proxies,
        registry: Arc::new(registry),
    });
    let stop = tasks.stopping();
    tasks.spawn("pages", async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            error!(%error, "the operator's own pages have ended");
        }
    });
    Ok(())
}

async fn listen(server: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let listener =
        TcpListener::bind(address).await.map_err(|source| Error::Listen { server, address, source })?;
    info!(server, %address, "listening");
    Ok(listener)
}

/// Ends when told to, or when a task has ended that should not have.
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
        let task = ended.and_then(Result::ok).unwrap_or("a task that panicked");
        error!(task, "ended by itself");
        return Err(Error::Ended { task });
    }
    info!("stopping");
    // Servers end with their connections; everything else has nothing to finish.
    let _ = tokio::time::timeout(DRAIN, async {
        while let Some(Ok(task)) = tasks.set.join_next().await {
            if task == "xds" {
                break;
            }
        }
    })
    .await;
    Ok(())
}
