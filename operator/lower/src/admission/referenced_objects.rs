//! Selects from the inputs what one object may refer to, so that the cost of its evaluation depends on the size of its
//! namespaces, and not on that of the cluster.

use std::collections::BTreeSet;

use crate::{
    inputs::{Inputs, Objects},
    kinds::{self, Row, Visitor, Watched},
};

/// Returns the objects of these namespaces, and the mesh's own settings.
pub fn referenced_objects(inputs: &Inputs, namespaces: &BTreeSet<String>) -> Inputs {
    let mut cut = Cut { inputs, namespaces, into: none(inputs) };
    kinds::visit(&mut cut);
    let all = &inputs.namespaces;
    let names = namespaces.iter().map(|name| (String::new(), name.clone()));
    cut.into.namespaces = names.filter_map(|key| Some((key.clone(), all.get(&key)?.clone()))).collect();
    cut.into
}

struct Cut<'a> {
    inputs: &'a Inputs,
    namespaces: &'a BTreeSet<String>,
    into: Inputs,
}

impl Visitor for Cut<'_> {
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        if smidge_crds::object::is_namespaced::<K>() {
            *(row.objects_mut)(&mut self.into) = cut((row.objects)(self.inputs), self.namespaces);
        }
    }
}

/// Returns inputs without any object but the mesh's own settings.
pub(super) fn none(inputs: &Inputs) -> Inputs {
    Inputs {
        mesh_configs: inputs.mesh_configs.clone(),
        trust_domain: inputs.trust_domain.clone(),
        cluster_domain: inputs.cluster_domain.clone(),
        system_namespace: inputs.system_namespace.clone(),
        ..Inputs::default()
    }
}

/// Returns the objects of these namespaces. Keys are sorted by namespace first.
fn cut<K>(objects: &Objects<K>, namespaces: &BTreeSet<String>) -> Objects<K> {
    let mut found = Objects::new();
    for namespace in namespaces {
        let from = objects.range((namespace.clone(), String::new())..);
        let of = from.take_while(|((found, _), _)| found == namespace);
        found.extend(of.map(|(key, object)| (key.clone(), object.clone())));
    }
    found
}
