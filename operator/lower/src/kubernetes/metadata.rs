//! Reports labels and annotations that nothing reads where they are: those of Smidge that are unknown, in the wrong
//! place or without a meaning, and those of another mesh.
//!
//! Compares the metadata of namespaces, pods and Services with the table of what Smidge reads. The values of labels of
//! namespaces are read by `settings`, the rest by injection.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use smidge_crds::labels::{
    ACCESS, INJECT, INJECT_DISABLED, INJECT_ENABLED, INJECTION, MTLS, POD_ANNOTATIONS, PREFIX, REDIRECTION,
    REDIRECTION_CNI, REDIRECTION_INIT,
};

use crate::{
    finding::{Finding, ObjectRef, Reason},
    near::nearest,
    other_mesh,
};

/// Maximum number of names that one message lists.
const SHOWN: usize = 5;

/// Part of an object's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Label,
    Annotation,
}

/// Object that carries a label or annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Namespace,
    Pod,
    Service,
    ExternalWorkload,
    /// Object from whose template pods are made. It has metadata of its own, which the pods do not get.
    Workload,
}

/// Labels of Smidge, and the objects on which they are read.
const LABELS: [(&str, &[Place]); 4] = [
    (INJECT, &[Place::Namespace, Place::Pod]),
    (ACCESS, &[Place::Namespace]),
    (MTLS, &[Place::Namespace]),
    (REDIRECTION, &[Place::Namespace]),
];

/// Reports the labels and annotations of an object that have no effect: those of other meshes only if the object is in
/// the mesh, as another mesh may serve the rest of the cluster.
pub(crate) fn report(
    object: &ObjectRef,
    (place, is_in_mesh): (Place, bool),
    metadata: &ObjectMeta,
    findings: &mut Vec<Finding>,
) {
    let labels = metadata.labels.iter().flatten().map(|entry| (entry, Form::Label));
    let annotations = metadata.annotations.iter().flatten().map(|entry| (entry, Form::Annotation));
    let all = labels.chain(annotations);
    let own = all.clone().filter(|((name, _), _)| name.starts_with(PREFIX));
    let defects = own.filter_map(|((name, value), form)| defect(name, value, form, place));
    findings.extend(defects.take(SHOWN).map(|(field, message, hint)| {
        let finding = Finding::new(object.clone(), Reason::UnknownLabel, message).at(field);
        if hint.is_empty() { finding } else { finding.hint(hint) }
    }));
    if is_in_mesh {
        let names = all.map(|((name, _), form)| (name.as_str(), form));
        findings.extend(of_other_meshes(object, names));
    }
}

/// Returns the form of a label or annotation of Smidge, and the objects on which it is read.
fn known(name: &str) -> Option<(Form, &'static [Place])> {
    if POD_ANNOTATIONS.contains(&name) {
        return Some((Form::Annotation, &[Place::Pod]));
    }
    if INJECTION.contains(&name) {
        return Some((Form::Annotation, &[Place::Namespace, Place::Pod]));
    }
    LABELS.iter().find(|(known, _)| *known == name).map(|(_, places)| (Form::Label, *places))
}

/// Returns the field, message and hint about a label or annotation of Smidge that has no effect.
fn defect(name: &str, value: &str, form: Form, place: Place) -> Option<(String, String, String)> {
    let field = format!("metadata.{}[{name}]", form.list());
    let Some((right_form, places)) = known(name) else {
        let readable = LABELS.iter().map(|(known, _)| *known).chain(POD_ANNOTATIONS).chain(INJECTION);
        let readable = readable.filter(|it| known(it).is_some_and(|(_, places)| places.contains(&place)));
        let hint = nearest(name, readable).map(|near| format!("did you mean {near}?"));
        let message = format!("Smidge has no such {}; it has no effect", form.name());
        return Some((field, message, hint.unwrap_or_default()));
    };
    if right_form != form {
        let message = format!("is read as {}, not as {}; it has no effect", right_form.a(), form.a());
        return Some((field, message, format!("write it as {}", right_form.a())));
    }
    if !places.contains(&place) {
        let of = places.iter().map(|place| place.plural()).collect::<Vec<_>>().join(" and ");
        let message = format!("is {} of {of}; it has no effect on {}", form.a(), place.a());
        let is_of_template = place == Place::Workload && places.contains(&Place::Pod);
        let hint = is_of_template.then(|| format!("write it at spec.template.metadata.{}", form.list()));
        return Some((field, message, hint.unwrap_or_default()));
    }
    if name == INJECT && place == Place::Pod && ![INJECT_ENABLED, INJECT_DISABLED].contains(&value) {
        let message = format!(
            "{value:?} is not a known value: expected {INJECT_ENABLED} or {INJECT_DISABLED}; the label of the namespace decides"
        );
        return Some((field, message, format!("write {INJECT_DISABLED} to keep the pod out of the mesh")));
    }
    if name == REDIRECTION && ![REDIRECTION_CNI, REDIRECTION_INIT].contains(&value) {
        let message = format!(
            "{value:?} is not a known value: expected {REDIRECTION_CNI} or {REDIRECTION_INIT}; the mesh's default decides"
        );
        return Some((field, message, String::new()));
    }
    None
}

/// Returns one finding about all labels and annotations of other meshes, with what to write in the place of the first.
fn of_other_meshes<'n>(object: &ObjectRef, names: impl Iterator<Item = (&'n str, Form)>) -> Option<Finding> {
    let foreign: Vec<_> =
        names.filter_map(|(name, form)| Some((name, form, other_mesh::metadata(name)?))).collect();
    let (_, form, first) = foreign.first()?;
    let listed = foreign.iter().take(SHOWN).map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    let more = foreign.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let message = format!("{listed}{more}: of {}, and not read by Smidge", first.mesh);
    let finding =
        Finding::new(object.clone(), Reason::OtherMesh, message).at(format!("metadata.{}", form.list()));
    let instead: Vec<String> = foreign
        .iter()
        .filter(|(_, _, foreign)| !foreign.instead.is_empty())
        .take(SHOWN)
        .map(|(name, _, foreign)| format!("in place of {name}: {}", foreign.instead))
        .collect();
    Some(if instead.is_empty() { finding } else { finding.hint(instead.join("; ")) })
}

impl Form {
    fn list(self) -> &'static str {
        match self {
            Self::Label => "labels",
            Self::Annotation => "annotations",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Annotation => "annotation",
        }
    }

    fn a(self) -> &'static str {
        match self {
            Self::Label => "a label",
            Self::Annotation => "an annotation",
        }
    }
}

impl Place {
    fn a(self) -> &'static str {
        match self {
            Self::Namespace => "a namespace",
            Self::Pod => "a pod",
            Self::Service => "a Service",
            Self::ExternalWorkload => "an ExternalWorkload",
            Self::Workload => "the object that makes the pods",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Pod => "pods",
            Self::Service => "Services",
            Self::ExternalWorkload => "ExternalWorkloads",
            Self::Workload => "workloads",
        }
    }
}
