//! Tests the status conditions of every kind of object: at its generation, with the proxy's message if the proxy
//! refuses it.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, everything, shop, split, target, tcp_route},
    nacking_client::{NackingClient, WORDS},
    operator::Operator,
    status::{STATUS, message},
    until, with_temp_ns,
};

/// Creates a shop that a buyer may call, with an object of every kind that SMI has.
async fn scenario(namespace: &Namespace) -> anyhow::Result<(Pod, Pod)> {
    namespace
        .apply(&(shop("shop", "shop", "v1") + &shop("shop-v2", "shop", "v2") + &caller("buyer")))
        .await?;
    let rules = "[{kind: HTTPRouteGroup, name: everything}, {kind: TCPRoute, name: shop}]";
    namespace
        .apply(
            &(everything()
                + &tcp_route("shop", &format!("[{HTTP}]"))
                + &tcp_route("unused", "[1]")
                + &target("shop", "shop", &["buyer"], rules)
                + &split("v1alpha4", "shop", &[("shop", 1), ("shop-v2", 1)])
                + "
apiVersion: specs.smi-spec.io/v1alpha4
kind: UDPRoute
metadata: {name: names}
spec: {matches: {ports: [53]}}
---
apiVersion: access.smi-spec.io/v1alpha4
kind: IdentityBinding
metadata: {name: buyers}
spec: {schemes: {serviceAccount: buyer}}
---
apiVersion: access.smi-spec.io/v1alpha4
kind: TrafficTarget
metadata: {name: bound}
spec:
  destination: {kind: ServiceAccount, name: shop}
  sources: [{kind: IdentityBinding, name: buyers}]
  rules: [{kind: HTTPRouteGroup, name: everything}]
"),
        )
        .await?;
    // A proxy that connects later would be one more that has to acknowledge the resources.
    Pod::one(namespace, "shop-v2").await?;
    Ok((Pod::one(namespace, "shop").await?, Pod::one(namespace, "buyer").await?))
}

#[tokio::test]
async fn every_kind_says_when_proxies_have_it() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        scenario(namespace).await?;
        for (kind, name) in [
            ("TrafficTarget", "shop"),
            ("TrafficTarget", "bound"),
            ("TrafficSplit", "shop"),
            ("HTTPRouteGroup", "everything"),
            ("TCPRoute", "shop"),
            ("IdentityBinding", "buyers"),
        ] {
            let (_, programmed) = namespace.condition(kind, name, "Programmed", "True", "Programmed").await?;
            println!("{kind} {name}: {}", message(&programmed));
            namespace.condition(kind, name, "Ready", "True", "Ready").await?;
        }
        namespace.condition("TCPRoute", "unused", "Programmed", "True", "NotInUse").await?;
        namespace.condition("TCPRoute", "unused", "Ready", "True", "Ready").await?;
        namespace.condition("UDPRoute", "names", "Programmed", "False", "UdpNotProxied").await?;
        namespace.condition("UDPRoute", "names", "Ready", "True", "Ready").await.map(drop)
    })
    .await
}

