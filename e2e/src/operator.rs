//! The operator as its users see it: its pods, its pages, its metrics, its log.
//!
//! The pages are read at the pod's own port, so each replica is asked by itself.

use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{apps::v1 as apps, core::v1 as core};
use kube::{
    Api,
    api::{ListParams, LogParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    Cluster, Pod,
    pod::{START, is_ready},
    token, until,
};

/// Where the mesh itself lives.
pub const NAMESPACE: &str = "smidge-system";
/// The Deployment, the Service and the container of the operator.
pub const NAME: &str = "smidge";
/// The port of its own pages.
const ADMIN: u16 = 15014;
/// The port of a proxy's metrics.
const PROXY_METRICS: u16 = 15090;
/// The port of xDS.
pub const XDS: u16 = 15012;

/// The operator in a cluster.
#[derive(Clone)]
pub struct Operator {
    cluster: Cluster,
}

impl Operator {
    /// The operator of `cluster`.
    pub fn of(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone() }
    }

    fn deployments(&self) -> Api<apps::Deployment> {
        Api::namespaced(self.cluster.client(), NAMESPACE)
    }

    /// Its pods as they are, ready or not.
    pub fn pods(&self) -> Api<core::Pod> {
        Api::namespaced(self.cluster.client(), NAMESPACE)
    }

    /// Its Secrets.
    pub fn secrets(&self) -> Api<core::Secret> {
        Api::namespaced(self.cluster.client(), NAMESPACE)
    }

    /// Its replicas, once as many as the Deployment asks for are ready and no other is left.
    pub async fn replicas(&self) -> anyhow::Result<Vec<Pod>> {
        until("the operator's replicas to be ready", START, async || {
            let deployment = self.deployments().get(NAME).await?;
            let spec = deployment.spec.context("a Deployment without a spec")?;
            let labels: Vec<String> = spec
                .selector
                .match_labels
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let pods = self.pods().list(&ListParams::default().labels(&labels.join(","))).await?.items;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            let wanted = usize::try_from(spec.replicas.unwrap_or(1))?;
            anyhow::ensure!(
                ready == wanted && pods.len() == wanted,
                "{ready} of {} are ready, {wanted} wanted",
                pods.len()
            );
            pods.iter().map(|pod| Pod::of(self.pods(), pod, NAME)).collect()
        })
        .await
    }

    /// Asks for `replicas` of it. Does not wait.
    pub async fn scale(&self, replicas: u32) -> anyhow::Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        self.deployments().patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    /// What every container of the operator has logged in the replica `pod`.
    pub async fn log(&self, pod: &Pod) -> anyhow::Result<String> {
        let containers = pod.object().await?.spec.context("a pod without a spec")?.containers;
        let mut all = String::new();
        for container in containers {
            let params = LogParams { container: Some(container.name), ..LogParams::default() };
            all += &self.pods().logs(&pod.name, &params).await?;
        }
        Ok(all)
    }
}

impl Pod {
    /// A page of HTTP that this pod serves on `port`.
    pub async fn get(&self, port: u16, path: &str) -> anyhow::Result<String> {
        let (status, body) = self.ask(port, path, None).await?;
        anyhow::ensure!(status.is_success(), "{path} of {} says {status}: {body}", self.name);
        Ok(body)
    }

    /// What this pod answers on `port` to whoever brings `token`.
    async fn ask(&self, port: u16, path: &str, token: Option<&str>) -> anyhow::Result<(StatusCode, String)> {
        let asked = async {
            let stream = self.dial(port).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let mut request = Request::get(path).header("host", "smidge");
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let request = request.body(Empty::<Bytes>::new())?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::time::timeout(Duration::from_secs(10), asked)
            .await
            .with_context(|| format!("{path} took too long"))?
    }

    /// One of the operator's pages, as somebody who may read it.
    pub async fn page(&self, path: &str) -> anyhow::Result<String> {
        if !path.starts_with("/debug/") {
            return self.get(ADMIN, path).await;
        }
        let token = token::reader(&self.client()).await?;
        let (status, body) = self.page_as(path, Some(&token)).await?;
        anyhow::ensure!(status == 200, "{path} of {} says {status}: {body}", self.name);
        Ok(body)
    }

    /// What the operator answers to whoever asks for a page with `token`: status and text.
    pub async fn page_as(&self, path: &str, token: Option<&str>) -> anyhow::Result<(u16, String)> {
        let (status, body) = self.ask(ADMIN, path, token).await?;
        Ok((status.as_u16(), body))
    }

    /// What the proxy of this pod counts.
    pub async fn proxy_metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(self.get(PROXY_METRICS, "/stats/prometheus").await?))
    }

    /// The operator's metrics.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(self.page("/metrics").await?))
    }

    /// The proxies that are connected to this replica, as it shows them.
    pub async fn proxies(&self) -> anyhow::Result<Vec<Value>> {
        let page = self.page("/debug/proxies").await?;
        serde_json::from_str(&page).with_context(|| format!("/debug/proxies is no list: {page}"))
    }
}

/// Metrics in Prometheus' text format.
pub struct Metrics(pub String);

impl Metrics {
    /// The sum over all label sets of the metrics whose names end with `name`.
    ///
    /// Fails when there is none: a metric that was renamed must not read as 0.
    pub fn sum(&self, name: &str) -> anyhow::Result<f64> {
        self.sum_of(name, "")
    }

    /// The same over those label sets that hold the text `label`.
    pub fn sum_of(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        let values: Vec<f64> = self
            .0
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(series, _)| series.contains(label))
            .filter(|(series, _)| series.split('{').next().is_some_and(|series| series.ends_with(name)))
            .filter_map(|(_, value)| value.parse().ok())
            .collect();
        anyhow::ensure!(!values.is_empty(), "no metric ends with {name}:\n{}", self.0);
        Ok(values.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_labels_and_misses_no_renamed_metric() {
        let text = "# HELP x y\nsmidge_xds_resources_sent_total{kind=\"cds\"} 3\nsmidge_xds_resources_sent_total{kind=\"eds\"} 4\nsmidge_xds_streams 2\n";
        let metrics = Metrics(text.to_owned());
        assert!((metrics.sum("resources_sent_total").unwrap() - 7.0).abs() < f64::EPSILON);
        assert!((metrics.sum("xds_streams").unwrap() - 2.0).abs() < f64::EPSILON);
        assert!(metrics.sum("resources_gone_total").is_err());
    }
}
