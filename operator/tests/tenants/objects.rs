//! The objects of a tenant, as YAML, and of its victim.

use std::fmt::Write as _;

use proptest::prelude::*;

/// The namespace that is a source.
pub const VICTIM: &str = "victim";

/// The large part of a match.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// As little content as a match can have.
    Bare,
    /// A short path.
    Path,
    /// A path whose program is as large as accepted.
    Program,
    /// Many methods.
    Methods,
    /// Many headers, each with a short expression.
    Headers,
    /// Headers with large programs.
    HeaderPrograms,
}

impl Shape {
    pub const ALL: [Self; 6] =
        [Self::Bare, Self::Path, Self::Program, Self::Methods, Self::Headers, Self::HeaderPrograms];

    /// The match with that number, in YAML's flow style.
    fn text(self, number: usize) -> String {
        let rest = match self {
            Self::Bare => String::new(),
            Self::Path => format!(", pathRegex: /api/v{number}"),
            Self::Program => format!(", pathRegex: '/{number}.{{360}}'"),
            Self::Methods => {
                let methods: Vec<String> = (0..40).map(|it| format!("M{number}A{it}")).collect();
                format!(", methods: [{}]", methods.join(", "))
            }
            Self::Headers => {
                let headers: Vec<String> = (0..20).map(|it| format!("h{it}: v{number}")).collect();
                format!(", headers: {{{}}}", headers.join(", "))
            }
            Self::HeaderPrograms => {
                let headers: Vec<String> = (0..4).map(|it| format!("h{it}: '{number}.{{360}}'")).collect();
                format!(", headers: {{{}}}", headers.join(", "))
            }
        };
        format!("  - {{name: m{number}{rest}}}\n")
    }
}

/// Amounts of the objects that a tenant writes.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Number of HTTPRouteGroups, each with so many matches of a shape.
    pub groups: usize,
    pub matches: usize,
    pub shape: Shape,
    /// Number of TrafficTargets, all about one account, with so many sources beside the victim.
    pub targets: usize,
    pub sources: usize,
    /// True if each target names single matches of the groups, and others than the target before it.
    pub by_name: bool,
    /// True if the victim is one of the sources.
    pub foreign: bool,
    /// Number of Services of the tenant's one pod, with so many ports each.
    pub services: usize,
    pub ports: usize,
    /// Number of the Services that are split, by the matches of all groups.
    pub splits: usize,
    /// Number of backends of another split without matches; they are Services without pods.
    pub backends: usize,
    /// Number of identities of a binding that is a source of all targets.
    pub bound: usize,
    /// True if that binding is the destination of all targets instead.
    pub opens_bound: bool,
    /// Number of further Deployments of the account, each of which declares 64 ports of its own.
    pub shapes: usize,
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            groups: 1,
            matches: 1,
            shape: Shape::Bare,
            targets: 0,
            sources: 1,
            by_name: false,
            foreign: false,
            services: 1,
            ports: 1,
            splits: 0,
            backends: 0,
            bound: 0,
            opens_bound: false,
            shapes: 0,
        }
    }
}

/// Generates any tenant.
pub fn tenant() -> impl Strategy<Value = Tenant> {
    let few_or_many = |many: usize| prop_oneof![1..4_usize, 1..=many];
    let policy =
        (1..4_usize, few_or_many(3000), proptest::sample::select(&Shape::ALL[..]), few_or_many(1500));
    let callers = (few_or_many(200), any::<bool>(), any::<bool>(), few_or_many(2000));
    let services = (few_or_many(1500), 1..6_usize, few_or_many(400));
    (policy, callers, services).prop_map(|(policy, callers, services)| {
        let (groups, matches, shape, targets) = policy;
        let (sources, by_name, foreign, bound) = callers;
        let (services, ports, splits) = services;
        Tenant {
            groups,
            matches,
            shape,
            targets,
            sources,
            by_name,
            foreign,
            services,
            ports,
            splits,
            bound,
            ..Tenant::default()
        }
    })
}

const APPLICATION: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: NAME}\n---\napiVersion: apps/v1\n\
    kind: Deployment\nmetadata: {name: NAME, namespace: NAME}\nspec: {replicas: 1, selector: {matchLabels: {app: NAME}}, \
    template: {metadata: {labels: {app: NAME}}, spec: {serviceAccountName: NAME, containers: [{name: app, image: app}]}}}\n";

impl Tenant {
    /// Returns everything in one text, the victim included.
    pub fn text(&self) -> String {
        let mut text = APPLICATION.replace("NAME", VICTIM) + &APPLICATION.replace("NAME", "evil");
        (0..self.shapes).for_each(|number| deployment(&mut text, number));
        (0..self.services).for_each(|number| self.service(&mut text, number));
        (0..self.groups).for_each(|number| self.group(&mut text, number));
        if self.bound > 0 {
            self.binding(&mut text);
        }
        (0..self.targets).for_each(|number| self.target(&mut text, number));
        (0..self.splits.min(self.services)).for_each(|number| self.split(&mut text, number));
        if self.backends > 0 {
            self.wide_split(&mut text);
        }
        text
    }

