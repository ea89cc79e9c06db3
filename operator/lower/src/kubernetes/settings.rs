//! Reads the settings of the mesh and its namespaces: `MeshConfig`, then the labels of namespaces.
//!
//! An unknown word counts as the strictest one, with a finding: a typing error must not open anything.

use k8s_openapi::api::core::v1::Namespace;
use smidge_crds::{
    Number, Setting,
    config::{self, HeaderRegexMatch, MeshConfig, PathRegexEnd},
    labels,
};
use smidge_mesh::{
    access::{AccessMode, MtlsMode},
    matches::PathEnd,
    service::Protocol,
};

use super::metadata::{self, Place};
use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key},
    value::MeshWide,
};

/// Largest number of headers that a user may set as the limit. A head has no more bytes than its own limit, so the number
/// only bounds what becomes of them.
const MAX_HEADERS: u32 = 100_000;
/// Largest size of a head that a user may set as the limit, in KiB: proxies take no larger one.
const MAX_HEAD_KIB: u32 = 8_192;

/// The settings of the mesh as a whole.
pub(crate) fn mesh_wide(context: &mut Context<'_>) -> MeshWide {
    let mut settings = MeshWide::default();
    settings.proxies.access_logs = context.setting(|inputs| inputs.access_logs);
    settings.proxies.tracing = context.setting(|inputs| inputs.tracing.clone());
    let default = (String::new(), config::DEFAULT.to_owned());
    if context.unreadable("MeshConfig", &default).is_some() {
        // Its setting for paths is not known, and closed allows less than open.
        settings.path_end = Some(PathEnd::Closed);
    }
    for ((namespace, name), config) in context.mesh_configs() {
        let object = ObjectRef::new("MeshConfig", namespace, name);
        if name == config::DEFAULT {
            settings.read(config, &object, context.findings());
        } else {
            let message = format!("is not in use: only the one called {} is", config::DEFAULT);
            context.report_at(&object, Reason::NotInUse, "metadata.name", message);
        }
    }
    settings
}

/// Returns the modes of a namespace, if there is an object for it: whether its pods need grants, and accept plaintext.
pub(crate) fn modes(name: &str, context: &mut Context<'_>) -> Option<(AccessMode, MtlsMode)> {
    let namespace = context.object(|inputs| &inputs.namespaces)?;
    let settings = context.mesh_wide();
    let object = ObjectRef::new("Namespace", "", name);
    let is_in_mesh = context.injects(name);
    metadata::report(&object, (Place::Namespace, is_in_mesh), &namespace.metadata, context.findings());
    Some(settings.of_labels(&object, namespace, context.findings()))
}

/// Returns true if a namespace is labelled for injection, by the webhook or by hand. Only this label can put a pod into
/// the mesh; the pod's own fields cannot.
pub(crate) fn injects(name: &str, context: &mut Context<'_>) -> bool {
    let namespace = context.object(|inputs| &inputs.namespaces);
    let labels = namespace.and_then(|namespace| namespace.metadata.labels.as_ref());
    let is_labelled = labels
        .and_then(|all| all.get(labels::INJECT))
        .is_some_and(|it| [labels::INJECT_ENABLED, labels::INJECT_MANUAL].contains(&it.as_str()));
    is_labelled && name != labels::KUBE_SYSTEM && name != &*context.system_namespace()
}

/// Returns true if pods that could bypass the mesh are refused. Settings that cannot be read may contain that, so they
/// count as strict.
pub fn injects_strictly(inputs: &Inputs) -> bool {
    let key: Key = (String::new(), config::DEFAULT.to_owned());
    let strict = inputs.mesh_configs.get(&key).and_then(|config| config.spec.injection.strict);
    strict.unwrap_or(false) || inputs.unreadable.contains_key(&("MeshConfig".to_owned(), key))
}

