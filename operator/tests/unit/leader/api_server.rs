//! A stand-in for the API server: one Lease with optimistic concurrency, and objects whose status is patched.
//!
//! Does not replace the real API server where its own behaviour is tested; the cluster tests do that.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, patch, post},
};
use serde_json::{Value, json};

/// Objects of the server, and counts of its requests.
#[derive(Default)]
pub struct Objects {
    pub lease: Mutex<Option<Value>>,
    pub version: AtomicU64,
    /// The statuses that were written last, by plural and name.
    pub statuses: Mutex<BTreeMap<(String, String), Value>>,
    pub writes: AtomicU64,
    /// Names that do not exist.
    pub gone: Mutex<Vec<String>>,
    /// While set, everything answers 500.
    pub down: AtomicBool,
}

type Shared = State<Arc<Objects>>;

pub async fn start() -> (Arc<Objects>, kube::Client) {
    let objects = Arc::<Objects>::default();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/smidge-system/leases";
    let router = Router::new()
        .route(leases, post(create))
        .route(&format!("{leases}/smidge-leader"), get(read).put(replace))
        .route("/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/status", patch(write))
        .with_state(Arc::clone(&objects));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    (objects, kube::Client::try_from(config).unwrap())
}

impl Objects {
    /// Holder of the lease; empty if there is none.
    pub fn holder(&self) -> String {
        let lease = self.lease.lock().unwrap();
        let holder = lease.as_ref().and_then(|lease| lease["spec"]["holderIdentity"].as_str());
        holder.unwrap_or_default().to_owned()
    }

    fn stamp(&self, lease: &mut Value) {
        lease["metadata"]["resourceVersion"] = json!((self.version.fetch_add(1, SeqCst) + 1).to_string());
    }
}

fn status(code: StatusCode) -> Response {
    let reason = code.canonical_reason().unwrap_or_default().replace(' ', "");
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code.as_u16()});
    (code, Json(body)).into_response()
}

fn down(objects: &Objects) -> Option<Response> {
    objects.down.load(SeqCst).then(|| status(StatusCode::INTERNAL_SERVER_ERROR))
}

async fn read(State(objects): Shared) -> Response {
    let found = objects.lease.lock().unwrap().clone();
    down(&objects).unwrap_or_else(|| match found {
        Some(found) => Json(found).into_response(),
        None => status(StatusCode::NOT_FOUND),
    })
}

async fn create(State(objects): Shared, Json(mut new): Json<Value>) -> Response {
    let mut lease = objects.lease.lock().unwrap();
    if let Some(answer) = down(&objects) {
        return answer;
    }
    if lease.is_some() {
        return status(StatusCode::CONFLICT);
    }
    objects.stamp(&mut new);
    *lease = Some(new.clone());
    Json(new).into_response()
}

async fn replace(State(objects): Shared, Json(mut new): Json<Value>) -> Response {
    let mut lease = objects.lease.lock().unwrap();
    if let Some(answer) = down(&objects) {
        return answer;
    }
    let Some(current) = lease.as_mut() else { return status(StatusCode::NOT_FOUND) };
    if current["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"] {
        return status(StatusCode::CONFLICT);
    }
    objects.stamp(&mut new);
    *current = new.clone();
    Json(new).into_response()
}

async fn write(
    State(objects): Shared,
    Path((_, _, _, plural, name)): Path<(String, String, String, String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    body: String,
) -> Response {
    if let Some(answer) = down(&objects) {
        return answer;
    }
    if objects.gone.lock().unwrap().contains(&name) {
        return status(StatusCode::NOT_FOUND);
    }
    assert_eq!(query["fieldManager"], "smidge-status");
    let object: Value = serde_json::from_str(&body).unwrap();
    // Counted after it is stored: a test that waits for the count then reads the status.
    objects.statuses.lock().unwrap().insert((plural, name), object["status"].clone());
    objects.writes.fetch_add(1, SeqCst);
    Json(object).into_response()
}
