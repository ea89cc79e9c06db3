//! Starts watch → publish → report.
//!
//! Called by `runtime` at the start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prometheus_client::registry::Registry;
use smidge_xds::{
    mesh::id::{ClusterId, TrustDomain},
    server::SnapshotHub,
    snapshot::Snapshot,
};
use tokio::sync::{mpsc, watch};

use super::{Core, Tasks, watches};
use crate::{
    auth,
    finding::Finding,
    inputs::{Clusters, Inputs},
    lease::{Leader, candidate::Candidate},
    publish::{self, Outputs, Published},
    report,
};

/// Outputs of the pipeline.
pub(super) struct Pipeline {
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub hub: SnapshotHub<Snapshot>,
    pub findings: watch::Receiver<Arc<Vec<Finding>>>,
    pub awaited: watch::Receiver<BTreeSet<&'static str>>,
    pub clusters: watch::Receiver<Clusters>,
    pub pods: Arc<auth::pods::Pods>,
    pub published: watch::Receiver<Option<Arc<Published>>>,
    pub leader: watch::Receiver<Leader>,
}

/// Starts watch → publish → report, and the candidate for leadership.
pub(super) fn pipeline(core: &Core, registry: &mut Registry, tasks: &mut Tasks) -> Pipeline {
    let Core { settings, client, authorities, .. } = core;
    let (edits, changes) = mpsc::channel(1024);
    let cluster = ClusterId(settings.cluster_name.clone());
    let watches = watches::spawn(&cluster, client, &edits, |name, task| tasks.spawn(name, task));
    let (snapshots, findings, awaited) =
        (watch::Sender::new(None), watch::Sender::new(Arc::default()), watch::Sender::new(watches.kinds));
    let hub = SnapshotHub::new(Snapshot::view);
    let (published, leader) = (watch::Sender::new(None), watch::Sender::new(Leader::None));
    let inputs = Inputs {
        roots: authorities.workload_bundle().roots,
        trust_domain: TrustDomain(settings.trust_domain.clone()),
        cluster_domain: settings.cluster_domain.clone(),
        system_namespace: settings.system_namespace.clone(),
        ..Inputs::default()
    };
    let clusters = watch::Sender::new(BTreeMap::from([(cluster.clone(), inputs)]));
    let pipeline = Pipeline {
        snapshots: snapshots.subscribe(),
        hub: hub.clone(),
        findings: findings.subscribe(),
        awaited: awaited.subscribe(),
        clusters: clusters.subscribe(),
        pods: watches.pods,
        published: published.subscribe(),
        leader: leader.subscribe(),
    };
    let outputs = Outputs { snapshots, hub, findings, awaited, published };
    let metrics = publish::Metrics::register(registry);
    tasks.spawn("publish", publish::publish(cluster, clusters, changes, outputs, metrics));
    let metrics = report::Metrics::register(registry);
    let (findings, led) = (pipeline.findings.clone(), pipeline.leader.clone());
    tasks.spawn("report", report::report(client.clone(), findings, led, metrics));
    let candidate = Candidate {
        client: client.clone(),
        namespace: settings.system_namespace.clone(),
        name: settings.pod_name.clone(),
        clock: core.clock.clone(),
        leader,
    };
    let stop = tasks.stopping();
    tasks.spawn("leader", candidate.run(stop));
    pipeline
}
