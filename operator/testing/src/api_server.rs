//! A stand-in for the API server that tests of `ca` and `auth` talk to over loopback: Secrets with resource versions
//! and conflicts, pods, the issuer's keys, reviews of tokens and of access, each with a count of its requests.
//!
//! Does not replace the real API server where its own behaviour is tested; the cluster tests do that.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use smidge::clock::Clock;
use time::OffsetDateTime;
use tokio::sync::{Barrier, watch};

/// Objects of the server, and counts of its requests.
#[derive(Default)]
pub struct Objects {
    pub secrets: Mutex<BTreeMap<String, Value>>,
    pub pods: Mutex<BTreeMap<(String, String), Value>>,
    pub issuer: Mutex<String>,
    pub jwks: Mutex<Value>,
    /// The status of every token review; `None` answers 500.
    pub review: Mutex<Option<Value>>,
    /// True if every access review allows.
    pub allowed: AtomicBool,
    /// Documents by path, for any other request to read. A list answers requests for all of it.
    pub documents: Mutex<BTreeMap<String, Value>>,
    /// Paths with parameters of the requests for documents so far.
    pub document_reads: Mutex<Vec<String>>,
    /// The specs of all access reviews so far.
    pub access_reviews: Mutex<Vec<Value>>,
    pub secret_writes: AtomicU64,
    pub jwks_reads: AtomicU64,
    pub reviews: AtomicU64,
    /// True while token reviews are held back.
    held: watch::Sender<bool>,
    /// True while access reviews are held back.
    access_held: watch::Sender<bool>,
    pub pod_reads: AtomicU64,
    /// While set, everything answers 500.
    pub down: AtomicBool,
    /// Readers of a missing Secret wait here for each other, so that all of them find it missing.
    pub race: Option<Barrier>,
}

impl Objects {
    /// Holds token reviews back, or releases them.
    pub fn hold_reviews(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// Holds access reviews back, or releases them.
    pub fn hold_access_reviews(&self, hold: bool) {
        self.access_held.send_replace(hold);
    }
}

type Shared = State<Arc<Objects>>;

/// The server, which runs as long as the test's runtime.
pub struct ApiServer {
    pub objects: Arc<Objects>,
    pub client: kube::Client,
}

impl ApiServer {
    pub async fn start() -> Self {
        Self::with(Objects::default()).await
    }

    /// A server where the first `replicas` readers of each missing Secret all find it missing.
    pub async fn racing(replicas: usize) -> Self {
        Self::with(Objects { race: Some(Barrier::new(replicas)), ..Objects::default() }).await
    }

    async fn with(objects: Objects) -> Self {
        let objects = Arc::new(objects);
        let secret = "/api/v1/namespaces/smidge-system/secrets";
        let router = Router::new()
            .route(secret, post(create_secret))
            .route(&format!("{secret}/{{name}}"), get(read_secret).put(replace_secret))
            .route("/api/v1/namespaces/{namespace}/pods/{name}", get(read_pod))
            .route("/.well-known/openid-configuration", get(openid))
            .route("/openid/v1/jwks", get(jwks))
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
            .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", post(access_review))
            .fallback(document)
            .with_state(Arc::clone(&objects));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        Self { objects, client: kube::Client::try_from(config).unwrap() }
    }

    /// Applies `change` to the data of a Secret, as an administrator with kubectl would.
    pub fn edit_secret(&self, name: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let mut secrets = self.objects.secrets.lock().unwrap();
        change(secrets.get_mut(name).unwrap()["data"].as_object_mut().unwrap());
    }
}

/// A clock that tests set by hand.
#[derive(Clone)]
pub struct Hands(Arc<Mutex<OffsetDateTime>>);

impl Hands {
    pub fn at(unix: i64) -> Self {
        Self(Arc::new(Mutex::new(OffsetDateTime::from_unix_timestamp(unix).unwrap())))
    }

    pub fn clock(&self) -> Clock {
        let hands = self.clone();
        Clock::new(move || hands.now())
    }

    pub fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }

    pub fn advance(&self, by: time::Duration) {
        *self.0.lock().unwrap() += by;
    }
}

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code.as_u16()});
    (code, Json(body)).into_response()
}