impl MeshWide {
    fn read(&mut self, config: &MeshConfig, object: &ObjectRef, findings: &mut Vec<Finding>) {
        let spec = &config.spec;
        let mut word = |field: &str, word: &str, setting: &Words| {
            findings.push(unknown_word(object, field, word, setting));
        };
        match &spec.access.mode {
            Some(Setting::Known(mode)) => self.access = access_mode(*mode),
            Some(Setting::Unknown(text)) => word("spec.access.mode", text, &ACCESS),
            None => {}
        }
        match &spec.mtls.mode {
            Some(Setting::Known(mode)) => self.mtls = mtls_mode(*mode),
            Some(Setting::Unknown(text)) => word("spec.mtls.mode", text, &MTLS),
            None => {}
        }
        match &spec.path_regex_end {
            Some(Setting::Known(PathRegexEnd::Open)) => self.path_end = Some(PathEnd::Open),
            Some(Setting::Known(PathRegexEnd::Closed)) => self.path_end = Some(PathEnd::Closed),
            Some(Setting::Unknown(text)) => {
                self.path_end = Some(PathEnd::Closed);
                word("spec.pathRegexEnd", text, &PATH_REGEX_END);
            }
            None => {}
        }
        match &spec.header_regex_match {
            Some(Setting::Known(part)) => self.header_match = Some(*part),
            Some(Setting::Unknown(text)) => {
                self.header_match = Some(HeaderRegexMatch::Full);
                word("spec.headerRegexMatch", text, &HEADER_REGEX_MATCH);
            }
            None => {}
        }
        match &spec.undeclared_ports {
            Some(Setting::Known(ports)) => self.undeclared_ports = undeclared_ports(*ports),
            // Detection neither opens nor closes a port, so it is what an unknown word leaves.
            Some(Setting::Unknown(text)) => word("spec.undeclaredPorts", text, &UNDECLARED_PORTS),
            None => {}
        }
        self.read_proxies(spec, object, findings);
        for (name, written, budget) in self.budgets.fields(&spec.budgets) {
            let Some(written) = written else { continue };
            match written.as_i64().and_then(|number| u64::try_from(number).ok()) {
                Some(number) => *budget = number,
                None => findings.push(not_a_budget(object, name, written, *budget)),
            }
        }
    }

    fn read_proxies(
        &mut self,
        spec: &config::MeshConfigSpec,
        object: &ObjectRef,
        findings: &mut Vec<Finding>,
    ) {
        let config::LimitSettings { headers, head_kib } = &spec.limits;
        let proxies = &mut self.proxies;
        proxies.names_caller = spec.caller_header.unwrap_or(false);
        for (name, written, maximum, limit) in [
            ("headers", headers, MAX_HEADERS, &mut proxies.max_headers),
            ("headKiB", head_kib, MAX_HEAD_KIB, &mut proxies.max_head_kib),
        ] {
            let Some(written) = written else { continue };
            let number = written.as_i64().and_then(|number| u32::try_from(number).ok());
            match number.filter(|number| (1..=maximum).contains(number)) {
                Some(number) => *limit = number,
                None => findings.push(not_a_limit(object, name, written, maximum, *limit)),
            }
        }
    }

    fn of_labels(
        &self,
        object: &ObjectRef,
        namespace: &Namespace,
        findings: &mut Vec<Finding>,
    ) -> (AccessMode, MtlsMode) {
        let label = |label: &str| namespace.metadata.labels.as_ref().and_then(|all| all.get(label));
        if let Some(word) = label(labels::INJECT)
            && ![labels::INJECT_ENABLED, labels::INJECT_MANUAL, labels::INJECT_DISABLED]
                .contains(&word.as_str())
        {
            findings.push(unknown_word(object, &at(labels::INJECT), word, &INJECT));
        }
        let access = match label(labels::ACCESS) {
            None => self.access,
            Some(word) => word.parse().map_or_else(
                |_| {
                    findings.push(unknown_word(object, &at(labels::ACCESS), word, &ACCESS));
                    AccessMode::Enforce
                },
                access_mode,
            ),
        };
        let mtls = match label(labels::MTLS) {
            None => self.mtls,
            Some(word) => word.parse().map_or_else(
                |_| {
                    findings.push(unknown_word(object, &at(labels::MTLS), word, &MTLS));
                    MtlsMode::Strict
                },
                mtls_mode,
            ),
        };
        (access, mtls)
    }
}

