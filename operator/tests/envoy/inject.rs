//! Golden cases of injection: `inject/<case>/in.yaml` is a pod; `out.yaml` is the result, with the proxy's bootstrap
//! apart in `bootstrap.json`. `UPDATE_EXPECT=1` rewrites both. Real Envoys validate every bootstrap as the kubelet
//! would start them. Does not test a running proxy: that is `inject_probes`.

use smidge_xds_testing::binaries;
use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use smidge::injector::{self, Decision, Settings};

mod cni;
pub mod envoy;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inject"))
}

fn settings() -> Settings {
    Settings {
        proxy_image: "envoy:test".to_owned(),
        init_image: "smidge:test".to_owned(),
        control_plane_roots: vec![fs::read_to_string(folder().join("root.pem")).unwrap()],
        ..Settings::default()
    }
}

fn cases() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("in.yaml").exists())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() > 10, "the cases were not found");
    names
}

fn pod(case: &str) -> Value {
    let text = fs::read_to_string(folder().join(case).join("in.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{case}: {error}"))
}

fn decide(pod: &Value) -> Decision {
    decide_with(pod, &settings())
}

fn decide_with(pod: &Value, settings: &Settings) -> Decision {
    let namespace = pod.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
    injector::inject(pod, namespace, None, settings)
}

/// Content of the golden files: the decision with the bootstrap taken out, and the bootstrap.
fn golden(decision: &Decision) -> (Value, Option<Value>) {
    match decision {
        Decision::Deny { message } => (json!({"deny": message}), None),
        Decision::Skip { warnings } => (json!({"skip": warnings}), None),
        Decision::Inject { pod, warnings } => {
            let mut pod = pod.clone();
            let containers = pod["spec"]["initContainers"].as_array_mut().unwrap();
            let proxy = containers.iter_mut().find(|it| it["name"] == "smidge-proxy").unwrap();
            let config = &mut proxy["args"][1];
            let bootstrap = serde_json::from_str(config.as_str().unwrap()).unwrap();
            *config = json!("<bootstrap.json>");
            (json!({"pod": pod, "warnings": warnings}), Some(bootstrap))
        }
    }
}

fn expect(case: &str, file: &str, text: Option<String>) {
    let path = folder().join(case).join(file);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        match text {
            Some(text) => fs::write(path, text).unwrap(),
            None => drop(fs::remove_file(path)),
        }
        return;
    }
    let expected = fs::read_to_string(&path).ok();
    assert!(
        expected == text,
        "{case}/{file} differs; UPDATE_EXPECT=1 rewrites it. Now:\n{}",
        text.unwrap_or_default()
    );
}

#[test]
fn every_case_is_as_expected() {
    for case in cases() {
        let (out, bootstrap) = golden(&decide(&pod(&case)));
        expect(&case, "out.yaml", Some(serde_saphyr::to_string(&out).unwrap()));
        expect(
            &case,
            "bootstrap.json",
            bootstrap.map(|value| serde_json::to_string_pretty(&value).unwrap() + "\n"),
        );
    }
}

#[test]
fn injecting_again_changes_nothing() {
    for case in cases() {
        if let Decision::Inject { pod: once, warnings } = decide(&pod(&case)) {
            assert_eq!(decide(&once), Decision::Inject { pod: once.clone(), warnings }, "{case}");
        }
    }
}

/// A pod that was injected under another key, or when paths had no token, becomes the same as if it were injected now.
#[test]
fn a_pod_that_was_injected_under_another_key_gets_this_ones_paths() {
    let Decision::Inject { pod: wanted, .. } = decide(&pod("probes-every-kind")) else {
        panic!("not injected")
    };
    let other = Settings { probe_key: injector::ProbeKey::from_secret(b"another"), ..settings() };
    let Decision::Inject { pod: foreign, .. } = injector::inject(&wanted, "shop", None, &other) else {
        panic!("not injected")
    };
    let path = "/spec/containers/0/livenessProbe/httpGet/path";
    let mut old = foreign.clone();
    let token = old.pointer(path).and_then(Value::as_str).unwrap().to_owned();
    assert_ne!(wanted.pointer(path), foreign.pointer(path));
    *old.pointer_mut(path).unwrap() = json!(token.rsplit_once('/').unwrap().0);
    let namespace = wanted.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
    for before in [foreign, old] {
        let Decision::Inject { pod: again, .. } = injector::inject(&before, namespace, None, &settings())
        else {
            panic!("not injected")
        };
        assert_eq!(again, wanted);
    }
}

/// A container that is added after injection has its probes answered as well, and the others keep theirs.
#[test]
fn a_container_added_later_keeps_its_probe() {
    let Decision::Inject { pod: mut once, .. } = decide(&pod("probes-every-kind")) else {
        panic!("not injected")
    };
    let late = json!({"name": "late", "image": "late:1", "livenessProbe": {"tcpSocket": {"port": 7000}}});
    once["spec"]["containers"].as_array_mut().unwrap().push(late);
    let Decision::Inject { pod: again, .. } = decide(&once) else { panic!("not injected") };
    let config = again.pointer("/spec/initContainers/1/args/1").unwrap().as_str().unwrap();
    for probe in ["probe/late/liveness", "probe/app/startup", "probe/cache/startup"] {
        assert!(config.contains(probe), "{probe} is missing");
    }
    assert_eq!(again.pointer("/spec/containers/2/livenessProbe/httpGet/port"), Some(&json!(15021)));
}

/// The JSON patch in the webhook's answer turns the pod into the pod of the decision.
#[test]
fn the_patch_makes_the_pod() {
    for case in cases() {
        let before = pod(&case);
        if let Decision::Inject { pod: wanted, .. } = decide(&before) {
            let mut patched = before.clone();
            json_patch::patch(&mut patched, &json_patch::diff(&before, &wanted)).unwrap();
            assert_eq!(patched, wanted, "{case}");
        }
    }
}

#[test]
fn every_bootstrap_is_valid_to_envoy() {
    let envoys = binaries::envoys();
    let credentials = envoy::credentials("a token");
    for case in cases() {
        let pod = pod(&case);
        for binary in &envoys {
            // The bootstrap is for the version of the proxy.
            let settings = Settings { proxy_version: Some(binaries::version(binary)), ..settings() };
            let Decision::Inject { pod, .. } = decide_with(&pod, &settings) else { continue };
            let config = envoy::expanded(&pod, credentials.path());
            validate(binary, &config).unwrap_or_else(|said| panic!("{case}, {}: {said}", binary.display()));
        }
    }
}

/// Validates a configuration with Envoy; returns Envoy's message as the error.
fn validate(binary: &Path, config: &str) -> Result<(), String> {
    let output = Command::new(binary)
        .args([
            "--mode",
            "validate",
            "--disable-hot-restart",
            "--log-level",
            "error",
            "--config-yaml",
            config,
        ])
        .output()
        .unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