fn down(objects: &Objects) -> Option<Response> {
    objects.down.load(SeqCst).then(|| status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"))
}

async fn read_secret(State(objects): Shared, Path(name): Path<String>) -> Response {
    if let Some(answer) = down(&objects) {
        return answer;
    }
    let found = objects.secrets.lock().unwrap().get(&name).cloned();
    match (found, &objects.race) {
        (Some(found), _) => Json(found).into_response(),
        (None, race) => {
            if let Some(race) = race {
                // A replica that gave up would never arrive, and the test should fail and not hang.
                drop(tokio::time::timeout(Duration::from_secs(5), race.wait()).await);
            }
            status(StatusCode::NOT_FOUND, "NotFound")
        }
    }
}

async fn create_secret(State(objects): Shared, Json(mut new): Json<Value>) -> Response {
    if let Some(answer) = down(&objects) {
        return answer;
    }
    let name = new["metadata"]["name"].as_str().unwrap().to_owned();
    let mut secrets = objects.secrets.lock().unwrap();
    if secrets.contains_key(&name) {
        return status(StatusCode::CONFLICT, "AlreadyExists");
    }
    let version = objects.secret_writes.fetch_add(1, SeqCst) + 1;
    new["metadata"]["resourceVersion"] = json!(version.to_string());
    secrets.insert(name, new.clone());
    (StatusCode::CREATED, Json(new)).into_response()
}

async fn replace_secret(
    State(objects): Shared,
    Path(name): Path<String>,
    Json(mut new): Json<Value>,
) -> Response {
    if let Some(answer) = down(&objects) {
        return answer;
    }
    let mut secrets = objects.secrets.lock().unwrap();
    let Some(current) = secrets.get_mut(&name) else { return status(StatusCode::NOT_FOUND, "NotFound") };
    if current["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"] {
        return status(StatusCode::CONFLICT, "Conflict");
    }
    let version = objects.secret_writes.fetch_add(1, SeqCst) + 1;
    new["metadata"]["resourceVersion"] = json!(version.to_string());
    *current = new.clone();
    Json(new).into_response()
}

async fn read_pod(State(objects): Shared, Path(key): Path<(String, String)>) -> Response {
    objects.pod_reads.fetch_add(1, SeqCst);
    let found = objects.pods.lock().unwrap().get(&key).cloned();
    down(&objects).unwrap_or_else(|| match found {
        Some(found) => Json(found).into_response(),
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    })
}

async fn openid(State(objects): Shared) -> Response {
    let issuer = objects.issuer.lock().unwrap().clone();
    down(&objects).unwrap_or_else(|| {
        Json(json!({"issuer": issuer, "jwks_uri": "https://10.0.0.1:6443/openid/v1/jwks"})).into_response()
    })
}

async fn jwks(State(objects): Shared) -> Response {
    objects.jwks_reads.fetch_add(1, SeqCst);
    let keys = objects.jwks.lock().unwrap().clone();
    down(&objects).unwrap_or_else(|| Json(keys).into_response())
}

async fn review(State(objects): Shared, Json(mut asked): Json<Value>) -> Response {
    objects.reviews.fetch_add(1, SeqCst);
    drop(objects.held.subscribe().wait_for(|held| !held).await);
    match objects.review.lock().unwrap().clone() {
        Some(answer) => {
            asked["status"] = answer;
            (StatusCode::CREATED, Json(asked)).into_response()
        }
        None => status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    }
}

async fn access_review(State(objects): Shared, Json(mut asked): Json<Value>) -> Response {
    objects.access_reviews.lock().unwrap().push(asked["spec"].clone());
    drop(objects.access_held.subscribe().wait_for(|held| !held).await);
    asked["status"] = json!({"allowed": objects.allowed.load(SeqCst)});
    down(&objects).unwrap_or_else(|| (StatusCode::CREATED, Json(asked)).into_response())
}

async fn document(State(objects): Shared, uri: Uri) -> Response {
    objects.document_reads.lock().unwrap().push(uri.to_string());
    let found = objects.documents.lock().unwrap().get(uri.path()).cloned();
    down(&objects).unwrap_or_else(|| match found {
        Some(found) => Json(found).into_response(),
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    })
}
