//! Turns the successive states of a list into the events of a watch.
//!
//! Pure. The server reads a state in every period and sends what this yields. Figures that are the same cause no event,
//! although their time differs.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    accept::Form,
    answer,
    object::{Backend, Metadata, TrafficMetrics},
    request::Figures,
    status::Status,
    timestamp::Timestamp,
};

/// Annotation of the bookmark after the first events, for clients that wait for it.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Items that the client of a watch has, by namespace, name and backend.
#[derive(Debug, Default)]
pub struct Sent(BTreeMap<(String, String, String), TrafficMetrics>);

impl Sent {
    /// Continues with the next state; returns its events, each a line of JSON.
    pub fn next(
        &mut self,
        request: &Figures,
        form: Form,
        items: Vec<TrafficMetrics>,
    ) -> Result<Vec<u8>, Status> {
        let mut lines = Vec::new();
        let mut present = BTreeSet::new();
        for item in items {
            let key = key(&item);
            present.insert(key.clone());
            let kind = match self.0.get(&key) {
                None => "ADDED",
                Some(known) if differs(known, &item) => "MODIFIED",
                Some(_) => continue,
            };
            line(&mut lines, kind, &answer::write_item(request, form, &item)?);
            self.0.insert(key, item);
        }
        let gone: Vec<_> = self.0.keys().filter(|key| !present.contains(*key)).cloned().collect();
        for key in gone {
            if let Some(item) = self.0.remove(&key) {
                line(&mut lines, "DELETED", &answer::write_item(request, form, &item)?);
            }
        }
        Ok(lines)
    }
}

fn key(item: &TrafficMetrics) -> (String, String, String) {
    let backend = item.backend.as_ref().map_or_else(String::new, |backend: &Backend| backend.name.clone());
    (item.metadata.namespace.clone(), item.metadata.name.clone(), backend)
}

fn differs(known: &TrafficMetrics, item: &TrafficMetrics) -> bool {
    known.figures != item.figures
        || known.backend != item.backend
        || known.metadata.labels != item.metadata.labels
}

/// Returns a bookmark: everything up to this time was sent. `is_first` after the first events, if the client waits for
/// their end.
pub fn bookmark(request: &Figures, is_first: bool, at: Timestamp) -> Vec<u8> {
    let annotations = is_first.then_some((INITIAL_EVENTS_END, "true")).into_iter().collect();
    let metadata = Metadata { resource_version: at.resource_version(), annotations, ..Metadata::default() };
    let object = serde_json::json!({
        "kind": "TrafficMetrics", "apiVersion": request.version.api_version(), "metadata": metadata,
    });
    let mut lines = Vec::new();
    line(&mut lines, "BOOKMARK", object.to_string().as_bytes());
    lines
}

/// Returns the event that ends a watch with an error.
pub fn error(status: &Status) -> Vec<u8> {
    let mut lines = Vec::new();
    line(&mut lines, "ERROR", &status.json());
    lines
}

fn line(lines: &mut Vec<u8>, kind: &str, object: &[u8]) {
    lines.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
    lines.extend_from_slice(object);
    lines.extend_from_slice(b"}\n");
}
