//! A running Envoy whose configuration is a folder of files: what a proxy would get over ADS, by file instead.
//!
//! Only the transport differs from a proxy's: listeners, extensions and secrets are the resources of the pool.

#![allow(dead_code, reason = "every test that includes this file uses its own part of it")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// An Envoy that ends with this value.
pub struct Envoy {
    child: Child,
    folder: TempDir,
}

impl Envoy {
    /// Starts with these clusters; `put` what they and the listeners ask for first.
    pub fn start(binary: &Path, folder: TempDir, clusters: &Value) -> Self {
        let listeners = json!({ "path_config_source": source(folder.path(), "listeners") });
        let config = json!({
            "node": { "id": "test", "cluster": "test" },
            "static_resources": { "clusters": clusters },
            "dynamic_resources": { "lds_config": listeners },
        });
        let file = folder.path().join("envoy.json");
        fs::write(&file, config.to_string()).unwrap();
        let child = Command::new(binary)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"])
            .args(["--drain-time-s", "2", "--drain-strategy", "immediate", "-c"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves resources under a name, as one file that replaces the one before.
pub fn put(folder: &Path, name: &str, url: &str, resources: Vec<Value>) {
    let typed = |mut resource: Value| {
        resource["@type"] = json!(url);
        by_file(resource, folder)
    };
    let resources: Vec<Value> = resources.into_iter().map(typed).collect();
    let response = json!({ "version_info": "1", "resources": resources });
    let fresh = path(folder, &format!("{name}.new"));
    fs::write(&fresh, response.to_string()).unwrap();
    fs::rename(fresh, path(folder, name)).unwrap();
}

/// Has everything that was to come over ADS come from the folder, from a file named like the resource.
fn by_file(value: Value, folder: &Path) -> Value {
    let Value::Object(mut object) = value else {
        return match value {
            Value::Array(list) => list.into_iter().map(|it| by_file(it, folder)).collect(),
            other => other,
        };
    };
    let name = object.get("name").or(object.get("route_config_name")).and_then(Value::as_str);
    let name = name.unwrap_or_default().to_owned();
    let from = json!({ "resource_api_version": "V3", "path_config_source": source(folder, &name) });
    if object.contains_key("sds_config") {
        object.insert("sds_config".to_owned(), from);
    } else if object.contains_key("route_config_name") {
        object.insert("config_source".to_owned(), from);
    } else if let Some(discovery) = object.get_mut("config_discovery") {
        discovery["config_source"] = from;
    }
    object.into_iter().map(|(key, value)| (key, by_file(value, folder))).collect()
}

fn source(folder: &Path, name: &str) -> Value {
    json!({ "path": path(folder, name), "watched_directory": { "path": folder } })
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{}.json", name.replace('/', "_")))
}
