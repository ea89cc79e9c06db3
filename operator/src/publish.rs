//! Turns edits of the inputs into published snapshots: lowers, translates, and sends the results to their subscribers.
//!
//! Receives edits from `source`; feeds `smidge_xds::server` (snapshots) and `report` (findings). The only owner of
//! `Inputs`, so one snapshot is computed from exactly one state of the inputs. Adds time to the pure pipeline, and
//! nothing else.

mod trace;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use smidge_xds::{mesh::id::ClusterId, resources::Built, server::SnapshotHub, snapshot::Snapshot};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{Span, debug, info, warn};

use self::trace::Trace;

use crate::{
    finding::Finding,
    inputs::{Clusters, Inputs},
    kinds::Change,
    lower::{Lowered, Lowering},
    objects::{self, KnownObjects},
    source::Edit,
};

/// Minimum time between two publications. The first change after a quiet time is published at once; a burst is combined
/// into one publication each 10 ms, a delay that neither a person nor a canary controller notices.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Channels of the published values. Nothing but `awaited` is sent until every kind was read once: an empty mesh is
/// never served because the operator has just started.
pub struct Outputs {
    /// Snapshot that streams serve.
    pub snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    /// Hub where streams wait for the snapshot.
    pub hub: SnapshotHub<Snapshot>,
    /// Findings about the objects that the snapshot was built from.
    pub findings: watch::Sender<Arc<Vec<Finding>>>,
    /// Lists that were not read yet, by kind, or the folder; empty when serving.
    pub awaited: watch::Sender<BTreeSet<&'static str>>,
    /// All of it together, for tasks that compare the values.
    pub published: watch::Sender<Option<Arc<Published>>>,
}

/// Publication of one run of the pipeline: objects, and the results of exactly these objects.
#[derive(Debug, Clone)]
pub struct Published {
    /// The objects that have a status.
    pub objects: KnownObjects,
    /// Findings about the objects, errors first.
    pub findings: Arc<Vec<Finding>>,
    /// Snapshot for the proxies.
    pub snapshot: Arc<Snapshot>,
    /// ServiceAccount and address of each pod of the system namespace, by name.
    pub operator_pods: Arc<BTreeMap<String, (String, IpAddr)>>,
}

/// Metrics of publishing.
#[derive(Debug, Clone)]
pub struct Metrics {
    publishes: Counter,
    services_lowered: Counter,
    nodes_recomputed: Counter,
    nodes_kept: Gauge,
    services_rebuilt: Counter,
    inbound_rebuilt: Counter,
    encoded: Counter,
    duration: Histogram,
    services: Gauge,
    workloads: Gauge,
}

impl Metrics {
    /// Registers the metrics; the caller chooses the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let buckets = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
        let metrics = Self {
            publishes: Counter::default(),
            services_lowered: Counter::default(),
            nodes_recomputed: Counter::default(),
            nodes_kept: Gauge::default(),
            services_rebuilt: Counter::default(),
            inbound_rebuilt: Counter::default(),
            encoded: Counter::default(),
            duration: Histogram::new(buckets),
            services: Gauge::default(),
            workloads: Gauge::default(),
        };
        registry.register(
            "publishes",
            "Snapshots that differed from the one before",
            metrics.publishes.clone(),
        );
        for (name, help, counter) in [
            ("services_lowered", "Services that were lowered again", &metrics.services_lowered),
            (
                "lowering_nodes_recomputed",
                "Nodes of the lowering graph that were recomputed",
                &metrics.nodes_recomputed,
            ),
            ("services_rebuilt", "Services whose resources were built again", &metrics.services_rebuilt),
            (
                "inbound_rebuilt",
                "Workload classes whose inbound resources were built again",
                &metrics.inbound_rebuilt,
            ),
            ("resources_encoded", "Resources encoded for the pool", &metrics.encoded),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register_with_unit(
            "publish_duration",
            "Time from a batch of changes to its snapshot",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register("lowering_nodes", "Nodes of the lowering graph", metrics.nodes_kept.clone());
        registry.register("services", "Services in the mesh", metrics.services.clone());
        registry.register("workloads", "Workload instances in the mesh", metrics.workloads.clone());
        metrics
    }

    fn lowered(&self, before: Lowered, after: Lowered) {
        self.services_lowered.inc_by(after.services - before.services);
        self.nodes_recomputed.inc_by(after.nodes - before.nodes);
        self.nodes_kept.set(i64::try_from(after.kept).unwrap_or(i64::MAX));
    }

    fn built(&self, built: Built) {
        self.services_rebuilt.inc_by(built.services);
        self.inbound_rebuilt.inc_by(built.classes);
        self.encoded.inc_by(built.encoded);
    }
}

/// Publishes until the sources end. Changes the inputs in `clusters`, which other tasks may read. `own` is the cluster of
/// the control plane: publishing begins once every kind of it was read, and only its objects have a status.
pub async fn publish(
    own: ClusterId,
    clusters: watch::Sender<Clusters>,
    mut edits: mpsc::Receiver<Edit>,
    outputs: Outputs,
    metrics: Metrics,
) {
    let mut last = None::<Instant>;
    let mut pause = MIN_INTERVAL;
    let mut change = Change::StatusOnly;
    let mut known = KnownObjects::default();
    let mut lowering = Lowering::new(own.clone());
    let mut trace = Trace::default();
    while let Some(edit) = edits.recv().await {
        if let Some(last) = last {
            tokio::time::sleep_until(last + pause).await;
        }
        clusters.send_modify(|clusters| {
            let mut next = Some(edit);
            while let Some(edit) = next {
                let known = (edit.cluster == own).then_some(&mut known);
                change = change.max(take(edit, clusters, known, &outputs.awaited, &mut trace));
                next = edits.try_recv().ok();
            }
        });
        if !outputs.awaited.borrow().is_empty() {
            continue;
        }
        if std::mem::replace(&mut change, Change::StatusOnly) == Change::StatusOnly {
            outputs.restate(&known);
            continue;
        }
        let started = Instant::now();
        let span = trace.take();
        tokio::task::block_in_place(|| {
            let _entered = span.enter();
            let clusters = clusters.borrow();
            push(&clusters, &mut lowering, &outputs, &metrics);
            outputs.publish(&known, clusters.get(&own));
        });
        let took = started.elapsed();
        metrics.duration.observe(took.as_secs_f64());
        // At least two thirds of a core remain for the streams, however large the mesh is.
        pause = MIN_INTERVAL.max(took * 2);
        last = Some(Instant::now());
    }
}

impl Outputs {
    /// Publishes the present findings and snapshot with the objects.
    fn publish(&self, known: &KnownObjects, inputs: Option<&Inputs>) {
        let Some(snapshot) = self.snapshots.borrow().clone() else { return };
        let findings = self.findings.borrow().clone();
        let operator_pods = Arc::new(inputs.map(operator_pods).unwrap_or_default());
        let published = Published { objects: known.clone(), findings, snapshot, operator_pods };
        self.published.send_replace(Some(Arc::new(published)));
    }

