//! The dashboard of the operator.
//!
//! Pure. Names its metrics as text: `operator/tests/unit/dashboards.rs` compares them with those of a real operator.

use super::grafana::{Choice, Content, Form, Panel, Query, Row, Unit, Variable, query};

const REPLICA: &str = "{{instance}}";

/// Returns the content.
pub(super) fn content() -> Content {
    Content {
        title: "Control plane",
        description: "The operator: proxies that are connected, what is sent to them, certificates, webhooks, and its own \
                      resources. Panels of webhooks, watches and the leader are empty without an API server.",
        variables: vec![Variable {
            name: "job",
            label: "Job",
            description: "The scrape job of the operator's pods.",
            query: "label_values(smidge_xds_streams, job)".to_owned(),
            choice: Choice::Several,
        }],
        rows: vec![
            Row { title: "At present", panels: present() },
            Row { title: "Proxies", panels: proxies() },
            Row { title: "Sent to proxies", panels: sent() },
            Row { title: "Configuration", panels: configuration() },
            Row { title: "Certificates", panels: certificates() },
            Row { title: "API server", panels: api_server() },
            Row { title: "Process", panels: process() },
        ],
    }
}

fn panel(
    title: &'static str,
    description: &'static str,
    form: Form,
    unit: Unit,
    queries: Vec<Query>,
) -> Panel {
    Panel { title, description, form, unit, queries }
}

fn one(
    title: &'static str,
    description: &'static str,
    form: Form,
    unit: Unit,
    expr: &str,
    legend: &'static str,
) -> Panel {
    panel(title, description, form, unit, vec![query(expr, legend)])
}

fn stat(title: &'static str, description: &'static str, unit: Unit, expr: &str) -> Panel {
    one(title, description, Form::Stat, unit, expr, "")
}

