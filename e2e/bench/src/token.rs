//! Tokens of pods that no kubelet runs, signed with the cluster's own key as the API server would.
//!
//! Used before proxies connect. Writes the claims of a bound token, and does not know its verifier.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hyper::Method;
use ring::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Pod};

/// Validity of the tokens, in seconds: longer than any run.
const LIFETIME: u64 = 24 * 3600;

/// Signer of tokens.
pub struct Signer {
    key: KeyPair,
    header: String,
    issuer: String,
    now: u64,
}

impl Signer {
    /// Reads the cluster's own key from the folder with its keys.
    pub async fn of(cluster: &Cluster, keys: &Path) -> anyhow::Result<Self> {
        let file = keys.join("sa.key");
        let key = PrivatePkcs8KeyDer::from_pem_file(&file)
            .map_err(|error| anyhow::anyhow!("failed to read {}: {error}", file.display()))?;
        let key = KeyPair::from_pkcs8(key.secret_pkcs8_der()).ok().context("no RSA key")?;
        let published = cluster.call(Method::GET, "/openid/v1/jwks", None).await?;
        let kid = published.pointer("/keys/0/kid").cloned().context("the cluster publishes no key")?;
        let configuration = cluster.call(Method::GET, "/.well-known/openid-configuration", None).await?;
        let issuer = configuration.get("issuer").and_then(Value::as_str).context("no issuer")?.to_owned();
        let header = BASE64.encode(json!({"alg": "RS256", "kid": kid}).to_string());
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(Self { key, header, issuer, now })
    }

    /// Signs a token of a pod that runs under this account of its namespace.
    pub fn token(&self, pod: &Pod, account: &str) -> anyhow::Result<String> {
        let claims = json!({
            "iss": self.issuer,
            "aud": ["smidge/cluster.local/local"],
            "sub": format!("system:serviceaccount:{}:{account}", pod.namespace),
            "iat": self.now, "nbf": self.now, "exp": self.now + LIFETIME,
            "kubernetes.io": {
                "namespace": pod.namespace,
                "serviceaccount": {"name": account, "uid": "00000000-0000-0000-0000-000000000000"},
                "pod": {"name": pod.name, "uid": pod.uid},
            },
        });
        let signed = format!("{}.{}", self.header, BASE64.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .ok()
            .context("failed to sign a token")?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }
}
