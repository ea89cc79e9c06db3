//! Turns findings into reports for the owners of the objects: a log line, an Event on the object, and a metric.
//!
//! Receives findings from `publish`. Reports each finding once: one that persists is not repeated, one that recurs is. Of
//! many that are new at once, the log has a few for each reason and the number of the others.
//! Of several replicas the leader writes the Events; findings that were there while another one led count as reported.
//! Writes nothing but Events, and a failure to write one has no effect but a log line.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
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
use smidge_lower::external_workload;
use smidge_mesh::text::plain;
use smidge_xds::server::Nack;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    finding::{Finding, ObjectRef, Reason, Severity, brief},
    kinds::{self, Row, Visitor, Watched},
    lease::{self, Leader},
};

/// Labels of a finding: both are closed sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    severity: String,
    reason: String,
}

/// Number of findings, by severity and reason.
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

/// Delay before a finding is reported. Kinds are watched one by one, so an endpoint can be known a moment before its
/// pod, or a target before its route: such findings are not worth a report.
const REPORT_DELAY: Duration = Duration::from_secs(1);

/// Reports findings until the publisher ends: as Events through `client`, if there is an API server, and in the log.
pub async fn report(
    client: Option<Client>,
    mut findings: watch::Receiver<Arc<Vec<Finding>>>,
    mut leader: watch::Receiver<Leader>,
    metrics: Metrics,
) {
    let events = client.map(|client| (recorder(&client), client));
    let mut reported = Reported::default();
    loop {
        tokio::select! {
            changed = findings.changed() => if changed.is_err() { return },
            Ok(()) = leader.changed() => {}
        }
        tokio::time::sleep(REPORT_DELAY).await;
        let leader = *leader.borrow_and_update();
        let current = findings.borrow_and_update().clone();
        metrics.set(&current);
        let unreported = reported.unreported(&current, leader, Instant::now());
        log(&unreported);
        let Some(events) = &events else { continue };
        for finding in unreported {
            write_event(events, finding).await;
        }
    }
}

/// Present findings, each with the time at which it was first seen, and true if a replica has reported it.
#[derive(Debug, Default)]
struct Reported(BTreeMap<String, (Instant, bool)>);

impl Reported {
    /// Returns the findings that this replica has to report now.
    fn unreported<'f>(&mut self, current: &'f [Finding], leader: Leader, now: Instant) -> Vec<&'f Finding> {
        let mut before = std::mem::take(&mut self.0);
        let mut unreported = Vec::new();
        for finding in current {
            let text = finding.to_string();
            let (since, is_reported) = before.remove(&text).unwrap_or((now, false));
            // The replica that led then has reported it, unless it was about to end.
            let others = leader == Leader::Other && now >= since + lease::DURATION + REPORT_DELAY;
            let is_reported = is_reported || others;
            if leader == Leader::Me && !is_reported {
                unreported.push(finding);
            }
            self.0.insert(text, (since, is_reported || leader == Leader::Me));
        }
        unreported
    }
}

fn recorder(client: &Client) -> Recorder {
    let reporter = Reporter { controller: "smidge".to_owned(), instance: None };
    Recorder::new(client.clone(), reporter)
}

/// Writes an Event on an object that proxies refuse.
pub async fn refused(client: &Client, object: &ObjectRef, uid: &str, words: &str) {
    let Some(resource) = api_resource(&object.kind) else { return };
    let namespace = Some(object.namespace.clone()).filter(|namespace| !namespace.is_empty());
    let reference = ObjectReference {
        api_version: Some(resource.api_version.clone()),
        kind: Some(object.kind.clone()),
        name: Some(object.name.clone()),
        namespace,
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    };
    let event = Event {
        type_: EventType::Warning,
        reason: "Rejected".to_owned(),
        note: Some(fit(words)),
        action: "Configure".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder(client).publish(&event, &reference).await {
        warn!(%object, %error, "failed to write an Event");
    }
}

/// Writes an Event on the pod, or ExternalWorkload, of each proxy that refuses configuration, if there is an API server,
/// and a line in the log, until the server ends. Each replica does so for its own proxies, as no other receives their
/// NACKs; no refusal is reported twice.
pub async fn refusals(client: Option<Client>, mut nacks: mpsc::Receiver<Nack>) {
    let events = client.map(|client| (recorder(&client), client));
    while let Some(Nack { proxy, refused }) = nacks.recv().await {
        let names = brief(&refused.names.join(", "));
        let what = format!("{:?} {names}: {}", refused.kind, plain(&refused.message));
        warn!(%proxy, "proxy rejected configuration: {what}");
        let Some((recorder, client)) = &events else { continue };
        let (kind, name) = match external_workload::name(&proxy.instance) {
            Some(name) => ("ExternalWorkload", name),
            None => ("Pod", proxy.instance.as_str()),
        };
        let object = ObjectRef::new(kind, &proxy.namespace, name);
        let Some(reference) = reference(client, &object).await else { continue };
        let event = Event {
            type_: EventType::Warning,
            reason: "ConfigurationRejected".to_owned(),
            note: Some(fit(&format!("the proxy refused {what}; it keeps what it had"))),
            action: "Configure".to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &reference).await {
            warn!(%proxy, %error, "failed to write an Event");
        }
    }
}

/// Maximum number of lines about findings of the same severity and reason that are new at once. One edit may give each
/// of any number of objects the same one.
const LINES: usize = 5;

/// Writes findings to the log.
fn log(findings: &[&Finding]) {
    let (logged, left_out) = log_lines(findings);
    for Finding { object, severity, reason, message, .. } in logged {
        info!(%object, %severity, %reason, "{message}");
    }
    for ((severity, reason), count) in left_out {
        info!(%severity, %reason, count, "further findings of this reason: `/debug/findings` has all of them");
    }
}

/// Findings that are left out of the log, by severity and reason.
type LeftOut = BTreeMap<(Severity, Reason), usize>;

/// Returns the findings to write to the log, in their order, and the number of the others.
fn log_lines<'f>(findings: &[&'f Finding]) -> (Vec<&'f Finding>, LeftOut) {
    let (mut logged, mut counts) = (Vec::new(), LeftOut::new());
    for finding in findings {
        let count = counts.entry((finding.severity, finding.reason)).or_default();
        *count += 1;
        if *count <= LINES {
            logged.push(*finding);
        }
    }
    counts.retain(|_, count| *count > LINES);
    for count in counts.values_mut() {
        *count -= LINES;
    }
    (logged, counts)
}

