//! Copies of injected pods, as `kubectl debug --copy-to` makes them: they lose labels, annotations and probes unless flags
//! keep them, and get another container or image.

use serde_json::{Value, json};

use super::{a_pod, a_review, answer, patch};

fn original() -> Value {
    let mut pod = a_pod();
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 3});
    pod["spec"]["containers"][0]["lifecycle"] =
        json!({"preStop": {"httpGet": {"path": "/stop", "port": 8080}}});
    pod
}

fn injected(mut pod: Value) -> Value {
    let response = answer(&a_review(&pod));
    assert_eq!(response["allowed"], true, "{response}");
    json_patch::patch(&mut pod, &patch(&response)).unwrap();
    pod
}

/// Copies a pod as kubectl 1.34 does with `--copy-to` and these flags.
fn copy(pod: &Value, flags: &[&str]) -> Value {
    let has = |flag: &str| flags.contains(&flag);
    let mut spec = pod["spec"].clone();
    if has("--keep-init-containers=false") {
        spec.as_object_mut().unwrap().remove("initContainers");
    }
    if has("--same-node") {
        spec["nodeName"] = json!("node");
    }
    if !has("--keep-readiness") {
        spec["containers"][0].as_object_mut().unwrap().remove("readinessProbe");
    }
    let containers = spec["containers"].as_array_mut().unwrap();
    if has("--set-image") {
        containers[0]["image"] = json!("debug:1");
    } else {
        containers.push(
            json!({"name": "debugger-x", "image": "debug:1", "command": ["sh"], "stdin": true, "tty": true}),
        );
    }
    let annotations = pod["metadata"]["annotations"].clone();
    let mut metadata = json!({"name": "copy"});
    if has("--keep-annotations") {
        metadata["annotations"] = annotations;
    }
    json!({"metadata": metadata, "spec": spec})
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let items = pod["spec"][list].as_array().into_iter().flatten();
    items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_copy_is_injected_as_any_pod() {
    let pod = injected(original());
    for flags in [
        &[][..],
        &["--keep-annotations"],
        &["--keep-init-containers=false"],
        &["--keep-annotations", "--keep-init-containers=false"],
        &["--same-node"],
        &["--set-image"],
    ] {
        let injected = injected(copy(&pod, flags));
        assert_eq!(names(&injected, "initContainers"), ["smidge-init", "smidge-proxy"]);
        assert_eq!(names(&injected, "volumes"), ["smidge"]);
        assert_eq!(injected["metadata"]["annotations"]["smidge.mesh/injected"], "true");
        assert_eq!(patch(&answer(&a_review(&injected))).0, [], "twice changes nothing");
    }
}

/// A copy that ends by itself does not wait for callers, as any such pod.
#[test]
fn the_delay_of_the_end_is_that_of_the_copy() {
    let delay = |pod: &Value| {
        let stop = pod.pointer("/spec/containers/0/lifecycle/preStop").cloned();
        (stop, pod["spec"]["terminationGracePeriodSeconds"].clone())
    };
    let whole = injected(a_pod());
    let delayed = (Some(json!({"sleep": {"seconds": 3}})), json!(33));
    assert_eq!(delay(&whole), delayed);
    for flags in [&[][..], &["--keep-init-containers=false"]] {
        let mut copy = copy(&whole, flags);
        assert_eq!(delay(&injected(copy.clone())), delayed);
        copy["spec"]["restartPolicy"] = json!("Never");
        assert_eq!(delay(&injected(copy)), (None, json!(null)));
    }
}

#[test]
fn checks_whose_original_is_lost_are_removed_with_a_warning() {
    let pod = injected(original());
    let kept = copy(&pod, &["--keep-readiness"]);
    let response = answer(&a_review(&kept));
    let warnings = response["warnings"].to_string();
    for check in ["probe app/readiness was removed", "probe app/preStop was removed"] {
        assert!(warnings.contains(check), "{warnings}");
    }
    let injected = injected(kept);
    let app = &injected["spec"]["containers"][0];
    let delay = json!({"preStop": {"sleep": {"seconds": 3}}});
    assert_eq!((app.get("readinessProbe"), &app["lifecycle"]), (None, &delay));

    let kept = copy(&pod, &["--keep-readiness", "--keep-annotations"]);
    let response = answer(&a_review(&kept));
    assert!(!response["warnings"].to_string().contains("was removed"), "{response}");
}

/// A pod with a part of an injection may be meant so by its owner, and is refused as before.
#[test]
fn a_part_of_an_injection_is_refused() {
    let whole = copy(&injected(original()), &[]);
    let without = |list: &str, name: &str| {
        let mut pod = whole.clone();
        pod["spec"][list].as_array_mut().unwrap().retain(|item| item["name"] != name);
        pod
    };
    let with = |place: &str, value: Value| {
        let mut pod = whole.clone();
        *pod.pointer_mut(place).unwrap() = value;
        pod
    };
    for (pod, expected) in [
        (without("initContainers", "smidge-init"), "volume \"smidge\""),
        (without("initContainers", "smidge-proxy"), "volume \"smidge\""),
        (without("volumes", "smidge"), "container \"smidge-init\""),
        (with("/spec/volumes/0", json!({"name": "smidge", "emptyDir": {}})), "volume \"smidge\""),
        (
            with("/spec/volumes/0/projected/sources/0/serviceAccountToken/audience", json!("vault")),
            "volume \"smidge\"",
        ),
        (with("/spec/initContainers/1/args", json!(["-c", "envoy.yaml"])), "volume \"smidge\""),
        (with("/spec/initContainers/1/volumeMounts", json!([])), "volume \"smidge\""),
        (with("/spec/initContainers/1/restartPolicy", json!("Never")), "volume \"smidge\""),
        (with("/spec/initContainers/0/args", json!(["sh"])), "volume \"smidge\""),
        (with("/spec/containers/1/name", json!("smidge-proxy")), "volume \"smidge\""),
        (whole.clone(), ""),
    ] {
        let response = answer(&a_review(&pod));
        let message = response["status"]["message"].as_str().unwrap_or_default();
        assert_eq!(response["allowed"], expected.is_empty(), "{response}");
        assert!(message.contains(expected), "{message}");
    }
}

/// Another container of a copy cannot get at the proxy's credentials, or its user.
#[test]
fn a_copy_is_judged_as_any_pod() {
    let pod = injected(original());
    for (field, value, expected) in [
        ("volumeMounts", json!([{"name": "smidge", "mountPath": "/x"}]), "mounts volume \"smidge\""),
        ("securityContext", json!({"runAsUser": 1337}), "runs as user 1337"),
        ("securityContext", json!({"runAsGroup": 1337}), "group 1337"),
    ] {
        for flags in [&[][..], &["--keep-init-containers=false"]] {
            let mut copy = copy(&pod, flags);
            copy["spec"]["containers"][1][field] = value.clone();
            let response = answer(&a_review(&copy));
            assert_eq!(response["allowed"], false, "{response}");
            assert!(response["status"]["message"].as_str().unwrap().contains(expected), "{response}");
        }
    }
}
