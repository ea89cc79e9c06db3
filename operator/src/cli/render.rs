//! `smidge render`: turns manifests into the Envoy configuration of one workload.
//!
//! Runs the pipeline of the operator from end to end over files: the output is what the proxy would be served, in the
//! static form that `envoy --mode validate` accepts.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use serde_json::Value;
use smidge_xds::{
    mesh::{
        Mesh,
        id::{ClusterId, ProxyId},
    },
    render::{self, Settings},
    snapshot::Snapshot,
};

use super::{
    check::{Report, print},
    manifests::Manifests,
};
use crate::lower::lower;

/// Placeholder for the address of the control plane, which files do not contain.
const CONTROL_PLANE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 19, 255, 254)), 15012);

/// Arguments of `smidge render`.
///
/// The files are read as by `smidge check`. Findings go to standard error.
///
/// Exit status: 0 success (warnings allowed), 1 errors, 2 something could not be read, or there is no such workload.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, mut_arg("filename", |arg| arg.required(true)))]
pub struct Args {
    /// The manifests.
    #[command(flatten)]
    pub manifests: Manifests,
    /// Workload (or pod) whose proxy's configuration is printed.
    #[arg(short, long, value_name = "NAMESPACE/NAME")]
    pub workload: String,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    pub output: Output,
}

/// Format of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// YAML, for people.
    Yaml,
    /// JSON, for programs.
    Json,
}

/// Runs `smidge render`.
#[allow(clippy::needless_pass_by_value)] // All commands take their arguments alike.
pub fn run(args: Args) -> ExitCode {
    match render(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn render(Args { manifests, workload, output }: &Args) -> anyhow::Result<u8> {
    let offline = manifests.load();
    let (mesh, mut findings) = lower(&BTreeMap::from([(ClusterId::default(), offline.inputs)]));
    offline.written.rename(&mut findings);
    findings.extend(offline.findings);
    findings.sort();
    let report = Report { unreadable: offline.unreadable, findings };
    print(&report, false, &mut io::stderr().lock()).context("failed to print the findings")?;
    let proxy = find(&mesh, workload).with_context(|| unknown(&mesh, workload))?;
    let configuration = configuration(mesh, &proxy)?;
    let text = match output {
        Output::Yaml => serde_saphyr::to_string(&configuration).context("failed to print YAML")?,
        Output::Json => {
            format!("{}\n", serde_json::to_string_pretty(&configuration).context("failed to print JSON")?)
        }
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A closed pipe (`| head`) is not an error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("failed to write"),
        _ => Ok(report.exit_code()),
    }
}

/// Renders the configuration of a proxy of the mesh, in the static form.
pub fn configuration(mesh: Mesh, proxy: &ProxyId) -> anyhow::Result<Value> {
    let snapshot = Snapshot::next(Arc::new(mesh), None);
    let view = snapshot.view(proxy).with_context(|| format!("{proxy} has no view"))?;
    let settings = Settings { node: proxy.to_string(), xds: CONTROL_PLANE };
    render::render(&view, &settings).context("failed to render the view")
}

/// Returns the first proxy of `workload`, by the workload's name or the instance's.
fn find(mesh: &Mesh, workload: &str) -> Option<ProxyId> {
    let (namespace, name) = workload.split_once('/')?;
    let is_it =
        |id: &ProxyId, called: &str| id.namespace == namespace && (called == name || id.instance == name);
    mesh.workloads.iter().find(|(id, it)| is_it(id, &it.name)).map(|(id, _)| id.clone())
}

fn unknown(mesh: &Mesh, workload: &str) -> String {
    let known: BTreeSet<String> =
        mesh.workloads.iter().map(|(id, it)| format!("{}/{}", id.namespace, it.name)).collect();
    let known: Vec<String> = known.into_iter().collect();
    if known.is_empty() {
        format!("there is no workload {workload:?}: the files hold none that is in the mesh")
    } else {
        format!("there is no workload {workload:?}; expected NAMESPACE/NAME, one of {}", known.join(", "))
    }
}
