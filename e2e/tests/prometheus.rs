//! Tests the metrics that the operator shows Prometheus, with the real program: the queries of Flagger and those of Argo
//! Rollouts' documentation give the right numbers while a canary's weights are moved as those tools move them.
//!
//! What servers do is known: one version answers after 20 ms, the other after 60 ms, and every fourth time with 500.

use std::time::Duration;

use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, everything, service, split, target, workload},
    operator::Operator,
    prometheus::Prometheus,
    until, with_temp_ns,
};

/// Port and path of the operator's metrics.
const METRICS: (u16, &str) = (15014, "/metrics");
/// Time limit for calls to be counted and scraped: a few pushes, on a machine with other load.
const COUNTED: Duration = Duration::from_mins(1);
/// Time limit for a caller to see the effect of an edit.
const EFFECT: Duration = Duration::from_secs(20);
const ROOT: &str = "http://shop:14001/books";
/// Range of the queries.
const INTERVAL: &str = "2m";

/// The queries of a tool's provider: success rate in percent and 99th percentile of the latency in milliseconds of a
/// Deployment.
struct Provider {
    name: &'static str,
    requests: &'static str,
    success: &'static str,
    latency: &'static str,
}

/// Those of Flagger for its mesh providers; `smi` queries as `istio` does.
const PROVIDERS: [Provider; 3] = [
    Provider {
        name: "osm",
        requests: r#"osm_request_total{destination_namespace="NS", destination_kind="Deployment", destination_name="APP""#,
        success: r#", response_code!~"5.*"}"#,
        latency: r#"osm_request_duration_ms_bucket{destination_namespace="NS", destination_kind="Deployment", destination_name="APP"}"#,
    },
    Provider {
        name: "istio",
        requests: r#"istio_requests_total{reporter="destination", destination_workload_namespace="NS", destination_workload=~"APP""#,
        success: r#", response_code!~"5.*"}"#,
        latency: r#"istio_request_duration_milliseconds_bucket{reporter="destination", destination_workload_namespace="NS", destination_workload=~"APP"}"#,
    },
    Provider {
        name: "linkerd",
        requests: r#"response_total{namespace="NS", deployment=~"APP", direction="inbound""#,
        success: r#", classification!="failure"}"#,
        latency: r#"response_latency_ms_bucket{namespace="NS", deployment=~"APP", direction="inbound"}"#,
    },
];

impl Provider {
    async fn ask(
        &self,
        prometheus: &Prometheus,
        namespace: &Namespace,
        app: &str,
    ) -> anyhow::Result<(f64, f64)> {
        let of = |text: &str| text.replace("NS", &namespace.name).replace("APP", app);
        let rate = |series: &str| format!("sum(rate({series}[{INTERVAL}]))");
        let (good, all) = (format!("{}{}", self.requests, self.success), format!("{}}}", self.requests));
        let success = format!("{} / {} * 100", rate(&of(&good)), rate(&of(&all)));
        let latency =
            format!("histogram_quantile(0.99, sum(rate({}[{INTERVAL}])) by (le))", of(self.latency));
        let value = async |query: &str| {
            let value = prometheus.query(query).await?;
            value
                .filter(|it| it.is_finite())
                .ok_or_else(|| anyhow::anyhow!("{}: no value of {query}", self.name))
        };
        Ok((value(&success).await?, value(&latency).await?))
    }
}

/// Creates a Deployment of one version, with its Service.
fn version(app: &str, behaviour: &[&str]) -> String {
    let args = [&["bookstore", "--name", app][..], behaviour].concat();
    workload(app, "shop", &args, HTTP) + &service(app, app, HTTP)
}

/// Creates both versions behind a split, a buyer that may call them, and a thief that may not.
async fn scenario(namespace: &Namespace) -> anyhow::Result<(Pod, Pod)> {
    let primary = version("shop-primary", &["--delay-ms=20"]);
    let canary = version("shop-canary", &["--delay-ms=60", "--fail-every=4"]);
    namespace.apply(&(primary + &canary + &service("shop", "shop-primary", HTTP))).await?;
    let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
    namespace.apply(&(caller("buyer") + &caller("thief") + &policy)).await?;
    for app in ["shop-primary", "shop-canary"] {
        Pod::one(namespace, app).await?;
    }
    Ok((Pod::one(namespace, "buyer").await?, Pod::one(namespace, "thief").await?))
}

