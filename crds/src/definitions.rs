//! Turns the types into custom resource definitions, and those into YAML.
//!
//! Called by `smidge crds`; the chart carries the output. Every served version of a kind has the same fields, in
//! [`versions`], so that the API server prunes nothing that conversion understands. Does not talk to a cluster.

mod versions;

use std::any::TypeId;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinition,
    CustomResourceDefinitionNames, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
    CustomResourceSubresourceStatus, CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps,
    JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ServiceReference, ValidationRule, WebhookClientConfig,
    WebhookConversion,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::schema::{OptionalEnum, StructuralSchemaRewriter};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::AddNullable;

use crate::config::{self, MeshConfigSpec};
use crate::conversion::served;
use crate::kinds::KINDS;
use crate::object::Kind;
use crate::status::Status;

/// Why the definitions could not be made; a defect of this crate, never of its input, as it has none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A type's schema uses what Kubernetes' schemas have no field for.
    #[error("failed to make a Kubernetes schema of {kind}")]
    Schema {
        /// The kind.
        kind: &'static str,
        /// What is wrong with its schema.
        #[source]
        source: serde_json::Error,
    },
    /// A definition could not be printed.
    #[error("failed to print a definition")]
    Print(#[source] serde_saphyr::SerializeError),
}

/// Every definition, in the order of their names.
pub fn all() -> Result<Vec<CustomResourceDefinition>, Error> {
    let mut definitions = KINDS.iter().map(|info| (info.definition)()).collect::<Result<Vec<_>, _>>()?;
    definitions.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    Ok(definitions)
}

/// The definitions of a mesh whose operator, and with it the webhook that converts versions, is in `namespace`.
pub fn within(
    mut definitions: Vec<CustomResourceDefinition>,
    namespace: &str,
) -> Vec<CustomResourceDefinition> {
    for definition in &mut definitions {
        let conversion = definition.spec.conversion.as_mut();
        let config = conversion.and_then(|it| it.webhook.as_mut()?.client_config.as_mut());
        if let Some(service) = config.and_then(|config| config.service.as_mut()) {
            namespace.clone_into(&mut service.namespace);
        }
    }
    definitions
}

/// Definitions as one YAML stream, the same bytes every time.
pub fn to_yaml(definitions: &[CustomResourceDefinition]) -> Result<String, Error> {
    let mut yaml = String::new();
    for definition in definitions {
        yaml.push_str("---\n");
        yaml.push_str(&serde_saphyr::to_string(definition).map_err(Error::Print)?);
    }
    Ok(yaml)
}

pub(crate) fn mesh_config() -> Result<CustomResourceDefinition, Error> {
    let mut definition = definition::<MeshConfigSpec>()?;
    for version in &mut definition.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            schema.x_kubernetes_validations = Some(vec![only_default()]);
        }
    }
    Ok(definition)
}

/// The mesh has one `MeshConfig`; a second one would silently have no effect.
fn only_default() -> ValidationRule {
    ValidationRule {
        rule: format!("self.metadata.name == '{}'", config::DEFAULT),
        message: Some(format!("the one MeshConfig of a mesh is called {}", config::DEFAULT)),
        ..ValidationRule::default()
    }
}

