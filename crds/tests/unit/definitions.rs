//! The definitions, as the API server will judge them and as clients rely on them.

// Helpers of tests may fail loudly as tests do; clippy sees tests in functions marked so only.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::Value;
use smidge_crds::definitions::{all, to_yaml};

fn find(name: &str) -> CustomResourceDefinition {
    all().unwrap().into_iter().find(|definition| definition.metadata.name.as_deref() == Some(name)).unwrap()
}

fn schema(name: &str) -> JSONSchemaProps {
    let stored = find(name).spec.versions.into_iter().find(|version| version.storage).unwrap();
    stored.schema.unwrap().open_api_v3_schema.unwrap()
}

/// The field at a path; `[]` steps into a list.
fn field<'a>(schema: &'a JSONSchemaProps, path: &str) -> &'a JSONSchemaProps {
    path.split('.').fold(schema, |schema, step| match step {
        "[]" => match schema.items.as_ref() {
            Some(JSONSchemaPropsOrArray::Schema(items)) => items,
            _ => panic!("{path}: no list"),
        },
        name => {
            schema.properties.as_ref().and_then(|fields| fields.get(name)).unwrap_or_else(|| panic!("{path}"))
        }
    })
}

/// Every rule that the API server has for structural schemas and that a derived schema may break, and ours.
fn judge(at: &str, schema: &Value, faults: &mut Vec<String>) {
    let schema = schema.as_object().unwrap();
    let mut fault = |what: &str| faults.push(format!("{at}: {what}"));
    let free = ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"]
        .iter()
        .any(|word| schema.contains_key(*word));
    if !schema.contains_key("type") && !free {
        fault("no type");
    }
    for word in
        ["$ref", "anyOf", "oneOf", "allOf", "not", "definitions", "$defs", "title", "default", "nullable"]
    {
        if schema.contains_key(word) {
            fault(word);
        }
    }
    if schema.get("enum").is_some_and(|words| words.as_array().unwrap().contains(&Value::Null)) {
        fault("null in enum");
    }
    if !schema.contains_key("description") && !at.ends_with("[]") {
        fault("no description");
    }
    if schema.get("description").is_some_and(|text| text.as_str().unwrap().contains('`')) {
        fault("Rust's backticks in a description");
    }
    if schema.get("type") == Some(&"array".into()) && !schema.contains_key("items") {
        fault("list without items");
    }
    if let Some(required) = schema.get("required") {
        for name in required.as_array().unwrap() {
            if schema.get("properties").and_then(|fields| fields.get(name.as_str().unwrap())).is_none() {
                fault("requires a field that it does not have");
            }
        }
    }
    if let Some(fields) = schema.get("properties") {
        for (name, field) in fields.as_object().unwrap() {
            judge(&format!("{at}.{name}"), field, faults);
        }
    }
    if let Some(items) = schema.get("items") {
        judge(&format!("{at}.[]"), items, faults);
    }
}

