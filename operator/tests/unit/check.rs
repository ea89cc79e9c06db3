//! `smidge check` and `smidge render` as a user runs them: their output and exit status.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use smidge::cli::{
    check::{check, print},
    manifests::Manifests,
};

fn golden(case: &str) -> String {
    format!("{}/tests/golden/{case}/in.yaml", env!("CARGO_MANIFEST_DIR"))
}

fn smidge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smidge")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn check_exits_by_what_it_finds() {
    for (case, code, last) in [
        ("split-weights", 0, "0 errors, 0 warnings"),
        ("split-backend-missing", 0, "0 errors, 1 warning"),
        ("access-empty-sources", 1, "1 error, 0 warnings"),
        ("documents-unreadable", 2, "5 unreadable documents, 7 errors, 0 warnings"),
    ] {
        let output = smidge(&["check", "-f", &golden(case)]);
        assert_eq!(output.status.code(), Some(code), "{case}: {}", stdout(&output));
        assert_eq!(stdout(&output).lines().last(), Some(last), "{case}");
    }
}

#[test]
fn check_refuses_to_check_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    for (arguments, says) in [
        (vec!["check", "-f", &path], "holds no Kubernetes object"),
        (vec!["check", "-f", "/no/such/file"], "failed to read"),
    ] {
        let output = smidge(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stdout(&output).contains(says), "{}", stdout(&output));
    }
    assert_eq!(smidge(&["check"]).status.code(), Some(2));
}

#[test]
fn check_prints_errors_first_and_one_object_as_json() {
    let files = ["-f", &golden("split-backend-missing"), "-f", &golden("access-empty-sources")];
    let text = stdout(&smidge(&[&["check"], &files[..]].concat()));
    let words: Vec<&str> = text.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(words, ["error", "warning", "1 error, 1 warning"]);
    assert!(!text.contains('\u{1b}'), "colour without a terminal");
    let json = stdout(&smidge(&[&["check", "-o", "json"], &files[..]].concat()));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["findings"][0]["reason"], "Empty");
    assert_eq!(report["findings"][1]["object"]["name"], "s");
    assert_eq!(report["unreadable"], serde_json::json!([]));
}

#[test]
fn check_reads_standard_input_and_folders() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_smidge"))
        .args(["check", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = fs::read_to_string(golden("access-empty-rules")).unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("deep/er")).unwrap();
    fs::create_dir_all(folder.path().join(".hidden")).unwrap();
    fs::write(folder.path().join("deep/er/a.YML"), text).unwrap();
    fs::write(folder.path().join("deep/notes.txt"), "no: [yaml").unwrap();
    fs::write(folder.path().join(".hidden/b.yaml"), "no: [yaml").unwrap();
    let report = check(&Manifests::of(vec![folder.path().to_owned()]));
    assert_eq!((report.unreadable.len(), report.findings.len()), (0, 1));
}

/// Pods and namespaces as `kubectl get --output=yaml` prints them.
#[test]
fn pods_of_a_cluster_count_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let pod = |name: &str, init: &str| {
        format!(
            "- {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, uid: '1-{name}', annotations: {{smidge.mesh/injected: 'true'}}}}, \
             spec: {{initContainers: [{init}], containers: [{{name: app, image: app}}]}}}}\n"
        )
    };
    let text = "apiVersion: v1\nkind: List\nitems:\n".to_owned()
        + "- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {smidge.mesh/inject: enabled}}}\n"
        + &pod("member", "{name: smidge-proxy, image: envoy, restartPolicy: Always}")
        + &pod("early", "");
    fs::write(&path, text).unwrap();
    let output = smidge(&["check", "-f", path.to_str().unwrap()]);
    let shown = stdout(&output);
    assert!(shown.contains("SidecarMissing") && shown.contains("shop/early"), "{shown}");
    assert!(!shown.contains("shop/member"), "{shown}");
}

#[test]
fn objects_that_name_no_namespace_are_in_that_of_the_option() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let target = "{apiVersion: access.smi-spec.io/v1alpha3, kind: TrafficTarget, metadata: {name: t}, spec: {\
                  destination: {kind: ServiceAccount, name: api, namespace: shop}, \
                  sources: [{kind: ServiceAccount, name: web, namespace: shop}], \
                  rules: [{kind: TCPRoute, name: all}]}}\n---\n\
                  {apiVersion: specs.smi-spec.io/v1alpha4, kind: TCPRoute, metadata: {name: all}}\n";
    fs::write(&path, target).unwrap();
    let path = path.to_str().unwrap();
    let elsewhere = smidge(&["check", "-f", path]);
    assert_eq!(elsewhere.status.code(), Some(1), "{}", stdout(&elsewhere));
    assert!(stdout(&elsewhere).contains("CrossNamespaceDestination"), "{}", stdout(&elsewhere));
    let here = smidge(&["check", "-n", "shop", "-f", path]);
    assert_eq!(here.status.code(), Some(0), "{}", stdout(&here));
}

#[test]
fn inject_knows_the_workloads_that_check_knows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (api, kind) in [("apps/v1", "Deployment"), ("argoproj.io/v1alpha1", "Rollout")] {
        let text = format!(
            "{{apiVersion: {api}, kind: {kind}, metadata: {{name: a, namespace: shop}}, spec: {{template: {{spec: \
             {{containers: [{{name: app, image: app}}]}}}}}}}}\n"
        );
        fs::write(&path, text).unwrap();
        let roots = roots.to_str().unwrap();
        let output = smidge(&["inject", "-f", path.to_str().unwrap(), "--control-plane-roots", roots]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).contains("smidge-proxy"), "{kind}: {}", stdout(&output));
    }
}

#[test]
fn a_path_is_one_argument_so_that_others_may_follow() {
    let output = smidge(&["explain", "-f", &golden("access-http-all-ports"), "sa:shop/web", "sa:shop/api"]);
    assert_ne!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn what_files_say_does_not_steer_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let text =
        "{apiVersion: access.smi-spec.io/v1alpha3, kind: TrafficTarget, metadata: {name: \"a\\e[2Jb\"}}";
    fs::write(&path, text).unwrap();
    let report = check(&Manifests::of(vec![path]));
    for is_colourful in [false, true] {
        let mut out = Vec::new();
        print(&report, is_colourful, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains("\u{1b}[2J"), "{text:?}");
        assert_eq!(text.contains("\u{1b}[31merror: \u{1b}[0m"), is_colourful, "{text:?}");
    }
}

#[test]
fn render_prints_what_the_golden_file_says_and_names_the_workloads_there_are() {
    let input = golden("split-weights");
    let expected = Path::new(&input).with_file_name("envoy").join("shop.v1.yaml");
    let output = smidge(&["render", "-f", &input, "--workload", "shop/v1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).trim_end(), fs::read_to_string(expected).unwrap().trim_end());
    let json = stdout(&smidge(&["render", "-f", &input, "-w", "shop/v1-0", "-o", "json"]));
    assert!(serde_json::from_str::<serde_json::Value>(&json).unwrap().get("static_resources").is_some());
    for workload in ["shop/v3", "v1", ""] {
        let output = smidge(&["render", "-f", &input, "-w", workload]);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()));
        assert!(stderr(&output).contains("one of shop/v1, shop/v2"), "{}", stderr(&output));
    }
}
