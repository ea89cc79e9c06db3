//! Turns a pod into a pod with a proxy.
//!
//! Pure, apart from `redirect::apply` and `redirect::proof`. [`inject`] is a function from a pod, as JSON, to a [`Decision`]; the webhook
//! answers with the difference, `smidge inject` prints the result. It edits the JSON as received, so that fields of a
//! newer Kubernetes than this program's survive. A pod that was injected before is first stripped of what was added and
//! then injected again, which makes the function idempotent and lets it see what other webhooks or users added since.
//! Reads no cluster and generates nothing random.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use smidge_crds::labels::{self, CNI_REDIRECT, INJECTED, KUBE_SYSTEM, PROXY_VERSION, TERMINATION};
use smidge_xds::{bootstrap::Family, mesh::proxy};

use self::redirect::request::Redirection;

mod annotations;
mod containers;
mod copy;
mod options;
mod other_mesh;
mod probes;
pub mod published;
mod pull_secrets;
pub mod redirect;
mod redirector;
mod refusal;
pub mod resources;
mod restore;
pub mod termination;
mod token;
mod traces;
mod user;

pub use annotations::{EXCLUDE_OUTBOUND_CIDRS, EXCLUDE_OUTBOUND_PORTS, PROBES, TOKEN_SDS, VERSION};
pub use containers::{CREDENTIAL_FOLDER, VOLUME};
pub use redirector::Cni;
pub use resources::{Quantity, Resources};
pub use token::ProbeKey;
pub use user::USERS;

/// The label that leaves a pod out of the mesh, and its value.
const OPT_OUT: (&str, &str) = (labels::INJECT, labels::INJECT_DISABLED);

/// Configuration of injected pods. Set by the administrator of the mesh; nothing in a pod changes any of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Image of the sidecar, a stock Envoy whose binary is `/usr/local/bin/envoy`.
    pub proxy_image: String,
    /// Version of that Envoy, for example `1.40.0`; `None`: the one in the image's tag.
    pub proxy_version: Option<String>,
    /// Image of the init container that redirects traffic, whose entry point is this program.
    pub init_image: String,
    /// Pull policy of both images.
    pub image_pull_policy: String,
    /// SPIFFE trust domain, part of the token's audience.
    pub trust_domain: String,
    /// Name of this cluster in the mesh, part of the token's audience.
    pub cluster_name: String,
    /// DNS domain of the cluster's Services.
    pub cluster_domain: String,
    /// Namespace of the operator and of its Service `smidge`. Its pods are never injected.
    pub system_namespace: String,
    /// Port of xDS at that Service.
    pub xds_port: u16,
    /// Roots of the control plane's authority, each one PEM block: active and standby.
    pub control_plane_roots: Vec<String>,
    /// Key of the tokens in the paths at which the kubelet calls probes and hooks. The default is no secret: the
    /// administrator of a mesh sets another.
    pub probe_key: ProbeKey,
    /// Family of the pods' first address.
    pub family: Family,
    /// Worker threads of a proxy.
    pub concurrency: u16,
    /// Log level of a proxy: Envoy's `--log-level`.
    pub log_level: String,
    /// Requests and limits of a proxy, where no annotation sets others.
    pub proxy_resources: Resources,
    /// Requests and limits of the init container, where no annotation sets others.
    pub init_resources: Resources,
    /// Time for which containers go on when their pod is deleted, in seconds, where no annotation sets another.
    pub termination_delay_seconds: u64,
    /// Names of the Secrets with the credentials of the injected images' registry, in each pod's namespace.
    pub image_pull_secrets: Vec<String>,
    /// Part of the CNI plugin in redirecting the pods' traffic.
    pub cni: Cni,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy_version: None,
            proxy_image: "envoyproxy/envoy:distroless-v1.40.0".to_owned(),
            init_image: concat!("ghcr.io/smidge-mesh/smidge:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            cluster_name: "local".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            system_namespace: "smidge-system".to_owned(),
            xds_port: 15012,
            control_plane_roots: Vec::new(),
            probe_key: ProbeKey::from_secret(b"no secret"),
            family: Family::V4,
            concurrency: 2,
            log_level: "warning".to_owned(),
            // No CPU limit: a throttled proxy shows as latency of the application.
            proxy_resources: Resources::of(["10m", "none"], ["64Mi", "512Mi"]),
            init_resources: Resources::of(["10m", "none"], ["16Mi", "64Mi"]),
            termination_delay_seconds: 3,
            image_pull_secrets: Vec::new(),
            cni: Cni::Off,
        }
    }
}

