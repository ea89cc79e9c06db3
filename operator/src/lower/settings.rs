//! Reads what the mesh and its namespaces are set to: `MeshConfig`, then the labels of namespaces.
//!
//! A word that means nothing counts as the strictest one, with a finding: a typing error must not open anything.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use smidge_crds::{
    Setting,
    config::{self, MeshConfig, PathRegexEnd},
    labels,
};
use smidge_xds::mesh::access::{AccessMode, MtlsMode, PathEnd};

use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::Inputs,
};

/// The settings of one cluster.
#[derive(Debug)]
pub(super) struct Settings {
    access: AccessMode,
    mtls: MtlsMode,
    /// How path expressions end; `None` when nobody said.
    pub path_end: Option<PathEnd>,
    namespaces: BTreeMap<String, (AccessMode, MtlsMode)>,
}

impl Settings {
    pub fn read(inputs: &Inputs, findings: &mut Vec<Finding>) -> Self {
        let mut settings = Self {
            access: AccessMode::Enforce,
            mtls: MtlsMode::Strict,
            path_end: None,
            namespaces: BTreeMap::new(),
        };
        let default = ("MeshConfig".to_owned(), (String::new(), config::DEFAULT.to_owned()));
        if inputs.unreadable.contains_key(&default) {
            // What it said about paths is not known, and closed allows less than open.
            settings.path_end = Some(PathEnd::Closed);
        }
        for ((namespace, name), config) in &inputs.mesh_configs {
            let object = ObjectRef::new("MeshConfig", namespace, name);
            if name == config::DEFAULT {
                settings.mesh_wide(config, &object, findings);
            } else {
                let message = format!("is not in use: only the one called {} is", config::DEFAULT);
                findings.push(Finding::new(object, Reason::NotInUse, message).at("metadata.name"));
            }
        }
        for ((_, name), namespace) in &inputs.namespaces {
            let modes = settings.of_labels(name, namespace, findings);
            if modes != (settings.access, settings.mtls) {
                settings.namespaces.insert(name.clone(), modes);
            }
        }
        settings
    }

    /// Whether pods of `namespace` need grants.
    pub fn access(&self, namespace: &str) -> AccessMode {
        self.namespaces.get(namespace).map_or(self.access, |modes| modes.0)
    }

    /// Whether pods of `namespace` take plaintext.
    pub fn mtls(&self, namespace: &str) -> MtlsMode {
        self.namespaces.get(namespace).map_or(self.mtls, |modes| modes.1)
    }

    fn mesh_wide(&mut self, config: &MeshConfig, object: &ObjectRef, findings: &mut Vec<Finding>) {
        let spec = &config.spec;
        let mut word = |field: &str, word: &str, expected: &str| {
            findings.push(unknown_word(object, field, word, expected));
        };
        match &spec.access.mode {
            Some(Setting::Known(mode)) => self.access = access_mode(*mode),
            Some(Setting::Unknown(text)) => word("spec.access.mode", text, ACCESS_WORDS),
            None => {}
        }
        match &spec.mtls.mode {
            Some(Setting::Known(mode)) => self.mtls = mtls_mode(*mode),
            Some(Setting::Unknown(text)) => word("spec.mtls.mode", text, "strict or permissive"),
            None => {}
        }
        match &spec.path_regex_end {
            Some(Setting::Known(PathRegexEnd::Open)) => self.path_end = Some(PathEnd::Open),
            Some(Setting::Known(PathRegexEnd::Closed)) => self.path_end = Some(PathEnd::Closed),
            Some(Setting::Unknown(text)) => {
                // Closed allows less than open.
                self.path_end = Some(PathEnd::Closed);
                word("spec.pathRegexEnd", text, "open or closed");
            }
            None => {}
        }
    }

    fn of_labels(
        &self,
        name: &str,
        namespace: &Namespace,
        findings: &mut Vec<Finding>,
    ) -> (AccessMode, MtlsMode) {
        let object = ObjectRef::new("Namespace", "", name);
        let label = |label: &str| namespace.metadata.labels.as_ref().and_then(|all| all.get(label));
        let access = match label(labels::ACCESS) {
            None => self.access,
            Some(word) => word.parse().map_or_else(
                |_| {
                    findings.push(unknown_word(&object, &at(labels::ACCESS), word, ACCESS_WORDS));
                    AccessMode::Enforce
                },
                access_mode,
            ),
        };
        let mtls = match label(labels::MTLS) {
            None => self.mtls,
            Some(word) => word.parse().map_or_else(
                |_| {
                    findings.push(unknown_word(&object, &at(labels::MTLS), word, "strict or permissive"));
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

const ACCESS_WORDS: &str = "enforce, audit or permissive";

/// The first word that was expected is the one that holds, but for the end of paths: closed allows less than open.
fn unknown_word(object: &ObjectRef, field: &str, word: &str, expected: &str) -> Finding {
    let first = expected.split([' ', ',']).next().unwrap_or_default();
    let held = if field == "spec.pathRegexEnd" { "closed" } else { first };
    let message = format!("{word:?} means nothing: expected {expected}; {held} holds");
    Finding::new(object.clone(), Reason::InvalidSetting, message).at(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_read_leave_the_strictest_meaning() {
        let key = ("MeshConfig".to_owned(), (String::new(), config::DEFAULT.to_owned()));
        let mut inputs = Inputs::default();
        assert_eq!(Settings::read(&inputs, &mut Vec::new()).path_end, None);
        inputs.unreadable.insert(key, "expected an object".to_owned());
        let settings = Settings::read(&inputs, &mut Vec::new());
        assert_eq!(settings.path_end, Some(PathEnd::Closed));
        assert_eq!((settings.access("shop"), settings.mtls("shop")), (AccessMode::Enforce, MtlsMode::Strict));
    }
}
