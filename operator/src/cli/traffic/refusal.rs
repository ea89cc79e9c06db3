//! Turns an answer that is an error into a text for people: what was refused, what the server answered, and a hint.
//!
//! Pure, and total on any bytes. Used by `cluster`. Errors of the operator, of the API server, and of its aggregation
//! layer, which answers in plain text, are recognized by their status and their details.

use serde::Deserialize;
use smidge_traffic_metrics::api::{GROUP, request::Figures};

/// Maximum length of a message, in characters.
const MAX_SHOWN: usize = 500;

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} was answered with {code}: {message} (hint: {hint})")]
pub struct Refusal {
    path: String,
    /// The HTTP status.
    pub code: u16,
    message: String,
    hint: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Details,
}

#[derive(Default, Deserialize)]
struct Details {
    #[serde(default)]
    group: String,
    #[serde(default)]
    name: String,
}

impl Refusal {
    /// Reads the answer to a request.
    pub fn new(request: &Figures, code: u16, body: &[u8]) -> Self {
        let status: Option<Status> = serde_json::from_slice(body).ok();
        let (message, details) = match status {
            Some(Status { message, details }) if !message.is_empty() => (message, details),
            _ => (String::from_utf8_lossy(body).trim().to_owned(), Details::default()),
        };
        let is_object_missing = details.group == GROUP && !details.name.is_empty();
        let message = if message.is_empty() { "no message".to_owned() } else { message };
        Self {
            path: request.path(),
            code,
            hint: hint(request, (code, &message), is_object_missing),
            message: message.chars().take(MAX_SHOWN).collect(),
        }
    }
}

fn hint(request: &Figures, (code, message): (u16, &str), is_object_missing: bool) -> String {
    let plural = request.resource.plural;
    match code {
        401 => "does `kubectl auth whoami` work with this kubeconfig?".to_owned(),
        403 => {
            // A Namespace is read by the rights within it, if it is named.
            let namespace = request.authorized_namespace();
            let binding = namespace.map_or_else(
                || "ClusterRoleBinding".to_owned(),
                |namespace| format!("RoleBinding in the namespace {namespace}"),
            );
            format!("a {binding} to the ClusterRole smidge-traffic-metrics-view, or to view, permits it")
        }
        404 if is_object_missing => match &request.namespace {
            Some(namespace) => {
                format!(
                    "-n names another namespace; `kubectl -n {namespace} get {plural}` lists those of this one"
                )
            }
            None => format!("`kubectl get {plural}` lists them"),
        },
        404 => "the API of TrafficMetrics is not served: is Smidge installed in this cluster, with \
                trafficMetrics.enabled=true?"
            .to_owned(),
        410 => "the list has changed while it was read; try again".to_owned(),
        429 => "the operator computes as much as it can; try again, or ask for less".to_owned(),
        501 => "the message has the setting by which the operator would have this".to_owned(),
        503 if message.contains("Prometheus") => {
            "the operator answers, its source does not: trafficMetrics.source.prometheus in the chart's values; the \
             operator's log names the host and the query"
                .to_owned()
        }
        502..=504 => format!(
            "is the operator running? `kubectl get apiservice v1alpha2.{GROUP}` shows whether it is reached; \
             trafficMetrics.enabled=true in the chart's values serves the API"
        ),
        _ => "the log of the operator may have more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use smidge_traffic_metrics::api::{
        request::{Request, parse},
        resource,
        status::Status as Answered,
    };

    use super::*;

    fn request(path: &str) -> Figures {
        match parse("GET", &format!("/apis/metrics.smi-spec.io/v1alpha2/{path}"), "") {
            Ok(Request::Figures(figures)) => figures,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn text(path: &str, code: u16, body: &[u8]) -> String {
        Refusal::new(&request(path), code, body).to_string()
    }

    #[test]
    fn each_refusal_has_its_hint() {
        let forbidden = Answered::forbidden("ann", &request("namespaces/shop/deployments").access()).json();
        let forbidden = text("namespaces/shop/deployments", 403, &forbidden);
        assert!(forbidden.contains("User \"ann\" cannot list"), "{forbidden}");
        assert!(forbidden.ends_with(
            "(hint: a RoleBinding in the namespace shop to the ClusterRole smidge-traffic-metrics-view, or to view, permits it)"
        ), "{forbidden}");
        assert!(text("deployments", 403, b"").contains("no message (hint: a ClusterRoleBinding to"));
        assert!(text("namespaces/shop", 403, b"").contains("RoleBinding in the namespace shop"));
        let missing = Answered::no_such_object(resource::find("deployments").unwrap(), "web").json();
        let missing = text("namespaces/shop/deployments/web", 404, &missing);
        assert!(missing.contains("\"web\" not found (hint: -n names another"), "{missing}");
        let group = text("namespaces/shop/deployments/web", 404, b"404 page not found\n");
        assert!(
            group.contains("404: 404 page not found (hint: the API of TrafficMetrics is not served"),
            "{group}"
        );
        let down = text("deployments", 503, b"service unavailable\n");
        assert!(down.contains("503: service unavailable (hint: is the operator running?"), "{down}");
        assert!(
            text("pods", 503, &Answered::unavailable("Prometheus did not answer within 8s").json())
                .contains("within 8s (hint: the operator answers, its source does not")
        );
        assert!(
            text("pods", 501, &Answered::not_implemented("set a").json())
                .contains("set a (hint: the message has the setting")
        );
        assert!(
            text("deployments", 429, &Answered::too_many("busy").json()).contains("busy (hint: the operator")
        );
    }

    #[test]
    fn any_body_is_shown_in_short() {
        let large = vec![b'x'; 1_000_000];
        for body in [&b"\xff\xfe"[..], b"{}", b"[1]", b"{\"message\": 1}", &large] {
            let text = text("pods", 500, body);
            assert!(text.contains("500: ") && text.len() < 1_000, "{text}");
        }
        let long = json!({"message": "é".repeat(100_000), "details": {"group": GROUP}}).to_string();
        assert!(text("pods", 404, long.as_bytes()).len() < 1_500);
    }
}
