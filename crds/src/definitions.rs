//! Turns the types into custom resource definitions, and these into YAML.
//!
//! Called by `smidge crds`; the chart carries the output. Every served version of a kind has the same fields, in
//! [`versions`], so that the API server prunes nothing that conversion understands. Does not talk to a cluster.

mod versions;

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinition,
        CustomResourceDefinitionNames, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
        CustomResourceSubresourceStatus, CustomResourceSubresources, CustomResourceValidation,
        JSONSchemaProps, ServiceReference, ValidationRule, WebhookClientConfig, WebhookConversion,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    KINDS,
    config::{self, MeshConfigSpec},
    kinds::KindInfo,
    object::Kind as _,
    schema,
    status::Status,
};

/// Error of building the definitions; a defect of this crate, never of its input, as it has none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The schema of a type uses a keyword for which Kubernetes' schemas have no field.
    #[error("failed to make a Kubernetes schema of {kind}")]
    Schema {
        /// The kind.
        kind: &'static str,
        /// The error of the schema.
        #[source]
        source: serde_json::Error,
    },
    /// A definition could not be printed.
    #[error("failed to print a definition")]
    Print(#[source] serde_saphyr::SerializeError),
}

/// Builds every definition, in the order of their names.
pub fn all() -> Result<Vec<CustomResourceDefinition>, Error> {
    let mut definitions = KINDS.iter().map(definition).collect::<Result<Vec<_>, _>>()?;
    definitions.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    Ok(definitions)
}

/// Returns the definitions for a mesh whose operator, and with it the webhook that converts versions, is in
/// `namespace`.
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

/// Prints definitions as one YAML stream, the same bytes every time.
pub fn to_yaml(definitions: &[CustomResourceDefinition]) -> Result<String, Error> {
    let mut yaml = String::new();
    for definition in definitions {
        yaml.push_str("---\n");
        yaml.push_str(&serde_saphyr::to_string(definition).map_err(Error::Print)?);
    }
    Ok(yaml)
}

fn schema_at(
    info: &KindInfo,
    version: &str,
    spec: JSONSchemaProps,
    status: JSONSchemaProps,
) -> JSONSchemaProps {
    let mut schema = versions::of(info, version, spec, status);
    if info.group == config::GROUP && info.kind == MeshConfigSpec::KIND {
        schema.x_kubernetes_validations = Some(vec![only_default()]);
    }
    schema
}

/// Returns the rule that there is only one `MeshConfig`; a second one would silently have no effect.
fn only_default() -> ValidationRule {
    ValidationRule {
        rule: format!("self.metadata.name == '{}'", config::DEFAULT),
        message: Some(format!("the one MeshConfig of a mesh is called {}", config::DEFAULT)),
        ..ValidationRule::default()
    }
}

/// Builds the definition of a kind with all its versions.
fn definition(info: &KindInfo) -> Result<CustomResourceDefinition, Error> {
    let error = |source| Error::Schema { kind: info.kind, source };
    let spec = (info.schema)().map_err(error)?;
    let status = schema::of::<Status>().map_err(error)?;
    let version = |version: &&str| CustomResourceDefinitionVersion {
        name: (*version).into(),
        served: true,
        storage: Some(version) == info.versions.first(),
        schema: Some(CustomResourceValidation {
            open_api_v3_schema: Some(schema_at(info, version, spec.clone(), status.clone())),
        }),
        subresources: Some(CustomResourceSubresources {
            status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
            scale: None,
        }),
        additional_printer_columns: Some(columns(info)),
        ..CustomResourceDefinitionVersion::default()
    };
    let mut categories = vec!["smidge".to_owned()];
    if is_smi(info) {
        categories.push("smi".to_owned());
    }
    let names = CustomResourceDefinitionNames {
        kind: info.kind.into(),
        list_kind: Some(format!("{}List", info.kind)),
        plural: info.plural.into(),
        singular: Some(info.kind.to_ascii_lowercase()),
        short_names: info.short_name.map(|name| vec![name.into()]),
        categories: Some(categories),
    };
    Ok(CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", info.plural, info.group)),
            ..ObjectMeta::default()
        },
        spec: CustomResourceDefinitionSpec {
            conversion: Some(if is_smi(info) { by_webhook() } else { without_webhook() }),
            group: info.group.into(),
            names,
            preserve_unknown_fields: None,
            scope: if (info.is_namespaced)() { "Namespaced" } else { "Cluster" }.into(),
            versions: info.versions.iter().map(version).collect(),
        },
        status: None,
    })
}

/// Returns the conversion strategy `None`. It is explicit although it is the default of the API server, so that an
/// upgrade from a definition with a webhook removes the webhook.
fn without_webhook() -> CustomResourceConversion {
    CustomResourceConversion { strategy: "None".into(), webhook: None }
}

/// Returns the conversion by the operator's webhook. The operator adds its certificate authority at run time, as only
/// the operator has it.
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

fn is_smi(info: &KindInfo) -> bool {
    info.group.ends_with(".smi-spec.io")
}

fn columns(info: &KindInfo) -> Vec<CustomResourceColumnDefinition> {
    let own = info.columns.iter().map(|(name, description, path)| CustomResourceColumnDefinition {
        name: (*name).into(),
        type_: "string".into(),
        description: Some((*description).into()),
        json_path: (*path).into(),
        ..CustomResourceColumnDefinition::default()
    });
    let ready = CustomResourceColumnDefinition {
        name: "Ready".into(),
        type_: "string".into(),
        description: Some("True if the mesh applies the object.".into()),
        json_path: ".status.conditions[?(@.type==\"Ready\")].status".into(),
        ..CustomResourceColumnDefinition::default()
    };
    // A definition with columns of its own loses the default column for the age.
    let age = CustomResourceColumnDefinition {
        name: "Age".into(),
        type_: "date".into(),
        json_path: ".metadata.creationTimestamp".into(),
        ..CustomResourceColumnDefinition::default()
    };
    own.chain(is_smi(info).then_some(ready)).chain([age]).collect()
}
