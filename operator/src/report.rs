//! Turns findings into what their owners see: a log line, an Event on the object, and a metric.
//!
//! Fed by `publish`. Says each thing once: a finding that stays is not repeated, one that comes back is. Writes nothing
//! but Events, and a failure to write one costs nothing but a log line.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, ObjectReference, Pod, Service};
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use smidge_xds::server::Nack;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::finding::{Finding, ObjectRef, Severity};

/// The labels of a finding: both are closed sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    severity: String,
    reason: String,
}

/// How many findings there are.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    findings: Family<Labels, Gauge>,
}

impl Metrics {
    /// Registers the metrics; the caller chooses the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("findings", "Findings by severity and reason", metrics.findings.clone());
        metrics
    }

    fn set(&self, findings: &[Finding]) {
        self.findings.clear();
        for finding in findings {
            let labels =
                Labels { severity: finding.severity.to_string(), reason: finding.reason.to_string() };
            self.findings.get_or_create(&labels).inc();
        }
    }
}

/// How long a finding must be there before it is told. Kinds are watched one by one, so an endpoint can be known a
/// moment before its pod, or a target before its route: nobody needs to hear of that.
const HOLD: Duration = Duration::from_secs(1);

/// Reports until the publisher ends.
pub async fn report(client: Client, mut findings: watch::Receiver<Arc<Vec<Finding>>>, metrics: Metrics) {
    let reporter = Reporter { controller: "smidge".to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    let mut told = BTreeSet::new();
    while findings.changed().await.is_ok() {
        tokio::time::sleep(HOLD).await;
        let current = findings.borrow_and_update().clone();
        metrics.set(&current);
        let mut still = BTreeSet::new();
        for finding in current.iter() {
            let text = finding.to_string();
            if !told.contains(&text) {
                tell(&client, &recorder, finding).await;
            }
            still.insert(text);
        }
        told = still;
    }
}

/// Reports what proxies refuse, on their pods, until the server ends.
pub async fn refusals(client: Client, mut nacks: mpsc::Receiver<Nack>) {
    let reporter = Reporter { controller: "smidge".to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    while let Some(Nack { proxy, refused }) = nacks.recv().await {
        let what = format!("{:?} {}: {}", refused.kind, refused.names.join(", "), refused.message);
        warn!(%proxy, "a proxy refused its configuration: {what}");
        let pod = ObjectRef::new("Pod", &proxy.namespace, &proxy.instance);
        let Some(reference) = reference(&client, &pod).await else { continue };
        let event = Event {
            type_: EventType::Warning,
            reason: "ConfigurationRefused".to_owned(),
            note: Some(fit(format!("the proxy refused {what}; it keeps what it had"))),
            action: "Configure".to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &reference).await {
            warn!(%proxy, %error, "failed to write an Event");
        }
    }
}

async fn tell(client: &Client, recorder: &Recorder, finding: &Finding) {
    let object = &finding.object;
    info!(%object, severity = %finding.severity, reason = %finding.reason, "{}", finding.message);
    let Some(reference) = reference(client, object).await else { return };
    let event = Event {
        type_: match finding.severity {
            Severity::Error => EventType::Warning,
            Severity::Warning => EventType::Normal,
        },
        reason: finding.reason.to_string(),
        note: Some(fit(finding.to_string())),
        action: "Lower".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &reference).await {
        warn!(%object, reason = %finding.reason, %error, "failed to write an Event");
    }
}

/// The object as an Event names it, with its UID: `kubectl describe` finds Events by that.
async fn reference(client: &Client, object: &ObjectRef) -> Option<ObjectReference> {
    let resource = api_resource(&object.kind)?;
    let api: Api<DynamicObject> = if object.namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &object.namespace, &resource)
    };
    match api.get_metadata_opt(&object.name).await {
        Ok(found) => found.map(|found| ObjectReference {
            api_version: Some(resource.api_version.clone()),
            kind: Some(object.kind.clone()),
            name: Some(object.name.clone()),
            namespace: found.metadata.namespace,
            uid: found.metadata.uid,
            ..ObjectReference::default()
        }),
        Err(error) => {
            warn!(%object, %error, "failed to look up the object of an Event");
            None
        }
    }
}

fn api_resource(kind: &str) -> Option<ApiResource> {
    Some(match kind {
        "TrafficTarget" => ApiResource::erase::<smidge_crds::access::TrafficTarget>(&()),
        "IdentityBinding" => ApiResource::erase::<smidge_crds::access::IdentityBinding>(&()),
        "HTTPRouteGroup" => ApiResource::erase::<smidge_crds::specs::HttpRouteGroup>(&()),
        "TCPRoute" => ApiResource::erase::<smidge_crds::specs::TcpRoute>(&()),
        "UDPRoute" => ApiResource::erase::<smidge_crds::specs::UdpRoute>(&()),
        "TrafficSplit" => ApiResource::erase::<smidge_crds::split::TrafficSplit>(&()),
        "MeshConfig" => ApiResource::erase::<smidge_crds::config::MeshConfig>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        "Pod" => ApiResource::erase::<Pod>(&()),
        "Namespace" => ApiResource::erase::<Namespace>(&()),
        _ => return None,
    })
}

/// The API server refuses notes above 1 KiB.
fn fit(mut note: String) -> String {
    let mut end = note.len().min(1020);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note.truncate(end);
    note
}
