//! Reports objects that were written in the shape of another version than their own.
//!
//! `smidge_crds::conversion` understands them, and they have the effect that they state; but a reader who compares the
//! manifest with SMI's documents is misled, and other meshes drop such fields silently. Gives nothing a meaning.

use smidge_crds::{
    Kind, Object,
    conversion::{Mixed, mixed},
};

use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
};

/// Reports the places where an object mixes shapes.
pub(crate) fn report<Spec: Kind>((namespace, name): &Key, object: &Object<Spec>, context: &mut Context<'_>) {
    for (version, mixed) in mixed(Spec::GROUP, Spec::KIND, &object.metadata) {
        let object = ObjectRef::new(Spec::KIND, namespace, name);
        context.report(finding(object, version, mixed));
    }
}

fn finding(object: ObjectRef, version: &str, mixed: Mixed) -> Finding {
    let (place, message, hint) = match mixed {
        Mixed::Moved { place, expected } => (
            place,
            format!("{version} has this at {expected}; it is understood"),
            format!("write it at {expected}"),
        ),
        Mixed::Newer { place } if place == "spec.destination.port" => (
            place,
            format!("{version} has no such field; it is understood"),
            "name the port in a TCPRoute, and the TCPRoute in spec.rules".to_owned(),
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
    Finding::new(object, Reason::FieldFromOtherVersion, message).at(place).hint(hint)
}
