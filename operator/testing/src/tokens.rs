//! A signer of tokens in place of the cluster, and one authenticator with its environment.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::Pod;
use prometheus_client::registry::Registry;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use smidge::auth::{Metrics, Settings, TokenAuthenticator, pods::Pods};
use smidge_xds::{
    mesh::id::{ClusterId, TrustDomain},
    server::{Admission, Authenticator as _, Presented, Refusal},
};
use tonic::metadata::MetadataMap;

use crate::api_server::{ApiServer, Hands};

pub const NOW: i64 = 1_800_000_000;
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A key of the issuer.
pub struct Signer {
    kid: &'static str,
    pair: EcdsaKeyPair,
}

impl Signer {
    pub fn new(kid: &'static str) -> Self {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &random).unwrap();
        Self { kid, pair }
    }

    /// The public key, as the issuer publishes it.
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        json!({"use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256", "alg": "ES256", "x": x, "y": y})
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"alg": "ES256", "kid": self.kid}), claims)
    }

    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Claims of the token that the kubelet would project into the pod `shop/web-0`.
pub fn claims() -> Value {
    json!({
        "aud": ["smidge/cluster.local/local"], "iss": ISSUER, "iat": NOW, "nbf": NOW, "exp": NOW + 3600,
        "jti": "6f1b", "sub": "system:serviceaccount:shop:web",
        "kubernetes.io": {
            "namespace": "shop", "node": {"name": "n", "uid": "u"},
            "pod": {"name": "web-0", "uid": "uid-web-0"},
            "serviceaccount": {"name": "web", "uid": "uid-web"},
            "warnafter": NOW + 3000,
        },
    })
}

/// The API server's review of the token with `claims`.
pub fn reviewed() -> Value {
    json!({"authenticated": true, "audiences": ["smidge/cluster.local/local"], "user": {
        "username": "system:serviceaccount:shop:web", "uid": "uid-web",
        "extra": {
            "authentication.kubernetes.io/pod-name": ["web-0"],
            "authentication.kubernetes.io/pod-uid": ["uid-web-0"],
        },
    }})
}

/// The pod `shop/web-0`, running.
pub fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": "web-0", "uid": "uid-web-0"},
        "spec": {"containers": [{"name": "web"}], "serviceAccountName": "web"},
        "status": {"phase": "Running"},
    })
}

/// Pods that a watch keeps.
type Store = Arc<Mutex<BTreeMap<(String, String), Arc<Pod>>>>;

/// One authenticator with every server and store that it queries.
pub struct Harness {
    pub server: ApiServer,
    pub hands: Hands,
    pub signer: Signer,
    pub pods: Arc<Pods>,
    pub authenticator: TokenAuthenticator,
    pub registry: Registry,
    store: Store,
}

impl Harness {
    /// A cluster whose issuer publishes the key `first`, with the pod `shop/web-0` in the store of the watch.
    pub async fn new() -> Self {
        let (server, hands, signer) = (ApiServer::start().await, Hands::at(NOW), Signer::new("first"));
        ISSUER.clone_into(&mut server.objects.issuer.lock().unwrap());
        *server.objects.jwks.lock().unwrap() = json!({"keys": [signer.jwk()]});
        let store = Store::default();
        let lookup = {
            let store = Arc::clone(&store);
            move |namespace: &str, name: &str| {
                store.lock().unwrap().get(&(namespace.to_owned(), name.to_owned())).cloned()
            }
        };
        let pods = Arc::new(Pods::new(Box::new(lookup), server.client.clone()));
        let mut registry = Registry::default();
        let authenticator = TokenAuthenticator::new(Settings {
            domain: TrustDomain::default(),
            cluster: ClusterId::default(),
            client: server.client.clone(),
            pods: Arc::clone(&pods),
            owner: |_| ("Deployment".to_owned(), "web-v1".to_owned()),
            clock: hands.clock(),
            metrics: Metrics::register(&mut registry),
        });
        let harness = Self { server, hands, signer, pods, authenticator, registry, store };
        harness.watch_sees(Some(pod()));
        harness
    }

    /// Replaces `shop/web-0` in the store of the watch with `pod`, or removes it.
    pub fn watch_sees(&self, pod: Option<Value>) {
        let key = ("shop".to_owned(), "web-0".to_owned());
        match pod {
            Some(pod) => {
                self.store.lock().unwrap().insert(key, Arc::new(serde_json::from_value(pod).unwrap()));
            }
            None => drop(self.store.lock().unwrap().remove(&key)),
        }
        self.pods.changed("shop", "web-0");
    }

    /// Empties the store without an event, as after a broken watch.
    pub fn watch_loses_all(&self) {
        self.store.lock().unwrap().clear();
    }

    pub fn api_server_has(&self, pod: Value) {
        let key = ("shop".to_owned(), "web-0".to_owned());
        self.server.objects.pods.lock().unwrap().insert(key, pod);
    }

    pub async fn admit(&self, token: &str) -> Result<Admission, Refusal> {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
        self.authenticator.admit(&Presented { metadata: &metadata, chain: &[] }).await
    }

    /// The reason for which `token` is refused.
    pub async fn reason(&self, token: &str) -> String {
        let refusal = self.admit(token).await.expect_err("the token was taken");
        refusal.detail.split(':').next().unwrap().to_owned()
    }

    /// Value of the counter of one result.
    pub fn counted(&self, result: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let series = format!("stream_authentications_total{{result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).expect(result).parse().unwrap()
    }
}
