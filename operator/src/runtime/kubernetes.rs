//! Starts the operator of a Kubernetes cluster: watches, Events, leadership, webhooks, tokens of pods.
//!
//! Called by `runtime` unless a folder is served. Decides nothing.

use std::sync::Arc;

use kube::Client;
use prometheus_client::registry::Registry;
use smidge_xds::mesh::id::{ClusterId, TrustDomain};
use tokio::sync::{mpsc, watch};

use super::{
    Core, Error, Settings, Tasks, listen, pages,
    pipeline::{self, Feed, Pipeline},
    prometheus, status, traffic, traffic_api, watches, webhooks,
    xds::{self, Access},
};
use crate::{
    admin, auth, ca,
    clock::Clock,
    cni::taint,
    lease::{self, Leader, candidate::Candidate},
    report, source,
    traffic::{EmbeddedSource, Receiver},
    webhook::callers::Callers,
};

/// Parts of an operator in Kubernetes alone.
pub(super) struct Kubernetes {
    pub client: Client,
    pub pods: Arc<auth::pods::Pods>,
    pub leader: watch::Receiver<Leader>,
}

/// Starts every task.
pub(super) async fn start(settings: Settings, tasks: &mut Tasks) -> Result<(), Error> {
    settings.sidecar.check().map_err(Error::Sidecar)?;
    let names = settings.webhook_client_names.clone();
    let file = settings.webhook_client_ca.as_deref();
    let callers = file.map(|file| Callers::read(file, names)).transpose()?;
    let client = Client::try_default().await.map_err(|error| Error::Client(Box::new(error)))?;
    let mut root = admin::process::registry();
    let registry = root.sub_registry_with_prefix("smidge");
    admin::process::build(registry);
    let core = open(settings, &client, registry).await;

    let maintained = Arc::clone(&core.authorities);
    tasks.spawn("authorities", async move { maintained.run().await });
    let (kubernetes, pipeline) = watch(&core, client, registry, tasks);
    let authenticator = authenticator(&core, &kubernetes, registry, tasks);
    let receiver = traffic::receiver(&core.settings, &pipeline, registry, tasks);
    let access = access(&core, &kubernetes, (Arc::clone(&authenticator), Arc::clone(&receiver)), tasks)?;
    let proxies = xds::xds(&core, &pipeline, access, registry, tasks);
    let sources = (&kubernetes, &pipeline);
    let own = (&proxies, &authenticator, Arc::clone(&receiver));
    let embedded: EmbeddedSource = status::status(&core, sources, own, registry, tasks)?;
    webhooks::webhooks(&core, sources, callers, registry, tasks)?;
    match prometheus::source(&core.settings, &receiver)? {
        Some(source) => traffic_api::traffic_api(&core, &kubernetes, source, tasks)?,
        None => traffic_api::traffic_api(&core, &kubernetes, embedded, tasks)?,
    }
    let domain = TrustDomain(core.settings.trust_domain.clone());
    let cluster = ClusterId(core.settings.cluster_name.clone());
    let readers =
        admin::Readers::of_cluster(kubernetes.client.clone(), authenticator.issuer(), &domain, &cluster);
    pages::pages(&core, &pipeline, (proxies, readers, receiver), root, tasks)
}

async fn open(settings: Settings, client: &Client, registry: &mut Registry) -> Core {
    let clock = Clock::system();
    let secrets = ca::Secrets::new(client.clone(), &settings.system_namespace);
    let metrics = ca::Metrics::register(registry.sub_registry_with_prefix("ca"));
    let domain = TrustDomain(settings.trust_domain.clone());
    let authorities = Arc::new(ca::open(secrets, domain, clock.clone(), metrics).await);
    Core { settings, clock, authorities }
}

/// Starts watch → publish → report, and the candidate for leadership.
fn watch(core: &Core, client: Client, registry: &mut Registry, tasks: &mut Tasks) -> (Kubernetes, Pipeline) {
    let (sender, edits) = mpsc::channel(1024);
    let cluster = ClusterId(core.settings.cluster_name.clone());
    let metrics =
        source::kubernetes::Metrics::register(registry.sub_registry_with_prefix("watch"), core.clock.clone());
    let watches =
        watches::spawn(&cluster, &client, (&sender, &metrics), |name, task| tasks.spawn(name, task));
    let pipeline = pipeline::pipeline(core, Feed { edits, awaited: watches.kinds }, registry, tasks);
    let (leader, led) = watch::channel(Leader::None);
    lease::metrics::register(registry, led.clone());
    let metrics = report::Metrics::register(registry);
    let reporting = report::report(Some(client.clone()), pipeline.findings.clone(), led.clone(), metrics);
    tasks.spawn("report", reporting);
    let candidate = Candidate {
        client: client.clone(),
        namespace: core.settings.system_namespace.clone(),
        name: core.settings.pod_name.clone(),
        clock: core.clock.clone(),
        leader,
    };
    let stop = tasks.stopping();
    tasks.spawn("leader", candidate.run(stop));
    if let Some(daemon_set) = core.settings.cni_daemon_set.clone() {
        let namespace = core.settings.system_namespace.clone();
        tasks.spawn("taints of nodes", taint::run(client.clone(), namespace, daemon_set));
    }
    (Kubernetes { client, pods: watches.pods, leader: led }, pipeline)
}

fn authenticator(
    core: &Core,
    kubernetes: &Kubernetes,
    registry: &mut Registry,
    tasks: &mut Tasks,
) -> Arc<auth::TokenAuthenticator> {
    let Core { settings, clock, .. } = core;
    let authenticator = Arc::new(auth::TokenAuthenticator::new(auth::Settings {
        domain: TrustDomain(settings.trust_domain.clone()),
        cluster: ClusterId(settings.cluster_name.clone()),
        client: kubernetes.client.clone(),
        pods: Arc::clone(&kubernetes.pods),
        owner: crate::lower::workload::owner,
        clock: clock.clone(),
        metrics: auth::Metrics::register(registry.sub_registry_with_prefix("auth")),
    }));
    let maintained = Arc::clone(&authenticator);
    tasks.spawn("token keys", async move { maintained.run().await });
    authenticator
}

fn access(
    core: &Core,
    kubernetes: &Kubernetes,
    (authenticator, reports): (Arc<auth::TokenAuthenticator>, Arc<Receiver>),
    tasks: &mut Tasks,
) -> Result<Access<Arc<auth::TokenAuthenticator>>, Error> {
    let Core { settings, authorities, .. } = core;
    let listener = listen("xds", settings.xds_listen)?;
    let failed = |source| Error::Tls { server: "xds", source };
    let certificate =
        Arc::new(authorities.control_plane_certificate(settings.names_of("smidge")).map_err(failed)?);
    let tls = certificate.tls(&[b"h2"]).map_err(failed)?;
    tasks.spawn("xds certificate", certificate.run());
    let (nacks, refused) = mpsc::channel(256);
    tasks.spawn("refusals", report::refusals(Some(kubernetes.client.clone()), refused));
    Ok(Access { listener, tls, authenticator, reports, nacks })
}
