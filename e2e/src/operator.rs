//! Operator as its users see it: its pods, its pages, its metrics, its log.
//!
//! The pages are read at the port of a pod, so each replica is queried separately.

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

/// Namespace of the mesh itself.
pub const NAMESPACE: &str = "smidge-system";
/// Name of the operator's Deployment, Service and container.
pub const NAME: &str = "smidge";
/// Port of the operator's own pages.
const ADMIN: u16 = 15014;
/// Port of a proxy's metrics.
const PROXY_METRICS: u16 = 15090;
/// Port of xDS.
pub const XDS: u16 = 15012;

/// Operator of a cluster.
#[derive(Clone)]
pub struct Operator {
    cluster: Cluster,
}

impl Operator {
    /// Returns the operator of `cluster`.
    pub fn of(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone() }
    }

    fn deployments(&self) -> Api<apps::Deployment> {
        Api::namespaced(self.cluster.client(), NAMESPACE)
    }

    /// Returns the API of its pods, ready or not.
    pub fn pods(&self) -> Api<core::Pod> {
        Api::namespaced(self.cluster.client(), NAMESPACE)
    }

    /// Returns the API of its Secrets.
    pub fn secrets(&self) -> Api<core::Secret> {
        Api::namespaced(self.cluster.client(), NAMESPACE)
    }

    /// Returns its replicas, once the number that the Deployment requests is ready and no other pod is left.
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

    /// Sets the number of replicas. Does not wait.
    pub async fn scale(&self, replicas: u32) -> anyhow::Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        self.deployments().patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    /// Returns the arguments of the operator's program.
    pub async fn arguments(&self) -> anyhow::Result<Vec<String>> {
        let spec = self.deployments().get(NAME).await?.spec.context("a Deployment without a spec")?;
        let containers = spec.template.spec.context("a Deployment without a pod")?.containers;
        let own = containers.into_iter().find(|container| container.name == NAME);
        own.and_then(|container| container.args).context("a container without arguments")
    }

    /// Sets the arguments of the operator's program, and waits until pods with these have replaced the others.
    pub async fn set_arguments(&self, arguments: &[String]) -> anyhow::Result<()> {
        let container = json!({"name": NAME, "args": arguments});
        self.roll_out(json!({"spec": {"containers": [container]}})).await
    }

    /// Replaces its pods as a rolling upgrade does, and waits until that is done.
    pub async fn restart(&self) -> anyhow::Result<()> {
        let name = self.replicas().await?.pop().context("no operator")?.name;
        self.roll_out(json!({"metadata": {"annotations": {"smidge-e2e/replaces": name}}})).await
    }

    /// Changes the template of its pods, and waits until pods of the new one have replaced the others.
    async fn roll_out(&self, template: Value) -> anyhow::Result<()> {
        let patch = json!({"spec": {"template": template}});
        let api = self.deployments();
        let changed = api.patch(NAME, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
        until("the Deployment to have new pods", START, async || {
            let status = api.get(NAME).await?.status.context("a Deployment without a status")?;
            let is_observed = status.observed_generation >= changed.metadata.generation;
            anyhow::ensure!(
                is_observed
                    && status.replicas == status.updated_replicas
                    && status.unavailable_replicas.is_none(),
                "{status:?}"
            );
            Ok(())
        })
        .await?;
        self.replicas().await.map(drop)
    }

    /// Returns the log of every container in the replica `pod`.
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
    /// Returns an HTTP page that this pod serves on `port`.
    pub async fn get(&self, port: u16, path: &str) -> anyhow::Result<String> {
        let (status, body) = self.ask(port, path, None).await?;
        anyhow::ensure!(status.is_success(), "{path} of {} returned {status}: {body}", self.name);
        Ok(body)
    }

    /// Sends a request to `port` of this pod, with the bearer token `token` if there is one; returns status and body.
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

    /// Returns one of the operator's pages, read with the right to read it.
    pub async fn page(&self, path: &str) -> anyhow::Result<String> {
        if !path.starts_with("/debug/") {
            return self.get(ADMIN, path).await;
        }
        let token = token::reader(&self.client()).await?;
        let (status, body) = self.page_as(path, Some(&token)).await?;
        anyhow::ensure!(status == 200, "{path} of {} returned {status}: {body}", self.name);
        Ok(body)
    }

    /// Requests a page of the operator with `token`; returns status and text.
    pub async fn page_as(&self, path: &str, token: Option<&str>) -> anyhow::Result<(u16, String)> {
        let (status, body) = self.ask(ADMIN, path, token).await?;
        Ok((status.as_u16(), body))
    }

    /// Returns the metrics of the proxy of this pod.
    pub async fn proxy_metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(self.get(PROXY_METRICS, "/stats/prometheus").await?))
    }

    /// Returns the operator's metrics.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(self.page("/metrics").await?))
    }

    /// Returns the proxies that are connected to this replica, as its page lists them.
    pub async fn proxies(&self) -> anyhow::Result<Vec<Value>> {
        let page = self.page("/debug/proxies").await?;
        serde_json::from_str(&page).with_context(|| format!("/debug/proxies is no list: {page}"))
    }
}

/// Metrics in the Prometheus text format.
pub struct Metrics(pub String);

impl Metrics {
    /// Sums over all label sets of the metrics whose names end with `name`.
    ///
    /// Fails when there is none: a metric that was renamed must not read as 0.
    pub fn sum(&self, name: &str) -> anyhow::Result<f64> {
        self.sum_of(name, "")
    }

    /// Sums only over the label sets that contain the text `label`.
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
