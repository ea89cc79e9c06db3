//! Reads TrafficMetrics and lists of them, as the API server passes them on.
//!
//! Pure, and total on any bytes. Reads every metric of SMI and the refused calls; others are ignored, as the SDK does. What
//! is missing and needed, or is of another type, is an error that names object, field and value.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use smidge_crds::quantity::{BILLION, billionths};
use smidge_traffic_metrics::{
    api::{duration, resource},
    traffic::{Direction, Side},
};

use super::calls::Calls;

mod wire;

use wire::{WireBackend, WireEdge, WireItem, WireKind, WireList, WireMetric, WireObject, WireRoute};

/// Maximum length of a value in a message, in characters.
const MAX_SHOWN: usize = 100;

/// Errors of reading.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Not JSON, or of other types.
    #[error("expected TrafficMetrics as JSON")]
    Json(#[from] serde_json::Error),
    /// Something else.
    #[error("kind is {0:?}: expected TrafficMetricsList or TrafficMetrics")]
    Kind(String),
    /// A field of an item.
    #[error("{object}: {field} is {value}: expected {expected}")]
    Field {
        /// The object of the item.
        object: String,
        /// The field or metric.
        field: String,
        /// The value, cut.
        value: String,
        /// Values that it may have.
        expected: &'static str,
    },
}

/// Part of a list, or one object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The items.
    pub items: Vec<Item>,
    /// Token of the next part; `None`: this is the last one.
    pub next: Option<String>,
    /// Number of items that are left out, of edges.
    pub remaining: u64,
}

/// Traffic of an object, a backend or an edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The object.
    pub object: Object,
    /// Direction, side and other end of an edge.
    pub edge: Edge,
    /// The backend, for a TrafficSplit.
    pub backend: Option<Backend>,
    /// The route, as `group/match`; `None` for an item that has none.
    pub route: Option<String>,
    /// Time of the answer, as written; empty if it is missing.
    pub timestamp: String,
    /// Length of the time that is reported; `None` if it is missing.
    pub window: Option<Duration>,
    /// The figures.
    pub calls: Calls,
}

/// Reference to an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Object {
    /// Its namespace; empty: it has none, or it is not known.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
}

/// Edge of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Direction of the calls, seen from the object.
    pub direction: Direction,
    /// Side that has counted.
    pub side: Side,
    /// The other end; `None`: all, or not known.
    pub peer: Option<Object>,
}

/// Backend of a TrafficSplit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The Service.
    pub name: String,
    /// Its weight.
    pub weight: u64,
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { namespace, name, kind } = self;
        let slash = if namespace.is_empty() { "" } else { "/" };
        let blank = if kind.is_empty() { "" } else { " " };
        write!(f, "{kind}{blank}{namespace}{slash}{name}")
    }
}

impl From<WireObject> for Object {
    fn from(WireObject { kind, namespace, name }: WireObject) -> Self {
        let [kind, namespace, name] = [kind, namespace, name].map(Option::unwrap_or_default);
        Self { namespace, name, kind }
    }
}

impl Page {
    /// Reads the body of an answer.
    pub fn parse(body: &[u8]) -> Result<Self, PageError> {
        let WireKind { kind } = serde_json::from_slice(body)?;
        match kind.as_str() {
            "TrafficMetrics" => {
                let item = Item::read(serde_json::from_slice(body)?)?;
                Ok(Self { items: vec![item], ..Self::default() })
            }
            "TrafficMetricsList" => {
                let WireList { metadata, items } = serde_json::from_slice(body)?;
                let items = items.unwrap_or_default().into_iter().map(Item::read);
                Ok(Self {
                    items: items.collect::<Result<_, _>>()?,
                    next: metadata.continue_token.filter(|token| !token.is_empty()),
                    remaining: metadata
                        .remaining_item_count
                        .map_or(0, |it| it.try_into().unwrap_or_default()),
                })
            }
            _ => Err(PageError::Kind(kind.chars().take(MAX_SHOWN).collect())),
        }
    }
}

impl Item {
    fn read(item: WireItem) -> Result<Self, PageError> {
        let WireItem { metadata, timestamp, window, resource, edge, backend, route, metrics } = item;
        let mut object = Object::from(resource.unwrap_or_default());
        let own = Object::from(metadata.unwrap_or_default());
        if object.name.is_empty() {
            (object.namespace, object.name) = (own.namespace, own.name);
        }
        let read = Reader { object: &object };
        if object.name.is_empty() {
            return Err(read.missing("resource.name", "the name of the object"));
        }
        let window = match window {
            Some(text) => Some(
                duration::parse(&text)
                    .ok_or_else(|| read.invalid("window", &Value::String(text), "a duration such as 30s"))?,
            ),
            None => None,
        };
        let edge = read.edge(edge.unwrap_or_default())?;
        let calls = read.calls(metrics.unwrap_or_default())?;
        let backend = match backend {
            Some(WireBackend { name: Some(name), weight }) => {
                Some(Backend { name, weight: weight.unwrap_or_default() })
            }
            Some(_) => return Err(read.missing("backend.name", "the name of a Service")),
            None => None,
        };
        let route = route.map(|WireRoute { name, match_name }| format!("{name}/{match_name}"));
        Ok(Self { edge, backend, route, timestamp: timestamp.unwrap_or_default(), window, calls, object })
    }
}