/// The definition of a kind with all its versions.
pub(crate) fn definition<Spec: Kind>() -> Result<CustomResourceDefinition, Error> {
    let (spec, status) = (schema::<Spec, Spec>()?, schema::<Spec, Status>()?);
    let version = |version: &&str| CustomResourceDefinitionVersion {
        name: (*version).into(),
        served: true,
        storage: *version == Spec::VERSION,
        schema: Some(CustomResourceValidation {
            open_api_v3_schema: Some(versions::of::<Spec>(version, spec.clone(), status.clone())),
        }),
        subresources: Some(CustomResourceSubresources {
            status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
            scale: None,
        }),
        additional_printer_columns: Some(columns::<Spec>()),
        ..CustomResourceDefinitionVersion::default()
    };
    let is_namespaced = TypeId::of::<Spec::Scope>() == TypeId::of::<NamespaceResourceScope>();
    let mut categories = vec!["smidge".to_owned()];
    if is_smi::<Spec>() {
        categories.push("smi".to_owned());
    }
    let names = CustomResourceDefinitionNames {
        kind: Spec::KIND.into(),
        list_kind: Some(format!("{}List", Spec::KIND)),
        plural: Spec::PLURAL.into(),
        singular: Some(Spec::KIND.to_ascii_lowercase()),
        short_names: Spec::SHORT_NAME.map(|name| vec![name.into()]),
        categories: Some(categories),
    };
    Ok(CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", Spec::PLURAL, Spec::GROUP)),
            ..ObjectMeta::default()
        },
        spec: CustomResourceDefinitionSpec {
            conversion: Some(if is_smi::<Spec>() { by_webhook() } else { by_nobody() }),
            group: Spec::GROUP.into(),
            names,
            preserve_unknown_fields: None,
            scope: if is_namespaced { "Namespaced" } else { "Cluster" }.into(),
            versions: served(Spec::GROUP, Spec::KIND).iter().map(version).collect(),
        },
        status: None,
    })
}

/// Said although the API server assumes it, so that an upgrade from a definition with a webhook takes it back.
fn by_nobody() -> CustomResourceConversion {
    CustomResourceConversion { strategy: "None".into(), webhook: None }
}

/// The operator converts. It puts its certificate authority in itself, as it alone knows it.
fn by_webhook() -> CustomResourceConversion {
    let service = ServiceReference {
        namespace: "smidge-system".into(),
        name: "smidge-webhook".into(),
        path: Some("/convert".into()),
        port: Some(443),
    };
    CustomResourceConversion {
        strategy: "Webhook".into(),
        webhook: Some(WebhookConversion {
            client_config: Some(WebhookClientConfig { service: Some(service), ca_bundle: None, url: None }),
            conversion_review_versions: vec!["v1".into()],
        }),
    }
}

fn is_smi<Spec: Kind>() -> bool {
    Spec::GROUP.ends_with(".smi-spec.io")
}

fn columns<Spec: Kind>() -> Vec<CustomResourceColumnDefinition> {
    let own = Spec::COLUMNS.iter().map(|(name, description, path)| CustomResourceColumnDefinition {
        name: (*name).into(),
        type_: "string".into(),
        description: Some((*description).into()),
        json_path: (*path).into(),
        ..CustomResourceColumnDefinition::default()
    });
    let ready = CustomResourceColumnDefinition {
        name: "Ready".into(),
        type_: "string".into(),
        description: Some("Whether the mesh does what the object says.".into()),
        json_path: ".status.conditions[?(@.type==\"Ready\")].status".into(),
        ..CustomResourceColumnDefinition::default()
    };
    // A definition with columns of its own loses the one for the age that every kind has otherwise.
    let age = CustomResourceColumnDefinition {
        name: "Age".into(),
        type_: "date".into(),
        json_path: ".metadata.creationTimestamp".into(),
        ..CustomResourceColumnDefinition::default()
    };
    own.chain(is_smi::<Spec>().then_some(ready)).chain([age]).collect()
}

fn schema<Spec: Kind, T: JsonSchema>() -> Result<JSONSchemaProps, Error> {
    let settings = SchemaSettings::openapi3().with(|settings| {
        // Kubernetes' schemas know neither references nor `$schema`.
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .into_generator()
        .into_root_schema_for::<T>();
    let mut schema: JSONSchemaProps = serde_json::from_value(schema.to_value())
        .map_err(|source| Error::Schema { kind: Spec::KIND, source })?;
    plain(&mut schema);
    schema.title = None;
    Ok(schema)
}

/// Takes defaults and `null`s out of a schema. The types have defaults so that everything decodes, but a default in
/// the schema would be written into users' objects, and fight with whoever manages them from files. A `null` that
/// is stored breaks clients whose types know none. Descriptions lose what only Rust's documentation has a use for.
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
