//! Shapes of pods: each is a Job that must complete, and so must be able to call through the mesh at each moment of its life,
//! and must end although it has a proxy.

use std::time::Duration;

use k8s_openapi::api::batch::v1 as batch;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, everything, shop, target},
    until,
};

/// Time limit for all of them, on a machine with other load.
const ENDED: Duration = Duration::from_mins(3);

/// Number of pods that start at once, so that a machine of two cores can.
const AT_ONCE: usize = 4;

/// URL that the pods call.
pub const BOOKS: &str = "http://shop:14001/books";

/// Each pod: its name, its container's fields, and its other fields.
fn shapes() -> Vec<(&'static str, Value, Value)> {
    let none = json!({});
    let call = call();
    vec![
        ("plain", none.clone(), none.clone()),
        ("init-container", none.clone(), json!({"initContainers": [container("before", &call)]})),
        (
            "sidecar",
            none.clone(),
            json!({"initContainers": [{
                "name": "beside", "image": IMAGE, "args": ["-c", "trap exit TERM; while :; do sleep 1; done"], "restartPolicy": "Always",
            }]}),
        ),
        (
            "two-containers",
            none.clone(),
            json!({"containers": [container("main", &call), container("second", &call)]}),
        ),
        ("read-only-root", json!({"securityContext": {"readOnlyRootFilesystem": true}}), none.clone()),
        (
            "arbitrary-user",
            json!({"securityContext": {"runAsUser": 1_000_650_000, "runAsGroup": 0}}),
            none.clone(),
        ),
        ("root", json!({"securityContext": {"runAsUser": 0}}), none.clone()),
        (
            "restricted",
            json!({"securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            }}),
            none.clone(),
        ),
        ("without-token", none.clone(), json!({"automountServiceAccountToken": false})),
        ("without-grace-period", none.clone(), json!({"terminationGracePeriodSeconds": 0})),
        (
            "host-names",
            none.clone(),
            json!({"hostname": "mine", "subdomain": "ours", "setHostnameAsFQDN": true}),
        ),
        ("shared-processes", none.clone(), json!({"shareProcessNamespace": true})),
        ("dns-of-its-own", none, json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}})),
    ]
}

/// Image with a shell and curl.
pub const IMAGE: &str = "smidge.local/base:dev";

fn call() -> Value {
    json!(["-c", format!("curl --fail --silent --show-error --max-time 10 {BOOKS}")])
}

fn container(name: &str, args: &Value) -> Value {
    json!({"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "args": args})
}

fn merge(into: &mut Value, fields: &Value) {
    if let (Some(into), Some(fields)) = (into.as_object_mut(), fields.as_object()) {
        into.extend(fields.clone());
    }
}

/// Builds the template of one pod.
fn template(container_fields: &Value, pod_fields: &Value) -> Value {
    let mut main = container("main", &call());
    merge(&mut main, container_fields);
    let mut spec = json!({"restartPolicy": "Never", "serviceAccountName": "batch", "containers": [main]});
    merge(&mut spec, pod_fields);
    json!({"spec": spec})
}

fn job(name: &str, template: &Value) -> String {
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template},
    });
    format!("{job}\n---\n")
}

/// Starts what the pods call, and creates their account.
pub async fn called(namespace: &Namespace) -> anyhow::Result<()> {
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: batch}\n---\n";
    let rules = everything() + &target("shop", "shop", &["batch"], EVERYTHING);
    namespace.apply(&(shop("shop", "shop", "v1") + &rules + account)).await?;
    Pod::one(namespace, "shop").await.map(drop)
}

/// Starts the pods, a few at a time, and waits until each has ended as it must.
pub async fn all(namespace: &Namespace) -> anyhow::Result<()> {
    called(namespace).await?;
    let shapes = shapes();
    let jobs = shapes.iter().map(|(name, container, pod)| job(name, &template(container, pod)));
    // Exit codes stay those of the application.
    let fails = job("fails", &template(&json!({"args": ["-c", "exit 3"]}), &json!({})));
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {
            "backoffLimit": 0, "template": template(&json!({}), &json!({})),
        }}},
    });
    let mut jobs: Vec<String> = jobs.chain([fails, cron.to_string()]).collect();
    jobs.reverse();
    let api: Api<batch::Job> = Api::namespaced(namespace.cluster.client(), &namespace.name);
    until("every Job to end as it must", ENDED, async || {
        let seen = api.list(&ListParams::default()).await?.items;
        let wrong: Vec<_> =
            seen.iter().filter(|job| has_ended(job) && !is_as_it_must(job)).map(name).collect();
        let open: Vec<_> = seen.iter().filter(|job| !has_ended(job)).map(name).collect();
        if open.len() < AT_ONCE
            && let Some(job) = jobs.pop()
        {
            namespace.apply(&job).await?;
        }
        anyhow::ensure!(
            wrong.is_empty() && open.is_empty() && jobs.is_empty() && seen.len() >= shapes.len() + 2,
            "{wrong:?} ended otherwise, {open:?} run, {} are not started",
            jobs.len()
        );
        Ok(())
    })
    .await
}

fn name(job: &batch::Job) -> String {
    job.metadata.name.clone().unwrap_or_default()
}

fn counts(job: &batch::Job) -> (i32, i32) {
    let status = job.status.clone().unwrap_or_default();
    (status.succeeded.unwrap_or(0), status.failed.unwrap_or(0))
}

fn has_ended(job: &batch::Job) -> bool {
    counts(job) != (0, 0)
}

fn is_as_it_must(job: &batch::Job) -> bool {
    counts(job) == if name(job) == "fails" { (0, 1) } else { (1, 0) }
}
