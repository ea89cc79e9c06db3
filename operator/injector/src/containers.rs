//! Builds the parts that are added to a pod: the init container, the sidecar, and the one volume.
//!
//! Everything here comes from the settings, except for the redirection, probes and resources, which are already parsed.
//! Does not place them in the pod: its caller does.

use serde_json::{Value, json};
use smidge_crds::labels::{INIT_CONTAINER, PROXY_CONTAINER};
use smidge_xds::{
    bootstrap::{
        BootstrapInput, ControlPlane, Credential, Probe, READINESS_PATH, TOKEN_FILE, TOKEN_SDS_FILE,
        bootstrap,
    },
    mesh::proxy::{READINESS_PORT, STATS_PORT, TrafficStats},
};

use super::{Settings, TOKEN_SDS, options::Options, probes::literal, traces};
use crate::redirect::{PROXY_GROUP, request::Redirection};

/// Name of the volume with the proxy's token.
pub const VOLUME: &str = "smidge";
/// Path at which the sidecar mounts that volume.
pub const CREDENTIAL_FOLDER: &str = "/var/run/smidge";

/// Lifetime of a token, in seconds; the kubelet renews it after four fifths of that.
const TOKEN_SECONDS: u32 = 3600;
/// Time from a proxy's start to its first probe, in seconds: it has its configuration by then, as a rule, and an earlier
/// probe fails and causes an Event. The kubelet probes each second, so that none but the first is left out.
const FIRST_PROBE_SECONDS: u32 = 1;

/// User and group of the init container that verifies the redirection: those of the program's image, and not the
/// proxy's, whose calls are not redirected.
const VERIFIER: u32 = 65_532;

/// Builds the init container that redirects. It runs as root, as added capabilities take no effect for other users, with
/// NET_ADMIN and no other capability.
pub(super) fn init(settings: &Settings, redirection: &Redirection, resources: &Value) -> Value {
    let context = json!({
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": false,
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    redirecting(settings, &["redirect"], redirection, resources, &context)
}

/// Builds the init container that verifies that the CNI plugin has redirected. It needs no privilege, and ends with an
/// error where the rules are missing, so that nothing of the application runs.
pub(super) fn verifier(settings: &Settings, redirection: &Redirection, resources: &Value) -> Value {
    let context = unprivileged(VERIFIER, VERIFIER);
    redirecting(settings, &["redirect", "--verify"], redirection, resources, &context)
}

/// Builds the context of a container without any privilege, as Pod Security `restricted` requires it.
fn unprivileged(user: u32, group: u32) -> Value {
    json!({
        "runAsUser": user,
        "runAsGroup": group,
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn redirecting(
    settings: &Settings,
    command: &[&str],
    redirection: &Redirection,
    resources: &Value,
    context: &Value,
) -> Value {
    let args: Vec<String> =
        command.iter().map(|word| (*word).to_owned()).chain(redirection.to_args()).collect();
    json!({
        "name": INIT_CONTAINER,
        "image": settings.init_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": args,
        "resources": resources,
        "securityContext": context,
    })
}

/// Builds the sidecar: an init container that keeps running, so that it is up before the application and ends after it.
///
/// It has no `preStop` hook of its own: the control plane removes the pod from every proxy's endpoints as soon as it is being
/// deleted, the application ends its own requests, and Kubernetes stops the sidecar only after every container of the
/// application has ended.
pub(super) fn proxy(
    settings: &Settings,
    probes: Vec<Probe>,
    user: u32,
    options: &Options,
    resources: &Value,
    traced: &str,
) -> Value {
    let ready = || json!({"path": READINESS_PATH, "port": READINESS_PORT, "scheme": "HTTP"});
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    json!({
        "name": PROXY_CONTAINER,
        "image": settings.proxy_image,
        "imagePullPolicy": settings.image_pull_policy,
        "restartPolicy": "Always",
        "command": ["/usr/local/bin/envoy"],
        "args": [
            "--config-yaml", bootstrap(&input(settings, probes, options)).to_string(),
            "--concurrency", options.concurrency.to_string(),
            "--drain-time-s", options.drain_seconds.to_string(),
            "--drain-strategy", "immediate",
            "--disable-hot-restart",
            "--log-level", options.log_level,
        ],
        "env": [
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_UID", "metadata.uid"),
            field("POD_IP", "status.podIP"),
            {"name": traces::VARIABLE, "value": traced},
        ],
        "ports": [{"name": "smidge-metrics", "containerPort": STATS_PORT, "protocol": "TCP"}],
        // Until then, without the control plane, a pod waits rather than run unprotected.
        "startupProbe": {
            "httpGet": ready(), "initialDelaySeconds": FIRST_PROBE_SECONDS, "periodSeconds": 1, "timeoutSeconds": 2,
            "failureThreshold": options.start_seconds,
        },
        "readinessProbe": {"httpGet": ready(), "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 3},
        "resources": resources,
        "securityContext": unprivileged(user, PROXY_GROUP),
        "volumeMounts": [{"name": VOLUME, "mountPath": CREDENTIAL_FOLDER, "readOnly": true}],
    })
}

/// Builds the bootstrap's input. Kubernetes replaces `$(NAME)` in a container's arguments.
fn input(settings: &Settings, probes: Vec<Probe>, options: &Options) -> BootstrapInput {
    BootstrapInput {
        connections: options.connections,
        socket_mark: None,
        traffic: settings.version().map_or(TrafficStats::None, TrafficStats::of_version),
        instance: "$(POD_NAME)".to_owned(),
        namespace: "$(POD_NAMESPACE)".to_owned(),
        cluster: literal(&settings.cluster_name),
        address: "$(POD_IP)".to_owned(),
        family: settings.family,
        control_plane: ControlPlane {
            alternatives: Vec::new(),
            host: literal(&settings.control_plane_host()),
            port: settings.xds_port,
            server_name: literal(&settings.server_name()),
            roots: settings.control_plane_roots.clone(),
            credential: Credential::Token { folder: CREDENTIAL_FOLDER.to_owned() },
        },
        probes,
    }
}

/// Builds the volume: the token, and the file that names its path. Readable by all users, as the containers of a pod
/// run as different users and the volume is mounted into the sidecar alone.
pub(super) fn volume(settings: &Settings) -> Value {
    json!({"name": VOLUME, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {
            "audience": settings.audience(), "expirationSeconds": TOKEN_SECONDS, "path": TOKEN_FILE,
        }},
        {"downwardAPI": {"items": [{
            "path": TOKEN_SDS_FILE,
            "fieldRef": {"apiVersion": "v1", "fieldPath": format!("metadata.annotations['{TOKEN_SDS}']")},
        }]}},
    ]}})
}
