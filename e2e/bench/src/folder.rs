//! Measures an edit of a file of a folder that a control plane without an API server serves, beside the same edit of an
//! object in an API server.
//!
//! `smidge-bench folder` calls it. The mesh has the same Services, accounts and targets; its workloads are machines, whose
//! proxies authenticate by client certificates. The clock starts before the file is moved into place, and so counts the
//! kernel's notification; that of the API server starts with its event.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, QUIET},
    figures::{Row, Times, millis},
    fleet::{Fleet, Slot, Target},
    process,
    results::Results,
    scenario,
    shape::{self, Object, Shape},
    tls,
    wire::Kind,
};

/// Time limit of each wait.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Number of edits before those that are measured.
const WARM: usize = 6;

/// Measures both, with `proxies` proxies, and their ratio.
pub async fn all(bench: &mut Bench, proxies: usize, results: &mut Results) -> anyhow::Result<()> {
    eprintln!("==> edits in an API server, {proxies} proxies");
    bench.fleet.disconnect(true).await?;
    bench.connect(proxies).await?;
    bench.settle().await?;
    let object = scenario::split(bench, "split-few", Shape::HOT, proxies).await?;
    bench.fleet.disconnect(true).await?;
    bench.operator.stop()?;
    eprintln!("==> edits of a file, {proxies} proxies");
    let mut row = edits(bench, proxies).await?;
    for part in ["p50", "p99"] {
        let name = format!("last_{part}_ms");
        row.set(&format!("api_server_{part}_ms"), object.get(&name).unwrap_or_default());
        row.divide(&format!("ratio_{part}"), &name, &format!("api_server_{part}_ms"));
    }
    eprintln!("    {:?}", row.figures);
    results.add(object)?;
    results.add(row)
}

async fn edits(bench: &Bench, proxies: usize) -> anyhow::Result<Row> {
    let shape = bench.settings.shape;
    let folder = tempfile::tempdir()?;
    let mesh = folder.path().join("mesh");
    let split = write(shape, &mesh)?;
    let served = Served::start(bench, folder.path()).await?;
    let fleet = Fleet::start()?;
    fleet.slot((0..proxies).map(|slot| served.slot(shape, slot)).collect::<anyhow::Result<_>>()?)?;
    fleet.connect(&served.target()?, proxies, TIMEOUT).await?;
    let what = format!("edit of a TrafficSplit's file → the last of {proxies}");
    let mut row = Row::new("split-folder", &what);
    let name = format!("{}/{}/80", Shape::namespace(Shape::HOT), Shape::name(Shape::HOT));
    let mut times = Times::default();
    for number in 0..WARM + bench.settings.changes {
        tokio::time::sleep(QUIET).await;
        let answer = fleet.expect(Kind::Route, &name, proxies)?;
        let draft = mesh.join(".draft");
        fs::write(&draft, split.replace("\"weight\":90", &format!("\"weight\":{}", 80 + number % 2 * 10)))?;
        let from = Instant::now();
        fs::rename(draft, mesh.join("split.yaml"))?;
        let arrived = tokio::time::timeout(TIMEOUT, answer).await;
        let arrived = arrived.with_context(|| format!("edit {number} did not arrive"))??;
        if number >= WARM {
            times.add(millis(from, *arrived.last().context("no proxy received the edit")?));
        }
    }
    row.set("changes", times.made() as f64);
    row.set("receivers", proxies as f64);
    times.set(&mut row);
    Ok(row)
}

/// Writes the mesh, a file for each Service, and returns the content of the file of the split that all see.
fn write(shape: Shape, mesh: &Path) -> anyhow::Result<String> {
    fs::create_dir(mesh)?;
    let mut split = String::new();
    let mut files: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    for object in shape.objects() {
        // Machines take the place of pods.
        if matches!(object.kind, "Pod" | "EndpointSlice") {
            continue;
        }
        let text = manifest(&object)?;
        match object.kind {
            "TrafficSplit" if object.name == Shape::name(Shape::HOT) => split = text,
            "Namespace" | "HTTPRouteGroup" => {
                files.entry("namespaces".to_owned()).or_default().push_str(&text);
            }
            _ => files.entry(object.name.clone()).or_default().push_str(&text),
        }
    }
    for service in 0..shape.services {
        let text = files.entry(Shape::name(service)).or_default();
        for pod in 0..shape.pods {
            text.push_str(&manifest(&machine(shape, service, pod))?);
        }
    }
    for (name, text) in files {
        fs::write(mesh.join(format!("{name}.yaml")), text)?;
    }
    fs::write(mesh.join("split.yaml"), &split)?;
    Ok(split)
}

