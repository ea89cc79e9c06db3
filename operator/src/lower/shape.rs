//! Says which objects were written in the shape of another version than their own.
//!
//! They are understood, by `smidge_crds::conversion`, and mean what they say; but who reads the manifest beside SMI's
//! documents is misled, and other meshes drop such fields silently. Gives nothing a meaning.

use smidge_crds::{
    Kind, Object,
    conversion::{Mixed, mixed},
};

use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Objects},
};

/// Findings for all objects that mix shapes.
pub(super) fn report(inputs: &Inputs, findings: &mut Vec<Finding>) {
    of_kind(&inputs.traffic_targets, findings);
    of_kind(&inputs.http_route_groups, findings);
    of_kind(&inputs.tcp_routes, findings);
    of_kind(&inputs.udp_routes, findings);
    of_kind(&inputs.traffic_splits, findings);
}

fn of_kind<Spec: Kind>(objects: &Objects<Object<Spec>>, findings: &mut Vec<Finding>) {
    for ((namespace, name), object) in objects {
        for (version, mixed) in mixed(Spec::GROUP, Spec::KIND, &object.metadata) {
            let object = ObjectRef::new(Spec::KIND, namespace, name);
            findings.push(finding(object, version, mixed));
        }
    }
}

fn finding(object: ObjectRef, version: &str, mixed: Mixed) -> Finding {
    let (place, message, hint) = match mixed {
        Mixed::Moved { place, expected } => (
            place,
            format!("{version} has this at {expected}; it is understood"),
            format!("write it at {expected}"),
        ),
        Mixed::Newer { place } => (
            place,
            format!("{version} has no such field; it is understood"),
            "write the object at a version that has it, such as the newest".to_owned(),
        ),
        Mixed::Ignored { place, expected } => {
            (place, format!("does not count, as {expected} is there, too"), format!("leave {place} out"))
        }
        Mixed::Weights => (
            "spec.backends",
            format!(
                "{version} has whole numbers as weights; these are understood in proportion, as quantities"
            ),
            "write whole numbers".to_owned(),
        ),
    };
    Finding::new(object, Reason::MixedShape, message).at(place).hint(hint)
}
