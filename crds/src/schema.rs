//! Turns types into schemas that Kubernetes accepts: structural, without references, defaults and `null`s.
//!
//! Used by `definitions`, through the rows of `kinds`. Does not know which fields another version has.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube_core::schema::{OptionalEnum, StructuralSchemaRewriter};
use schemars::{JsonSchema, generate::SchemaSettings, transform::AddNullable};

/// Builds the schema of a type.
pub(crate) fn of<T: JsonSchema>() -> serde_json::Result<JSONSchemaProps> {
    let settings = SchemaSettings::openapi3().with(|settings| {
        // Kubernetes' schemas have neither references nor `$schema`.
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .into_generator()
        .into_root_schema_for::<T>();
    let mut schema: JSONSchemaProps = serde_json::from_value(schema.to_value())?;
    plain(&mut schema);
    schema.title = None;
    Ok(schema)
}

/// Removes defaults and `null`s from a schema. The types have defaults so that everything decodes, but a default in
/// the schema would be written into users' objects, and conflict with tools that manage them from files. A stored
/// `null` breaks clients whose types do not accept it. Descriptions lose the markup that only Rust's documentation
/// uses.
fn plain(schema: &mut JSONSchemaProps) {
    schema.default = None;
    schema.nullable = None;
    if let Some(words) = &mut schema.enum_ {
        words.retain(|word| !word.0.is_null());
    }
    if let Some(description) = &mut schema.description {
        *description = description.replace('`', "").replace('\n', " ");
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(plain);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => plain(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(plain),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        plain(values);
    }
}