/// Reader of the fields of one item.
struct Reader<'a> {
    object: &'a Object,
}

impl Reader<'_> {
    fn error(&self, field: &str, value: String, expected: &'static str) -> PageError {
        let field = field.chars().take(MAX_SHOWN).collect();
        PageError::Field { object: self.object.to_string(), field, value, expected }
    }

    fn missing(&self, field: &str, expected: &'static str) -> PageError {
        self.error(field, "missing".to_owned(), expected)
    }

    fn invalid(&self, field: &str, value: &Value, expected: &'static str) -> PageError {
        self.error(field, value.to_string().chars().take(MAX_SHOWN).collect(), expected)
    }

    /// Reads an edge. One that is missing, or has no side, is that of the object as a whole.
    fn edge(&self, edge: WireEdge) -> Result<Edge, PageError> {
        let WireEdge { direction, side, resource } = edge;
        let direction = match direction.as_deref() {
            None => Direction::From,
            Some(text) => [Direction::From, Direction::To]
                .into_iter()
                .find(|it| resource::direction(*it) == text)
                .ok_or_else(|| self.invalid("edge.direction", &text.into(), "from or to"))?,
        };
        let side = match side.as_deref() {
            None => Side::Server,
            Some(text) => [Side::Server, Side::Client]
                .into_iter()
                .find(|it| resource::side(*it) == text)
                .ok_or_else(|| self.invalid("edge.side", &text.into(), "server or client"))?,
        };
        let peer = resource.map(Object::from).filter(|peer| *peer != Object::default());
        Ok(Edge { direction, side, peer })
    }

    fn calls(&self, metrics: Vec<WireMetric>) -> Result<Calls, PageError> {
        let mut calls = Calls::default();
        let (mut success, mut failure) = (None, None);
        for metric in metrics {
            match metric.name.as_str() {
                "success_count" => success = Some(self.count(&metric)?),
                "failure_count" => failure = Some(self.count(&metric)?),
                "refused_count" => calls.refused = self.count(&metric)?,
                "p50_response_latency" => calls.p50_ms = self.latency(&metric)?,
                "p90_response_latency" => calls.p90_ms = self.latency(&metric)?,
                "p99_response_latency" => calls.p99_ms = self.latency(&metric)?,
                _ => {}
            }
        }
        let needed = |name, count: Option<u64>| {
            count.ok_or_else(|| self.missing(name, "the number of calls in metrics"))
        };
        calls.success = needed("success_count", success)?;
        calls.failure = needed("failure_count", failure)?;
        Ok(calls)
    }

    fn quantity(&self, metric: &WireMetric, expected: &'static str) -> Result<u128, PageError> {
        let value = metric.value.as_ref().unwrap_or(&Value::Null);
        billionths(value).ok_or_else(|| self.invalid(&metric.name, value, expected))
    }

    fn count(&self, metric: &WireMetric) -> Result<u64, PageError> {
        let expected = "a whole number as a Quantity, such as 73 or 1k";
        let value = self.quantity(metric, expected)?;
        let whole = Some(value / BILLION).filter(|_| value.is_multiple_of(BILLION));
        let whole = whole.and_then(|whole| u64::try_from(whole).ok());
        let value = metric.value.as_ref().unwrap_or(&Value::Null);
        whole.ok_or_else(|| self.invalid(&metric.name, value, expected))
    }

    /// Reads a latency in milliseconds; 0 is that of no answer.
    fn latency(&self, metric: &WireMetric) -> Result<Option<f64>, PageError> {
        if let Some(unit) = metric.unit.as_deref().filter(|unit| *unit != "ms") {
            return Err(self.invalid(&format!("the unit of {}", metric.name), &unit.into(), "ms"));
        }
        let value = self.quantity(metric, "milliseconds as a Quantity, such as 296875m")?;
        #[expect(clippy::cast_precision_loss, reason = "for display")]
        let milliseconds = value as f64 / BILLION as f64;
        Ok(Some(milliseconds).filter(|_| value > 0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(edit: impl FnOnce(&mut Value)) -> Value {
        let metric =
            |name: &str, unit: &str, value: &str| json!({"name": name, "unit": unit, "value": value});
        let mut item = json!({
            "kind": "TrafficMetrics",
            "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": null},
            "timestamp": "2026-11-29T19:12:56Z",
            "window": "30s",
            "resource": {"kind": "Deployment", "namespace": "shop", "name": "web"},
            "edge": {"direction": "from", "side": "server", "resource": null},
            "metrics": [
                metric("p99_response_latency", "ms", "296875m"),
                metric("p50_response_latency", "ms", "0"),
                {"name": "success_count", "value": "1k"},
                {"name": "failure_count", "value": "0"},
                {"name": "refused_count", "value": "7"},
                {"name": "of_another", "value": [{}]},
            ],
        });
        edit(&mut item);
        item
    }

    fn parse(value: &Value) -> Result<Page, String> {
        let error = |error: PageError| format!("{:#}", anyhow::Error::from(error));
        Page::parse(value.to_string().as_bytes()).map_err(error)
    }

    fn message(edit: impl FnOnce(&mut Value)) -> String {
        let message = parse(&item(edit)).unwrap_err();
        assert!(message.len() < 1_000, "{message}");
        message
    }

    #[test]
    fn items_and_lists_are_read() {
        let page = parse(&item(|_| {})).unwrap();
        let expected = Calls { success: 1_000, refused: 7, p99_ms: Some(296.875), ..Calls::default() };
        assert_eq!((page.items[0].calls, page.next), (expected, None));
        assert_eq!(page.items[0].object.to_string(), "Deployment shop/web");
        assert_eq!(page.items[0].window, Some(Duration::from_secs(30)));
        let metadata = json!({"continue": "abc", "remainingItemCount": 3});
        let list = json!({"kind": "TrafficMetricsList", "metadata": metadata, "items": [item(|_| {})]});
        let page = parse(&list).unwrap();
        assert_eq!((page.items.len(), page.next.as_deref(), page.remaining), (1, Some("abc"), 3));
        for rest in [json!({}), json!({"items": null}), json!({"metadata": {"continue": ""}, "items": []})] {
            let mut list = rest;
            list["kind"] = "TrafficMetricsList".into();
            assert_eq!(parse(&list), Ok(Page::default()), "{list}");
        }
    }

    #[test]
    fn what_other_implementations_leave_out_is_not_needed() {
        let page = parse(&item(|item| {
            for field in ["resource", "edge", "window", "timestamp"] {
                item[field] = Value::Null;
            }
            item["metrics"] =
                json!([{"name": "success_count", "value": 2}, {"name": "failure_count", "value": "1"}]);
        }));
        let page = page.unwrap();
        assert_eq!(page.items[0].calls, Calls { success: 2, failure: 1, ..Calls::default() });
        assert_eq!(page.items[0].object.to_string(), "shop/web");
        assert_eq!((page.items[0].edge.direction, page.items[0].window), (Direction::From, None));
    }

    #[test]
    fn an_error_names_object_field_and_value() {
        let long = "x".repeat(100_000);
        for value in [json!("many"), json!("-1"), json!("1500m"), json!(null), json!({}), json!(long)] {
            let message = message(|item| item["metrics"][2]["value"] = value.clone());
            let start = "Deployment shop/web: success_count is ";
            assert!(message.starts_with(start) && message.contains("expected a whole number"), "{message}");
        }
        assert_eq!(
            message(|item| item["metrics"][0]["value"] = "fast".into()),
            "Deployment shop/web: p99_response_latency is \"fast\": expected milliseconds as a Quantity, such as 296875m"
        );
        assert!(
            message(|item| item["metrics"][0]["unit"] = "seconds".into())
                .ends_with("is \"seconds\": expected ms")
        );
        assert!(message(|item| item["metrics"] = json!([])).contains("success_count is missing"));
        assert!(message(|item| item["edge"]["direction"] = "up".into()).contains("edge.direction is \"up\""));
        assert!(message(|item| item["edge"]["side"] = "both".into()).contains("expected server or client"));
        assert!(message(|item| item["window"] = "long".into()).contains("window is \"long\""));
        assert!(message(|item| item["backend"] = json!({"weight": 1})).contains("backend.name is missing"));
        assert!(message(|item| item["backend"] = json!({"name": "a", "weight": -1})).contains("-1"));
        let nameless = message(|item| (item["resource"], item["metadata"]) = (Value::Null, Value::Null));
        assert!(nameless.contains("resource.name is missing"), "{nameless}");
        assert!(message(|item| item["kind"] = "Status".into()).contains("kind is \"Status\""));
        assert!(message(|item| item["kind"] = long.clone().into()).len() < 300);
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "{\"kind\":1}",
            "<html>",
            "\u{0}",
            "{\"kind\":\"TrafficMetricsList\",\"items\":[{}]}",
        ] {
            assert!(Page::parse(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!(
            "{{\"kind\":\"TrafficMetrics\",\"metrics\":[{{\"name\":\"a\",\"value\":{}",
            "[".repeat(100_000)
        );
        assert!(Page::parse(deep.as_bytes()).is_err());
        assert!(Page::parse(&[0xff, 0xfe]).is_err());
    }
}