/// Runs the commands of users and scripts, word by word, with the real program.
#[tokio::test]
async fn kubectl_waits_for_every_kind() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        scenario(namespace).await?;
        for (object, conditions) in [
            ("traffictarget/shop", ["Programmed", "Ready"]),
            ("traffictarget/bound", ["Programmed", "Ready"]),
            ("httproutegroup/everything", ["Programmed", "Ready"]),
            ("tcproute/shop", ["Programmed", "Ready"]),
            ("trafficsplit/shop", ["Programmed", "Ready"]),
            ("identitybinding/buyers", ["Programmed", "Ready"]),
            ("udproute/names", ["Programmed=false", "Ready"]),
            // The request of a client whose tools know an old version only.
            ("trafficsplits.v1alpha1.split.smi-spec.io/shop", ["Programmed", "Ready"]),
        ] {
            for condition in conditions {
                let line = format!("wait --for=condition={condition} {object} --timeout=30s");
                println!("kubectl {line}: {}", namespace.kubectl(&line).await?);
            }
        }
        // `kubectl wait` also waits for a change: a condition of the previous generation does not count.
        namespace.apply(&split("v1alpha2", "shop", &[("shop", 9), ("shop-v2", 1)])).await?;
        namespace.kubectl("wait --for=condition=Programmed trafficsplit/shop --timeout=30s").await?;
        let split = namespace.smi("TrafficSplit", "shop").await?;
        let observed = split.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
        anyhow::ensure!(observed == split.metadata.generation, "kubectl did not wait: {:?}", split.data);
        let reason = "jsonpath={.status.conditions[?(@.type==\"Programmed\")].reason}";
        let reason = namespace.kubectl(&format!("get udproute/names --output {reason}")).await?;
        anyhow::ensure!(reason == "UdpNotProxied", "the UDPRoute says {reason}");
        let table = namespace.kubectl("get traffictargets,httproutegroups,tcproutes,trafficsplits").await?;
        println!("{table}");
        anyhow::ensure!(table.contains("READY") && table.contains("AGE"), "neither Ready nor age: {table}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_missing_shows_and_heals_when_it_comes() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&target("early", "shop", &["buyer"], EVERYTHING)).await?;
        let (_, resolved) =
            namespace.condition("TrafficTarget", "early", "ResolvedRefs", "False", "RouteNotFound").await?;
        anyhow::ensure!(message(&resolved).contains("everything"), "it does not say what: {resolved}");
        namespace.condition("TrafficTarget", "early", "Ready", "False", "RouteNotFound").await?;
        namespace.apply(&everything()).await?;
        namespace.condition("TrafficTarget", "early", "Programmed", "True", "NotInUse").await?;
        namespace.condition("TrafficTarget", "early", "Ready", "True", "Ready").await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_status_stays_untouched_while_others_change() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        scenario(namespace).await?;
        let before = until("both shops to have the target", STATUS, async || {
            let target =
                namespace.condition("TrafficTarget", "shop", "Programmed", "True", "Programmed").await;
            let (target, programmed) = target?;
            anyhow::ensure!(message(&programmed).contains("all 2 affected proxies"), "{programmed}");
            Ok(target)
        })
        .await?;
        // The ten snapshots that the buyer acknowledges one by one give the target's status enough time to change if it
        // would.
        for weight in 2..12 {
            namespace.apply(&split("v1alpha4", "shop", &[("shop", weight), ("shop-v2", 1)])).await?;
            namespace.condition("TrafficSplit", "shop", "Programmed", "True", "Programmed").await?;
        }
        let after = namespace.smi("TrafficTarget", "shop").await?;
        anyhow::ensure!(
            before.metadata.resource_version == after.metadata.resource_version,
            "it was written meanwhile: {:?}, {:?}",
            before.data,
            after.data
        );
        Ok(())
    })
    .await
}

/// Returns the replica that the proxy of `pod` is connected to.
async fn replica_of(namespace: &Namespace, pod: &Pod) -> anyhow::Result<Pod> {
    let operator = Operator::of(&namespace.cluster);
    until("the proxy to be connected", Duration::from_secs(20), async || {
        for replica in operator.replicas().await? {
            let name = format!("/{}/{}\"", pod.namespace, pod.name);
            if replica.proxies().await?.iter().any(|proxy| proxy.to_string().contains(&name)) {
                return Ok(replica);
            }
        }
        anyhow::bail!("no replica has it")
    })
    .await
}

#[tokio::test]
async fn a_refusal_shows_on_the_object_that_caused_it_and_heals_with_it() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&(shop("shop", "shop", "v1") + &caller("buyer") + &everything())).await?;
        namespace.apply(&target("innocent", "shop", &["buyer"], EVERYTHING)).await?;
        let shop = Pod::one(namespace, "shop").await?;
        namespace.condition("TrafficTarget", "innocent", "Programmed", "True", "Programmed").await?;
        let replica = replica_of(namespace, &shop).await?;
        let nacking_client = NackingClient::of(&namespace.cluster, &shop, &replica).await?;
        nacking_client.refuse(true)?;

        namespace.apply(&target("culprit", "shop", &["somebody"], EVERYTHING)).await?;
        let (_, programmed) =
            namespace.condition("TrafficTarget", "culprit", "Programmed", "False", "Rejected").await?;
        let said = message(&programmed);
        anyhow::ensure!(
            said.contains("0 of 1") && said.contains(WORDS) && said.contains(&shop.name),
            "the words are not the proxy's: {said}"
        );
        namespace.condition("TrafficTarget", "culprit", "Ready", "False", "Rejected").await?;
        namespace.condition("TrafficTarget", "culprit", "Accepted", "True", "Accepted").await?;
        let innocent = namespace.condition("TrafficTarget", "innocent", "Programmed", "True", "Programmed");
        innocent.await.context("another object was blamed")?;
        let events = namespace.cluster.api("v1", "Event", &namespace.name)?;
        until("an Event with the same reason", Duration::from_secs(20), async || {
            let all = events.list(&kube::api::ListParams::default()).await?.items;
            let ours = all.iter().filter(|event| event.data.get("reason") == Some(&"Rejected".into()));
            anyhow::ensure!(
                ours.into_iter().any(|event| event.data.to_string().contains("culprit")),
                "{} Events",
                all.len()
            );
            Ok(())
        })
        .await?;

        nacking_client.refuse(false)?;
        namespace.apply(&target("culprit", "shop", &["somebody-else"], EVERYTHING)).await?;
        namespace.condition("TrafficTarget", "culprit", "Programmed", "True", "Programmed").await?;
        namespace.condition("TrafficTarget", "culprit", "Ready", "True", "Ready").await.map(drop)
    })
    .await
}
