//! Starts publish: edits of a source → snapshots and findings.
//!
//! Called by `runtime` at the start. Does not know the source.

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

use super::{Core, Tasks};
use crate::{
    finding::Finding,
    inputs::{Clusters, Inputs},
    publish::{self, Outputs, Published},
    source::Edit,
};

/// Source of edits.
pub(super) struct Feed {
    pub edits: mpsc::Receiver<Edit>,
    /// The lists that must be read before anything is served.
    pub awaited: BTreeSet<&'static str>,
}

/// Outputs of the pipeline.
pub(super) struct Pipeline {
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub hub: SnapshotHub<Snapshot>,
    pub findings: watch::Receiver<Arc<Vec<Finding>>>,
    pub awaited: watch::Receiver<BTreeSet<&'static str>>,
    pub clusters: watch::Receiver<Clusters>,
    pub published: watch::Receiver<Option<Arc<Published>>>,
}

/// Starts the publisher of what the feed brings.
pub(super) fn pipeline(core: &Core, feed: Feed, registry: &mut Registry, tasks: &mut Tasks) -> Pipeline {
    let Core { settings, authorities, .. } = core;
    let cluster = ClusterId(settings.cluster_name.clone());
    let (snapshots, findings, awaited) =
        (watch::Sender::new(None), watch::Sender::new(Arc::default()), watch::Sender::new(feed.awaited));
    let hub = SnapshotHub::new(Snapshot::view);
    let published = watch::Sender::new(None);
    let inputs = Inputs {
        roots: authorities.workload_bundle().roots,
        trust_domain: TrustDomain(settings.trust_domain.clone()),
        cluster_domain: settings.cluster_domain.clone(),
        system_namespace: settings.system_namespace.clone(),
        access_logs: settings.access_logs.setting(),
        tracing: settings.traces.setting(),
        ..Inputs::default()
    };
    let clusters = watch::Sender::new(BTreeMap::from([(cluster.clone(), inputs)]));
    let pipeline = Pipeline {
        snapshots: snapshots.subscribe(),
        hub: hub.clone(),
        findings: findings.subscribe(),
        awaited: awaited.subscribe(),
        clusters: clusters.subscribe(),
        published: published.subscribe(),
    };
    let outputs = Outputs { snapshots, hub, findings, awaited, published };
    let metrics = publish::Metrics::register(registry);
    tasks.spawn("publish", publish::publish(cluster, clusters, feed.edits, outputs, metrics));
    pipeline
}