impl Settings {
    /// Returns the version of the proxies, if it is known.
    fn version(&self) -> Option<&str> {
        self.proxy_version.as_deref().or_else(|| proxy::version_of_image(&self.proxy_image))
    }

    /// Returns the audience of a proxy's token.
    pub fn audience(&self) -> String {
        format!("smidge/{}/{}", self.trust_domain, self.cluster_name)
    }

    /// Returns the only name in the control plane's certificate.
    pub fn server_name(&self) -> String {
        format!("smidge.{}.svc", self.system_namespace)
    }

    /// Returns the full name that a proxy connects to.
    pub fn control_plane_host(&self) -> String {
        format!("{}.{}", self.server_name(), self.cluster_domain)
    }
}

/// Namespace of a pod, as far as it concerns injection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Namespace<'n> {
    /// Its name.
    pub name: &'n str,
    /// Its labels, if they are known.
    pub labels: Option<&'n BTreeMap<String, String>>,
    /// Its annotations, if they are known.
    pub annotations: Option<&'n BTreeMap<String, String>>,
}

impl Namespace<'_> {
    /// Returns an annotation of the pod, else that of its namespace, and how a message names it.
    fn nearest<'a>(&'a self, pod: &'a Value, name: &str) -> Option<(&'a str, String)> {
        let of_pod = annotation(pod, name).map(|text| (text, format!("annotation {name}")));
        of_pod.or_else(|| {
            let text = self.annotations?.get(name)?;
            Some((text.as_str(), format!("annotation {name} of namespace {}", self.name)))
        })
    }
}

impl<'n> From<&'n str> for Namespace<'n> {
    fn from(name: &'n str) -> Self {
        Self { name, ..Self::default() }
    }
}

/// Decision about a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The pod with a proxy.
    Inject {
        /// The whole pod, changed.
        pod: Value,
        /// Warnings for its owner.
        warnings: Vec<String>,
    },
    /// The pod stays unchanged.
    Skip {
        /// Warnings for its owner; empty if the pod is left out on purpose.
        warnings: Vec<String>,
    },
    /// The pod must not run in the mesh as written.
    Deny {
        /// The problem, and what is expected instead.
        message: String,
    },
}

/// Decides on a pod or a pod template (`metadata` and `spec`) of `namespace`, which takes part in the mesh. `review`
/// identifies the API server's review of one pod, whose proxy then has a user of its own; see `user`.
pub fn inject<'n>(
    pod: &Value,
    namespace: impl Into<Namespace<'n>>,
    review: Option<&str>,
    settings: &Settings,
) -> Decision {
    match try_inject(pod, namespace.into(), review, settings) {
        Ok(decision) => decision,
        Err(message) => Decision::Deny { message: format!("smidge: {message}") },
    }
}

/// Returns true if a pod has a proxy, and so is in the mesh.
pub fn is_injected(pod: &Value) -> bool {
    refusal::has_proxy(pod)
}

/// Returns the reason for which a pod must not get the ephemeral containers that it is to have, for the user who adds
/// them.
pub fn refuse_ephemeral(pod: &Value) -> Option<String> {
    refusal::ephemeral(pod).err().map(|message| format!("smidge: {message}"))
}

/// Returns the reason for which the API server refuses the labels or annotations of an object, if it does.
pub fn refuse_metadata(object: &Value) -> Option<String> {
    refusal::texts(object).err().map(|message| format!("smidge: {message}"))
}

