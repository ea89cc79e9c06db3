//! Tokens of pods: valid ones from the API server, and ones signed with the cluster's own key.
//!
//! For tests that try to open a stream to which they have no right.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    authorization::v1::SubjectAccessReview,
    core::v1::ServiceAccount,
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{Cluster, Pod, operator::NAMESPACE, pod::START, until};

/// ServiceAccount that reads the operator's debug pages in tests.
const READER: &str = "e2e-debug-reader";

/// Audience of the tokens that the control plane accepts: trust domain and cluster as installed for the tests.
pub const AUDIENCE: &str = "smidge/cluster.local/local";

/// Requests a token of `pod` for `audience`, as the kubelet does.
pub async fn of(cluster: &Cluster, pod: &Pod, audience: &str) -> anyhow::Result<String> {
    let object = pod.object().await?;
    let account =
        object.spec.and_then(|spec| spec.service_account_name).context("a pod without a ServiceAccount")?;
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            expiration_seconds: Some(600),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name.clone()),
                uid: Some(pod.uid.clone()),
            }),
        },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), &pod.namespace);
    let made = accounts.create_token_request(&account, &PostParams::default(), &request).await?;
    Ok(made.status.context("a token request without an answer")?.token)
}

/// Requests a token of a ServiceAccount that may read the operator's debug pages, as a user of the mesh does.
pub async fn reader(client: &Client) -> anyhow::Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![format!("{AUDIENCE}/debug")],
            expiration_seconds: Some(600),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    if accounts.get_opt(READER).await?.is_none() {
        let params = PatchParams::apply("e2e");
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": READER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "smidge-debug"},
            "subjects": [{"kind": "ServiceAccount", "name": READER, "namespace": NAMESPACE}],
        });
        Api::<ClusterRoleBinding>::all(client.clone()).patch(READER, &params, &Patch::Apply(binding)).await?;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": READER}});
        accounts.patch(READER, &params, &Patch::Apply(account)).await?;
    }
    until("the reader of debug pages to have the right", START, async || {
        let question: SubjectAccessReview = serde_json::from_value(json!({"metadata": {}, "spec": {
            "user": format!("system:serviceaccount:{NAMESPACE}:{READER}"),
            "nonResourceAttributes": {"path": "/debug/mesh", "verb": "get"},
        }}))?;
        let reviews = Api::<SubjectAccessReview>::all(client.clone());
        let answer = reviews.create(&PostParams::default(), &question).await?;
        anyhow::ensure!(answer.status.as_ref().is_some_and(|status| status.allowed), "{answer:?}");
        Ok(())
    })
    .await?;
    let made = accounts.create_token_request(READER, &PostParams::default(), &request).await?;
    Ok(made.status.context("a token request without an answer")?.token)
}

/// Returns the token with the times of its claims moved back by `age` seconds, signed with the cluster's own key. An
/// age of 0 shows that such a token is valid, and that an older one is refused for its age alone.
///
/// Returns `None` where that key is not available: `CLUSTER_PKI` names its folder in a cluster that `e2e/cluster`
/// creates.
pub fn aged(token: &str, age: i64) -> anyhow::Result<Option<String>> {
    let Some(folder) = std::env::var_os("CLUSTER_PKI") else { return Ok(None) };
    let key = PathBuf::from(folder).join("sa.key");
    let key = std::fs::read(&key).with_context(|| format!("failed to read {}", key.display()))?;
    let key = EncodingKey::from_rsa_pem(&key).context("the cluster's key is no RSA key in PEM")?;
    let mut header = Header::new(Algorithm::RS256);
    header.typ = None;
    header.kid = part(token, 0)?.get("kid").and_then(Value::as_str).map(str::to_owned);
    let mut claims: BTreeMap<String, Value> = serde_json::from_value(part(token, 1)?)?;
    for name in ["iat", "nbf", "exp"] {
        let claim = claims.get_mut(name).with_context(|| format!("a token without {name}"))?;
        *claim = Value::from(claim.as_i64().context("a time that is no number")? - age);
    }
    Ok(Some(jsonwebtoken::encode(&header, &claims, &key).context("failed to sign a token")?))
}

fn part(token: &str, number: usize) -> anyhow::Result<Value> {
    let part = token.split('.').nth(number).context("a token without that part")?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).context("a token that is not base64")?;
    serde_json::from_slice(&bytes).context("a token that is not JSON")
}