    /// Publishes objects with changed statuses, with the findings and the snapshot of the last publication.
    fn restate(&self, known: &KnownObjects) {
        self.published.send_if_modified(|published| {
            let Some(published) = published else { return false };
            *published = Arc::new(Published { objects: known.clone(), ..(**published).clone() });
            true
        });
    }
}

/// Returns ServiceAccount and address of each pod of the system namespace that is not being deleted.
fn operator_pods(inputs: &Inputs) -> BTreeMap<String, (String, IpAddr)> {
    let start = (inputs.system_namespace.clone(), String::new());
    let pods =
        inputs.pods.range(start..).take_while(|((namespace, _), _)| *namespace == inputs.system_namespace);
    pods.filter_map(|((_, name), pod)| {
        let address = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        let account = pod.spec.as_ref()?.service_account_name.clone()?;
        (pod.metadata.deletion_timestamp.is_none()).then(|| (name.clone(), (account, address)))
    })
    .collect()
}

/// Applies an edit. `known` are the objects that have a status, if the edit is one of their cluster.
fn take(
    edit: Edit,
    clusters: &mut Clusters,
    known: Option<&mut KnownObjects>,
    awaited: &watch::Sender<BTreeSet<&'static str>>,
    trace: &mut Trace,
) -> Change {
    let Edit { cluster, scope, apply, completes } = edit;
    // Its trust domain and roots are unknown.
    let Some(inputs) = clusters.get_mut(&cluster) else {
        warn!(%cluster, ?scope, "dropped a change of an unknown cluster");
        return Change::StatusOnly;
    };
    let change = apply(inputs);
    trace.edited(change, &scope);
    let Some(known) = known else { return change };
    objects::refresh(known, inputs, &scope);
    if let Some(list) = completes {
        awaited.send_if_modified(|awaited| {
            let was_awaited = awaited.remove(list);
            if was_awaited {
                debug!(list, still_awaited = ?awaited, "read once");
                if awaited.is_empty() {
                    info!("every object was read, serving");
                }
            }
            was_awaited
        });
    }
    change
}

/// Runs the pipeline once: inputs → (mesh, findings) → resources.
fn push(clusters: &Clusters, lowering: &mut Lowering, outputs: &Outputs, metrics: &Metrics) {
    let before = lowering.lowered();
    let (mesh, findings) = trace::lower(lowering, |lowering| lowering.next(clusters));
    metrics.lowered(before, lowering.lowered());
    metrics.services.set(i64::try_from(mesh.services.len()).unwrap_or(i64::MAX));
    metrics.workloads.set(i64::try_from(mesh.workloads.len()).unwrap_or(i64::MAX));
    outputs.findings.send_if_modified(|current| {
        let changed = !Arc::ptr_eq(current, &findings) && *current != findings;
        if changed {
            *current = findings;
        }
        changed
    });
    let is_published = outputs.snapshots.send_if_modified(|current| {
        if current.as_ref().is_some_and(|current| **current.mesh() == mesh) {
            return false;
        }
        let next = Arc::new(trace::publish(|| Snapshot::next(Arc::new(mesh), current.as_deref())));
        trace::push(|| outputs.hub.publish(Arc::clone(&next), |subscribers| next.recipients(subscribers)));
        metrics.publishes.inc();
        metrics.built(next.resources().built());
        *current = Some(next);
        true
    });
    trace::end(&Span::current(), is_published);
}
