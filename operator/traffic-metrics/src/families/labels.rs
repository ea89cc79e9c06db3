//! Labels of the metrics: each a name, and how its value follows from a counter.
//!
//! Pure. Used by the table in `families`, and by `promql`, which queries by these labels. A value is empty where it is not known, and the label is then absent; Istio's
//! names have `unknown` instead, as its queries compare with that.

use crate::{
    counters::{Key, Protocol},
    outcome::Outcome,
    traffic::{ObjectName, Peer, Side},
};

/// A label. The second parameter of `value` is the domain of the cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    pub(crate) name: &'static str,
    pub(super) value: fn(&Key, &str) -> String,
}

const fn label(name: &'static str, value: fn(&Key, &str) -> String) -> Label {
    Label { name, value }
}

pub(crate) const REPORTER: Label = label("reporter", |key, _| reporter(key.calls.side).to_owned());
pub(crate) const SERVICE_NAMESPACE: Label =
    label("service_namespace", |key, _| service(key, |it| it.namespace.clone()));
pub(crate) const SERVICE: Label = label("service", |key, _| service(key, |it| it.name.clone()));
pub(crate) const BACKEND: Label =
    label("backend", |key, _| key.calls.backend.as_ref().map(|it| it.name.clone()).unwrap_or_default());
pub(crate) const ROUTE: Label = label("route", |key, _| key.calls.route.clone());
pub(crate) const OUTCOME: Label = label("outcome", |key, _| outcome(key).to_owned());

/// Labels of one end of calls.
pub(crate) struct Party {
    pub(crate) namespace: Label,
    pub(crate) kind: Label,
    pub(crate) workload: Label,
    pub(crate) service_account: Label,
    /// The pod, if its proxy has counted. Metrics of pods alone have it.
    pub(crate) pod: Label,
}

pub(crate) const SOURCE: Party = Party {
    namespace: label("source_namespace", |key, _| key.calls.source.namespace.clone()),
    kind: label("source_kind", |key, _| key.calls.source.kind.clone()),
    workload: label("source_workload", |key, _| key.calls.source.name.clone()),
    service_account: label("source_service_account", |key, _| key.calls.source.service_account.clone()),
    pod: label("source_pod", |key, _| pod(key, Side::Client)),
};

pub(crate) const DESTINATION: Party = Party {
    namespace: label("destination_namespace", |key, _| key.calls.destination.namespace.clone()),
    kind: label("destination_kind", |key, _| key.calls.destination.kind.clone()),
    workload: label("destination_workload", |key, _| key.calls.destination.name.clone()),
    service_account: label("destination_service_account", |key, _| {
        key.calls.destination.service_account.clone()
    }),
    pod: label("destination_pod", |key, _| pod(key, Side::Server)),
};

/// Labels with caller, server and Service.
pub(super) const PARTIES: &[Label] = &[
    REPORTER,
    SOURCE.namespace,
    SOURCE.kind,
    SOURCE.workload,
    SOURCE.service_account,
    DESTINATION.namespace,
    DESTINATION.kind,
    DESTINATION.workload,
    DESTINATION.service_account,
    SERVICE_NAMESPACE,
    SERVICE,
    BACKEND,
    ROUTE,
    label("mtls", |key, _| is_mutual(key).to_string()),
];

/// Labels with the pod whose proxy has counted.
pub(super) const PODS: &[Label] = &[SOURCE.pod, DESTINATION.pod];

/// Labels with the outcome alone.
pub(super) const OUTCOMES: &[Label] = &[OUTCOME];

/// Labels with the outcome and its reason.
pub(super) const ANSWER: &[Label] = &[OUTCOME, label("response_flags", |key, _| flag(key))];

/// Labels with the answer to a request.
pub(super) const REQUEST: &[Label] = &[
    label("protocol", |key, _| protocol(key)),
    label("response_code", |key, _| code(key)),
    label("grpc_status", |key, _| grpc(key)),
];

/// Labels of Open Service Mesh, without those of pods.
pub(super) const OSM: &[Label] = &[
    label("source_namespace", |key, _| key.calls.source.namespace.clone()),
    label("source_kind", |key, _| key.calls.source.kind.clone()),
    label("source_name", |key, _| key.calls.source.name.clone()),
    label("destination_namespace", |key, _| key.calls.destination.namespace.clone()),
    label("destination_kind", |key, _| key.calls.destination.kind.clone()),
    label("destination_name", |key, _| key.calls.destination.name.clone()),
];

pub(super) const OSM_ANSWER: &[Label] = &[label("response_code", |key, _| code(key))];