fn try_inject(
    pod: &Value,
    namespace: Namespace<'_>,
    review: Option<&str>,
    settings: &Settings,
) -> Result<Decision, String> {
    refusal::texts(pod)?;
    if let Some(warnings) = stays_out(pod, namespace.name, settings) {
        return Ok(Decision::Skip { warnings });
    }
    let mut warnings = annotations::warnings(pod);
    warnings.extend(other_mesh::warnings(pod, namespace));
    let by_cni = redirector::is_cni(namespace, settings.cni, &mut warnings)?;
    let mut pod = pod.clone();
    let mut given = None;
    if annotation(&pod, INJECTED).is_some() {
        given = user::given(&pod);
        restore::strip(&mut pod);
    } else if copy::is_copy(&pod) {
        restore::strip(&mut pod);
        warnings.extend(copy::drop_checks(&mut pod));
        let delay = termination::delay(&pod, namespace, settings)?;
        termination::remove_from_copy(&mut pod, delay);
    }
    refusal::check(&pod)?;
    let user = user::choose(&pod, given, review);
    let redirection = Redirection { proxy_user: user, exclusions: annotations::exclusions(&pod)? };
    let [of_init, of_proxy] = resources::of(&pod, namespace, settings, &mut warnings)?;
    let options = options::of(&pod, namespace, settings)?;
    let delay = termination::delay(&pod, namespace, settings)?;
    let owner = token::Owner::of(&pod, namespace.name);
    let tokens =
        |check: &str, definition: &Map<String, Value>| settings.probe_key.token(&owner, check, definition);
    let (probes, originals) = probes::take(&mut pod, tokens, &mut warnings);
    let proxy = containers::proxy(settings, probes, user, &options, &of_proxy, &traces::attributes(&pod));
    let init = if by_cni { containers::verifier } else { containers::init };
    // The proxy last: connections that it had before the rules were loaded would be cut (docs/design/035).
    let added = [init(settings, &redirection, &of_init), proxy];
    add(&mut pod, settings, added);
    warnings.extend(pull_secrets::add(&mut pod, &settings.image_pull_secrets, review.is_none()));
    let records = [
        (PROBES, (!originals.is_empty()).then(|| Value::Object(originals).to_string())),
        (TERMINATION, termination::add(&mut pod, delay).map(|record| record.to_string())),
        (CNI_REDIRECT, by_cni.then(|| redirection.to_text())),
    ];
    annotate(&mut pod, settings, records);
    Ok(Decision::Inject { pod, warnings })
}

/// Returns the warnings with which a pod runs without a proxy, none if it is left out on purpose; `None` if it gets
/// one.
fn stays_out(pod: &Value, namespace: &str, settings: &Settings) -> Option<Vec<String>> {
    let (label, disabled) = OPT_OUT;
    if pod.pointer("/metadata/labels").and_then(|labels| labels.get(label)).and_then(Value::as_str)
        == Some(disabled)
        || namespace == settings.system_namespace
        || namespace == KUBE_SYSTEM
    {
        return Some(Vec::new());
    }
    if pod.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true) {
        return Some(vec![
            "smidge: the pod is not in the mesh: with hostNetwork, redirection would take the node's traffic"
                .to_owned(),
        ]);
    }
    if pod.pointer("/spec/os/name").and_then(Value::as_str) == Some("windows") {
        return Some(vec!["smidge: the pod is not in the mesh: redirection needs Linux".to_owned()]);
    }
    None
}

fn add(pod: &mut Value, settings: &Settings, added: [Value; 2]) {
    let Some(spec) = child(pod, "spec") else { return };
    // At the front, so that the init containers of the application have the mesh as well.
    array(spec, "initContainers").splice(0..0, added);
    array(spec, "volumes").push(containers::volume(settings));
}

fn annotate(pod: &mut Value, settings: &Settings, records: [(&str, Option<String>); 3]) {
    let Some(annotations) = child(pod, "metadata").and_then(|metadata| object(metadata, "annotations"))
    else {
        return;
    };
    // One that a user wrote is not for the plugin.
    annotations.remove(CNI_REDIRECT);
    let mut set = |name: &str, value: String| annotations.insert(name.to_owned(), Value::String(value));
    set(INJECTED, "true".to_owned());
    set(VERSION, env!("CARGO_PKG_VERSION").to_owned());
    if let Some(version) = settings.version() {
        set(PROXY_VERSION, version.to_owned());
    }
    set(TOKEN_SDS, smidge_xds::bootstrap::token_sds(CREDENTIAL_FOLDER));
    for (name, record) in records {
        if let Some(text) = record {
            set(name, text);
        }
    }
}

// === reading and writing a pod ===

fn annotation<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    pod.pointer("/metadata/annotations")?.get(name)?.as_str()
}

/// Returns the elements of an array of the pod's `spec`; none if there is no such array.
fn listed<'a>(pod: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    pod.get("spec").and_then(|spec| spec.get(name)).and_then(Value::as_array).into_iter().flatten()
}

/// Returns the application's init containers and containers.
fn all_containers(pod: &Value) -> impl Iterator<Item = &Value> {
    listed(pod, "initContainers").chain(listed(pod, "containers"))
}

fn name_of(value: &Value) -> &str {
    value.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Returns the object called `name` in `parent`, created if it is missing or null.
fn child<'a>(parent: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    object(parent.as_object_mut()?, name)
}

fn object<'a>(parent: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let value = parent.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// Returns the array called `name` in `parent`, created if it is missing or anything else.
fn array<'a>(parent: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let value = parent.entry(name).or_insert(Value::Null);
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(items) => items,
        _ => unreachable!("an array was just put there"),
    }
}
