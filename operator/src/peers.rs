//! Carries what proxies have acknowledged from every replica to the one that leads.
//!
//! A proxy is connected to one replica, and status is written by one: `serve` tells the counts of this replica, `fetch`
//! asks the others for theirs while this one leads. Over TLS with the control plane's certificate; who asks shows the
//! token of a living pod of the operator's own ServiceAccount. This file is the form of the counts on the wire, pure.

pub mod fetch;
pub mod serve;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    finding::ObjectRef,
    status::programmed::{AckCount, AckCounts},
};

/// The path of the counts.
pub const PATH: &str = "/tallies";

/// One object with what the asked replica's own proxies have answered.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    generation: Option<i64>,
    acknowledged: usize,
    refused: usize,
    words: Vec<(String, String)>,
}

/// The counts as they travel, and the digest by which the next question names them. Objects about which no proxy has
/// said anything are left out.
pub fn encode(tallies: &AckCounts) -> (Vec<u8>, String) {
    let told = tallies.iter().filter(|(_, tally)| tally.acknowledged + tally.refused > 0);
    let rows: Vec<Row> = told
        .map(|(object, tally)| Row {
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: tally.uid.clone(),
            generation: tally.generation,
            acknowledged: tally.acknowledged,
            refused: tally.refused,
            words: tally.words.clone(),
        })
        .collect();
    // Rows of texts and numbers are never refused.
    let body = serde_json::to_vec(&rows).unwrap_or_default();
    let digest: u128 =
        Sha256::digest(&body).into_iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(byte));
    (body, format!("\"{digest:032x}\""))
}

/// The counts in an answer. How many proxies each object concerns is for the reader to know.
pub fn decode(body: &[u8]) -> Result<AckCounts, serde_json::Error> {
    let rows: Vec<Row> = serde_json::from_slice(body)?;
    let tally = |row: Row| {
        let Row { kind, namespace, name, uid, generation, acknowledged, refused, words } = row;
        let tally = AckCount { uid, generation, acknowledged, refused, words, ..AckCount::default() };
        (ObjectRef { kind, namespace, name }, Arc::new(tally))
    };
    Ok(rows.into_iter().map(tally).collect())
}