/// Writes the weights of primary and canary in a version of the API, calls until the canary's share follows, and returns
/// the number of calls by status.
async fn shift(namespace: &Namespace, buyer: &Pod, version: &str, canary: u32) -> anyhow::Result<[u32; 2]> {
    let weights = [("shop-primary", 100 - canary), ("shop-canary", canary)];
    namespace.apply(&split(version, "shop", &weights)).await?;
    let mut made = [0_u32; 2];
    let expected = f64::from(canary);
    until("the canary's share to follow its weight", EFFECT, async || {
        let calls = buyer.call(ROOT, &["--count=400", "--concurrency=8"]).await?;
        for (sum, status) in made.iter_mut().zip([200, 500]) {
            *sum += u32::try_from(calls.status.get(&status).copied().unwrap_or_default())?;
        }
        let share = calls.share("shop-canary");
        anyhow::ensure!((share - expected).abs() < 12.0, "{share} %, expected {expected}");
        Ok(())
    })
    .await?;
    Ok(made)
}

#[tokio::test]
async fn queries_of_canary_tools_give_the_right_numbers_while_weights_move() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (buyer, thief) = scenario(namespace).await?;
        let operators = Operator::of(&namespace.cluster).replicas().await?;
        let prometheus = Prometheus::scrape(&namespace.name, &operators, METRICS.0, METRICS.1).await?;
        let mut made = [0_u32; 2];
        // Argo Rollouts writes v1alpha1, Flagger v1alpha2; v1alpha1 has quantities.
        for (version, canary) in [("v1alpha2", 20), ("v1alpha1", 50), ("v1alpha2", 80)] {
            let calls = shift(namespace, &buyer, version, canary).await?;
            made.iter_mut().zip(calls).for_each(|(sum, calls)| *sum += calls);
            // Prometheus sees no increase of a series that it does not know yet.
            until("both statuses to be scraped", COUNTED, async || {
                let query = format!("count(osm_request_total{{destination_namespace=\"{}\"}})", namespace.name);
                let known = prometheus.query(&query).await?;
                anyhow::ensure!(known >= Some(3.0), "{known:?} series");
                Ok(())
            })
            .await?;
        }
        thief.call(ROOT, &["--count=20"]).await?.must_all_be(403)?;

        let total = |more: &str| {
            format!("sum(smidge_requests_total{{source_namespace=\"{}\", {more}}})", namespace.name)
        };
        let expected = [
            (r#"reporter="destination", response_code="200""#, made[0]),
            (r#"reporter="destination", response_code="500""#, made[1]),
            (r#"reporter="source", service="shop", response_code="200""#, made[0]),
            (r#"reporter="source", source_workload="thief", outcome="refused""#, 20),
        ];
        until("every call to be counted", COUNTED, async || {
            for (labels, expected) in expected {
                let query = total(labels);
                let counted = prometheus.query(&query).await?;
                anyhow::ensure!(counted == Some(f64::from(expected)), "{query}: {counted:?}, expected {expected}");
            }
            Ok(())
        })
        .await?;
        println!("{made:?} calls of status 200 and 500 and 20 refused ones are counted exactly");

        for provider in &PROVIDERS {
            let (success, latency) = provider.ask(&prometheus, namespace, "shop-primary").await?;
            let (canary_success, canary_latency) = provider.ask(&prometheus, namespace, "shop-canary").await?;
            println!(
                "{}: primary {success:.2} % and {latency:.1} ms, canary {canary_success:.2} % and {canary_latency:.1} ms",
                provider.name
            );
            anyhow::ensure!((success - 100.0).abs() < 0.01, "{}: {success}", provider.name);
            anyhow::ensure!((canary_success - 75.0).abs() < 3.0, "{}: {canary_success}", provider.name);
            anyhow::ensure!(latency > 10.0 && canary_latency > 50.0, "{latency} and {canary_latency}");
        }
        // As in an AnalysisTemplate of Argo Rollouts' documentation.
        let host = format!("shop.{}.svc.cluster.local", namespace.name);
        let series = format!(r#"istio_requests_total{{reporter="source", destination_service=~"{host}"#);
        let query = format!(
            r#"sum(increase({series}", response_code!~"5.*"}}[{INTERVAL}])) / sum(increase({series}"}}[{INTERVAL}]))"#
        );
        let rate = prometheus.query(&query).await?;
        let expected = f64::from(made[0]) / f64::from(made[0] + made[1]);
        println!("by the Service's name, as callers count: {rate:?} of {expected}");
        // The calls with which the series began, of another weight, are in no increase.
        anyhow::ensure!(rate.is_some_and(|rate| (rate - expected).abs() < 0.15), "{rate:?}, not {expected}");
        Ok(())
    })
    .await
}
