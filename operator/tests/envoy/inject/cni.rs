//! Injection where the CNI plugin redirects: a pod without privileges, the annotation for the plugin, and the choice by the
//! mesh's setting and the namespace's label.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use smidge::{
    injector::{self, Cni, Decision, Namespace, Settings},
    redirect::{RedirectedPorts, request::Redirection},
};

use super::{expect, folder, golden, settings};

fn pod() -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(folder().join("cni/pod.yaml")).unwrap()).unwrap()
}

/// Decides on a pod with the setting, in a namespace with the label.
fn decide(pod: &Value, cni: Cni, label: Option<&str>) -> Decision {
    let labels: BTreeMap<String, String> =
        label.map(|word| ("smidge.mesh/redirection".to_owned(), word.to_owned())).into_iter().collect();
    let namespace = Namespace { name: "shop", labels: Some(&labels), annotations: None };
    injector::inject(pod, namespace, Some("review"), &Settings { cni, ..settings() })
}

fn injected(pod: &Value, cni: Cni, label: Option<&str>) -> (Value, Vec<String>) {
    match decide(pod, cni, label) {
        Decision::Inject { pod, warnings } => (pod, warnings),
        other => panic!("{cni:?} {label:?}: {other:?}"),
    }
}

fn is_cni(pod: &Value) -> bool {
    let args = pod.pointer("/spec/initContainers/0/args").unwrap();
    let verifies = args.as_array().unwrap().contains(&json!("--verify"));
    let annotation = &pod["metadata"]["annotations"]["smidge.mesh/cni-redirect"];
    assert_eq!(verifies, annotation.is_string(), "{pod}");
    verifies
}

#[test]
fn the_pod_is_as_expected() {
    let decision = decide(&pod(), Cni::Offered, Some("cni"));
    let (out, _) = golden(&decision);
    expect("cni", "out.yaml", Some(serde_saphyr::to_string(&out).unwrap()));
}

/// Every field that Pod Security `restricted` requires is set on every container, whatever the pod itself sets.
#[test]
fn the_pod_fits_pod_security_restricted() {
    let (pod, _) = injected(&pod(), Cni::Default, None);
    for container in pod["spec"]["initContainers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["runAsNonRoot"], true);
        assert!(context["runAsUser"].as_u64().unwrap() > 0);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["privileged"], false);
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
    }
    for volume in pod["spec"]["volumes"].as_array().unwrap() {
        assert!(volume["projected"].is_object(), "{volume}");
    }
}

/// The plugin reads what the init container verifies.
#[test]
fn the_annotation_is_the_arguments_of_the_init_container() {
    let (pod, _) = injected(&pod(), Cni::Default, None);
    let annotation = pod["metadata"]["annotations"]["smidge.mesh/cni-redirect"].as_str().unwrap();
    let args: Vec<_> = pod["spec"]["initContainers"][0]["args"].as_array().unwrap().iter().skip(2).collect();
    let read: Redirection = annotation.parse().unwrap();
    assert_eq!(json!(args), json!(read.to_args()));
    assert_eq!(pod["spec"]["initContainers"][1]["securityContext"]["runAsUser"], read.proxy_user);
    assert_eq!(read.exclusions.outbound, RedirectedPorts::AllBut([5432, 6379].into()));
}

#[test]
fn setting_and_label_choose() {
    for (cni, label, expected) in [
        (Cni::Off, None, false),
        (Cni::Off, Some("init"), false),
        (Cni::Offered, None, false),
        (Cni::Offered, Some("init"), false),
        (Cni::Offered, Some("cni"), true),
        (Cni::Default, None, true),
        (Cni::Default, Some("init"), false),
        (Cni::Default, Some("cni"), true),
    ] {
        let (pod, warnings) = injected(&pod(), cni, label);
        assert_eq!((is_cni(&pod), warnings), (expected, vec![]), "{cni:?} {label:?}");
    }
    for (cni, expected) in [(Cni::Off, false), (Cni::Offered, false), (Cni::Default, true)] {
        let (pod, warnings) = injected(&pod(), cni, Some("CNI"));
        assert_eq!(is_cni(&pod), expected);
        assert!(warnings[0].contains("smidge.mesh/redirection: CNI: expected cni or init"), "{warnings:?}");
    }
    let Decision::Deny { message } = decide(&pod(), Cni::Off, Some("cni")) else { panic!("not refused") };
    assert!(message.contains("namespace shop has the label smidge.mesh/redirection: cni"), "{message}");
    assert!(message.contains("cni.enabled=true"), "{message}");
}

/// A pod that was injected in one mode, or whose annotation a user wrote, becomes the same as if it were injected now.
#[test]
fn injecting_again_in_another_mode_leaves_nothing_behind() {
    let (init, _) = injected(&pod(), Cni::Off, None);
    let (by_plugin, _) = injected(&pod(), Cni::Default, None);
    assert_eq!(injected(&by_plugin, Cni::Default, None).0, by_plugin);
    assert_eq!(injected(&by_plugin, Cni::Off, None).0, init);
    assert_eq!(injected(&init, Cni::Default, None).0, by_plugin);
    let mut forged = pod();
    forged["metadata"]["annotations"]["smidge.mesh/cni-redirect"] = json!("--exclude-inbound-ports=1");
    assert_eq!(injected(&forged, Cni::Default, None).0, by_plugin);
}

/// A user's annotation for the plugin has no effect where an init container redirects.
#[test]
fn an_annotation_for_the_plugin_does_not_stay_in_other_pods() {
    let mut forged = pod();
    forged["metadata"]["annotations"]["smidge.mesh/cni-redirect"] = json!("--exclude-inbound-ports=1");
    assert!(!is_cni(&injected(&forged, Cni::Off, None).0));
}