    fn service(&self, text: &mut String, number: usize) {
        let ports: Vec<String> = (0..self.ports)
            .map(|port| format!("{{name: http-{port}, port: {}, targetPort: {}}}", 80 + port, 8080 + port))
            .collect();
        let ports = ports.join(", ");
        object(
            text,
            "v1",
            "Service",
            &format!("evil{number}"),
            &format!("{{selector: {{app: evil}}, ports: [{ports}]}}"),
        );
    }

    fn group(&self, text: &mut String, number: usize) {
        let matches: String = (0..self.matches).map(|it| self.shape.text(it)).collect();
        let name = format!("group{number}");
        object(
            text,
            "specs.smi-spec.io/v1alpha4",
            "HTTPRouteGroup",
            &name,
            &format!("\n  matches:\n{matches}"),
        );
    }

    fn binding(&self, text: &mut String) {
        let all: Vec<String> =
            (0..self.bound).map(|it| format!("    - cluster.local/ns/evil/sa/b{it}")).collect();
        let spec = format!("\n  schemes:\n    spiffeIdentities:\n{}", all.join("\n"));
        object(text, "access.smi-spec.io/v1alpha4", "IdentityBinding", "bound", &spec);
    }

    fn target(&self, text: &mut String, number: usize) {
        let mut sources: Vec<String> = (0..self.sources)
            .map(|source| format!("{{kind: ServiceAccount, name: s{number}x{source}, namespace: evil}}"))
            .collect();
        if self.foreign {
            sources.push(format!("{{kind: ServiceAccount, name: {VICTIM}, namespace: {VICTIM}}}"));
        }
        if self.bound > 0 && !self.opens_bound {
            sources.push("{kind: IdentityBinding, name: bound, namespace: evil}".to_owned());
        }
        let names = |group: usize| {
            let name = |it: usize| format!("m{}", (number + it * (group + 2)) % self.matches);
            (0..3).map(name).collect::<Vec<_>>().join(", ")
        };
        let rule = |group: usize| {
            if self.by_name {
                format!("{{kind: HTTPRouteGroup, name: group{group}, matches: [{}]}}", names(group))
            } else {
                format!("{{kind: HTTPRouteGroup, name: group{group}}}")
            }
        };
        let rules: Vec<String> = (0..self.groups).map(rule).collect();
        let spec = format!(
            "{{destination: {{kind: {}, namespace: evil}}, sources: [{}], rules: [{}]}}",
            if self.opens_bound { "IdentityBinding, name: bound" } else { "ServiceAccount, name: evil" },
            sources.join(", "),
            rules.join(", ")
        );
        object(text, "access.smi-spec.io/v1alpha3", "TrafficTarget", &format!("t{number}"), &spec);
    }

    fn wide_split(&self, text: &mut String) {
        let spec = "{clusterIP: None, selector: {app: none}, ports: [{name: http-0, port: 80}]}";
        (0..self.backends).for_each(|number| object(text, "v1", "Service", &format!("back{number}"), spec));
        let backends: Vec<String> =
            (0..self.backends).map(|number| format!("{{service: back{number}, weight: 1}}")).collect();
        let spec = format!("{{service: evil0, backends: [{}]}}", backends.join(", "));
        object(text, "split.smi-spec.io/v1alpha4", "TrafficSplit", "wide", &spec);
    }

    fn split(&self, text: &mut String, number: usize) {
        let groups: Vec<String> =
            (0..self.groups).map(|group| format!("{{kind: HTTPRouteGroup, name: group{group}}}")).collect();
        let spec = format!(
            "{{service: evil{number}, matches: [{}], backends: [{{service: evil{number}, weight: 1}}]}}",
            groups.join(", ")
        );
        object(text, "split.smi-spec.io/v1alpha4", "TrafficSplit", &format!("p{number}"), &spec);
    }
}

fn deployment(text: &mut String, number: usize) {
    let port = |it: usize| format!("{{name: http-{it}, containerPort: {}}}", 10_000 + number * 64 + it);
    let ports = (0..64).map(port).collect::<Vec<_>>().join(", ");
    let pod =
        format!("{{serviceAccountName: evil, containers: [{{name: app, image: app, ports: [{ports}]}}]}}");
    let spec = format!(
        "{{replicas: 1, selector: {{matchLabels: {{shape: s{number}}}}}, template: {{metadata: {{labels: {{shape: \
         s{number}}}}}, spec: {pod}}}}}"
    );
    object(text, "apps/v1", "Deployment", &format!("shape{number}"), &spec);
}

fn object(text: &mut String, version: &str, kind: &str, name: &str, spec: &str) {
    write!(text, "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: evil}}\nspec: {spec}\n")
        .unwrap();
}
