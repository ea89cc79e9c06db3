//! Tokens of pods: real ones from the API server, and ones that only the cluster's own key could sign.
//!
//! For tests that try to get a stream to which they have no right.

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

/// The account that reads the operator's debug pages in tests.
const READER: &str = "e2e-debug-reader";

/// The audience of the tokens that the control plane takes: trust domain and cluster as installed for the tests.
pub const AUDIENCE: &str = "smidge/cluster.local/local";

/// A token of `pod`, as the kubelet would get it, for `audience`.
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

/// A token of somebody who may read the operator's debug pages, as a user of the mesh would get one.
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

/// The token's claims, `age` seconds older, signed anew with the cluster's own key. An age of 0 shows that such a token
/// is good, and that an older one fails for its age alone.
///
/// `None` where that key is out of reach: `CLUSTER_PKI` names its folder in a cluster of our own.
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
