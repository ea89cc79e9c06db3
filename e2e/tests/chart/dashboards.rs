//! Tests the dashboards of the chart: ConfigMaps as Grafana's sidecar finds them, with the files unchanged.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use super::{helm, render, run};

/// Returns the files, by name.
fn files() -> BTreeMap<String, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/smidge/files/dashboards");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Returns the ConfigMaps of dashboards, by the dashboard.
fn maps(objects: &BTreeMap<String, Value>) -> BTreeMap<&str, &Value> {
    objects
        .iter()
        .filter_map(|(key, map)| Some((key.strip_prefix("ConfigMap/smidge-dashboard-")?, map)))
        .collect()
}

#[test]
fn dashboards_come_as_the_files_have_them_and_only_on_request() {
    let Some(helm) = helm() else { return };
    assert!(maps(&render(&helm, &[])).is_empty());
    let objects = render(&helm, &["dashboards.enabled=true"]);
    let (maps, files) = (maps(&objects), files());
    assert_eq!(maps.len(), 4);
    assert!(maps.keys().eq(files.keys()), "{:?}", maps.keys());
    for (name, map) in maps {
        assert_eq!(map["data"], json!({format!("smidge-{name}.json"): files[name]}));
        let metadata = &map["metadata"];
        assert_eq!(metadata["namespace"], "meshes");
        assert_eq!(metadata["labels"]["grafana_dashboard"], "1");
        assert_eq!(metadata["labels"]["app.kubernetes.io/part-of"], "smidge");
        assert!(metadata["annotations"].is_null());
        // The API server refuses more; kubectl apply, which notes the object in an annotation, more than 256 KiB.
        assert!(map.to_string().len() < 200 << 10, "{name}");
    }
}

#[test]
fn sidecars_of_other_conventions_find_them() {
    let Some(helm) = helm() else { return };
    let settings = [
        "dashboards.enabled=true",
        "dashboards.namespace=monitoring",
        "dashboards.labels.grafana_dashboard=null",
        "dashboards.labels.team=mesh",
        "dashboards.annotations.grafana_folder=Smidge",
    ];
    let objects = render(&helm, &settings);
    for (name, map) in maps(&objects) {
        let metadata = &map["metadata"];
        assert_eq!(metadata["namespace"], "monitoring", "{name}");
        assert_eq!(metadata["labels"]["team"], "mesh", "{name}");
        assert!(metadata["labels"]["grafana_dashboard"].is_null(), "{name}");
        assert_eq!(metadata["annotations"], json!({"grafana_folder": "Smidge"}), "{name}");
    }
    // `helm upgrade --reuse-values` after a release without the settings.
    assert!(maps(&render(&helm, &["dashboards=null"])).is_empty());
    for wrong in ["enable=true", "labels.grafana_dashboard.a=1", "namespace=Not_A_Name"] {
        assert!(!run(&helm, &[&format!("dashboards.{wrong}")]).status.success(), "{wrong}");
    }
}
