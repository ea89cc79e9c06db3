//! Tests which callers the operator's webhooks answer where the API server presents a client certificate: requests each
//! path of port 9443 as every kind of caller, past the NetworkPolicy.
//!
//! Needs a cluster whose API server presents one, as that of `e2e/cluster` does, and the values that e2e/mesh gives the
//! chart. The content of the responses is tested elsewhere, through that API server.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::json;
use smidge_e2e::{Cluster, Pod, operator::Operator, with_temp_ns};
use tokio_rustls::TlsConnector;

const WEBHOOK: u16 = 9443;
const NAME: &str = "smidge-webhook.smidge-system.svc";

/// Returns the roots by which the API server verifies the webhooks.
async fn roots(cluster: &Cluster) -> anyhow::Result<RootCertStore> {
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client());
    let webhooks = configurations.get("smidge-validator").await?.webhooks;
    let bundle = webhooks.into_iter().flatten().find_map(|webhook| webhook.client_config.ca_bundle);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bundle.context("no caBundle")?.0) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// Sends a review to `replica`, with the client certificate `shown` of the cluster's own, or none; returns status and
/// body.
async fn ask(
    replica: &Pod,
    roots: &RootCertStore,
    shown: Option<&PathBuf>,
    path: &str,
) -> anyhow::Result<(StatusCode, String)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots.clone());
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(path.with_extension("crt"))?],
            PrivateKeyDer::from_pem_file(path.with_extension("key"))?,
        )?,
    };
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(NAME)?, replica.dial(WEBHOOK).await?).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "namespace": "kube-system", "name": "a",
        "kind": {"group": "split.smi-spec.io", "version": "v1alpha4", "kind": "TrafficSplit"},
        "object": {"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": {"name": "a"},
            "spec": {"service": "kube-dns", "backends": []}},
    }});
    let request = Request::post(path).header("host", NAME).body(Full::<Bytes>::from(request.to_string()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Returns the folder of the cluster's keys, if the operator is configured to request client certificates and the keys
/// exist.
async fn keys(operator: &Pod) -> anyhow::Result<Option<PathBuf>> {
    let containers = operator.object().await?.spec.context("a pod without a spec")?.containers;
    let mut args = containers.into_iter().filter_map(|container| container.args).flatten();
    let asks = args.any(|arg| arg.starts_with("--webhook-client-ca="));
    let folder = std::env::var_os("CLUSTER_PKI").map(PathBuf::from).filter(|_| asks);
    if folder.is_none() {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        anyhow::ensure!(
            !ci,
            "no webhook.clientCA, or CLUSTER_PKI is not set, and with CI=true nothing is skipped"
        );
        eprintln!("skipped: no webhook.clientCA, or CLUSTER_PKI names no folder of keys");
    }
    Ok(folder)
}

#[tokio::test]
async fn whoever_reaches_the_webhooks_without_the_api_servers_certificate_hears_nothing() -> anyhow::Result<()>
{
    with_temp_ns(&[], async |namespace| {
        let cluster = &namespace.cluster;
        let replicas = Operator::of(cluster).replicas().await?;
        let roots = roots(cluster).await?;
        for replica in &replicas {
            let Some(keys) = keys(replica).await? else { return Ok(()) };
            for path in ["/validate", "/inject"] {
                let (status, words) = ask(replica, &roots, None, path).await?;
                anyhow::ensure!(status == StatusCode::FORBIDDEN, "{path}: {status} {words}");
                anyhow::ensure!(words.contains("webhook.clientCA"), "{path}: {words}");
            }
            // The body is not a ConversionReview, so it is answered with 400; but it was read.
            let (status, words) = ask(replica, &roots, None, "/convert").await?;
            anyhow::ensure!(status == StatusCode::BAD_REQUEST, "/convert: {status} {words}");
            // The API server's own certificate, but the one for kubelets: another authority has signed it.
            let other = keys.join("kubelet-client");
            let outcome = ask(replica, &roots, Some(&other), "/validate").await;
            anyhow::ensure!(outcome.is_err(), "a certificate of another authority: {outcome:?}");
            let own = keys.join("webhook-client");
            let (status, words) = ask(replica, &roots, Some(&own), "/validate").await?;
            anyhow::ensure!(status == StatusCode::OK && words.contains("\"allowed\""), "{status} {words}");
        }
        Ok(())
    })
    .await
}
