//! `smidge inject`: turns manifests into the same manifests with the proxy.
//!
//! Reads flags and files, and prints. `live` reads the settings of the mesh from the cluster, unless flags give them;
//! `injected` makes the manifests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use zeroize::Zeroizing;

use self::injected::{Injected, Namespaces, injected};
use crate::{
    ca::pem,
    documents::DEFAULT_NAMESPACE,
    injector::{ProbeKey, Settings},
    runtime::sidecar::Sidecar,
    source::files,
};

pub mod injected;
pub mod live;

/// Arguments of `smidge inject`.
///
/// Reads what the webhook would use from the cluster of the current kubeconfig: the ConfigMap smidge-injection of the
/// operator's namespace, and the namespaces of the pods. With --control-plane-roots it asks no cluster, and the flags
/// that follow it have effect.
///
/// Exit status: 0 success (warnings go to standard error), 1 an object was refused, 2 something could not be read. With
/// a cluster, nothing is printed to standard output unless the status is 0, so that `| kubectl apply -f -` applies all or
/// nothing.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, mut_group("Sidecar", |group| group.requires("control_plane_roots")))]
pub struct Args {
    /// A file, a folder (every *.yaml, *.yml and *.json below it) or - for standard input; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    filename: Vec<PathBuf>,
    /// Namespace of objects that name none, as of kubectl apply; by default that of the kubeconfig's context, and
    /// without a cluster `default`.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Namespace that the operator runs in.
    #[arg(long, default_value_t = Settings::default().system_namespace)]
    system_namespace: String,
    /// File with a secret of at least 32 bytes, from which the paths of probes are derived, so that only the kubelet
    /// can call them: the same file gives the same paths. Without it, the paths are new each time. The webhook derives
    /// them again, under the mesh's key, for pods that it receives.
    #[arg(long, value_name = "FILE")]
    probe_key: Option<PathBuf>,
    /// File with the control plane's roots as PEM, the only ones that the proxies will trust for it. Asks no cluster.
    #[arg(long, value_name = "FILE")]
    control_plane_roots: Option<PathBuf>,
    /// Image of the sidecar: a stock Envoy.
    #[arg(long, default_value_t = Settings::default().proxy_image, requires = "control_plane_roots")]
    proxy_image: String,
    /// Version of that Envoy, for example 1.40.0; by default the one in the image's tag.
    #[arg(long, requires = "control_plane_roots")]
    proxy_version: Option<String>,
    /// Image of the init container: that of this program.
    #[arg(long, default_value_t = Settings::default().init_image, requires = "control_plane_roots")]
    init_image: String,
    #[command(flatten)]
    sidecar: Sidecar,
    /// SPIFFE trust domain of the mesh.
    #[arg(long, default_value_t = Settings::default().trust_domain, requires = "control_plane_roots")]
    trust_domain: String,
    /// Name of the cluster in the mesh.
    #[arg(long, default_value_t = Settings::default().cluster_name, requires = "control_plane_roots")]
    cluster_name: String,
    /// DNS domain of the cluster's Services.
    #[arg(long, default_value_t = Settings::default().cluster_domain, requires = "control_plane_roots")]
    cluster_domain: String,
}

/// Runs `smidge inject`.
pub fn run(args: &Args) -> ExitCode {
    try_run(args).unwrap_or_else(|error| {
        eprintln!("smidge: {error:#}");
        ExitCode::from(2)
    })
}

fn try_run(args: &Args) -> anyhow::Result<ExitCode> {
    let probe_key = key(args.probe_key.as_deref()).map_err(anyhow::Error::msg)?;
    let (sources, unreadable) = files::read(&args.filename);
    let namespace = args.namespace.clone();
    let mut injected = if args.control_plane_roots.is_some() {
        let settings = args.settings(probe_key).map_err(anyhow::Error::msg)?;
        let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        injected(&sources, &namespace, &settings, &Namespaces::Unasked)
    } else {
        let live = live::load(&args.system_namespace, namespace, &sources, probe_key)?;
        live.warnings.iter().for_each(|warning| eprintln!("{warning}"));
        injected(&sources, &live.namespace, &live.settings, &live.namespaces)
    };
    injected.unreadable.splice(0..0, unreadable);
    Ok(print(&injected, args.control_plane_roots.is_none()))
}

impl Args {
    /// Returns the settings of the flags alone.
    fn settings(&self, probe_key: ProbeKey) -> Result<Settings, String> {
        self.sidecar.check()?;
        Ok(self.sidecar.apply(Settings {
            proxy_image: self.proxy_image.clone(),
            proxy_version: self.proxy_version.clone(),
            init_image: self.init_image.clone(),
            trust_domain: self.trust_domain.clone(),
            cluster_name: self.cluster_name.clone(),
            cluster_domain: self.cluster_domain.clone(),
            system_namespace: self.system_namespace.clone(),
            control_plane_roots: self.roots()?,
            probe_key,
            ..Settings::default()
        }))
    }

    fn roots(&self) -> Result<Vec<String>, String> {
        let Some(path) = &self.control_plane_roots else { return Ok(Vec::new()) };
        let roots = fs::read(path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
        match pem::certificates(&roots) {
            Some(roots) => Ok(roots.iter().map(pem::certificate).collect()),
            None => Err(format!(
                "{} has no certificate that can be read: expected the control plane's roots as PEM",
                path.display()
            )),
        }
    }
}

/// Derives the key of the probes' paths from the file, or generates a new one.
fn key(file: Option<&Path>) -> Result<ProbeKey, String> {
    let Some(path) = file else { return Ok(ProbeKey::new(Zeroizing::new(rand::random()))) };
    let secret = fs::read(path).map(Zeroizing::new);
    let secret = secret.map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    match secret.len() {
        32.. => Ok(ProbeKey::from_secret(&secret)),
        length => Err(format!(
            "{} holds {length} bytes: expected at least 32, for example of /dev/urandom",
            path.display()
        )),
    }
}

/// Prints messages, and the manifests; with a cluster, only if every object is fine.
fn print(injected: &Injected, is_live: bool) -> ExitCode {
    let Injected { text, messages, unreadable, refused } = injected;
    let is_fine = unreadable.is_empty() && !refused;
    if is_fine || !is_live {
        print!("{text}");
    }
    for message in messages {
        eprintln!("{message}");
    }
    for what in unreadable {
        eprintln!("smidge: {what}");
    }
    if is_live && !is_fine {
        eprintln!("smidge: printed no manifest, as not all of them can be injected");
    }
    match (unreadable.is_empty(), *refused) {
        (false, _) => ExitCode::from(2),
        (true, true) => ExitCode::from(1),
        (true, false) => ExitCode::SUCCESS,
    }
}
