//! A stand-in for the API server: lists of all kinds, and watches in which nothing ever changes.
//!
//! As the real one, it leaves kind and version out of the items of its own kinds, and answers 404 for a kind that it
//! does not have. What it stores is made by `stored`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::stored::{Kind, kinds};

/// The items of each kind by its path, and the kind.
type Lists = BTreeMap<String, (Kind, Vec<Value>)>;

/// The server, which runs as long as the test's runtime.
pub struct ApiServer {
    lists: Arc<Mutex<Lists>>,
    pub client: kube::Client,
}

impl ApiServer {
    pub async fn start() -> Self {
        let lists = Arc::<Mutex<Lists>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&lists));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        Self { lists, client: kube::Client::try_from(config).unwrap() }
    }

    /// Stores these objects in place of all others. Of several with the same kind, namespace and name, the last is
    /// stored.
    pub fn store(&self, objects: Vec<Value>) {
        let mut stored = BTreeMap::new();
        for object in objects {
            let text = |pointer: &str| {
                object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            let key = ["/apiVersion", "/kind", "/metadata/namespace", "/metadata/name"].map(text);
            stored.insert(key, object);
        }
        let mut lists: Lists = kinds().into_iter().map(|kind| (kind.path(), (kind, Vec::new()))).collect();
        for ([api_version, kind, ..], mut object) in stored {
            let is_of = |of: &Kind| of.api_version() == api_version && of.name == kind;
            let (of, items) = lists.values_mut().find(|(of, _)| is_of(of)).unwrap();
            if !of.is_custom {
                let fields = object.as_object_mut().unwrap();
                fields.remove("apiVersion");
                fields.remove("kind");
            }
            items.push(object);
        }
        *self.lists.lock().unwrap() = lists;
    }
}

async fn answer(
    State(lists): State<Arc<Mutex<Lists>>>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let lists = lists.lock().unwrap();
    let Some((kind, items)) = lists.get(uri.path()) else {
        let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "not found", "reason": "NotFound", "code": 404});
        return (StatusCode::NOT_FOUND, Json(body)).into_response();
    };
    if query.get("watch").is_some_and(|word| word == "true") {
        return Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>())
            .into_response();
    }
    let body = json!({"kind": format!("{}List", kind.name), "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": "1"}, "items": items});
    Json(body).into_response()
}
