//! Tests that calls work in every IP family that the cluster has: at each address of a Service and of a pod, with policy, and
//! with the share of a pod that has addresses of both families.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, deployment, everything, service, shop, target},
    until, with_temp_ns,
};

const EFFECT: Duration = Duration::from_mins(1);

/// Returns an address as in a URL.
fn in_url(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// Returns the addresses of a Service: one of each family.
async fn addresses(namespace: &Namespace, name: &str) -> anyhow::Result<Vec<String>> {
    let services = Api::<core::Service>::namespaced(namespace.cluster.client(), &namespace.name);
    let spec = services.get(name).await?.spec.context("a Service without a spec")?;
    let addresses = spec.cluster_ips.unwrap_or_default();
    anyhow::ensure!(!addresses.is_empty(), "{name} has no address");
    // Where the cluster's families are known, a test of one of two must not pass for one of both.
    if let Ok(families) = std::env::var("CLUSTER_FAMILIES") {
        let expected = if families == "dual" { 2 } else { 1 };
        anyhow::ensure!(addresses.len() == expected, "{name} has {addresses:?} in a cluster of {families}");
    }
    Ok(addresses)
}

#[tokio::test]
async fn a_service_is_called_and_denied_at_each_of_its_addresses() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
        namespace
            .apply(&(shop("shop", "shop", "v1") + &caller("buyer") + &caller("thief") + &policy))
            .await?;
        Pod::one(namespace, "shop").await?;
        let (buyer, thief) = (Pod::one(namespace, "buyer").await?, Pod::one(namespace, "thief").await?);
        for address in addresses(namespace, "shop").await? {
            let url = format!("http://{}:{HTTP}/books", in_url(&address));
            until(&format!("the buyer to be answered at {address}"), EFFECT, async || {
                buyer.call(&url, &["--count=20"]).await?.must_all_be(200)
            })
            .await?;
            until(&format!("the thief to be refused at {address}"), EFFECT, async || {
                let calls = thief.call(&url, &["--count=20"]).await?;
                anyhow::ensure!(calls.only_status() == Some(403), "{calls:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    })
    .await
}

/// A pod with two addresses is in two EndpointSlices, and must not have two shares.
#[tokio::test]
async fn every_pod_has_one_share() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let member = |app: &str| {
            let labels = format!("{{app: {app}, part-of: shop}}");
            deployment(app, "shop", &labels, "", &["bookstore", "--name", app], HTTP)
        };
        let both = service("shop", "shop", HTTP).replace("{app: shop}", "{part-of: shop}");
        let each = service("each", "", HTTP)
            .replace("selector: {app: }", "clusterIP: None\n  selector: {part-of: shop}");
        let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
        let objects = member("one") + &member("two") + &both + &each + &caller("buyer") + &policy;
        namespace.apply(&objects).await?;
        let buyer = Pod::one(namespace, "buyer").await?;
        let pods = [Pod::one(namespace, "one").await?, Pod::one(namespace, "two").await?];
        for address in addresses(namespace, "shop").await? {
            let url = format!("http://{}:{HTTP}/books", in_url(&address));
            until(&format!("both pods to answer at {address}"), EFFECT, async || {
                let calls = buyer.call(&url, &["--count=100", "--concurrency=4"]).await?;
                calls.must_all_be(200)?;
                let least = pods.iter().map(|pod| app(pod, &calls.served_by)).min().unwrap_or_default();
                anyhow::ensure!(least >= 30, "{calls:?}");
                Ok(())
            })
            .await?;
        }
        for pod in &pods {
            let ips = pod.object().await?.status.and_then(|status| status.pod_ips).unwrap_or_default();
            anyhow::ensure!(!ips.is_empty(), "{} has no address", pod.name);
            for ip in ips {
                let url = format!("http://{}:{HTTP}/books", in_url(&ip.ip));
                until(&format!("{} alone to answer at {}", pod.name, ip.ip), EFFECT, async || {
                    let calls = buyer.call(&url, &["--count=20"]).await?;
                    calls.must_all_be(200)?;
                    anyhow::ensure!(app(pod, &calls.served_by) == 20, "{calls:?}");
                    Ok(())
                })
                .await?;
            }
        }
        Ok(())
    })
    .await
}

/// Returns the number of answers of a pod, whose name begins with that of its application.
fn app(pod: &Pod, served_by: &std::collections::BTreeMap<String, u64>) -> u64 {
    let name = pod.name.split('-').next().unwrap_or_default();
    served_by.get(name).copied().unwrap_or_default()
}
