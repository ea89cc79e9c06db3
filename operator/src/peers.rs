//! Carries the acknowledgement counts of proxies from every replica to the leader.
//!
//! A proxy is connected to one replica, and status is written by one: `serve` returns the counts of this replica,
//! `fetch` requests those of the others while this one leads. Over TLS with the control plane's certificate; the client
//! sends the token of a live pod of the operator's own ServiceAccount. Pure: this file is the form of the counts on the
//! wire.

pub mod fetch;
pub mod serve;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    finding::ObjectRef,
    status::programmed::{AckCount, AckCounts},
};

/// Path of the counts.
pub const PATH: &str = "/tallies";

/// One object with the answers of the replica's own proxies.
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

/// Encodes the counts, and returns them with the digest by which the next request names them. Objects that no proxy
/// has acknowledged or refused are left out.
pub fn encode(counts: &AckCounts) -> (Vec<u8>, String) {
    let answered = counts.iter().filter(|(_, acks)| acks.acknowledged + acks.refused > 0);
    let rows: Vec<Row> = answered
        .map(|(object, acks)| Row {
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: acks.uid.clone(),
            generation: acks.generation,
            acknowledged: acks.acknowledged,
            refused: acks.refused,
            words: acks.words.clone(),
        })
        .collect();
    // Serializing rows of texts and numbers cannot fail.
    let body = serde_json::to_vec(&rows).unwrap_or_default();
    let digest: u128 =
        Sha256::digest(&body).into_iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(byte));
    (body, format!("\"{digest:032x}\""))
}

/// Decodes the counts in an answer. They do not include the number of proxies that an object concerns; the reader knows
/// it.
pub fn decode(body: &[u8]) -> Result<AckCounts, serde_json::Error> {
    let rows: Vec<Row> = serde_json::from_slice(body)?;
    let decoded = |row: Row| {
        let Row { kind, namespace, name, uid, generation, acknowledged, refused, words } = row;
        let acks = AckCount { uid, generation, acknowledged, refused, words, ..AckCount::default() };
        (ObjectRef::new(kind, namespace, name), Arc::new(acks))
    };
    Ok(rows.into_iter().map(decoded).collect())
}