/// Labels of Istio that do not need what only Istio has (revisions, canonical names).
pub(super) const ISTIO: &[Label] = &[
    REPORTER,
    label("source_workload", |key, _| known(&key.calls.source.name)),
    label("source_workload_namespace", |key, _| known(&key.calls.source.namespace)),
    label("destination_workload", |key, _| known(&key.calls.destination.name)),
    label("destination_workload_namespace", |key, _| known(&key.calls.destination.namespace)),
    label("destination_service", |key, domain| {
        known(&service(key, |it| format!("{}.{}.svc.{domain}", it.name, it.namespace)))
    }),
    label("destination_service_name", |key, _| known(&service(key, |it| it.name.clone()))),
    label("destination_service_namespace", |key, _| known(&service(key, |it| it.namespace.clone()))),
    label("connection_security_policy", |key, _| {
        // Istio's own callers do not report it.
        let policy = if is_mutual(key) { "mutual_tls" } else { "none" };
        if key.calls.side == Side::Server { policy.to_owned() } else { known("") }
    }),
];

pub(super) const ISTIO_ANSWER: &[Label] = &[
    label("request_protocol", |key, _| protocol(key)),
    label("response_code", |key, _| code(key)),
    label("grpc_response_status", |key, _| grpc(key)),
    label("response_flags", |key, _| flag(key)),
];

/// Labels of Linkerd: the workload whose proxy has counted, by its kind, and the other one.
pub(super) const LINKERD: &[Label] = &[
    label("direction", |key, _| {
        if key.calls.side == Side::Server { "inbound".to_owned() } else { "outbound".to_owned() }
    }),
    label("namespace", |key, _| own(key).namespace.clone()),
    label("deployment", |key, _| of_kind(own(key), "Deployment")),
    label("statefulset", |key, _| of_kind(own(key), "StatefulSet")),
    label("daemonset", |key, _| of_kind(own(key), "DaemonSet")),
    label("k8s_job", |key, _| of_kind(own(key), "Job")),
    label("serviceaccount", |key, _| own(key).service_account.clone()),
    label("dst_namespace", |key, _| of_callee(key, |it| it.namespace.clone())),
    label("dst_deployment", |key, _| of_callee(key, |it| of_kind(it, "Deployment"))),
    label("dst_statefulset", |key, _| of_callee(key, |it| of_kind(it, "StatefulSet"))),
    label("dst_daemonset", |key, _| of_callee(key, |it| of_kind(it, "DaemonSet"))),
    label("dst_service", |key, _| key.calls.backend.as_ref().map(|it| it.name.clone()).unwrap_or_default()),
    label("tls", |key, _| is_mutual(key).to_string()),
];

pub(super) const LINKERD_ANSWER: &[Label] = &[
    label("classification", |key, _| {
        let is_failure = key.answer.is_some_and(|answer| answer.outcome == Outcome::Failure);
        if is_failure { "failure".to_owned() } else { "success".to_owned() }
    }),
    label("status_code", |key, _| code(key)),
    label("grpc_status", |key, _| grpc(key)),
];

/// Returns the value of the label `reporter`.
pub(crate) fn reporter(side: Side) -> &'static str {
    match side {
        Side::Client => "source",
        Side::Server => "destination",
    }
}

fn pod(key: &Key, side: Side) -> String {
    if key.calls.side == side { key.pod.clone() } else { String::new() }
}

fn service(key: &Key, part: impl Fn(&ObjectName) -> String) -> String {
    key.calls.service.as_ref().map(part).unwrap_or_default()
}

/// The workload whose proxy has counted.
fn own(key: &Key) -> &Peer {
    match key.calls.side {
        Side::Client => &key.calls.source,
        Side::Server => &key.calls.destination,
    }
}

fn of_callee(key: &Key, part: impl Fn(&Peer) -> String) -> String {
    if key.calls.side == Side::Client { part(&key.calls.destination) } else { String::new() }
}

fn of_kind(peer: &Peer, kind: &str) -> String {
    if peer.kind == kind { peer.name.clone() } else { String::new() }
}

/// Returns true if both ends have proven an identity.
fn is_mutual(key: &Key) -> bool {
    let peer = match key.calls.side {
        Side::Client => &key.calls.destination,
        Side::Server => &key.calls.source,
    };
    !peer.service_account.is_empty()
}

fn outcome(key: &Key) -> &'static str {
    key.answer.map(|answer| word(answer.outcome)).unwrap_or_default()
}

/// Returns the value of the label `outcome`.
pub(crate) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Refused => "refused",
        Outcome::Repeated => "",
    }
}

fn protocol(key: &Key) -> String {
    let word = match key.answer.map(|answer| answer.protocol) {
        Some(Protocol::Http) => "http",
        Some(Protocol::Grpc) => "grpc",
        Some(Protocol::Tcp) => "tcp",
        None => "",
    };
    word.to_owned()
}

fn code(key: &Key) -> String {
    key.answer.map(|answer| answer.code.to_string()).unwrap_or_default()
}

fn grpc(key: &Key) -> String {
    key.answer.and_then(|answer| answer.grpc).map(|status| status.to_string()).unwrap_or_default()
}

fn flag(key: &Key) -> String {
    key.answer.map(|answer| answer.flag.to_owned()).unwrap_or_default()
}

fn known(value: &str) -> String {
    if value.is_empty() { "unknown".to_owned() } else { value.to_owned() }
}
