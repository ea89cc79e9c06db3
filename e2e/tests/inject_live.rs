//! Tests `smidge inject | kubectl apply -f -` against the cluster: it needs no flag and no right but to read, its pods are in
//! the mesh where the webhook adds no proxy, and pods are refused where they would wait for ever.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use kube::api::ListParams;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{caller, shop},
    until, with_temp_ns,
};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Time limit for a caller to see the effect of a change, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(30);

/// Returns the path of this build's program, which is in the folder above the tests.
fn program() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(|deps| deps.parent()).context("no folder above the test")?;
    Ok(folder.join("smidge"))
}

/// Runs `smidge inject` on these manifests; returns its exit status, standard output and standard error.
async fn inject(namespace: &str, yaml: &str) -> anyhow::Result<(Option<i32>, String, String)> {
    let kubeconfig = std::env::var_os("SMIDGE_KUBECONFIG").context("no cluster is under test")?;
    let mut command = Command::new(program()?);
    command.args(["inject", "-f", "-", "-n", namespace]).env("KUBECONFIG", kubeconfig);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().context("failed to run smidge inject")?;
    let mut stdin = process.stdin.take().context("standard input")?;
    stdin.write_all(yaml.as_bytes()).await?;
    drop(stdin);
    let output = process.wait_with_output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

async fn apply_injected(namespace: &Namespace, yaml: &str) -> anyhow::Result<()> {
    let (code, manifests, messages) = inject(&namespace.name, yaml).await?;
    anyhow::ensure!((code, messages.as_str()) == (Some(0), ""), "{code:?}: {messages}");
    namespace.kubectl_with("apply -f -", &manifests, "false").await?;
    Ok(())
}

#[tokio::test]
async fn its_output_joins_the_mesh_where_the_webhook_adds_no_proxy() -> anyhow::Result<()> {
    with_temp_ns(
        &[("smidge.mesh/inject", "manual"), ("smidge.mesh/access", "permissive")],
        async |namespace| {
            namespace.apply(&caller("plain")).await?;
            apply_injected(namespace, &(shop("shop", "shop", "v1") + &caller("buyer"))).await?;
            let buyer = Pod::one(namespace, "buyer").await?;
            Pod::one(namespace, "shop").await?;
            let plain = Pod::one(namespace, "plain").await?;
            until("the buyer to get through", EFFECT, async || {
                buyer.call("http://shop:14001/books", &[]).await?.must_all_be(200)
            })
            .await?;
            // Strict mTLS is the default: the shop answers no one without a certificate of the mesh, so the buyer has one.
            let refused = plain.call("http://shop:14001/books", &[]).await?;
            anyhow::ensure!(
                refused.must_all_be(200).is_err(),
                "a caller without a proxy got through: {refused:?}"
            );
            let pods = namespace.pods().list(&ListParams::default().labels("app=plain")).await?.items;
            let inits = pods
                .iter()
                .flat_map(|pod| pod.spec.iter().flat_map(|it| it.init_containers.iter().flatten()));
            anyhow::ensure!(inits.count() == 0, "the webhook has injected a pod");
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn pods_of_the_webhook_call_them() -> anyhow::Result<()> {
    with_temp_ns(
        &[("smidge.mesh/inject", "manual"), ("smidge.mesh/access", "permissive")],
        async |namespace| {
            apply_injected(namespace, &shop("shop", "shop", "v1")).await?;
            Pod::one(namespace, "shop").await?;
            let address = format!("http://shop.{}:14001/books", namespace.name);
            with_temp_ns(&[], async |callers| {
                callers.apply(&caller("buyer")).await?;
                let buyer = Pod::one(callers, "buyer").await?;
                until("the buyer to get through", EFFECT, async || {
                    buyer.call(&address, &[]).await?.must_all_be(200)
                })
                .await
            })
            .await
        },
    )
    .await
}

#[tokio::test]
async fn nothing_is_printed_for_a_namespace_outside_the_mesh() -> anyhow::Result<()> {
    with_temp_ns(&[("smidge.mesh/inject", "disabled")], async |namespace| {
        let (code, manifests, messages) = inject(&namespace.name, &caller("buyer")).await?;
        anyhow::ensure!((code, manifests.as_str()) == (Some(1), ""), "{code:?}: {manifests}");
        anyhow::ensure!(
            messages.contains("is not in the mesh: its pods would get no certificate"),
            "{messages}"
        );
        Ok(())
    })
    .await
}

/// A user of one namespace needs no right in the operator's.
#[tokio::test]
async fn a_user_of_one_namespace_reads_the_settings_and_no_secret() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let can = async |what: &str| {
            let user = format!("system:serviceaccount:{}:default", namespace.name);
            let line =
                format!("auth can-i get {what} -n smidge-system --as {user} --as-group system:authenticated");
            namespace.kubectl(&line).await.is_ok()
        };
        anyhow::ensure!(can("configmap/smidge-injection").await, "the settings cannot be read");
        for what in ["secret/smidge-root-control-plane", "secret/smidge-mesh-key", "configmap/other"] {
            anyhow::ensure!(!can(what).await, "{what} can be read");
        }
        Ok(())
    })
    .await
}
