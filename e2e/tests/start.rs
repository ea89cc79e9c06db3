//! Times of pods from their creation to ready: without a proxy, with one and an init container that redirects, and with one and the
//! CNI plugin. A start causes no Event that reports a failure.
//!
//! Prints a row for each (docs/injection.md); asserts no time, as the machine may be busy. `make test` runs it after the others.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1 as core;
use kube::{Api, api::ListParams};
use serde_json::json;
use smidge_e2e::{Namespace, Pod, pod::is_ready, until, with_temp_ns};

/// Time limit for a pod, on a machine with other load.
const READY: Duration = Duration::from_mins(1);
/// Number of starts of each kind; the row has their median.
const STARTS: usize = 5;

fn pod(name: &str, labels: &serde_json::Value) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "app", "image": "smidge.local/bookstore:dev", "imagePullPolicy": "IfNotPresent",
            "args": ["bookstore"],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 14001}, "periodSeconds": 1},
        }]},
    });
    pod.to_string()
}

/// Starts pods one after another; returns the times in milliseconds, sorted.
async fn starts(namespace: &Namespace, kind: &str, labels: serde_json::Value) -> anyhow::Result<Vec<u128>> {
    let mut times = Vec::new();
    for number in 0..STARTS {
        let name = format!("{kind}-{number}");
        let started = Instant::now();
        namespace.apply(&pod(&name, &labels)).await?;
        until(&format!("{name} to be ready"), READY, async || {
            let pod = namespace.pods().get(&name).await?;
            anyhow::ensure!(is_ready(&pod), "{:?}", pod.status.map(|status| status.phase));
            Ok(())
        })
        .await?;
        times.push(started.elapsed().as_millis());
        Pod::of(namespace.pods(), &namespace.pods().get(&name).await?, "app")?.kill().await?;
    }
    times.sort_unstable();
    Ok(times)
}

/// Number of pods of which an Event may report that a probe came too early: on a machine with other load a proxy may need more
/// than the second after which it is probed first. Without that second, every pod has one.
const PROBED_EARLY: usize = 2;

/// Fails if Events report that something of the pods with a proxy has failed.
async fn no_failures(namespace: &Namespace) -> anyhow::Result<()> {
    let events: Api<core::Event> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    let events = events.list(&ListParams::default()).await?.items;
    let failures: Vec<_> = events
        .into_iter()
        .filter(|event| event.type_.as_deref() == Some("Warning"))
        .map(|event| (event.involved_object.name.unwrap_or_default(), event.reason, event.message))
        // Its own application may be probed too early; that of the others is probed when it is seen to run.
        .filter(|(name, ..)| !name.starts_with("without"))
        .collect();
    let is_early = |reason: &Option<String>| reason.as_deref() == Some("Unhealthy");
    let early = failures.iter().filter(|(_, reason, _)| is_early(reason)).count();
    anyhow::ensure!(early == failures.len() && early <= PROBED_EARLY, "{failures:#?}");
    Ok(())
}

#[tokio::test]
async fn pods_start_without_a_failure_and_their_times_are_printed() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let without = starts(namespace, "without", json!({"smidge.mesh/inject": "disabled"})).await?;
        let with = starts(namespace, "with", json!({})).await?;
        let labels = [("smidge.mesh/inject", "enabled"), ("smidge.mesh/redirection", "cni")];
        namespace.label(&labels).await?;
        let cni = starts(namespace, "cni", json!({})).await?;
        println!("| | median | fastest | slowest |\n| --- | --- | --- | --- |");
        for (kind, times) in
            [("no proxy", without), ("proxy, init container", with), ("proxy, CNI plugin", cni)]
        {
            let at = |index: usize| times.get(index).copied().unwrap_or_default();
            println!("| {kind} | {} ms | {} ms | {} ms |", at(STARTS / 2), at(0), at(STARTS - 1));
        }
        no_failures(namespace).await
    })
    .await
}