#[test]
fn schemas_are_structural_and_free_of_defaults() {
    let mut faults = Vec::new();
    for definition in all().unwrap() {
        for version in definition.spec.versions {
            let at = format!("{}/{}", definition.spec.names.kind, version.name);
            let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
            judge(&at, &serde_json::to_value(&schema).unwrap(), &mut faults);
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn names_and_versions_are_those_that_clients_use() {
    let known: Vec<_> = all()
        .unwrap()
        .iter()
        .map(|definition| {
            let versions: Vec<_> = definition
                .spec
                .versions
                .iter()
                .map(|v| format!("{}{}", v.name, if v.storage { "*" } else { "" }))
                .collect();
            assert!(definition.spec.versions.iter().all(|version| version.served));
            format!(
                "{} {} {:?} {:?} {}",
                definition.metadata.name.as_deref().unwrap(),
                definition.spec.scope,
                definition.spec.names.short_names.as_deref().unwrap_or_default(),
                definition.spec.names.categories.as_deref().unwrap_or_default(),
                versions.join(",")
            )
        })
        .collect();
    // The kinds that clients name in manifests and scripts; a new kind adds to them.
    let used = [
        r#"externalworkloads.smidge.mesh Namespaced ["ew"] ["smidge"] v1alpha1*"#,
        r#"httproutegroups.specs.smi-spec.io Namespaced ["htr"] ["smidge", "smi"] v1alpha4*,v1alpha3,v1alpha2,v1alpha1"#,
        r#"identitybindings.access.smi-spec.io Namespaced ["ib"] ["smidge", "smi"] v1alpha4*"#,
        r#"meshconfigs.smidge.mesh Cluster [] ["smidge"] v1alpha1*"#,
        r#"tcproutes.specs.smi-spec.io Namespaced ["tr"] ["smidge", "smi"] v1alpha4*,v1alpha3,v1alpha2,v1alpha1"#,
        r#"trafficsplits.split.smi-spec.io Namespaced ["ts"] ["smidge", "smi"] v1alpha4*,v1alpha3,v1alpha2,v1alpha1"#,
        r#"traffictargets.access.smi-spec.io Namespaced ["tt"] ["smidge", "smi"] v1alpha4*,v1alpha3,v1alpha2,v1alpha1"#,
        r#"udproutes.specs.smi-spec.io Namespaced ["ur"] ["smidge", "smi"] v1alpha4*"#,
    ];
    for kind in used {
        assert!(known.iter().any(|it| it == kind), "{kind} is not among {known:#?}");
    }
}

/// The names of all fields below a schema, with their types.
fn fields(at: &str, schema: &JSONSchemaProps, into: &mut Vec<String>) {
    let free = schema.x_kubernetes_preserve_unknown_fields == Some(true);
    into.push(format!("{at} {:?} {free} {:?}", schema.type_, schema.x_kubernetes_int_or_string));
    for (name, field) in schema.properties.iter().flatten() {
        fields(&format!("{at}.{name}"), field, into);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        fields(&format!("{at}.[]"), items, into);
    }
}

/// The API server prunes an object by the schema of the version that a client wrote; only what every version has can
/// be understood at every version.
#[test]
fn every_version_of_a_kind_has_every_field() {
    for definition in all().unwrap() {
        let [stored, older @ ..] = definition.spec.versions.as_slice() else { panic!("no version") };
        let of = |version: &CustomResourceDefinitionVersion| {
            let mut names = Vec::new();
            fields("", version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap(), &mut names);
            names.sort();
            names
        };
        for version in older {
            assert_eq!(of(version), of(stored), "{:?} {}", definition.metadata.name, version.name);
            assert_eq!(stored.subresources, version.subresources);
            assert_eq!(stored.additional_printer_columns, version.additional_printer_columns);
        }
    }
}

#[test]
fn the_operator_converts_the_smi_kinds() {
    for definition in all().unwrap() {
        let conversion = definition.spec.conversion.unwrap();
        if definition.spec.group == "smidge.mesh" {
            assert_eq!((conversion.strategy.as_str(), conversion.webhook), ("None", None));
            continue;
        }
        assert_eq!(conversion.strategy, "Webhook");
        let webhook = conversion.webhook.unwrap();
        assert_eq!(webhook.conversion_review_versions, ["v1"]);
        let service = webhook.client_config.unwrap().service.unwrap();
        let called =
            (service.namespace.as_str(), service.name.as_str(), service.path.as_deref(), service.port);
        assert_eq!(called, ("smidge-system", "smidge-webhook", Some("/convert"), Some(443)));
    }
}

#[test]
fn a_field_out_of_its_place_says_where_it_belongs() {
    let at = |name: &str, version: &str, path: &str| {
        let versions = find(name).spec.versions;
        let version = versions.into_iter().find(|known| known.name == version).unwrap();
        let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
        field(&schema, path).description.clone().unwrap()
    };
    let targets = "traffictargets.access.smi-spec.io";
    let here = "Understood here as well;";
    assert!(at(targets, "v1alpha1", "spec.rules").starts_with(&format!("{here} v1alpha1 has it at specs.")));
    assert!(at(targets, "v1alpha3", "specs").starts_with(&format!("{here} v1alpha3 has it at spec.rules.")));
    assert!(at(targets, "v1alpha1", "specs").starts_with("The traffic that is allowed"));
    assert!(at(targets, "v1alpha2", "spec.destination.port").starts_with("Of a destination"));
    assert!(at(targets, "v1alpha3", "spec.destination.port").starts_with("Of other versions, and"));
    let port = at(targets, "v1alpha3", "port");
    assert!(port.starts_with(&format!("{here} v1alpha3 has it at spec.destination.port. Of a")), "{port}");
    let splits = "trafficsplits.split.smi-spec.io";
    assert!(at(splits, "v1alpha1", "spec.backends.[].weight").contains("500m"));
    assert!(at(splits, "v1alpha2", "spec.matches").starts_with("Of other versions"));
    assert!(at(splits, "v1alpha3", "spec.matches").starts_with("The requests that are split"));
}

#[test]
fn only_what_every_published_definition_demands_is_demanded() {
    for (name, path, required) in [
        ("traffictargets.access.smi-spec.io", "spec", ""),
        ("traffictargets.access.smi-spec.io", "spec.destination", "kind name"),
        ("traffictargets.access.smi-spec.io", "spec.rules.[]", "kind name"),
        ("traffictargets.access.smi-spec.io", "spec.sources.[]", "kind name"),
        ("httproutegroups.specs.smi-spec.io", "spec", ""),
        ("httproutegroups.specs.smi-spec.io", "spec.matches.[]", ""),
        ("tcproutes.specs.smi-spec.io", "spec", ""),
        ("tcproutes.specs.smi-spec.io", "spec.matches", ""),
        ("udproutes.specs.smi-spec.io", "spec.matches", ""),
        ("trafficsplits.split.smi-spec.io", "spec", "backends service"),
        ("trafficsplits.split.smi-spec.io", "spec.backends.[]", "service"),
        ("trafficsplits.split.smi-spec.io", "spec.matches.[]", "kind name"),
    ] {
        let schema = schema(name);
        assert_eq!(
            field(&schema, path).required.clone().unwrap_or_default().join(" "),
            required,
            "{name} {path}"
        );
        assert_eq!(schema.required, None, "{name}: nobody demands a spec");
    }
}

#[test]
fn a_field_takes_every_form_that_users_write() {
    let routes = schema("httproutegroups.specs.smi-spec.io");
    for path in ["spec.matches.[].headers", "matches.[].headers", "spec.routes.[].headers"] {
        let headers = field(&routes, path);
        assert_eq!((headers.x_kubernetes_preserve_unknown_fields, &headers.type_), (Some(true), &None));
    }
    let ports = schema("tcproutes.specs.smi-spec.io");
    let port = field(&ports, "spec.matches.ports.[]");
    assert_eq!((port.type_.as_deref(), port.minimum, port.maximum), (Some("integer"), None, None));
    let splits = schema("trafficsplits.split.smi-spec.io");
    let weight = field(&splits, "spec.backends.[].weight");
    assert_eq!((weight.x_kubernetes_preserve_unknown_fields, &weight.type_), (Some(true), &None));
    let targets = schema("traffictargets.access.smi-spec.io");
    assert_eq!(field(&targets, "spec.destination.port").x_kubernetes_int_or_string, Some(true));
    field(&splits, "spec.matches.[].apiGroup");
}

#[test]
fn status_is_a_map_of_conditions_that_other_writers_leave_alone() {
    for definition in all().unwrap() {
        let name = definition.metadata.name.unwrap();
        let schema = schema(&name);
        let conditions = field(&schema, "status.conditions");
        assert_eq!(conditions.x_kubernetes_list_type.as_deref(), Some("map"), "{name}");
        assert_eq!(conditions.x_kubernetes_list_map_keys, Some(vec!["type".to_owned()]), "{name}");
        for version in definition.spec.versions {
            assert!(version.subresources.unwrap().status.is_some(), "{name}/{}", version.name);
        }
    }
}

#[test]
fn the_yaml_says_what_the_definitions_say_and_is_the_same_every_time() {
    let yaml = to_yaml(&all().unwrap()).unwrap();
    assert_eq!(yaml, to_yaml(&all().unwrap()).unwrap());
    let read: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&yaml).unwrap();
    assert_eq!(read, all().unwrap());
}

/// The chart carries the definitions as a file, as Helm cannot ask the program.
#[test]
fn the_chart_carries_these_definitions() {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/smidge/files/crds.yaml");
    let carried = std::fs::read_to_string(chart).unwrap();
    assert!(
        carried == to_yaml(&all().unwrap()).unwrap(),
        "out of date: smidge crds > charts/smidge/files/crds.yaml"
    );
}
