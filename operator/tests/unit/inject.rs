//! `smidge inject`: manifests in, the same manifests with the proxy out, and messages for their author.

use clap::Parser as _;
use serde_json::{Value, json};
use smidge::{
    cli::{
        Cli, Command,
        inject::injected::{Injected, Namespaces, injected},
    },
    documents::{Document, Source, parse},
    injector::{
        Settings,
        resources::{self, Quantity},
    },
};

fn run_with(text: &str, settings: &Settings) -> Injected {
    let source = Source { name: "in.yaml".to_owned(), text: text.to_owned() };
    let injected = injected(&[source], "default", settings, &Namespaces::Unasked);
    assert_eq!(injected.unreadable, []);
    injected
}

fn run(text: &str) -> Injected {
    run_with(text, &Settings::default())
}

fn documents(injected: &Injected) -> Vec<Document> {
    let (documents, unreadable) = parse(&Source { name: "out.yaml".to_owned(), text: injected.text.clone() });
    assert_eq!(unreadable, []);
    documents
}

fn only(injected: &Injected) -> Value {
    let [document] = documents(injected).try_into().unwrap();
    document.value
}

fn proxy<'v>(object: &'v Value, pod: &str) -> &'v Value {
    let proxy = object.pointer(&format!("{pod}/spec/initContainers/1")).unwrap_or(&Value::Null);
    assert_eq!(proxy["name"], "smidge-proxy", "{object}");
    proxy
}

#[test]
fn every_kind_with_pods_is_injected() {
    let template = "{metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: 'c:1'}]}}";
    for (version, kind, spec, place) in [
        ("apps/v1", "Deployment", "template: T", "/spec/template"),
        ("apps/v1", "Deployment", "replicas: 0, template: T", "/spec/template"),
        ("apps/v1", "StatefulSet", "template: T", "/spec/template"),
        ("apps/v1", "DaemonSet", "template: T", "/spec/template"),
        ("apps/v1", "ReplicaSet", "template: T", "/spec/template"),
        ("v1", "ReplicationController", "template: T", "/spec/template"),
        ("argoproj.io/v1alpha1", "Rollout", "template: T", "/spec/template"),
        ("batch/v1", "Job", "template: T", "/spec/template"),
        (
            "batch/v1",
            "CronJob",
            "schedule: '@daily', jobTemplate: {spec: {template: T}}",
            "/spec/jobTemplate/spec/template",
        ),
    ] {
        let spec = spec.replace(": T", &format!(": {template}"));
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{{spec}}}\n");
        let injected = run(&text);
        assert_eq!((&injected.messages, injected.refused), (&vec![], false), "{kind}");
        proxy(&only(&injected), place);
        // `smidge check` knows the same kinds.
        let (documents, _) = parse(&Source { name: "in.yaml".to_owned(), text });
        assert_eq!(smidge::documents::cluster(&documents).inputs.pods.len(), 1, "{kind}");
    }
}

#[test]
fn kinds_with_pods_that_are_not_known_are_named() {
    let text = "apiVersion: apps.kruise.io/v1\nkind: CloneSet\nmetadata: {name: a}\nspec: {template: {spec: {containers: []}}}\n";
    let injected = run(text);
    let [message] = injected.messages.as_slice() else { panic!("{injected:?}") };
    assert!(message.starts_with("CloneSet default/a: smidge: not injected"), "{message}");
    let rollout = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: a}\nspec: {workloadRef: {kind: Deployment, name: b}}\n";
    let injected = run(rollout);
    assert!(injected.messages[0].contains("it has no template of pods at .spec.template"), "{injected:?}");
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
    assert_eq!(run(service).messages, [""; 0]);
}

#[test]
fn numbers_are_printed_as_kubectl_reads_them() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: reader}\nspec:\n  terminationGracePeriodSeconds: 3e1\n  \
                containers: [{name: c, image: 'c:1', env: [{name: A, value: \"0400\"}]}]\n  \
                volumes: [{name: key, secret: {secretName: key, defaultMode: 0400}}, {name: other, secret: {secretName: key, defaultMode: 0o644}}]\n";
    let injected = run(text);
    let pod = only(&injected);
    let mode = |volume: usize| pod["spec"]["volumes"][volume]["secret"]["defaultMode"].clone();
    assert_eq!((mode(0), mode(1)), (json!(256), json!(420)));
    assert!(injected.text.contains("defaultMode: 256\n"), "{}", injected.text);
    // And 3 s more, in which the container goes on.
    assert!(injected.text.contains("terminationGracePeriodSeconds: 33\n"), "{}", injected.text);
    assert!(injected.text.contains("value: \"0400\"\n"), "{}", injected.text);
}

#[test]
fn metadata_that_is_no_text_is_refused() {
    for (metadata, message) in [
        ("annotations: {build: 17}", "metadata.annotations: build is a number, 17: expected text"),
        ("labels: {canary: yes}", "metadata.labels: canary is a boolean, true: expected text"),
    ] {
        for text in [
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, {metadata}}}\nspec: {{containers: []}}\n"
            ),
            format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\n\
                 spec: {{template: {{metadata: {{{metadata}}}, spec: {{containers: []}}}}}}\n"
            ),
            format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a, {metadata}}}\n"),
        ] {
            let injected = run(&text);
            assert!(injected.refused, "{text}");
            assert!(injected.messages[0].contains(message), "{:?}", injected.messages);
        }
    }
}

