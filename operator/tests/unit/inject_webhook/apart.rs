//! Separation of applications and their proxies: a user of its own for each proxy, a group that no other container may
//! have, and warnings about pods that can leave the mesh all the same.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use smidge::{
    bypass::Kind,
    injector::Settings,
    webhook::injection::{Metrics, Strictness},
};

use super::{a_pod, a_review, answer, answer_if, patch};

fn injected(review: &str) -> Value {
    let mut question = a_review(&a_pod());
    question["request"]["uid"] = json!(review);
    let mut pod = a_pod();
    json_patch::patch(&mut pod, &patch(&answer(&question))).unwrap();
    pod
}

fn proxy_user(pod: &Value) -> u64 {
    let proxy = &pod["spec"]["initContainers"][1];
    let (user, group) = (&proxy["securityContext"]["runAsUser"], &proxy["securityContext"]["runAsGroup"]);
    assert_eq!(*group, 1337);
    assert_eq!(pod["spec"]["initContainers"][0]["args"][1], format!("--proxy-user={user}"));
    user.as_u64().unwrap()
}

/// The pods of a node share the kernel's bound on inotify instances of one user: 110 pods must not be one user.
#[test]
fn pods_have_proxies_of_different_users() {
    let users: BTreeSet<u64> = (0..110).map(|pod| proxy_user(&injected(&format!("review-{pod}")))).collect();
    assert!(users.len() >= 108, "{} users for 110 pods", users.len());
    assert!(users.iter().all(|user| (30_000..60_000).contains(user)), "{users:?}");
}

/// A second review of the same pod has another UID, and the user of the proxy stays.
#[test]
fn a_pod_keeps_its_proxys_user() {
    let pod = injected("first");
    let mut again = a_review(&pod);
    again["request"]["uid"] = json!("second");
    assert_eq!(patch(&answer(&again)).0, []);
}

/// A template that was injected without a webhook does not give all its pods one user.
#[test]
fn a_shared_user_is_replaced() {
    let shared = smidge::injector::inject(&a_pod(), "shop", None, &Settings::default());
    let smidge::injector::Decision::Inject { mut pod, .. } = shared else { panic!("not injected") };
    assert_eq!(pod["spec"]["initContainers"][1]["securityContext"]["runAsUser"], 1337);
    let patch = patch(&answer(&a_review(&pod)));
    json_patch::patch(&mut pod, &patch).unwrap();
    assert!(proxy_user(&pod) >= 30_000);
}

/// A user that a container has is not the proxy's: it is written in the pod, or set by a later webhook.
#[test]
fn a_user_of_the_application_is_not_the_proxys() {
    let mut pod = injected("first");
    let user = proxy_user(&pod);
    pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": user});
    let patch = patch(&answer(&a_review(&pod)));
    json_patch::patch(&mut pod, &patch).unwrap();
    assert_ne!(proxy_user(&pod), user);
}

#[test]
fn the_group_of_the_proxies_is_nobody_elses() {
    for (place, field, value) in [
        ("/spec", "runAsGroup", json!(1337)),
        ("/spec", "fsGroup", json!(1337)),
        ("/spec", "supplementalGroups", json!([1, 1337])),
        ("/spec/containers/0", "runAsGroup", json!(1337)),
        ("/spec/initContainers/0", "runAsGroup", json!(1337)),
    ] {
        let mut pod = a_pod();
        pod["spec"]["initContainers"] = json!([{"name": "early", "image": "web:1"}]);
        pod.pointer_mut(place).unwrap()["securityContext"] = json!({field: value});
        let response = answer(&a_review(&pod));
        assert_eq!(response["allowed"], false, "{place} {field}");
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains("group 1337") && message.contains(field), "{message}");
    }
}

#[test]
fn ephemeral_containers_are_held_apart_from_the_proxy() {
    let pod = injected("first");
    let user = proxy_user(&pod);
    let ask = |pod: &Value, context: Value, mounts: Value| {
        let mut pod = pod.clone();
        pod["spec"]["ephemeralContainers"] =
            json!([{"name": "debug", "image": "sh:1", "securityContext": context, "volumeMounts": mounts}]);
        let mut review = a_review(&pod);
        review["request"]["operation"] = json!("UPDATE");
        review["request"]["subResource"] = json!("ephemeralcontainers");
        answer(&review)
    };
    let none = json!([]);
    for context in [json!({"runAsUser": user}), json!({"runAsUser": 1337}), json!({"runAsGroup": 1337})] {
        let response = ask(&pod, context.clone(), none.clone());
        assert_eq!(response["allowed"], false, "{context}");
        assert!(response["status"]["message"].as_str().unwrap().contains("\"debug\""), "{response}");
    }
    let mount = json!([{"name": "smidge", "mountPath": "/x"}]);
    assert_eq!(ask(&pod, json!({}), mount)["allowed"], false);
    for context in [json!(null), json!({"runAsUser": 1000, "runAsGroup": 1000})] {
        let response = ask(&pod, context, none.clone());
        assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None), "{response}");
    }
    // A pod outside of the mesh is not restricted.
    assert_eq!(ask(&a_pod(), json!({"runAsGroup": 1337}), none)["allowed"], true);
}

