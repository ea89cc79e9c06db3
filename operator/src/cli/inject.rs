//! `smidge inject`: turns manifests into the same manifests with the proxy.
//!
//! Reads flags and files, and prints. `injected` makes the manifests.

use std::{fs, path::PathBuf, process::ExitCode};

use zeroize::Zeroizing;

use self::injected::{Injected, injected};
use super::manifests::Manifests;
use crate::{
    injector::{ProbeKey, Settings},
    runtime::sidecar::Sidecar,
    source::files,
};

pub mod injected;

/// Arguments of `smidge inject`.
///
/// Exit status: 0 success (warnings go to standard error), 1 an object was refused, 2 something could not be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, mut_arg("filename", |arg| arg.required(true)))]
pub struct Args {
    #[command(flatten)]
    manifests: Manifests,
    /// File with the control plane's roots as PEM, the only ones that the proxies will trust for it.
    #[arg(long, value_name = "FILE")]
    control_plane_roots: Option<PathBuf>,
    /// File with a secret of at least 32 bytes, from which the paths of probes are derived, so that only the kubelet
    /// can call them: the same file gives the same paths. Without it, the paths are new each time. The webhook derives
    /// them again, under the mesh's key, for pods that it receives.
    #[arg(long, value_name = "FILE")]
    probe_key: Option<PathBuf>,
    /// Image of the sidecar: a stock Envoy.
    #[arg(long, default_value_t = Settings::default().proxy_image)]
    proxy_image: String,
    /// Version of that Envoy, for example 1.40.0; by default the one in the image's tag.
    #[arg(long)]
    proxy_version: Option<String>,
    /// Image of the init container: that of this program.
    #[arg(long, default_value_t = Settings::default().init_image)]
    init_image: String,
    #[command(flatten)]
    sidecar: Sidecar,
    /// SPIFFE trust domain of the mesh.
    #[arg(long, default_value_t = Settings::default().trust_domain)]
    trust_domain: String,
    /// Name of the cluster in the mesh.
    #[arg(long, default_value_t = Settings::default().cluster_name)]
    cluster_name: String,
    /// DNS domain of the cluster's Services.
    #[arg(long, default_value_t = Settings::default().cluster_domain)]
    cluster_domain: String,
    /// Namespace that the operator runs in.
    #[arg(long, default_value_t = Settings::default().system_namespace)]
    system_namespace: String,
}

/// Runs `smidge inject`.
pub fn run(args: Box<Args>) -> ExitCode {
    let Args {
        manifests,
        control_plane_roots,
        probe_key,
        proxy_image,
        proxy_version,
        init_image,
        sidecar,
        trust_domain,
        cluster_name,
        cluster_domain,
        system_namespace,
    } = *args;
    if let Err(why) = sidecar.check() {
        eprintln!("smidge: {why}");
        return ExitCode::from(2);
    }
    let probe_key = match key(probe_key) {
        Ok(key) => key,
        Err(why) => {
            eprintln!("smidge: {why}");
            return ExitCode::from(2);
        }
    };
    let control_plane_roots = match control_plane_roots.map(|path| (fs::read_to_string(&path), path)) {
        None => {
            eprintln!("smidge: warning: without --control-plane-roots the proxies trust no control plane");
            Vec::new()
        }
        Some((Ok(roots), _)) => vec![roots],
        Some((Err(error), path)) => {
            eprintln!("smidge: failed to read {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    print(
        &manifests,
        &sidecar.apply(Settings {
            proxy_image,
            proxy_version,
            init_image,
            trust_domain,
            cluster_name,
            cluster_domain,
            system_namespace,
            control_plane_roots,
            probe_key,
            ..Settings::default()
        }),
    )
}

/// Derives the key of the probes' paths from the file, or generates a new one.
fn key(file: Option<PathBuf>) -> Result<ProbeKey, String> {
    let Some(path) = file else { return Ok(ProbeKey::new(Zeroizing::new(rand::random()))) };
    let secret = fs::read(&path).map(Zeroizing::new);
    let secret = secret.map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    match secret.len() {
        32.. => Ok(ProbeKey::from_secret(&secret)),
        length => Err(format!(
            "{} holds {length} bytes: expected at least 32, for example of /dev/urandom",
            path.display()
        )),
    }
}

fn print(manifests: &Manifests, settings: &Settings) -> ExitCode {
    let (sources, mut unreadable) = files::read(&manifests.filename);
    let Injected { text, messages, unreadable: more, refused } =
        injected(&sources, &manifests.namespace, settings);
    unreadable.extend(more);
    print!("{text}");
    for message in messages {
        eprintln!("{message}");
    }
    for what in &unreadable {
        eprintln!("smidge: {what}");
    }
    match (unreadable.is_empty(), refused) {
        (false, _) => ExitCode::from(2),
        (true, true) => ExitCode::from(1),
        (true, false) => ExitCode::SUCCESS,
    }
}
