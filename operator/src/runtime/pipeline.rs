//! Starts watch → publish → report.
//!
//! Called by `runtime` at the start.

use std::{collections::BTreeSet, sync::Arc};

use prometheus_client::registry::Registry;
use smidge_xds::{
    mesh::id::{ClusterId, TrustDomain},
    snapshot::Snapshot,
};
use tokio::sync::{mpsc, watch};

use super::{Core, Tasks, watches};
use crate::{
    auth,
    finding::Finding,
    inputs::Inputs,
    publish::{self, Outputs},
    report,
};

/// What the pipeline publishes.
pub(super) struct Pipeline {
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub findings: watch::Receiver<Arc<Vec<Finding>>>,
    pub awaited: watch::Receiver<BTreeSet<&'static str>>,
    pub pods: Arc<auth::pods::Pods>,
}

/// watch → publish → report.
pub(super) fn pipeline(core: &Core, registry: &mut Registry, tasks: &mut Tasks) -> Pipeline {
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
