//! Generated clusters: workloads, Services, splits and targets with a few names, and questions about them.
//!
//! The names are few, so that objects refer to each other. Generates only what YAML can express.

use std::fmt::Write as _;

use proptest::{collection::vec, option, prelude::*, sample::select};
use smidge::explain::Question;

/// A generated cluster and questions about it.
#[derive(Debug, Clone)]
pub struct GeneratedMesh {
    documents: Vec<String>,
    pub questions: Vec<Question>,
}

impl GeneratedMesh {
    pub fn yaml(&self) -> String {
        let mut text = String::new();
        for document in &self.documents {
            let _ = write!(text, "---\n{document}\n");
        }
        text
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const NAMESPACES: [&str; 2] = ["shop", "bank"];
const PATHS: [&str; 8] =
    ["/", "/read", "/read/1", "/write?x=1", "/a+b/(c)", "/x/../read", "/a%2fb", "/%7Eme/é"];
const PATTERNS: [&str; 7] = ["/read", "/write$", ".*", "/", "/re(ad|st)/[0-9]+", "(?i)/READ", "/(["];
const METHODS: [&str; 3] = ["GET", "POST", "*"];

fn namespace() -> impl Strategy<Value = &'static str> {
    select(&NAMESPACES[..])
}

fn name() -> impl Strategy<Value = &'static str> {
    select(&NAMES[..])
}

fn workload() -> impl Strategy<Value = String> {
    (namespace(), name(), name(), any::<bool>(), 0..8).prop_map(|(namespace, name, account, http, inject)| {
        let port = if http { "http" } else { "tcp" };
        let inject = if inject == 0 { "smidge.mesh/inject: disabled, " } else { "" };
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {namespace}}}, spec: \
             {{template: {{metadata: {{labels: {{{inject}app: {name}}}}}, spec: {{serviceAccountName: {account}, \
             containers: [{{name: c, ports: [{{name: {port}, containerPort: 8080}}]}}]}}}}}}}}"
        )
    })
}

fn service() -> impl Strategy<Value = String> {
    (namespace(), name(), name(), any::<bool>()).prop_map(|(namespace, name, app, http)| {
        let port = if http { "http" } else { "tcp" };
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{selector: \
             {{app: {app}}}, ports: [{{name: {port}, port: 80, targetPort: 8080}}]}}}}"
        )
    })
}

fn split() -> impl Strategy<Value = String> {
    (namespace(), name(), vec((name(), 0..3), 0..3)).prop_map(|(namespace, root, backends)| {
        let backends: Vec<String> =
            backends.iter().map(|(name, weight)| format!("{{service: {name}, weight: {weight}}}")).collect();
        format!(
            "{{apiVersion: split.smi-spec.io/v1alpha4, kind: TrafficSplit, metadata: {{name: {root}, namespace: \
             {namespace}}}, spec: {{service: {root}, backends: [{}]}}}}",
            backends.join(", ")
        )
    })
}

fn routes() -> impl Strategy<Value = String> {
    let one = (name(), option::of(select(&PATTERNS[..])), option::of(select(&METHODS[..])), any::<bool>());
    let groups = (namespace(), name(), vec(one, 0..3)).prop_map(|(namespace, name, matches)| {
        let matches: Vec<String> = matches
            .iter()
            .map(|(name, path, method, header)| {
                let path = path.map(|path| format!(", pathRegex: '{path}'")).unwrap_or_default();
                let method = method.map(|method| format!(", methods: ['{method}']")).unwrap_or_default();
                let header = if *header { ", headers: [{x-a: '1.*'}]" } else { "" };
                format!("{{name: {name}{path}{method}{header}}}")
            })
            .collect();
        format!(
            "{{apiVersion: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, metadata: {{name: {name}, namespace: \
             {namespace}}}, spec: {{matches: [{}]}}}}",
            matches.join(", ")
        )
    });
    let ports = (namespace(), name(), vec(select(&[80, 8080, 0][..]), 0..2)).prop_map(|(namespace, name, ports)| {
        format!(
            "{{apiVersion: specs.smi-spec.io/v1alpha4, kind: TCPRoute, metadata: {{name: {name}, namespace: \
             {namespace}}}, spec: {{matches: {{ports: {ports:?}}}}}}}"
        )
    });
    prop_oneof![groups, ports]
}

fn target() -> impl Strategy<Value = String> {
    let rule = (select(&["HTTPRouteGroup", "TCPRoute", "Other"][..]), name(), option::of(vec(name(), 0..2)));
    let source = (name(), namespace());
    (namespace(), name(), name(), vec(source, 0..3), vec(rule, 0..3)).prop_map(
        |(namespace, name, account, sources, rules)| {
            let sources: Vec<String> = sources
                .iter()
                .map(|(name, namespace)| {
                    format!("{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}")
                })
                .collect();
            let rules: Vec<String> = rules
                .iter()
                .map(|(kind, name, matches)| {
                    let matches =
                        matches.as_ref().map(|all| format!(", matches: [{}]", all.join(", "))).unwrap_or_default();
                    format!("{{kind: {kind}, name: {name}{matches}}}")
                })
                .collect();
            format!(
                "{{apiVersion: access.smi-spec.io/v1alpha3, kind: TrafficTarget, metadata: {{name: {name}, namespace: \
                 {namespace}}}, spec: {{destination: {{kind: ServiceAccount, name: {account}}}, sources: [{}], \
                 rules: [{}]}}}}",
                sources.join(", "),
                rules.join(", ")
            )
        },
    )
}

fn modes() -> impl Strategy<Value = String> {
    (namespace(), select(&["enforce", "permissive", "audit"][..]), select(&["strict", "permissive"][..])).prop_map(
        |(namespace, access, mtls)| {
            format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {{smidge.mesh/access: \
                 {access}, smidge.mesh/mtls: {mtls}}}}}}}"
            )
        },
    )
}

fn question() -> impl Strategy<Value = Question> {
    let kinds = select(&["", "sa:", "workload:"][..]);
    (
        (kinds.clone(), namespace(), name()),
        (kinds, namespace(), name()),
        option::of(select(&["GET", "POST", "PUT"][..])),
        option::of(select(&PATHS[..])),
        option::of(select(&["x-a=1", "x-a=2", "host=a.shop", "X-B=a b(c)"][..])),
        option::of(select(&[80, 8080][..])),
    )
        .prop_map(|(from, to, method, path, header, port)| Question {
            from: format!("{}{}/{}", from.0, from.1, from.2),
            to: format!("{}{}/{}", to.0, to.1, to.2),
            method: method.map(str::to_owned),
            path: path.map(str::to_owned),
            headers: header.into_iter().map(str::to_owned).collect(),
            port,
        })
}

/// Generates a cluster of a few dozen objects.
pub fn generated_mesh() -> impl Strategy<Value = GeneratedMesh> {
    let parts = (
        vec(workload(), 1..7),
        vec(service(), 0..7),
        vec(split(), 0..3),
        vec(routes(), 0..8),
        vec(target(), 0..7),
        vec(modes(), 0..2),
    );
    (parts, vec(question(), 4)).prop_map(|((a, b, c, d, e, f), questions)| GeneratedMesh {
        documents: [a, b, c, d, e, f].concat(),
        questions,
    })
}
