//! The dashboard of one workload: its callers as its proxies see them, and the Services that it calls.
//!
//! Pure.

use super::{
    grafana::{Choice, Content, Form, Panel, Query, Row, Unit, Variable, query},
    query::{
        CODE, Calls, FLAGS, KIND, NAMESPACE, OUTCOME, REPORTER, SERVICE, SERVICE_NAMESPACE, SOURCE,
        SOURCE_KIND, SOURCE_NAMESPACE, WORKLOAD, label_values,
    },
};

const CALLER: [&str; 2] = [SOURCE_NAMESPACE, SOURCE];
const CALLER_LEGEND: &str = "{{source_namespace}}/{{source_workload}}";
const CALLED: [&str; 2] = [SERVICE_NAMESPACE, SERVICE];
const CALLED_LEGEND: &str = "{{service_namespace}}/{{service}}";

fn inbound() -> Calls {
    Calls::received(&format!("{NAMESPACE}=\"$namespace\", {KIND}=\"$kind\", {WORKLOAD}=\"$workload\""))
}

fn outbound() -> Calls {
    Calls::sent(&format!(
        "{SOURCE_NAMESPACE}=\"$namespace\", {SOURCE_KIND}=\"$kind\", {SOURCE}=\"$workload\""
    ))
}

/// Returns the content.
pub(super) fn content() -> Content {
    Content {
        title: "Workload",
        description: "Traffic of one workload: who calls it, and which Services it calls.",
        variables: variables(),
        rows: vec![
            Row { title: "Received, at present", panels: present() },
            Row { title: "Received, by caller", panels: received() },
            Row { title: "Sent, by Service", panels: sent() },
        ],
    }
}

fn variables() -> Vec<Variable> {
    let server = format!("{REPORTER}=\"destination\"");
    let variable =
        |name, label, description, query| Variable { name, label, description, query, choice: Choice::One };
    vec![
        variable(
            "namespace",
            "Namespace",
            "Namespace of the workload. Names of those that receive no calls are not listed: type them.",
            label_values(&server, NAMESPACE),
        ),
        variable(
            "kind",
            "Kind",
            "Kind of the workload, such as Deployment.",
            label_values(&format!("{server}, {NAMESPACE}=\"$namespace\""), KIND),
        ),
        variable(
            "workload",
            "Workload",
            "Name of the workload.",
            label_values(&format!("{server}, {NAMESPACE}=\"$namespace\", {KIND}=\"$kind\""), WORKLOAD),
        ),
    ]
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

fn quantiles(calls: &Calls) -> Vec<Query> {
    let of = |share, legend| query(calls.latency(share, &[]), legend);
    vec![of("0.5", "p50"), of("0.9", "p90"), of("0.99", "p99")]
}

fn present() -> Vec<Panel> {
    let stat = |title, description, unit, expr: String| {
        panel(title, description, Form::Stat, unit, vec![query(expr, "")])
    };
    vec![
        stat(
            "Success rate",
            "Share of received requests that succeeded; refused ones do not count.",
            Unit::Ratio,
            inbound().success(&[]),
        ),
        stat(
            "Requests",
            "Requests per second that the workload receives.",
            Unit::Requests,
            inbound().requests(&[]),
        ),
        stat(
            "p50",
            "Latency below which half of the answers were.",
            Unit::Milliseconds,
            inbound().latency("0.5", &[]),
        ),
        stat(
            "p99",
            "Latency below which 99 % of the answers were.",
            Unit::Milliseconds,
            inbound().latency("0.99", &[]),
        ),
        stat(
            "Refused",
            "Requests per second that no TrafficTarget allows.",
            Unit::Requests,
            format!("{} or vector(0)", inbound().refused(&[])),
        ),
        stat(
            "mTLS",
            "Share of requests whose caller has proven its identity.",
            Unit::Ratio,
            inbound().mtls(),
        ),
    ]
}

fn received() -> Vec<Panel> {
    vec![
        panel(
            "Requests by caller",
            "Requests per second; callers outside of the mesh have no name.",
            Form::Stack,
            Unit::Requests,
            vec![query(inbound().requests(&CALLER), CALLER_LEGEND)],
        ),
        panel(
            "Success rate by caller",
            "Share of the requests of each caller that succeeded.",
            Form::Lines,
            Unit::Ratio,
            vec![query(inbound().success(&CALLER), CALLER_LEGEND)],
        ),
        panel(
            "Latency",
            "Latency of the answers to all callers, as the workload's own proxies measure it.",
            Form::Lines,
            Unit::Milliseconds,
            quantiles(&inbound()),
        ),
        panel(
            "Refused by caller",
            "Requests per second that policy refused; `smidge explain` shows which TrafficTarget would allow them.",
            Form::Stack,
            Unit::Requests,
            vec![query(inbound().refused(&CALLER), CALLER_LEGEND)],
        ),
        panel(
            "Failures by status",
            "Requests per second that failed, by status code and Envoy's response flag.",
            Form::Stack,
            Unit::Requests,
            vec![query(inbound().failed(&[CODE, FLAGS]), "{{response_code}} {{response_flags}}")],
        ),
        panel(
            "TCP connections by caller",
            "TCP connections that ended per second, by caller and outcome.",
            Form::Stack,
            Unit::PerSecond,
            vec![query(
                inbound().connections(&[SOURCE_NAMESPACE, SOURCE, OUTCOME]),
                "{{source_namespace}}/{{source_workload}} {{outcome}}",
            )],
        ),
    ]
}

fn sent() -> Vec<Panel> {
    vec![
        panel(
            "Requests by Service",
            "Requests per second that the workload sends, by the Service that it calls.",
            Form::Stack,
            Unit::Requests,
            vec![query(outbound().requests(&CALLED), CALLED_LEGEND)],
        ),
        panel(
            "Success rate by Service",
            "Share of requests to each Service that succeeded, as the workload sees it.",
            Form::Lines,
            Unit::Ratio,
            vec![query(outbound().success(&CALLED), CALLED_LEGEND)],
        ),
        panel(
            "p99 by Service",
            "Latency below which 99 % of the answers of each Service were, with the way over the network.",
            Form::Lines,
            Unit::Milliseconds,
            vec![query(outbound().latency("0.99", &CALLED), CALLED_LEGEND)],
        ),
        panel(
            "Refused by Service",
            "Requests per second that the policy of the called workloads refused.",
            Form::Stack,
            Unit::Requests,
            vec![query(outbound().refused(&CALLED), CALLED_LEGEND)],
        ),
        panel(
            "Failures by Service and flag",
            "Requests per second that failed, by Service and Envoy's response flag: UF and UH are endpoints that cannot be reached.",
            Form::Stack,
            Unit::Requests,
            vec![query(
                outbound().failed(&[SERVICE_NAMESPACE, SERVICE, FLAGS]),
                "{{service_namespace}}/{{service}} {{response_flags}}",
            )],
        ),
        panel(
            "TCP connections by Service",
            "TCP connections that ended per second, by Service and outcome.",
            Form::Stack,
            Unit::PerSecond,
            vec![query(
                outbound().connections(&[SERVICE_NAMESPACE, SERVICE, OUTCOME]),
                "{{service_namespace}}/{{service}} {{outcome}}",
            )],
        ),
    ]
}
