//! Tests that one replica leads, receives the reports of the other replicas, and is replaced when it dies; and the cost
//! of a thousand objects.
//!
//! These tests change the operator itself, so `make test` runs them one at a time, after all others.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::ListParams;
use serde_json::Value;
use smidge_e2e::{
    Cluster, Namespace, Pod,
    bookstore::{EVERYTHING, caller, everything, route_group, shop, split, target, tcp_route},
    exclusive,
    nacking_client::{NackingClient, WORDS},
    operator::{NAMESPACE, Operator},
    status::{condition_of, message},
    until, with_temp_ns,
};

/// Time limit for another replica to find that the leader is dead, and to lead.
const TAKE_OVER: Duration = Duration::from_mins(1);

/// Returns the leader, and a replica that does not lead.
async fn roles(cluster: &Cluster) -> anyhow::Result<(Pod, Option<Pod>)> {
    let operator = Operator::of(cluster);
    until("one of the replicas to lead", TAKE_OVER, async || {
        let lease = cluster.get("coordination.k8s.io/v1", "Lease", NAMESPACE, "smidge-leader").await?;
        let holder = lease.data.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default();
        let (mut leads, others): (Vec<Pod>, Vec<Pod>) =
            operator.replicas().await?.into_iter().partition(|replica| replica.name == holder);
        let leader = leads.pop().with_context(|| format!("{holder:?} leads, which is no replica"))?;
        Ok((leader, others.into_iter().next()))
    })
    .await
}

/// Returns the replica that the proxy of a pod is connected to.
async fn replica_of(pod: &Pod, replicas: [&Pod; 2]) -> anyhow::Result<Pod> {
    until("the proxy to be connected", TAKE_OVER, async || {
        for replica in replicas {
            if replica.page("/debug/proxies").await?.contains(&pod.name) {
                return Ok(replica.clone());
            }
        }
        anyhow::bail!("no replica knows {}", pod.name)
    })
    .await
}

#[tokio::test]
async fn proxies_of_every_replica_count_and_a_dead_leader_is_replaced() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let operator = Operator::of(&namespace.cluster);
        let before = operator.replicas().await?.len();
        operator.scale(2).await?;
        let outcome = async {
            namespace.apply(&(shop("shop", "shop", "v1") + &caller("buyer") + &everything())).await?;
            namespace.apply(&target("first", "shop", &["buyer"], EVERYTHING)).await?;
            let shop = Pod::one(namespace, "shop").await?;
            let (leader, other) = roles(&namespace.cluster).await?;
            let other = other.context("a second replica")?;
            until("the leader to hear of the other replica", TAKE_OVER, async || {
                let heard = leader.metrics().await?.sum("peers_reporting")?;
                anyhow::ensure!(heard > 0.0, "it hears {heard}");
                Ok(())
            })
            .await?;
            namespace.condition("TrafficTarget", "first", "Programmed", "True", "Programmed").await?;

            // The refusing client connects to the replica of the pod's own proxy: its stream is the later one there,
            // and it alone counts. At another replica, the ACK of the proxy would arrive before the NACK, and would
            // remain in effect.
            let replica = replica_of(&shop, [&other, &leader]).await?;
            println!(
                "the proxy is with the replica that {}",
                if replica.uid == leader.uid { "leads" } else { "does not lead" }
            );
            let nacking_client = NackingClient::of(&namespace.cluster, &shop, &replica).await?;
            nacking_client.refuse(true)?;
            namespace.apply(&target("second", "shop", &["nobody"], EVERYTHING)).await?;
            let (_, programmed) =
                namespace.condition("TrafficTarget", "second", "Programmed", "False", "Rejected").await?;
            anyhow::ensure!(message(&programmed).contains(WORDS), "not its words: {programmed}");
            drop(nacking_client);
            namespace.condition("TrafficTarget", "second", "Programmed", "True", "Programmed").await?;

            let first = namespace.smi("TrafficTarget", "first").await?;
            leader.kill().await?;
            let killed = Instant::now();
            until("another replica to lead", TAKE_OVER, async || {
                let (now, _) = roles(&namespace.cluster).await?;
                anyhow::ensure!(now.uid != leader.uid, "{} still leads", now.name);
                Ok(())
            })
            .await?;
            println!("{} s after it was killed another replica leads", killed.elapsed().as_secs());
            namespace.apply(&target("third", "shop", &["nobody"], EVERYTHING)).await?;
            namespace.condition("TrafficTarget", "third", "Programmed", "True", "Programmed").await?;
            let again = namespace.smi("TrafficTarget", "first").await?;
            for condition in ["Accepted", "ResolvedRefs", "Programmed", "Ready"] {
                let since =
                    |object| condition_of(object, condition).map(|it| it.get("lastTransitionTime").cloned());
                anyhow::ensure!(since(&first)? == since(&again)?, "{condition} changed with the leader");
            }
            Ok(())
        }
        .await;
        operator.scale(u32::try_from(before)?).await?;
        operator.replicas().await?;
        outcome
    })
    .await
}