fn at(label: &str) -> String {
    format!("metadata.labels[{label}]")
}

fn access_mode(mode: config::AccessMode) -> AccessMode {
    match mode {
        config::AccessMode::Enforce => AccessMode::Enforce,
        config::AccessMode::Audit => AccessMode::Audit,
        config::AccessMode::Permissive => AccessMode::Permissive,
    }
}

fn mtls_mode(mode: config::MtlsMode) -> MtlsMode {
    match mode {
        config::MtlsMode::Strict => MtlsMode::Strict,
        config::MtlsMode::Permissive => MtlsMode::Permissive,
    }
}

fn undeclared_ports(ports: config::UndeclaredPorts) -> Protocol {
    match ports {
        config::UndeclaredPorts::Detect => Protocol::Detect,
        config::UndeclaredPorts::Http => Protocol::Http,
        config::UndeclaredPorts::Tcp => Protocol::Tcp,
    }
}

/// Values of a setting, and the one that is used in place of an unknown value: the strictest.
struct Words {
    expected: &'static str,
    fallback: &'static str,
}

const ACCESS: Words = Words { expected: "enforce, audit or permissive", fallback: "enforce" };
const MTLS: Words = Words { expected: "strict or permissive", fallback: "strict" };
// Closed allows less than open.
const PATH_REGEX_END: Words = Words { expected: "open or closed", fallback: "closed" };
// The whole value allows less than a part.
const HEADER_REGEX_MATCH: Words = Words { expected: "full or partial", fallback: "full" };
const INJECT: Words = Words { expected: "enabled, manual or disabled", fallback: "disabled" };
const UNDECLARED_PORTS: Words = Words { expected: "detect, http or tcp", fallback: "detect" };

fn not_a_budget(object: &ObjectRef, name: &str, written: &Number, held: u64) -> Finding {
    let message = format!("{written} is no budget: expected a whole number from 0 on; {held} is in effect");
    Finding::new(object.clone(), Reason::InvalidSetting, message).at(format!("spec.budgets.{name}"))
}

fn not_a_limit(object: &ObjectRef, name: &str, written: &Number, maximum: u32, held: u32) -> Finding {
    let message =
        format!("{written} is no limit: expected a whole number from 1 to {maximum}; {held} is in effect");
    Finding::new(object.clone(), Reason::InvalidSetting, message).at(format!("spec.limits.{name}"))
}

/// Returns the finding for an unknown word, in whose place the fallback is used.
fn unknown_word(object: &ObjectRef, field: &str, word: &str, setting: &Words) -> Finding {
    let Words { expected, fallback } = setting;
    let message = format!("{word:?} is not a known value: expected {expected}; {fallback} is in effect");
    Finding::new(object.clone(), Reason::InvalidSetting, message).at(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::Graph,
        node::Node,
        source::{Lower, Source},
        value::Value,
    };

    #[test]
    fn settings_that_cannot_be_read_leave_the_strictest_meaning() {
        let key = ("MeshConfig".to_owned(), (String::new(), config::DEFAULT.to_owned()));
        let mut inputs = Inputs::default();
        assert_eq!(read(&inputs).path_end, None);
        inputs.unreadable.insert(key, "expected an object".to_owned());
        let closed = MeshWide { path_end: Some(PathEnd::Closed), ..MeshWide::default() };
        assert_eq!(read(&inputs), closed);
        assert_eq!((closed.access, closed.mtls), (AccessMode::Enforce, MtlsMode::Strict));
    }

    fn read(inputs: &Inputs) -> MeshWide {
        let source = Source { inputs: inputs.clone(), ..Source::default() };
        let mut graph = Graph::<Lower>::default();
        graph.invalidate(Node::MeshWide);
        graph.recompute(&source);
        match graph.value(&Node::MeshWide) {
            Some(Value::MeshWide(settings)) => settings.clone(),
            other => panic!("{other:?}"),
        }
    }
}
