//! The dashboard of the whole mesh, as its servers see it.
//!
//! Pure.

use super::{
    grafana::{Choice, Content, Form, Panel, Row, Unit, Variable, query},
    query::{CODE, Calls, NAMESPACE, OUTCOME, REPORTER, SOURCE, SOURCE_NAMESPACE, WORKLOAD, label_values},
};

const TARGET: [&str; 2] = [NAMESPACE, WORKLOAD];
const TARGET_LEGEND: &str = "{{destination_namespace}}/{{destination_workload}}";

fn calls() -> Calls {
    Calls::received(&format!("{NAMESPACE}=~\"$namespace\""))
}

/// Returns the content.
pub(super) fn content() -> Content {
    Content {
        title: "Mesh",
        description: "Traffic that the workloads of the mesh receive, as their proxies count it.",
        variables: vec![Variable {
            name: "namespace",
            label: "Namespace",
            description: "Namespaces of the workloads that are called.",
            query: label_values(&format!("{REPORTER}=\"destination\""), NAMESPACE),
            choice: Choice::SeveralOrNone,
        }],
        rows: vec![
            Row { title: "At present", panels: present() },
            Row { title: "Over time", panels: over_time() },
            Row { title: "Workloads in the whole time range", panels: top() },
        ],
    }
}

fn present() -> Vec<Panel> {
    let stat = |title, description, unit, expr: String| Panel {
        title,
        description,
        form: Form::Stat,
        unit,
        queries: vec![query(expr, "")],
    };
    vec![
        stat(
            "Success rate",
            "Share of requests that succeeded. Failures are 5xx, gRPC statuses of a server's fault, and requests without an \
             answer; requests that policy refused do not count.",
            Unit::Ratio,
            calls().success(&[]),
        ),
        stat(
            "Requests",
            "HTTP and gRPC requests per second, refused ones included.",
            Unit::Requests,
            calls().requests(&[]),
        ),
        stat(
            "p50",
            "Latency below which half of the answers were.",
            Unit::Milliseconds,
            calls().latency("0.5", &[]),
        ),
        stat(
            "p99",
            "Latency below which 99 % of the answers were; 10 s at most.",
            Unit::Milliseconds,
            calls().latency("0.99", &[]),
        ),
        stat(
            "Refused",
            "Requests per second that no TrafficTarget allows.",
            Unit::Requests,
            format!("{} or vector(0)", calls().refused(&[])),
        ),
        stat(
            "mTLS",
            "Share of requests whose caller has proven its identity. The others came in plaintext, which mtls.mode permissive \
             allows.",
            Unit::Ratio,
            calls().mtls(),
        ),
    ]
}

fn over_time() -> Vec<Panel> {
    let lines = |title, description, form, unit, queries| Panel { title, description, form, unit, queries };
    vec![
        lines(
            "Requests by namespace",
            "Requests per second that the workloads of each namespace receive.",
            Form::Stack,
            Unit::Requests,
            vec![query(calls().requests(&[NAMESPACE]), "{{destination_namespace}}")],
        ),
        lines(
            "Success rate by namespace",
            "Share of requests that succeeded, by the namespace of the workloads that answered.",
            Form::Lines,
            Unit::Ratio,
            vec![query(calls().success(&[NAMESPACE]), "{{destination_namespace}}")],
        ),
        lines(
            "Latency",
            "Latency of all answers, as the servers' proxies measure it.",
            Form::Lines,
            Unit::Milliseconds,
            ["0.5", "0.9", "0.99"]
                .into_iter()
                .zip(["p50", "p90", "p99"])
                .map(|(share, legend)| query(calls().latency(share, &[]), legend))
                .collect(),
        ),
        lines(
            "Refused requests",
            "Requests per second that policy refused, by caller. `smidge explain` shows which TrafficTarget would allow them.",
            Form::Stack,
            Unit::Requests,
            vec![query(
                calls().refused(&[SOURCE_NAMESPACE, SOURCE, NAMESPACE, WORKLOAD]),
                "{{source_namespace}}/{{source_workload}} to {{destination_namespace}}/{{destination_workload}}",
            )],
        ),
        lines(
            "Failures by status",
            "Requests per second that failed, by status code; 0 is a request without an answer.",
            Form::Stack,
            Unit::Requests,
            vec![query(calls().failed(&[CODE]), "{{response_code}}")],
        ),
        lines(
            "TCP connections",
            "TCP connections that ended per second, by outcome.",
            Form::Stack,
            Unit::PerSecond,
            vec![query(calls().connections(&[OUTCOME]), "{{outcome}}")],
        ),
    ]
}

fn top() -> Vec<Panel> {
    let calls = || calls().within_range();
    let bars = |title, description, unit, expr: String| Panel {
        title,
        description,
        form: Form::Bars,
        unit,
        queries: vec![query(expr, TARGET_LEGEND)],
    };
    vec![
        bars(
            "Most requests",
            "The ten workloads that received the most requests per second.",
            Unit::Requests,
            format!("topk(10, {})", calls().requests(&TARGET)),
        ),
        bars(
            "Lowest success rate",
            "The ten workloads with the lowest share of requests that succeeded.",
            Unit::Ratio,
            format!("bottomk(10, {})", calls().success(&TARGET)),
        ),
        bars(
            "Slowest",
            "The ten workloads with the highest p99 latency.",
            Unit::Milliseconds,
            format!("topk(10, {})", calls().latency("0.99", &TARGET)),
        ),
    ]
}
