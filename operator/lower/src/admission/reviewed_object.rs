//! Reads an object of any served version in the hub version, and adds it to inputs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use smidge_crds::{
    Kind, Object,
    access::IdentityBindingSpec,
    conversion::{self, ReadError},
};

use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key},
    kinds::{self, References, Row, Visitor, Watched},
};

/// Maximum number of namespaces that are read for one object. The objects of any further namespaces that it names are
/// not read.
const NAMESPACES: usize = 32;

/// One object in the hub's version.
#[derive(Debug)]
pub(super) struct ReviewedObject {
    /// Reference to the object.
    pub object: ObjectRef,
    /// The version in which it was written.
    pub version: String,
    /// The object in the hub's version, or the finding for which there is none.
    hub: Result<Value, Finding>,
    key: Key,
}

impl ReviewedObject {
    /// Reads the object; `None` if it is of no kind of SMI or Smidge.
    pub fn read(namespace: &str, name: &str, object: &Value) -> Option<Self> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = text("/apiVersion").split_once('/')?;
        let kind = text("/kind");
        if conversion::served(group, kind).is_empty() {
            return None;
        }
        let names = [name, text("/metadata/name"), text("/metadata/generateName").trim_end_matches('-')];
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let reference = ObjectRef::new(kind, namespace, name);
        let hub = conversion::to_hub(object).map_err(|error| malformed(&reference, "", &error.to_string()));
        let key = (namespace.to_owned(), name.to_owned());
        Some(Self { object: reference, version: version.to_owned(), hub, key })
    }

    /// Returns true if both have the same content, apart from metadata and status.
    pub fn has_same_content(&self, other: &Self) -> bool {
        match (&self.hub, &other.hub) {
            (Ok(one), Ok(other)) => content(one) == content(other),
            _ => false,
        }
    }

    /// Its own namespace, and those of the IdentityBindings that it names, up to a limit.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let others = self.foreign_namespaces().into_iter().take(NAMESPACES - 1);
        others.chain([self.key.0.as_str()]).map(str::to_owned).collect()
    }

    /// Returns true if it names IdentityBindings in more namespaces than are read: these are unknown, not missing.
    pub fn exceeds_namespaces(&self) -> bool {
        self.foreign_namespaces().len() >= NAMESPACES
    }

    /// The namespaces of the IdentityBindings that it names, without its own. Of other subjects nothing is read.
    fn foreign_namespaces(&self) -> BTreeSet<&str> {
        let spec = self.hub.as_ref().ok().and_then(|hub| hub.get("spec"));
        let sources = spec.and_then(|spec| spec.get("sources")).and_then(Value::as_array);
        let named = sources
            .into_iter()
            .flatten()
            .filter(|subject| subject.get("kind").and_then(Value::as_str) == Some(IdentityBindingSpec::KIND))
            .filter_map(|subject| subject.get("namespace")?.as_str())
            .filter(|namespace| !namespace.is_empty() && *namespace != self.key.0);
        named.collect()
    }

    /// Puts it in the place of the object of its name; returns a finding if it cannot be read.
    pub fn put_into(&self, inputs: &mut Inputs) -> Option<Finding> {
        let hub = match &self.hub {
            Ok(hub) => hub,
            Err(finding) => return Some(finding.clone()),
        };
        let mut put = Put { candidate: self, hub, inputs, finding: None };
        kinds::visit(&mut put);
        put.finding
    }
}

/// Adds a candidate to the objects of its kind.
struct Put<'a> {
    candidate: &'a ReviewedObject,
    hub: &'a Value,
    inputs: &'a mut Inputs,
    finding: Option<Finding>,
}

impl Visitor for Put<'_> {
    fn kind<K: Watched>(&mut self, _: &Row<K>) {}

    fn custom<Spec: Kind>(&mut self, row: &Row<Object<Spec>>, _: References<Spec>) {
        let ReviewedObject { object, key, .. } = self.candidate;
        if row.name != object.kind {
            return;
        }
        match Object::<Spec>::read(self.hub.clone()) {
            Ok(read) => drop((row.objects_mut)(self.inputs).insert(key.clone(), read.into())),
            Err(ReadError { field, message }) => self.finding = Some(malformed(object, &field, &message)),
        }
    }
}

/// Returns the content of an object: its spec, and the fields that another version has beside the spec.
fn content(object: &Value) -> BTreeMap<&str, &Value> {
    const BESIDE: &[&str] = &["apiVersion", "kind", "metadata", "status"];
    let fields = object.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.as_str(), value)).filter(|(name, _)| !BESIDE.contains(name)).collect()
}

fn malformed(object: &ObjectRef, path: &str, error: &str) -> Finding {
    let finding = Finding::new(object.clone(), Reason::Malformed, format!("cannot be read: {error}"));
    if path.is_empty() || path == "." { finding } else { finding.at(path) }
}
