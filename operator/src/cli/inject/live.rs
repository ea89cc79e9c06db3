//! Reads what `smidge inject` needs from the cluster of the current kubeconfig: the settings that the operator has
//! published, and the namespaces of the pods.
//!
//! Sends one request for the settings and one for each namespace, none of which needs the rights of an administrator.
//! Decides nothing about pods: `injected` does.

use std::{collections::BTreeMap, io};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{Api, Client, Config};

use super::injected::{Found, Metadata, Namespaces, namespaces};
use crate::{
    documents::Source,
    injector::{
        ProbeKey, Settings,
        published::{CONFIG_MAP, InvalidSettings, KEY, Published},
    },
};

/// Hint that every error of reading ends with.
const OFFLINE: &str = "--control-plane-roots and the flags after it give the settings without a cluster";

/// Settings and namespaces of the mesh in a cluster.
#[derive(Debug)]
pub struct Live {
    /// Settings of injected pods.
    pub settings: Settings,
    /// Namespaces of the pods.
    pub namespaces: Namespaces,
    /// Namespace of objects that name none.
    pub namespace: String,
    /// Warnings about the cluster as a whole.
    pub warnings: Vec<String>,
}

/// Errors of reading.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The process could not be set up.
    #[error("failed to set up the process")]
    Process(#[source] io::Error),
    /// No kubeconfig, or one that is not valid.
    #[error(
        "found no cluster to ask; hint: KUBECONFIG names the file of a cluster, as for kubectl; {OFFLINE}"
    )]
    NoCluster(#[source] Box<kube::Error>),
    /// The settings are not there.
    #[error(
        "namespace {namespace} has no ConfigMap {CONFIG_MAP}; hint: is the operator in another namespace \
         (--system-namespace), or older than this program, which is {}? {OFFLINE}",
        env!("CARGO_PKG_VERSION")
    )]
    Missing {
        /// Namespace of the operator.
        namespace: String,
    },
    /// The settings have not been published.
    #[error(
        "ConfigMap {namespace}/{CONFIG_MAP} has no {KEY}; hint: the operator writes it at its start: does \
         `kubectl -n {namespace} rollout status deployment/smidge` show it running?"
    )]
    Unpublished {
        /// Namespace of the operator.
        namespace: String,
    },
    /// The settings cannot be used.
    #[error(
        "ConfigMap {namespace}/{CONFIG_MAP}, {KEY} cannot be used; hint: use the program of the operator's version"
    )]
    Invalid {
        /// Namespace of the operator.
        namespace: String,
        /// The cause.
        #[source]
        source: InvalidSettings,
    },
    /// The API server refused a request, or did not answer.
    #[error("failed to read {what}; hint: {OFFLINE}")]
    Read {
        /// The object.
        what: String,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Reads the settings and the namespaces of the pods in `sources`; `namespace` has precedence over that of the
/// kubeconfig's context.
pub fn load(
    system_namespace: &str,
    namespace: Option<String>,
    sources: &[Source],
    probe_key: ProbeKey,
) -> Result<Live, LiveError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(LiveError::Process)?.block_on(async {
        let client = connect().await.map_err(|error| LiveError::NoCluster(Box::new(error)))?;
        read(client, system_namespace, namespace, sources, probe_key).await
    })
}

/// Connects to the cluster. An answer that is an error is not requested again: a person is waiting.
async fn connect() -> Result<Client, kube::Error> {
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.default_retry = false;
    Client::try_from(config)
}

/// Reads as [`load`] does, by `client`.
pub async fn read(
    client: Client,
    system_namespace: &str,
    namespace: Option<String>,
    sources: &[Source],
    probe_key: ProbeKey,
) -> Result<Live, LiveError> {
    let published = published(&client, system_namespace).await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let mut warnings = Vec::new();
    if published.version != env!("CARGO_PKG_VERSION") {
        warnings.push(format!(
            "smidge: the operator has version {}, and this program {}: its webhook may inject differently; hint: use \
             the program of the operator's version",
            published.version,
            env!("CARGO_PKG_VERSION")
        ));
    }
    let mut found = BTreeMap::new();
    for name in namespaces(sources, &namespace) {
        let metadata = of_namespace(&client, &name).await?;
        found.insert(name, metadata);
    }
    let invalid = |source| LiveError::Invalid { namespace: system_namespace.to_owned(), source };
    let settings = published.settings(probe_key).map_err(invalid)?;
    Ok(Live { settings, namespaces: Namespaces::Read(found), namespace, warnings })
}

async fn published(client: &Client, namespace: &str) -> Result<Published, LiveError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let named = || namespace.to_owned();
    let object = match api.get_opt(CONFIG_MAP).await {
        Ok(object) => object.ok_or_else(|| LiveError::Missing { namespace: named() })?,
        Err(error) => {
            let what = format!("ConfigMap {namespace}/{CONFIG_MAP}");
            return Err(LiveError::Read { what, source: Box::new(error) });
        }
    };
    let text = object.data.unwrap_or_default().remove(KEY);
    let text = text.ok_or_else(|| LiveError::Unpublished { namespace: named() })?;
    Published::parse(&text).map_err(|source| LiveError::Invalid { namespace: named(), source })
}

async fn of_namespace(client: &Client, name: &str) -> Result<Found, LiveError> {
    let api: Api<Namespace> = Api::all(client.clone());
    match api.get_opt(name).await {
        Ok(Some(Namespace { metadata, .. })) => {
            Ok(Found::Known(Metadata { labels: metadata.labels, annotations: metadata.annotations }))
        }
        Ok(None) => Ok(Found::Missing),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Found::Forbidden),
        Err(error) => Err(LiveError::Read { what: format!("Namespace {name}"), source: Box::new(error) }),
    }
}
