//! `smidge machine bootstrap`: turns the addresses of a machine and of its control plane into Envoy's bootstrap.
//!
//! The control plane's roots come from its folder or from a file. The bootstrap holds no secret: it names the files that
//! `smidge machine certificate` writes. Does not check that they exist, as they may be on another machine.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context as _;
use serde_json::Value;
use smidge_xds::{
    bootstrap::{BootstrapInput, CONNECTIONS, ControlPlane, Credential, Family},
    mesh::{
        id::{InvalidId, TrustDomain},
        proxy::TrafficStats,
    },
};
use time::OffsetDateTime;

use super::{block_on, certificate::seen};
use crate::{
    ca::{AuthorityName, MachineId, STANDALONE_SERVER_NAME, Secrets, pem, root},
    lower::external_workload,
};

/// Arguments of `smidge machine bootstrap`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine, as NAMESPACE/NAME of its ExternalWorkload.
    pub machine: MachineId,
    /// Address of the control plane, as HOST:PORT; may be repeated, for replicas. A proxy uses any that answers.
    #[arg(long, value_name = "HOST:PORT", required = true)]
    pub control_plane: Vec<HostPort>,
    /// Address of the workload, at which its proxy listens.
    #[arg(long, value_name = "IP")]
    pub address: IpAddr,
    /// Roots of the control plane.
    #[command(flatten)]
    pub roots: Roots,
    /// Absolute path at which the proxy finds what `smidge machine certificate` wrote.
    #[arg(long, value_name = "FOLDER")]
    pub credentials: PathBuf,
    /// Name of the cluster that the machine belongs to.
    #[arg(long, default_value = "local")]
    pub cluster_name: String,
    /// Mark of the proxy's sockets, where `smidge redirect --proxy-mark` is to know them by it.
    #[arg(long, value_name = "NUMBER")]
    pub proxy_mark: Option<u32>,
}

/// Source of the control plane's roots.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Roots {
    /// Folder in which the control plane keeps its authorities.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// File with the roots of the control plane, as PEM certificates.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

/// Host and port of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// DNS name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let host = parts.and_then(|(host, port)| Some((host_name(host)?, port)));
        match host {
            Some((host, port)) if port != 0 => Ok(Self { host, port }),
            _ => Err(InvalidId {
                what: "address of a server",
                value: text.to_owned(),
                expected: "HOST:PORT, with a DNS name or an address as HOST, an IPv6 address in brackets",
            }),
        }
    }
}

/// Returns a host without the brackets of an IPv6 address.
fn host_name(text: &str) -> Option<String> {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!text.is_empty() && text.chars().all(is_part)).then(|| text.to_owned())
}

/// Runs `smidge machine bootstrap`, and returns what to print.
pub(super) fn run(args: &Args) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&bootstrap(args)?)? + "\n")
}

/// Builds the bootstrap.
pub fn bootstrap(args: &Args) -> anyhow::Result<Value> {
    let mut servers = args.control_plane.iter().cloned().map(|HostPort { host, port }| (host, port));
    let (host, port) = servers.next().context("expected --control-plane")?;
    Ok(smidge_xds::bootstrap::bootstrap(&BootstrapInput {
        connections: CONNECTIONS,
        instance: external_workload::instance(args.machine.name()),
        namespace: args.machine.namespace().to_owned(),
        cluster: args.cluster_name.clone(),
        address: args.address.to_string(),
        family: if args.address.is_ipv4() { Family::V4 } else { Family::V6 },
        control_plane: ControlPlane {
            host,
            port,
            alternatives: servers.collect(),
            server_name: STANDALONE_SERVER_NAME.to_owned(),
            roots: args.roots.read()?,
            credential: Credential::Certificate { folder: seen(&args.credentials)? },
        },
        probes: Vec::new(),
        socket_mark: args.proxy_mark,
        traffic: TrafficStats::None,
    }))
}

impl Roots {
    /// Returns the roots, each as one PEM block.
    fn read(&self) -> anyhow::Result<Vec<String>> {
        match self {
            Self { root: Some(file), .. } => read_file(file),
            Self { state: Some(folder), .. } => block_on(async {
                let secrets = Secrets::existing_folder(folder).await?;
                // Roots of the control plane name no trust domain.
                let (domain, now) = (TrustDomain::default(), OffsetDateTime::now_utc());
                let roots = root::existing_roots(&secrets, AuthorityName::ControlPlane, &domain, now).await?;
                Ok(roots.certificates())
            }),
            Self { root: None, state: None } => anyhow::bail!("expected --state or --root"),
        }
    }
}

fn read_file(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read(file).with_context(|| format!("failed to read --root {}", file.display()))?;
    let certificates = pem::certificates(&text).with_context(|| {
        format!("no certificate, or a broken one, in --root {}: expected PEM certificates", file.display())
    })?;
    // Encoded anew, so that nothing else in the file gets into the bootstrap, a key for example.
    Ok(certificates.iter().map(pem::certificate).collect())
}
