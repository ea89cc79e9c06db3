//! Prometheus as its users run it: the real program, which scrapes pods and answers queries.
//!
//! It runs outside the cluster; each pod has a port on loopback that leads to it through the API server. It ends with
//! its value.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1, header::CONTENT_TYPE};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{Pod, until};

/// Interval of scrapes.
const SCRAPE: &str = "1s";
/// Time limit of the start.
const START: Duration = Duration::from_secs(30);
/// Attempts to find a port that is free.
const ATTEMPTS: usize = 5;

/// A running Prometheus.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: std::path::PathBuf,
    ways: JoinSet<()>,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.ways.abort_all();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Prometheus {
    /// Starts it to scrape `path` at `port` of the pods. `name` is that of the test.
    pub async fn scrape(name: &str, pods: &[Pod], port: u16, path: &str) -> anyhow::Result<Self> {
        Self::scrape_at(Ipv4Addr::LOCALHOST.into(), name, pods, port, path).await
    }

    /// Does the same at an address of this machine that others can reach.
    pub async fn scrape_at(
        host: IpAddr,
        name: &str,
        pods: &[Pod],
        port: u16,
        path: &str,
    ) -> anyhow::Result<Self> {
        let program =
            std::env::var("PROMETHEUS").context("PROMETHEUS names no program: see `e2e/mesh env`")?;
        let folder = std::env::temp_dir().join(format!("smidge-prometheus-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let mut ways = JoinSet::new();
        let mut targets = Vec::new();
        for pod in pods {
            targets.push(way(&mut ways, pod.clone(), port).await?.to_string());
        }
        let config = json!({
            "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE},
            "scrape_configs": [{
                "job_name": "smidge",
                "metrics_path": path,
                "static_configs": [{"targets": targets}],
            }],
        });
        std::fs::write(folder.join("prometheus.yml"), config.to_string())?;
        for _ in 0..ATTEMPTS {
            let address = std::net::TcpListener::bind((host, 0))?.local_addr()?;
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", &program])
                .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(folder.join("log"))?)
                .spawn()
                .with_context(|| format!("failed to start {program}"))?;
            let mut started = Self { child, address, folder: folder.clone(), ways: JoinSet::new() };
            let scraped = until("Prometheus to have scraped every pod", START, async || {
                // Another program may have taken the port meanwhile.
                if started.child.try_wait()?.is_some() {
                    return Ok(false);
                }
                let up = started.query("sum(up)").await?;
                let expected = f64::from(u32::try_from(pods.len())?);
                anyhow::ensure!(up == Some(expected), "{up:?} of {expected} are up");
                Ok(true)
            });
            if scraped.await.with_context(|| log(&folder))? {
                started.ways = ways;
                return Ok(started);
            }
        }
        anyhow::bail!("Prometheus ended {ATTEMPTS} times: {}", log(&folder))
    }

    /// Returns the address at which it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the value of a query that has one sample, or none: `None`.
    pub async fn query(&self, query: &str) -> anyhow::Result<Option<f64>> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let body = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
        let request = Request::post("/api/v1/query")
            .header("host", "prometheus")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::<Bytes>::from(body))?;
        let response = sender.send_request(request).await?;
        let text = response.into_body().collect().await?.to_bytes();
        let answer: Value = serde_json::from_slice(&text)
            .with_context(|| format!("{query}: {}", String::from_utf8_lossy(&text)))?;
        let samples = answer.pointer("/data/result").and_then(Value::as_array);
        let samples = samples.with_context(|| format!("{query}: {answer}"))?;
        anyhow::ensure!(samples.len() < 2, "{query} has several samples: {answer}");
        let value = samples.first().and_then(|sample| sample.pointer("/value/1")?.as_str()?.parse().ok());
        Ok(value)
    }
}

fn log(folder: &std::path::Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// Opens a port on loopback that leads to a port of a pod.
async fn way(ways: &mut JoinSet<()>, pod: Pod, port: u16) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    ways.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let pod = pod.clone();
            tokio::spawn(async move {
                if let Ok(mut server) = pod.dial(port).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    Ok(address)
}