/// Writes the Event about a finding.
async fn write_event((recorder, client): &(Recorder, Client), finding: &Finding) {
    let object = &finding.object;
    let Some(reference) = reference(client, object).await else { return };
    if let Err(error) = recorder.publish(&event(finding), &reference).await {
        warn!(%object, reason = %finding.reason, %error, "failed to write an Event");
    }
}

/// Builds the Event about a finding.
pub fn event(finding: &Finding) -> Event {
    Event {
        type_: match finding.severity {
            Severity::Error => EventType::Warning,
            Severity::Warning => EventType::Normal,
        },
        reason: finding.reason.to_string(),
        note: Some(fit(&finding.to_string())),
        action: "Lower".to_owned(),
        secondary: None,
    }
}

/// Returns the reference to an object for an Event, with its UID: `kubectl describe` finds Events by that.
async fn reference(client: &Client, object: &ObjectRef) -> Option<ObjectReference> {
    // The client is that of the control plane's cluster, where another object may have the same name.
    if object.cluster.is_some() {
        return None;
    }
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

/// Returns the API resource of a kind, if the operator watches the kind.
pub(crate) fn api_resource(kind: &str) -> Option<ApiResource> {
    let mut resource = Resource { kind, found: None };
    kinds::visit(&mut resource);
    resource.found
}

struct Resource<'a> {
    kind: &'a str,
    found: Option<ApiResource>,
}

impl Visitor for Resource<'_> {
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        if row.name == self.kind {
            self.found = Some(ApiResource::erase::<K>(&()));
        }
    }
}

/// Maximum length of an Event's note, in bytes: the API server refuses notes above 1 KiB.
const NOTE: usize = 1020;

/// Shortens a note to the length that the API server accepts.
fn fit(note: &str) -> String {
    let mut note = plain(note);
    note.truncate(note.floor_char_boundary(NOTE));
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(name: &str) -> Finding {
        Finding::new(ObjectRef::new("TrafficTarget", "shop", name), Reason::Empty, "no source")
    }

    #[test]
    fn a_new_leader_does_not_repeat_what_the_one_before_has_reported() {
        let (mut reported, start) = (Reported::default(), Instant::now());
        let (old, fresh) = (finding("old"), finding("fresh"));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(reported.unreported(std::slice::from_ref(&old), Leader::Other, at(0)).is_empty());
        let both = [old, fresh];
        assert!(reported.unreported(&both, Leader::Other, at(100)).is_empty());
        // The replica that led may have ended before it reported the new finding.
        assert_eq!(reported.unreported(&both, Leader::Me, at(101)), [&both[1]]);
        assert!(reported.unreported(&both, Leader::Me, at(102)).is_empty());
        assert!(reported.unreported(&[], Leader::Me, at(103)).is_empty());
        assert_eq!(reported.unreported(&both, Leader::Me, at(104)).len(), 2, "what comes back is told again");
    }

    #[test]
    fn many_findings_of_one_reason_are_a_few_lines_and_a_number() {
        let mut findings: Vec<Finding> = (0..500).map(|number| finding(&format!("t{number}"))).collect();
        let object = ObjectRef::new("ExternalWorkload", "shop", "one");
        findings.push(Finding::new(object, Reason::AddressConflict, "another one has it"));
        let (logged, left_out) = log_lines(&findings.iter().collect::<Vec<_>>());
        let expected: Vec<&Finding> = findings[..LINES].iter().chain(findings.last()).collect();
        assert_eq!(logged, expected);
        assert_eq!(left_out, LeftOut::from([((findings[0].severity, Reason::Empty), 500 - LINES)]));

        let (logged, left_out) = log_lines(&findings[..LINES].iter().collect::<Vec<_>>());
        assert_eq!((logged.len(), left_out.len()), (LINES, 0));
    }

    #[test]
    fn without_a_leader_nothing_counts_as_reported() {
        let (mut reported, now) = (Reported::default(), Instant::now());
        let findings = [finding("one")];
        assert!(reported.unreported(&findings, Leader::None, now).is_empty());
        assert!(reported.unreported(&findings, Leader::None, now + Duration::from_mins(1)).is_empty());
        assert_eq!(reported.unreported(&findings, Leader::Me, now + Duration::from_secs(61)).len(), 1);
    }
}
