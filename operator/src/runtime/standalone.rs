//! Starts a control plane without an API server: objects from a folder, authorities in a folder, machines by their
//! client certificates.
//!
//! Called by `runtime` where `--dir` is set. Decides nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use prometheus_client::registry::Registry;
use smidge_xds::{
    mesh::id::{ClusterId, TrustDomain},
    server::Proxies,
};
use tokio::sync::{mpsc, watch};

use super::{
    Core, Error, Settings, Tasks, listen, pages,
    pipeline::{self, Feed, Pipeline},
    traffic,
    xds::{self, Access},
};
use crate::{
    admin::{Readers, process, token::Token},
    auth::{
        self,
        machines::{self, MachineAuthenticator},
    },
    ca,
    clock::Clock,
    documents::DEFAULT_NAMESPACE,
    inputs::Clusters,
    lease::Leader,
    lower::machine::Machine,
    report,
    source::{Edit, folder},
    status::{programmed::AckCounts, status_loop, write::InInputs},
    traffic::{EmbeddedSource, Receiver},
};

/// Settings of a control plane without an API server.
#[derive(Debug, Clone, clap::Args)]
pub struct Standalone {
    /// Folder of manifests to serve, in place of the objects of an API server. Changes take effect at once.
    #[arg(long, env = "SMIDGE_DIR", value_name = "DIR", requires = "state")]
    pub dir: Option<PathBuf>,
    /// Folder of the certificate authorities, from which the token for the debug pages is derived as well. It is created
    /// for its owner alone.
    /// Replicas need the same content.
    #[arg(long, env = "SMIDGE_STATE_DIR", value_name = "DIR", requires = "dir")]
    pub state: Option<PathBuf>,
}

/// Starts every task. `dir` is the folder of manifests, `state` that of the authorities.
pub(super) async fn start(
    settings: Settings,
    (dir, state): (&Path, &Path),
    tasks: &mut Tasks,
) -> Result<(), Error> {
    let mut root = process::registry();
    let registry = root.sub_registry_with_prefix("smidge");
    process::build(registry);
    let cluster = ClusterId(settings.cluster_name.clone());
    let metrics = folder::Metrics::register(registry);
    let limits = folder::Limits::default();
    let source = folder::Source::open(dir, cluster.clone(), DEFAULT_NAMESPACE, limits, metrics)?;
    let core = open(settings, state, registry).await?;
    let readers = Readers::Token(Token::new(core.authorities.debug_key().as_slice()));

    let maintained = Arc::clone(&core.authorities);
    tasks.spawn("authorities", async move { maintained.run().await });
    let (sender, edits) = mpsc::channel(64);
    tasks.spawn("folder", source.run(sender.clone()));
    let feed = Feed { edits, awaited: [folder::LIST].into() };
    let pipeline = pipeline::pipeline(&core, feed, registry, tasks);
    let (_, leads) = watch::channel(Leader::Me);
    let metrics = report::Metrics::register(registry);
    tasks.spawn("report", report::report(None, pipeline.findings.clone(), leads.clone(), metrics));
    let receiver = traffic::receiver(&core.settings, &pipeline, registry, tasks);
    // Answers what the API of TrafficMetrics is asked. Replicas of a folder do not know each other.
    let _traffic = EmbeddedSource::new(Arc::clone(&receiver), None);
    let access = access((&core, &pipeline), Arc::clone(&receiver), registry, tasks)?;
    let proxies = xds::xds(&core, &pipeline, access, registry, tasks);
    status(&core, (&pipeline, &proxies, leads), sender, registry, tasks);
    pages::pages(&core, &pipeline, (proxies, readers, receiver), root, tasks)
}

async fn open(settings: Settings, state: &Path, registry: &mut Registry) -> Result<Core, Error> {
    let clock = Clock::system();
    let secrets = ca::Secrets::folder(state).await.map_err(|error| Error::Authorities(error.into()))?;
    let metrics = ca::Metrics::register(registry.sub_registry_with_prefix("ca"));
    let domain = TrustDomain(settings.trust_domain.clone());
    let opening = ca::Authorities::open_with_machines(secrets, domain, clock.clone(), metrics);
    let authorities = Arc::new(Box::pin(opening).await.map_err(Error::Authorities)?);
    Ok(Core { settings, clock, authorities })
}

fn access(
    (core, pipeline): (&Core, &Pipeline),
    reports: Arc<Receiver>,
    registry: &mut Registry,
    tasks: &mut Tasks,
) -> Result<Access<MachineAuthenticator<Clusters>>, Error> {
    let Core { settings, clock, authorities } = core;
    let listener = listen("xds", settings.xds_listen)?;
    let failed = |source| Error::Tls { server: "xds", source };
    let names = vec![ca::STANDALONE_SERVER_NAME.to_owned()];
    let certificate = Arc::new(authorities.control_plane_certificate(names).map_err(failed)?);
    let verifier = authorities.machine_verifier().map_err(failed)?;
    let tls = certificate.tls_asking(&[b"h2"], verifier).map_err(failed)?;
    tasks.spawn("xds certificate", certificate.run());
    let (nacks, refused) = mpsc::channel(256);
    tasks.spawn("refusals", report::refusals(None, refused));
    let authenticator = MachineAuthenticator::new(machines::Settings {
        domain: TrustDomain(settings.trust_domain.clone()),
        cluster: ClusterId(settings.cluster_name.clone()),
        objects: pipeline.clusters.clone(),
        lookup: machine,
        clock: clock.clone(),
        metrics: auth::Metrics::register(registry.sub_registry_with_prefix("auth")),
    });
    Ok(Access { listener, tls, authenticator, reports, nacks })
}

/// Finds a machine among the objects of the folder, which are the only cluster.
fn machine(clusters: &Clusters, namespace: &str, name: &str) -> Option<Machine> {
    Machine::find(clusters.values().next()?, namespace, name)
}

/// Starts the loop that keeps statuses up to date in the inputs, from where the pages show them.
fn status(
    core: &Core,
    (pipeline, proxies, leader): (&Pipeline, &Proxies, watch::Receiver<Leader>),
    edits: mpsc::Sender<Edit>,
    registry: &mut Registry,
    tasks: &mut Tasks,
) {
    let sources = status_loop::Sources {
        published: pipeline.published.clone(),
        proxies: proxies.clone(),
        others: watch::channel(Arc::default()).1,
        leader,
        own: watch::channel(AckCounts::default()).0,
        writer: InInputs { cluster: ClusterId(core.settings.cluster_name.clone()), edits },
        clock: core.clock.clone(),
        metrics: status_loop::Metrics::register(registry),
    };
    tasks.spawn("status", status_loop::run(sources));
}
