//! The dashboard of one Service whose calls a TrafficSplit divides, as for a canary.
//!
//! Pure. Only callers know the Service that they called and the backend, so all of it is counted by them.

use super::{
    grafana::{Choice, Content, Form, Panel, Row, Unit, Variable, query},
    query::{
        BACKEND, CODE, Calls, REPORTER, SERVICE, SERVICE_NAMESPACE, SOURCE, SOURCE_NAMESPACE, label_values,
    },
};

const LEGEND: &str = "{{backend}}";

fn calls() -> Calls {
    Calls::sent(&format!("{SERVICE_NAMESPACE}=\"$namespace\", {SERVICE}=\"$service\""))
}

/// Returns the content.
pub(super) fn content() -> Content {
    let caller = format!("{REPORTER}=\"source\"");
    Content {
        title: "TrafficSplits",
        description: "Calls of one Service by backend, as their callers count them.",
        variables: vec![
            Variable {
                name: "namespace",
                label: "Namespace",
                description: "Namespace of the Service.",
                query: label_values(&format!("{caller}, {BACKEND}!=\"\""), SERVICE_NAMESPACE),
                choice: Choice::One,
            },
            Variable {
                name: "service",
                label: "Service",
                description: "The Service that is called, which is the root of the TrafficSplit.",
                query: label_values(
                    &format!("{caller}, {BACKEND}!=\"\", {SERVICE_NAMESPACE}=\"$namespace\""),
                    SERVICE,
                ),
                choice: Choice::One,
            },
        ],
        rows: vec![
            Row { title: "Backends", panels: backends() },
            Row { title: "Quality of each backend", panels: quality() },
        ],
    }
}

fn backends() -> Vec<Panel> {
    let by = [BACKEND];
    let panel = |title, description, form, unit, expr: String| Panel {
        title,
        description,
        form,
        unit,
        queries: vec![query(expr, LEGEND)],
    };
    vec![
        panel(
            "Share of requests",
            "Share of the requests that each backend took. With few requests it differs from the weights.",
            Form::Stack,
            Unit::Ratio,
            calls().share(&by),
        ),
        panel(
            "Requests",
            "Requests per second by backend.",
            Form::Stack,
            Unit::Requests,
            calls().requests(&by),
        ),
        panel(
            "TCP connections",
            "TCP connections that ended per second, by backend.",
            Form::Stack,
            Unit::PerSecond,
            calls().connections(&by),
        ),
    ]
}

fn quality() -> Vec<Panel> {
    let by = [BACKEND];
    let panel = |title, description, form, unit, expr: String, legend| Panel {
        title,
        description,
        form,
        unit,
        queries: vec![query(expr, legend)],
    };
    vec![
        panel(
            "Success rate",
            "Share of the requests to each backend that succeeded; refused ones do not count.",
            Form::Lines,
            Unit::Ratio,
            calls().success(&by),
            LEGEND,
        ),
        panel(
            "p50",
            "Latency below which half of the answers of each backend were.",
            Form::Lines,
            Unit::Milliseconds,
            calls().latency("0.5", &by),
            LEGEND,
        ),
        panel(
            "p99",
            "Latency below which 99 % of the answers of each backend were.",
            Form::Lines,
            Unit::Milliseconds,
            calls().latency("0.99", &by),
            LEGEND,
        ),
        panel(
            "Failures by status",
            "Requests per second that failed, by backend and status code; 0 is a request without an answer.",
            Form::Stack,
            Unit::Requests,
            calls().failed(&[BACKEND, CODE]),
            "{{backend}} {{response_code}}",
        ),
        panel(
            "Refused",
            "Requests per second that policy refused: a new backend may lack a TrafficTarget that the old one has.",
            Form::Stack,
            Unit::Requests,
            calls().refused(&by),
            LEGEND,
        ),
        panel(
            "Requests by caller",
            "Requests per second by caller, of all backends.",
            Form::Stack,
            Unit::Requests,
            calls().requests(&[SOURCE_NAMESPACE, SOURCE]),
            "{{source_namespace}}/{{source_workload}}",
        ),
    ]
}
