//! Builds the schema of a kind at a version: the fields of all versions, each in all the places that it has or had.
//!
//! The hub's schema comes from the types. The tables of `conversion` list the other places of a field; a field out of
//! its place is described as such, and no field is required that may be in another place.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};

use crate::{
    conversion::FieldLocation,
    kinds::{KindInfo, Shape},
};

/// Beginning of the description of a field that a version does not have, but older or newer ones have.
const OF_OTHERS: &str = "Of other versions, and understood here as well.";

/// Builds the schema of the whole object.
pub(super) fn of(
    info: &KindInfo,
    version: &str,
    spec: JSONSchemaProps,
    status: JSONSchemaProps,
) -> JSONSchemaProps {
    let mut root = map(info.description);
    root.properties = Some(BTreeMap::from([("spec".to_owned(), spec), ("status".to_owned(), status)]));
    let Some(shape) = info.shape else { return root };
    for piece in shape.pieces().iter().filter(|piece| piece.is_hidden_at(version)) {
        let field = match piece.whereabouts {
            FieldLocation::Field(path) | FieldLocation::FieldOf(_, path) => at(&mut root, path),
            FieldLocation::Elements { list, field, .. } => {
                at(&mut root, list).and_then(elements).and_then(|element| at(element, field))
            }
        };
        if let Some(field) = field {
            prefix(field, OF_OTHERS);
        }
    }
    if shape == Shape::Split && version == "v1alpha1" {
        let backend = at(&mut root, "spec.backends").and_then(elements);
        if let Some(weight) = backend.and_then(|backend| at(backend, "weight")) {
            let text = "The share, in proportion to the sum of all weights: a quantity, such as 1, 500m or 0.5; 0 for none.";
            weight.description = Some(text.into());
        }
    }
    for slot in shape.slots() {
        let Some(field) = at(&mut root, slot.hub()).cloned() else { continue };
        let native = slot.native(version);
        for place in slot.places {
            let mut field = field.clone();
            if *place != native {
                // The description at the version's own place has this prefix already, if it applies.
                let text = field.description.take().unwrap_or_default();
                field.description =
                    Some(text.strip_prefix(OF_OTHERS).unwrap_or(&text).trim_start().to_owned());
                let there = slot.name_at(version);
                prefix(&mut field, &format!("Understood here as well; {version} has it at {there}."));
            }
            insert(&mut root, place, field);
        }
    }
    root
}

fn map(description: &str) -> JSONSchemaProps {
    JSONSchemaProps {
        type_: Some("object".into()),
        description: Some(description.into()),
        ..JSONSchemaProps::default()
    }
}

fn at<'s>(schema: &'s mut JSONSchemaProps, path: &str) -> Option<&'s mut JSONSchemaProps> {
    path.split('.').try_fold(schema, |schema, name| schema.properties.as_mut()?.get_mut(name))
}

fn elements(schema: &mut JSONSchemaProps) -> Option<&mut JSONSchemaProps> {
    match schema.items.as_mut()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

/// Inserts a field at `path`. Every place is beside a field that exists already.
fn insert(schema: &mut JSONSchemaProps, path: &str, field: JSONSchemaProps) {
    let (inside, name) = path.rsplit_once('.').unwrap_or(("", path));
    let inside = if inside.is_empty() { Some(schema) } else { at(schema, inside) };
    if let Some(inside) = inside {
        inside.properties.get_or_insert_default().insert(name.to_owned(), field);
    }
}

fn prefix(schema: &mut JSONSchemaProps, text: &str) {
    let description = schema.description.take().unwrap_or_default();
    schema.description = Some(format!("{text} {description}").trim_end().to_owned());
}