#[test]
fn a_pod_that_can_leave_is_warned_of_or_refused() {
    let capability = |name: &str| json!({"capabilities": {"add": [name]}});
    for (place, field, value, kind, said) in [
        ("/spec/containers/0", "securityContext", capability("NET_ADMIN"), Kind::Capability, "NET_ADMIN"),
        ("/spec/containers/0", "securityContext", capability("CAP_SYS_ADMIN"), Kind::Capability, "SYS_ADMIN"),
        (
            "/spec/containers/0",
            "securityContext",
            json!({"privileged": true}),
            Kind::Capability,
            "privileged",
        ),
        ("/spec", "hostPID", json!(true), Kind::Processes, "spec.hostPID"),
        ("/spec", "shareProcessNamespace", json!(true), Kind::Processes, "spec.shareProcessNamespace"),
        (
            "/metadata",
            "annotations",
            json!({"smidge.mesh/exclude-inbound-ports": "8080"}),
            Kind::ExcludedInbound,
            "without mTLS",
        ),
        (
            "/metadata",
            "annotations",
            json!({"smidge.mesh/include-inbound-ports": "8080"}),
            Kind::ExcludedInbound,
            "smidge.mesh/include-inbound-ports]: callers reach ports \"all but 8080\" without mTLS",
        ),
    ] {
        let mut pod = a_pod();
        pod.pointer_mut(place).unwrap()[field] = value;
        let (review, metrics) = (a_review(&pod), Metrics::default());
        let response = answer_if(&review, Strictness::Warn, &metrics);
        assert_eq!(response["allowed"], true, "{field}: {response}");
        assert!(response["warnings"][0].as_str().unwrap().contains(said), "{response}");
        for strictness in [Strictness::Refuse, Strictness::Unknown] {
            let response = answer_if(&review, strictness, &metrics);
            assert_eq!(response["allowed"], false, "{field}: {response}");
            assert!(response["status"]["message"].as_str().unwrap().contains(said), "{response}");
        }
        assert_eq!((metrics.could_leave(kind, true), metrics.could_leave(kind, false)), (1, 2), "{field}");
    }
    // Other pods are admitted without a warning, whatever the settings; injected pods have what they need.
    let answer = answer_if(&a_review(&injected("first")), Strictness::Refuse, &Metrics::default());
    assert_eq!((&answer["allowed"], answer.get("warnings")), (&json!(true), None), "{answer}");
}

#[test]
fn an_ephemeral_container_that_can_leave_is_warned_of_or_refused() {
    let mut pod = injected("first");
    for debug in [
        json!({"name": "debug", "image": "sh:1", "securityContext": {"privileged": true}}),
        json!({"name": "debug", "image": "sh:1", "targetContainerName": "smidge-proxy"}),
    ] {
        pod["spec"]["ephemeralContainers"] = json!([debug]);
        let mut review = a_review(&pod);
        review["request"]["operation"] = json!("UPDATE");
        review["request"]["subResource"] = json!("ephemeralcontainers");
        let warned = answer_if(&review, Strictness::Warn, &Metrics::default());
        assert_eq!(warned["allowed"], true, "{warned}");
        assert!(warned["warnings"][0].as_str().unwrap().contains("\"debug\""), "{warned}");
        let refused = answer_if(&review, Strictness::Refuse, &Metrics::default());
        assert_eq!(refused["allowed"], false, "{refused}");
    }
}

/// An ephemeral container in a pod without a proxy is not judged; in a pod with many ways to leave the mesh, the new
/// one still counts.
#[test]
fn ephemeral_containers_are_judged_by_themselves_and_in_the_mesh_alone() {
    let debug = json!([{"name": "debug", "image": "sh:1", "securityContext": {"privileged": true}}]);
    let ask = |pod: &Value| {
        let mut review = a_review(pod);
        review["request"]["operation"] = json!("UPDATE");
        review["request"]["subResource"] = json!("ephemeralcontainers");
        answer_if(&review, Strictness::Refuse, &Metrics::default())
    };
    let outside = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "app", "image": "a"}],
        "ephemeralContainers": debug}});
    assert_eq!(ask(&outside)["allowed"], true);
    let mut pod = injected("first");
    for number in 0..20 {
        let other =
            json!({"name": format!("other-{number}"), "image": "a", "securityContext": {"privileged": true}});
        pod["spec"]["containers"].as_array_mut().unwrap().push(other);
    }
    pod["spec"]["ephemeralContainers"] = debug;
    assert_eq!(ask(&pod)["allowed"], false);
}
