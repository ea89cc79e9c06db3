//! `smidge run`: turns flags into settings, sets up logging, and starts the runtime.
//!
//! Called by `cli`. Decides nothing about the mesh: `MeshConfig`, which is watched, does.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::runtime::{self, Settings};

/// Arguments of `smidge run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// SPIFFE trust domain of the mesh.
    #[arg(long, env = "SMIDGE_TRUST_DOMAIN", default_value = "cluster.local")]
    trust_domain: String,
    /// Name of this cluster in the mesh.
    #[arg(long, env = "SMIDGE_CLUSTER_NAME", default_value = "local")]
    cluster_name: String,
    /// DNS domain of the cluster's Services.
    #[arg(long, env = "SMIDGE_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Namespace that the operator runs in, which holds its authorities.
    #[arg(long, env = "SMIDGE_SYSTEM_NAMESPACE", default_value = "smidge-system")]
    system_namespace: String,
    /// Name of the pod that this process runs in: identifies the replica where only one may act.
    #[arg(long, env = "POD_NAME", default_value = "smidge")]
    pod_name: String,
    /// Image of the sidecar: a stock Envoy.
    #[arg(long, env = "SMIDGE_PROXY_IMAGE", default_value = "envoyproxy/envoy:distroless-v1.40.0")]
    proxy_image: String,
    /// Image of the init container that redirects traffic: that of this program.
    #[arg(long, env = "SMIDGE_INIT_IMAGE")]
    init_image: String,
    /// Pull policy of the injected images.
    #[arg(long, env = "SMIDGE_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    image_pull_policy: String,
    /// Address of the xDS server.
    #[arg(long, env = "SMIDGE_XDS_LISTEN", default_value = "0.0.0.0:15012")]
    xds_listen: SocketAddr,
    /// Address of the webhook server.
    #[arg(long, env = "SMIDGE_WEBHOOK_LISTEN", default_value = "0.0.0.0:9443")]
    webhook_listen: SocketAddr,
    /// File with PEM certificates of the authorities that sign the client certificate which the API server presents to
    /// webhooks. Without it, the webhook server answers every client that reaches it. The file is read at the start.
    #[arg(long, env = "SMIDGE_WEBHOOK_CLIENT_CA", value_name = "FILE")]
    webhook_client_ca: Option<PathBuf>,
    /// Common name or DNS name of which that certificate must have one; may be repeated. Without it, any certificate of
    /// these authorities is accepted.
    #[arg(long = "webhook-client-name", requires = "webhook_client_ca", value_name = "NAME")]
    webhook_client_names: Vec<String>,
    /// Address of the operator's own pages.
    #[arg(long, env = "SMIDGE_ADMIN_LISTEN", default_value = "0.0.0.0:15014")]
    admin_listen: SocketAddr,
    /// Address at which replicas of the operator query each other for what proxies have acknowledged.
    #[arg(long, env = "SMIDGE_PEER_LISTEN", default_value = "0.0.0.0:15013")]
    peer_listen: SocketAddr,
    /// File with the token that this replica presents to others.
    #[arg(long, env = "SMIDGE_PEER_TOKEN", default_value = "/var/run/secrets/smidge.mesh/peer-token")]
    peer_token: PathBuf,
    /// Log filter, for example `info` or `info,smidge_xds=debug`.
    #[arg(long, env = "SMIDGE_LOG_LEVEL", default_value = "info")]
    log_level: EnvFilter,
    /// Format of log lines.
    #[arg(long, env = "SMIDGE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object for each line.
    Json,
}

/// Runs the operator until it is stopped. Returns 0 after an orderly stop, 1 if it could not start or a task failed.
pub fn run(args: Box<Args>) -> ExitCode {
    let Args {
        trust_domain,
        cluster_name,
        cluster_domain,
        system_namespace,
        pod_name,
        proxy_image,
        init_image,
        image_pull_policy,
        xds_listen,
        webhook_listen,
        webhook_client_ca,
        webhook_client_names,
        admin_listen,
        peer_listen,
        peer_token,
        log_level,
        log_format,
    } = *args;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(log_level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    let settings = Settings {
        trust_domain,
        cluster_name,
        cluster_domain,
        system_namespace,
        pod_name,
        proxy_image,
        init_image,
        image_pull_policy,
        xds_listen,
        webhook_listen,
        webhook_client_ca,
        webhook_client_names,
        admin_listen,
        peer_listen,
        peer_token,
    };
    match runtime::start(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The alternate form prints the causes as well.
            error!("{:#}", anyhow::Error::from(error));
            ExitCode::from(1)
        }
    }
}