/// The paths of probes depend on the ServiceAccount, which has two names.
#[test]
fn both_names_of_a_service_account_are_one() {
    let text = |field: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  {field}: web\n  \
             containers: [{{name: c, image: 'c:1', livenessProbe: {{httpGet: {{path: /, port: 80}}}}}}]\n"
        )
    };
    let path = |field: &str| {
        let pod = only(&run(&text(field)));
        pod["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"].clone()
    };
    assert_eq!(path("serviceAccountName"), path("serviceAccount"));
    assert_ne!(path("serviceAccountName"), path("hostname"));
    let (documents, _) = parse(&Source { name: "in.yaml".to_owned(), text: text("serviceAccount") });
    let pods = smidge::documents::cluster(&documents).inputs.pods;
    let spec = pods.values().next().unwrap().spec.clone().unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("web"));
}

#[test]
fn annotations_of_a_namespace_apply_to_its_pods() {
    let text = |namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: {namespace}}}\nspec: {{containers: []}}\n---\n\
             apiVersion: v1\nkind: Namespace\nmetadata:\n  name: team\n  annotations:\n    \
             smidge.mesh/proxy-cpu-limit: 700m\n    linkerd.io/inject: disabled\n"
        )
    };
    let limit = |namespace: &str| {
        let injected = run(&text(namespace));
        let limit = proxy(&documents(&injected)[0].value, "")["resources"]["limits"]["cpu"].clone();
        (limit, injected.messages)
    };
    let (cpu, messages) = limit("team");
    assert_eq!(cpu, "700m");
    assert!(
        messages[0].contains("linkerd.io/inject: disabled of namespace team is Linkerd's"),
        "{messages:?}"
    );
    assert_eq!(limit("other"), (Value::Null, vec![]));
}

#[test]
fn pull_secrets_are_added_once() {
    let settings = Settings { image_pull_secrets: vec!["mesh".to_owned()], ..Settings::default() };
    let text = |secrets: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{{secrets}containers: []}}\n")
    };
    for (secrets, expected) in [
        ("imagePullSecrets: [{name: team}], ", json!([{"name": "team"}, {"name": "mesh"}])),
        ("imagePullSecrets: [{name: mesh}], ", json!([{"name": "mesh"}])),
    ] {
        let injected = run_with(&text(secrets), &settings);
        assert_eq!(only(&injected)["spec"]["imagePullSecrets"], expected);
        assert_eq!(injected.messages, [""; 0]);
        let again = run_with(&injected.text, &settings);
        assert_eq!(again.text, injected.text);
    }
    let injected = run_with(&text(""), &settings);
    assert_eq!(only(&injected)["spec"]["imagePullSecrets"], json!([{"name": "mesh"}]));
    assert!(injected.messages[0].contains("no longer adds those of its ServiceAccount"), "{injected:?}");
    assert_eq!(only(&run(&text("")))["spec"].get("imagePullSecrets"), None);
}

#[test]
fn flags_that_are_no_quantities_are_refused() {
    let parse = |flag: &str| {
        Cli::try_parse_from(["smidge", "inject", "-f", "in.yaml", "--control-plane-roots", "roots.pem", flag])
    };
    assert!(matches!(parse("--proxy-cpu-limit=1500m").unwrap().command, Command::Inject(_)));
    assert!(matches!(parse("--init-memory-limit=none").unwrap().command, Command::Inject(_)));
    for flag in ["--proxy-cpu-limit=-1", "--init-memory-request=64 Mi", "--proxy-memory-limit="] {
        let message = parse(flag).unwrap_err().to_string();
        assert!(message.contains("expected a quantity such as 100m or 64Mi, or none"), "{message}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let limited = |text: &str| {
        let mut settings = Settings::default();
        settings.proxy_resources.memory.limit = text.parse::<Quantity>().unwrap();
        resources::check(&settings)
    };
    assert_eq!(limited("64Mi"), Ok(()));
    assert_eq!(limited("none"), Ok(()));
    let message = limited("63Mi").unwrap_err();
    assert!(message.contains("expected at most its limit, 63Mi (the mesh's settings)"), "{message}");
    assert!(limited("128000000m").unwrap_err().contains("expected at most"), "a whole number of bytes");
    assert!(limited("1500m").unwrap_err().contains("expected whole bytes"));
}
