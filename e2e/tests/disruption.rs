//! Tests the mesh when the operator stops, comes back, or lacks a part of the API server.
//!
//! These tests change the mesh itself, so `make test` runs them one at a time, after all others.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use smidge_e2e::{
    Pod, ads,
    bookstore::{EVERYTHING, HTTP, TCP, caller, everything, outsider, shop, store, target, tcp_route},
    exclusive,
    operator::Operator,
    settings::{self, with_settings},
    switch::in_every_direction,
    until, with_temp_ns,
};

const EFFECT: Duration = Duration::from_secs(20);
/// Time limit for the operator to be replaced, its leader to be found and every proxy to reconnect.
const BACK: Duration = Duration::from_secs(90);
const BOOKS: &str = "http://shop:14001/books";

/// Returns the names of the proxies that are connected, over all replicas, once there are `count` and all have what
/// they need.
async fn connected(operator: &Operator, count: Option<usize>) -> anyhow::Result<BTreeSet<String>> {
    until("the proxies to be connected and settled", BACK, async || {
        let mut names = BTreeSet::new();
        for replica in operator.replicas().await? {
            for proxy in replica.proxies().await? {
                anyhow::ensure!(proxy.get("settled") == Some(&true.into()), "not settled: {proxy}");
                names.insert(proxy.get("proxy").context("a proxy without a name")?.to_string());
            }
        }
        anyhow::ensure!(
            count.is_none_or(|count| names.len() == count),
            "{} are connected: {names:?}",
            names.len()
        );
        anyhow::ensure!(!names.is_empty(), "none is connected");
        Ok(names)
    })
    .await
}

#[tokio::test]
async fn the_operator_dies_under_load_and_nobody_notices() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let operator = Operator::of(&namespace.cluster);
        exclusive(&namespace.cluster, &namespace.name).await?;
        namespace
            .apply(&(shop("shop", "shop", "v1") + &store() + &caller("buyer") + &caller("thief")))
            .await?;
        namespace.apply(&(everything() + &target("shop", "shop", &["buyer"], EVERYTHING))).await?;
        let rules = "[{kind: TCPRoute, name: store}]";
        namespace
            .apply(&(tcp_route("store", &format!("[{TCP}]")) + &target("store", "store", &["buyer"], rules)))
            .await?;
        for app in ["shop", "store", "thief"] {
            Pod::one(namespace, app).await?;
        }
        let buyer = Pod::one(namespace, "buyer").await?;
        until("the buyer to be allowed", EFFECT, async || buyer.call(BOOKS, &[]).await?.must_all_be(200))
            .await?;
        let before = connected(&operator, None).await?;

        let calling = buyer.keep_calling(BOOKS, &["--concurrency=4", "--rate=200"]).await?;
        let fresh = buyer.keep_calling(BOOKS, &["--concurrency=2", "--rate=50", "--new-connections"]).await?;
        let dialling = buyer.keep_dialling("store:14003").await?;
        let killed = operator.replicas().await?;
        for replica in &killed {
            replica.kill().await?;
        }
        until("another pod in the place of each that was killed", BACK, async || {
            let now = operator.replicas().await?;
            anyhow::ensure!(
                now.iter().all(|pod| killed.iter().all(|dead| dead.uid != pod.uid)),
                "not replaced yet"
            );
            Ok(())
        })
        .await?;
        let after = connected(&operator, Some(before.len())).await?;
        anyhow::ensure!(before == after, "others are connected than before: {before:?}, {after:?}");

        let mut sent = 0.0;
        for replica in operator.replicas().await? {
            sent += replica.metrics().await?.sum("resources_sent_total")?;
        }
        for (kind, calls) in [("kept", calling.calls().await?), ("new", fresh.calls().await?)] {
            println!(
                "{kind} connections: {} requests, worst {:?} ms",
                calls.requests,
                calls.latency_ms.get("max")
            );
            calls.must_all_be(200)?;
        }
        let dialled = dialling.dialled().await?;
        anyhow::ensure!(dialled.end == "held", "a TCP connection was closed: {dialled:?}");
        println!("{} proxies are back, {sent} resources were sent to them", after.len());
        anyhow::ensure!(sent == 0.0, "{sent} resources were sent to proxies that had them");

        // A change takes effect, too: the operator is not only present.
        namespace.remove(&target("shop", "shop", &["buyer"], EVERYTHING)).await?;
        until("a change after the restart", EFFECT, async || buyer.call(BOOKS, &[]).await?.must_all_be(403))
            .await
    })
    .await
}