fn machine(shape: Shape, service: usize, pod: usize) -> Object {
    let account = Shape::name(service);
    let body = json!({
        "metadata": {"labels": {"app": account}},
        "spec": {
            "serviceAccount": account,
            "addresses": [shape::address(service * shape.pods + pod)],
            "ports": [{"name": "http", "port": 8080}],
        },
    });
    let (namespace, name) = (Shape::namespace(service), Shape::pod(service, pod));
    Object { kind: "ExternalWorkload", namespace, name, body, status: None }
}

/// Returns a document with the object, as JSON, which is YAML.
fn manifest(object: &Object) -> anyhow::Result<String> {
    let version = match object.kind {
        "Service" | "Namespace" => "v1",
        "TrafficTarget" => "access.smi-spec.io/v1alpha4",
        "HTTPRouteGroup" => "specs.smi-spec.io/v1alpha4",
        "TrafficSplit" => "split.smi-spec.io/v1alpha4",
        "ExternalWorkload" => "smidge.mesh/v1alpha1",
        other => anyhow::bail!("no version of {other} is known here"),
    };
    let mut value = object.body.clone();
    let all = value.as_object_mut().context("an object that is no object")?;
    all.insert("apiVersion".to_owned(), version.into());
    all.insert("kind".to_owned(), object.kind.into());
    let metadata = all.entry("metadata").or_insert_with(|| json!({}));
    let metadata = metadata.as_object_mut().context("metadata that is no object")?;
    metadata.insert("name".to_owned(), object.name.clone().into());
    if !object.namespace.is_empty() {
        metadata.insert("namespace".to_owned(), object.namespace.clone().into());
    }
    let mut text = String::from("---\n");
    writeln!(text, "{}", serde_json::to_string::<Value>(&value)?)?;
    Ok(text)
}

/// Control plane that serves the folder. Ends with this value.
struct Served {
    child: Child,
    program: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    async fn start(bench: &Bench, folder: &Path) -> anyhow::Result<Self> {
        let plan = &bench.plan;
        let log = File::create(plan.log.with_extension("folder.log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&plan.program)
            .args(["run", "--dir"])
            .arg(folder.join("mesh"))
            .arg("--state")
            .arg(folder.join("state"))
            .arg(format!("--xds-listen=0.0.0.0:{}", plan.xds()))
            .arg(format!("--admin-listen={}", plan.pages()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", plan.program.display()))?;
        let (program, folder, port) = (plan.program.clone(), folder.to_owned(), plan.xds());
        let served = Self { child, program, folder, port };
        let started = Instant::now();
        let is_ready = || {
            let page = process::page(plan.pages(), "/readyz", Duration::from_secs(5));
            page.is_ok_and(|page| page.contains(" 200 "))
        };
        while !is_ready() {
            anyhow::ensure!(started.elapsed() < TIMEOUT, "the control plane is not ready; see its log");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(served)
    }

    fn roots(&self) -> anyhow::Result<Vec<String>> {
        let file = self.folder.join("state/smidge-root-control-plane.yaml");
        let secret: Value = serde_json::from_slice(&fs::read(&file)?)?;
        let data = secret.get("data").and_then(Value::as_object).context("a Secret without data")?;
        crate::bench::certificates(data)
    }

    fn target(&self) -> anyhow::Result<Target> {
        Ok(Target {
            addresses: tls::loopback(self.port),
            tls: Arc::new(tls::client(&self.roots()?)?),
            server_name: ServerName::try_from("smidge.standalone").context("no name")?,
            script: None,
            window: usize::MAX,
        })
    }

    /// Returns the proxy of a machine, with a certificate of its own.
    fn slot(&self, shape: Shape, slot: usize) -> anyhow::Result<Slot> {
        let (service, pod) = shape.slot(slot);
        let (namespace, name) = (Shape::namespace(service), Shape::pod(service, pod));
        let out = self.folder.join("machines").join(&name);
        fs::create_dir_all(self.folder.join("machines"))?;
        let issued = Command::new(&self.program)
            .args(["machine", "certificate"])
            .arg(format!("{namespace}/{name}"))
            .arg("--state")
            .arg(self.folder.join("state"))
            .arg("--out")
            .arg(&out)
            .stdout(Stdio::null())
            .status()?;
        anyhow::ensure!(issued.success(), "no certificate for {namespace}/{name}");
        let tls = self.client(&out).map(Arc::new)?;
        Ok(Slot { node: format!("external:{name}.{namespace}"), token: String::new(), tls: Some(tls) })
    }

    fn client(&self, credentials: &Path) -> anyhow::Result<ClientConfig> {
        let chain =
            CertificateDer::pem_file_iter(credentials.join("tls.crt")).ok().context("no certificate")?;
        let chain = chain.collect::<Result<Vec<_>, _>>().ok().context("a broken certificate")?;
        let key = PrivateKeyDer::from_pem_file(credentials.join("tls.key")).ok().context("no key")?;
        tls::client_with(&self.roots()?, chain, key)
    }
}