/// Returns latencies in seconds, by a label, of a histogram of all replicas.
fn quantiles(metric: &str, by: &str, legends: [&'static str; 2]) -> Vec<Query> {
    let [half, most] = legends;
    let of = |share, legend| {
        let rate = format!("sum by ({by}le) (rate({metric}_bucket{{job=~\"$job\"}}[$__rate_interval]))");
        query(format!("histogram_quantile({share}, {rate})"), legend)
    };
    vec![of("0.5", half), of("0.99", most)]
}

fn present() -> Vec<Panel> {
    vec![
        stat(
            "Replicas",
            "Replicas of the operator that are scraped.",
            Unit::Count,
            r#"count(smidge_build_info{job=~"$job"})"#,
        ),
        stat(
            "Leaders",
            "Replicas that lead: 1. The leader writes statuses and Events.",
            Unit::Count,
            r#"sum(smidge_leader{job=~"$job"})"#,
        ),
        stat(
            "Connected proxies",
            "Streams of proxies, over all replicas.",
            Unit::Count,
            r#"sum(smidge_xds_streams{job=~"$job"})"#,
        ),
        stat(
            "Workload instances",
            "Instances of workloads in the mesh, each of which should have a connected proxy.",
            Unit::Count,
            r#"max(smidge_workloads{job=~"$job"})"#,
        ),
        stat(
            "Errors of objects",
            "Findings with severity error: objects that have less effect than they declare.",
            Unit::Count,
            r#"sum(max by (reason) (smidge_findings{job=~"$job", severity="error"})) or vector(0)"#,
        ),
        stat(
            "Next issuer ends in",
            "Time until the first certificate of an issuer ends, unless it is renewed before.",
            Unit::Seconds,
            r#"min(smidge_ca_certificate_expiry_timestamp_seconds{job=~"$job", certificate="issuer"}) - time()"#,
        ),
    ]
}

fn proxies() -> Vec<Panel> {
    vec![
        one(
            "Connected proxies by replica",
            "Streams that are connected and admitted. New connections go to any replica; those that exist stay.",
            Form::Stack,
            Unit::Count,
            r#"sum by (instance) (smidge_xds_streams{job=~"$job"})"#,
            REPLICA,
        ),
        one(
            "Proxies by version of Envoy",
            "Version that each connected proxy names. Pods have the version with which they were injected until they restart.",
            Form::Stack,
            Unit::Count,
            r#"sum by (version) (smidge_xds_proxies{job=~"$job"}) > 0"#,
            "{{version}}",
        ),
        one(
            "Refused streams",
            "Streams that the operator refused per second, by reason; proxies retry.",
            Form::Stack,
            Unit::PerSecond,
            r#"sum by (reason) (rate(smidge_xds_streams_refused_total{job=~"$job"}[$__rate_interval])) > 0"#,
            "{{reason}}",
        ),
        one(
            "Authentications",
            "Streams by what was made of their token or certificate.",
            Form::Stack,
            Unit::PerSecond,
            r#"sum by (result) (rate(smidge_auth_stream_authentications_total{job=~"$job"}[$__rate_interval])) > 0"#,
            "{{result}}",
        ),
        panel(
            "Statistics of traffic",
            "Statistics that proxies push, and points of them that were dropped, which traffic lacks then.",
            Form::Lines,
            Unit::PerSecond,
            vec![
                query(
                    r#"sum by (reason) (rate(smidge_traffic_dropped_total{job=~"$job"}[$__rate_interval])) > 0"#,
                    "dropped: {{reason}}",
                ),
                query(
                    r#"sum(rate(smidge_xds_pushes_throttled_total{job=~"$job"}[$__rate_interval]))"#,
                    "refused messages",
                ),
            ],
        ),
        one(
            "Counters for Prometheus",
            "Counters of traffic that each replica shows.",
            Form::Lines,
            Unit::Count,
            r#"sum by (instance) (smidge_traffic_counters{job=~"$job"})"#,
            REPLICA,
        ),
    ]
}

fn sent() -> Vec<Panel> {
    vec![
        one(
            "Pushes",
            "Responses of xDS that were sent per second, by kind of resource.",
            Form::Stack,
            Unit::PerSecond,
            r#"sum by (kind) (rate(smidge_xds_responses_total{job=~"$job"}[$__rate_interval]))"#,
            "{{kind}}",
        ),
        one(
            "Bytes pushed",
            "Bytes of these responses per second.",
            Form::Stack,
            Unit::Bytes,
            r#"sum by (kind) (rate(smidge_xds_response_bytes_total{job=~"$job"}[$__rate_interval]))"#,
            "{{kind}}",
        ),
        one(
            "NACKs",
            "Responses that proxies rejected, within each range. A proxy keeps what it had before; its message is in the log.",
            Form::Stack,
            Unit::Count,
            r#"sum by (kind) (increase(smidge_xds_nacks_total{job=~"$job"}[$__rate_interval])) > 0"#,
            "{{kind}}",
        ),
        panel(
            "Time to acknowledge",
            "Time from a response to the ACK or NACK of its proxy, by kind of resource.",
            Form::Lines,
            Unit::Seconds,
            quantiles(
                "smidge_xds_acknowledgement_duration_seconds",
                "kind, ",
                ["{{kind}} p50", "{{kind}} p99"],
            ),
        ),
    ]
}

fn configuration() -> Vec<Panel> {
    vec![
        panel(
            "Time to publish",
            "Time from a batch of changes of objects to the snapshot that proxies get.",
            Form::Lines,
            Unit::Seconds,
            quantiles("smidge_publish_duration_seconds", "", ["p50", "p99"]),
        ),
        panel(
            "Publications",
            "Snapshots that differed from the one before, by replica, and views of proxies that they changed.",
            Form::Lines,
            Unit::PerSecond,
            vec![
                query(
                    r#"sum by (instance) (rate(smidge_publishes_total{job=~"$job"}[$__rate_interval]))"#,
                    "snapshots {{instance}}",
                ),
                query(r#"sum(rate(smidge_xds_view_updates_total{job=~"$job"}[$__rate_interval]))"#, "views"),
            ],
        ),
        one(
            "Findings",
            "Defects of objects by reason, as the replica with the most has them.",
            Form::Stack,
            Unit::Count,
            r#"max by (severity, reason) (smidge_findings{job=~"$job"}) > 0"#,
            "{{severity}}: {{reason}}",
        ),
    ]
}

fn certificates() -> Vec<Panel> {
    vec![
        one(
            "Validity",
            "Time until each certificate of the control plane ends. Serving certificates and issuers are renewed; roots are not.",
            Form::Lines,
            Unit::Seconds,
            r#"min by (authority, certificate) (smidge_ca_certificate_expiry_timestamp_seconds{job=~"$job"}) - time()"#,
            "{{authority}} {{certificate}}",
        ),
        one(
            "Issued to proxies",
            "Leaf certificates per second. Each lasts 24 hours at most, and is renewed before.",
            Form::Lines,
            Unit::PerSecond,
            r#"sum(rate(smidge_ca_leaf_certificates_issued_total{job=~"$job"}[$__rate_interval]))"#,
            "issued",
        ),
        panel(
            "Failures",
            "Leaf certificates that could not be issued, and renewals that failed, per second.",
            Form::Lines,
            Unit::PerSecond,
            vec![
                query(
                    r#"sum(rate(smidge_ca_leaf_certificate_failures_total{job=~"$job"}[$__rate_interval]))"#,
                    "leaf",
                ),
                query(
                    r#"sum by (authority, certificate) (rate(smidge_ca_certificate_renewal_failures_total{job=~"$job"}[$__rate_interval])) > 0"#,
                    "{{authority}} {{certificate}}",
                ),
            ],
        ),
    ]
}

fn api_server() -> Vec<Panel> {
    vec![
        one(
            "Webhook requests",
            "Requests of the API server per second, by webhook, operation and outcome. Denied pods and objects have a defect; \
             unjudged, busy, timeout and failed are defects of the operator.",
            Form::Stack,
            Unit::Requests,
            r#"sum by (webhook, operation, outcome) (rate(smidge_webhook_requests_total{job=~"$job"}[$__rate_interval])) > 0"#,
            "{{webhook}} {{operation}} {{outcome}}",
        ),
        panel(
            "Webhook latency",
            "Time from the head of a request to its answer.",
            Form::Lines,
            Unit::Seconds,
            quantiles(
                "smidge_webhook_request_duration_seconds",
                "webhook, ",
                ["{{webhook}} p50", "{{webhook}} p99"],
            ),
        ),
        one(
            "Status writes that wait",
            "Statuses of objects that the leader has yet to write.",
            Form::Lines,
            Unit::Count,
            r#"sum by (instance) (smidge_status_writes_pending{job=~"$job"})"#,
            REPLICA,
        ),
        one(
            "Watch events",
            "Changes and lists received per second, by kind.",
            Form::Stack,
            Unit::PerSecond,
            r#"sum by (kind) (rate(smidge_watch_events_total{job=~"$job"}[$__rate_interval])) > 0"#,
            "{{kind}}",
        ),
        one(
            "Watch failures",
            "Lists and watches that failed, within each range, by kind. A few are normal when an API server restarts.",
            Form::Stack,
            Unit::Count,
            r#"sum by (kind) (increase(smidge_watch_failures_total{job=~"$job"}[$__rate_interval])) > 0"#,
            "{{kind}}",
        ),
        one(
            "Leader",
            "1 for the replica that leads.",
            Form::Lines,
            Unit::Count,
            r#"max by (instance) (smidge_leader{job=~"$job"})"#,
            REPLICA,
        ),
    ]
}

fn process() -> Vec<Panel> {
    vec![
        one(
            "CPU",
            "CPUs in use, by replica.",
            Form::Lines,
            Unit::Count,
            r#"sum by (instance) (rate(process_cpu_seconds_total{job=~"$job"}[$__rate_interval]))"#,
            REPLICA,
        ),
        one(
            "Memory",
            "Resident memory, by replica.",
            Form::Lines,
            Unit::Bytes,
            r#"max by (instance) (process_resident_memory_bytes{job=~"$job"})"#,
            REPLICA,
        ),
        one(
            "Open files",
            "Share of the files and connections that may be open, by replica.",
            Form::Lines,
            Unit::Ratio,
            r#"max by (instance) (process_open_fds{job=~"$job"} / process_max_fds{job=~"$job"})"#,
            REPLICA,
        ),
        one(
            "Running for",
            "Time since the start, by replica. It falls when one restarts.",
            Form::Lines,
            Unit::Seconds,
            r#"time() - max by (instance) (process_start_time_seconds{job=~"$job"})"#,
            REPLICA,
        ),
        one(
            "Versions",
            "Replicas by version of the operator.",
            Form::Stack,
            Unit::Count,
            r#"count by (version) (smidge_build_info{job=~"$job"})"#,
            "{{version}}",
        ),
        one(
            "Threads",
            "Threads, by replica.",
            Form::Lines,
            Unit::Count,
            r#"max by (instance) (process_threads{job=~"$job"})"#,
            REPLICA,
        ),
    ]
}