#[tokio::test]
async fn an_absent_crd_is_an_empty_list() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let cluster = &namespace.cluster;
        let operator = Operator::of(cluster);
        exclusive(cluster, &namespace.name).await?;
        let crds = cluster.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", "")?;
        let name = "udproutes.specs.smi-spec.io";
        let mut crd = crds.get(name).await?;
        crds.delete(name, &DeleteParams::default()).await?;
        until("the CRD to be gone", EFFECT, async || {
            anyhow::ensure!(crds.get_opt(name).await?.is_none(), "it is still there");
            Ok(())
        })
        .await?;

        let outcome = async {
            for replica in operator.replicas().await? {
                replica.kill().await?;
            }
            // An operator that waited at its start for a list that never comes would not become ready.
            let replica = operator.replicas().await?.pop().context("no operator")?;
            until("a finding that names the absent kind", EFFECT, async || {
                let findings = replica.page("/debug/findings").await?;
                anyhow::ensure!(findings.to_lowercase().contains("udproute"), "{findings}");
                Ok(())
            })
            .await?;
            namespace.apply(&(shop("shop", "shop", "v1") + &caller("buyer"))).await?;
            namespace.apply(&(everything() + &target("shop", "shop", &["buyer"], EVERYTHING))).await?;
            Pod::one(namespace, "shop").await?;
            let buyer = Pod::one(namespace, "buyer").await?;
            until("the rest of the mesh to work", EFFECT, async || {
                buyer.call(BOOKS, &[]).await?.must_all_be(200)
            })
            .await
        }
        .await;

        crd.metadata = kube::api::ObjectMeta {
            name: crd.metadata.name,
            labels: crd.metadata.labels,
            annotations: crd.metadata.annotations,
            ..Default::default()
        };
        crd.data.as_object_mut().context("a CRD")?.remove("status");
        crds.create(&kube::api::PostParams::default(), &crd).await?;
        outcome
    })
    .await
}

#[tokio::test]
async fn two_replicas_that_start_together_make_one_set_of_roots() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let operator = Operator::of(&namespace.cluster);
        exclusive(&namespace.cluster, &namespace.name).await?;
        let before = operator.replicas().await?.len();
        operator.scale(0).await?;
        until("the operator to be gone", BACK, async || {
            let left = operator.replicas().await?;
            anyhow::ensure!(left.is_empty(), "{} left", left.len());
            Ok(())
        })
        .await?;
        let authorities = operator.secrets();
        for secret in authorities.list(&ListParams::default()).await?.items {
            let is_release = secret.type_.as_deref().is_some_and(|kind| kind.starts_with("helm.sh/"));
            if !is_release {
                authorities
                    .delete(
                        &secret.metadata.name.context("a Secret without a name")?,
                        &DeleteParams::default(),
                    )
                    .await?;
            }
        }
        operator.scale(2).await?;
        let replicas = until("two replicas", BACK, async || {
            let replicas = operator.replicas().await?;
            anyhow::ensure!(replicas.len() == 2, "{} replicas", replicas.len());
            Ok(replicas)
        })
        .await?;

        // A proxy that was injected by either replica must trust both, and reach a server that was injected by either.
        namespace.apply(&(shop("shop", "shop", "v1") + &caller("buyer") + &outsider("outsider"))).await?;
        namespace.apply(&(everything() + &target("shop", "shop", &["buyer"], EVERYTHING))).await?;
        let shop = Pod::one(namespace, "shop").await?;
        let buyer = Pod::one(namespace, "buyer").await?;
        for pod in [&shop, &buyer] {
            let trust = ads::Trust::of(pod).await?;
            for replica in &replicas {
                ads::handshake(replica, &trust)
                    .await
                    .with_context(|| format!("{} and {}", pod.name, replica.name))?;
            }
        }
        let url = format!("http://shop:{HTTP}/books");
        until("the buyer to be allowed", EFFECT, async || buyer.call(&url, &[]).await?.must_all_be(200))
            .await?;
        operator.scale(u32::try_from(before)?).await?;
        operator.replicas().await.map(drop)
    })
    .await
}

#[tokio::test]
async fn the_whole_mesh_switches_in_every_direction_and_loses_no_allowed_request() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        with_settings(namespace, async || {
            in_every_direction(namespace, async |mode| {
                settings::set(namespace, json!({"access": {"mode": mode}})).await
            })
            .await
        })
        .await
    })
    .await
}