/// Returns the number of statuses that the operator has written.
async fn writes(operator: &Operator) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for replica in operator.replicas().await? {
        sum += replica.metrics().await?.sum("status_writes_total")?;
    }
    Ok(sum)
}

/// Waits until no status write is pending.
async fn settled(cluster: &Cluster) -> anyhow::Result<()> {
    until("every status to be written", Duration::from_mins(3), async || {
        let (leader, _) = roles(cluster).await?;
        let waiting = leader.metrics().await?.sum("status_writes_pending")?;
        anyhow::ensure!(waiting == 0.0, "{waiting} wait");
        Ok(())
    })
    .await
}

/// Time limit for a thousand objects to be created and to have their statuses: 50 a second are written.
const THOUSAND: Duration = Duration::from_mins(3);
/// Maximum number of concurrent requests.
const AT_ONCE: usize = 8;

/// Builds `count` objects of four kinds in turn; some refer to the one before them, some to objects that do not exist.
fn mixture(count: usize) -> Vec<String> {
    let rules = |n: usize| format!("[{{kind: HTTPRouteGroup, name: object-{}}}]", n - 1);
    (0..count)
        .map(|n| {
            let name = format!("object-{n}");
            match n % 5 {
                0 => route_group(&name, "[{name: all, pathRegex: '/a', methods: ['GET']}]"),
                1 => target(&name, "nobody", &["somebody"], &rules(n)),
                2 => split("v1alpha4", &name, &[("nowhere", 1)]),
                _ => tcp_route(&name, "[80]"),
            }
        })
        .collect()
}

/// Waits until all objects of `kind` in this namespace have the condition Ready.
async fn all_say_so(namespace: &Namespace, version: &str, kind: &str) -> anyhow::Result<usize> {
    let api = namespace.cluster.api(version, kind, &namespace.name)?;
    until(&format!("every {kind} to say whether it is ready"), THOUSAND, async || {
        let all = api.list(&ListParams::default()).await?.items;
        let silent = all.iter().filter(|object| condition_of(object, "Ready").is_err()).count();
        anyhow::ensure!(silent == 0, "{silent} of {} do not", all.len());
        Ok(all.len())
    })
    .await
}

#[tokio::test]
async fn a_thousand_objects_at_once_cost_one_write_each_and_silence_costs_none() -> anyhow::Result<()> {
    let quiet = std::env::var("SMIDGE_QUIET").ok().and_then(|quiet| quiet.parse().ok()).unwrap_or(12);
    let count = 1000;
    with_temp_ns(&[], async |namespace| {
        let operator = Operator::of(&namespace.cluster);
        exclusive(&namespace.cluster, &namespace.name).await?;
        settled(&namespace.cluster).await?;
        let before = writes(&operator).await?;
        let started = Instant::now();
        stream::iter(mixture(count))
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, async |object| namespace.apply(&object).await)
            .await?;
        let created = started.elapsed();
        let mut seen = 0;
        for (group, kind) in [
            ("access", "TrafficTarget"),
            ("specs", "HTTPRouteGroup"),
            ("specs", "TCPRoute"),
            ("split", "TrafficSplit"),
        ] {
            seen += all_say_so(namespace, &format!("{group}.smi-spec.io/v1alpha4"), kind).await?;
        }
        anyhow::ensure!(seen == count, "{seen} objects of {count}");
        settled(&namespace.cluster).await?;
        let after = writes(&operator).await?;
        println!(
            "{count} objects created in {:.1} s, {} statuses written, done after {:.1} s",
            created.as_secs_f64(),
            after - before,
            started.elapsed().as_secs_f64()
        );
        // A target that comes before its routes may first report them missing, and then report that they exist.
        let wanted = f64::from(u32::try_from(count)?);
        anyhow::ensure!(after - before >= wanted, "some have no status");
        anyhow::ensure!(after - before <= wanted * 1.3, "{} writes for {count} objects", after - before);

        let silent = Instant::now();
        let mut rhythm = tokio::time::interval(Duration::from_secs(5));
        while silent.elapsed() < Duration::from_secs(quiet) {
            rhythm.tick().await;
            let now = writes(&operator).await?;
            anyhow::ensure!(
                now <= after,
                "{} writes after {} s of silence",
                now - after,
                silent.elapsed().as_secs()
            );
        }
        println!("no status written in {quiet} s of silence");
        Ok(())
    })
    .await
}
