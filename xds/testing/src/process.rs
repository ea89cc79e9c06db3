//! Running Envoy with a folder of files as configuration, in place of the ADS stream of a proxy.
//!
//! Only the transport differs from that of a proxy: listeners, extensions and secrets are the resources of the pool.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// Returns ports on which Envoys of this process can listen, and to which nobody else is bound.
///
/// A port that is only looked up and given back may go to any other test before Envoy starts. These stay bound until this
/// process ends, with the option by which Envoy's listeners share a port.
pub fn reserved_ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        std::mem::forget(socket);
        port
    })
}

/// Envoy process, which is killed when this value is dropped.
pub struct Envoy {
    child: Child,
    folder: TempDir,
}

impl Envoy {
    /// Starts an Envoy with these clusters. Call `put` before for the resources that they and the listeners request.
    pub fn start(binary: &Path, folder: TempDir, clusters: &Value) -> Self {
        let listeners = json!({ "path_config_source": source(folder.path(), "listeners") });
        let config = json!({
            "node": { "id": "test", "cluster": "test" },
            "admin": { "address": { "pipe": { "path": folder.path().join("admin") } } },
            "static_resources": { "clusters": by_file(clusters.clone(), folder.path()) },
            "dynamic_resources": { "lds_config": listeners },
        });
        let file = folder.path().join("envoy.json");
        fs::write(&file, config.to_string()).unwrap();
        let child = Command::new(binary)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"])
            .args(["--drain-time-s", "2", "--drain-strategy", "immediate"])
            .args(["--file-flush-interval-msec", "100", "-c"])
            .arg(file)
            .env("OTEL_RESOURCE_ATTRIBUTES", "service.name=test")
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("said")).unwrap())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// Returns the folder of its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns its access logs.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    /// Returns one of its statistics, by the end of the name: the beginning differs between versions.
    pub fn stat(&self, name: &str) -> Option<u64> {
        let answer = self.page(&format!("/stats?filter={name}"))?;
        answer.lines().find_map(|line| line.split_once(&format!("{name}: "))?.1.parse().ok())
    }

    /// Returns a page of its admin interface.
    pub fn page(&self, target: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.folder.path().join("admin")).ok()?;
        let request = format!("GET {target} HTTP/1.1\r\nHost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Returns its log of warnings and errors.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // The process may have exited by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves resources under a name, as one file that replaces the previous one.
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

/// Returns a cluster of the pool with these endpoints in place of those that a proxy discovers or dials.
pub fn fixed(mut cluster: Value, addresses: &[SocketAddr]) -> Value {
    let endpoint = |to: &SocketAddr| {
        let address = json!({ "socket_address": { "address": to.ip(), "port_value": to.port() } });
        json!({ "endpoint": { "address": address } })
    };
    let lb_endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    let name = cluster["name"].clone();
    let fields = cluster.as_object_mut().unwrap();
    fields.retain(|field, value| field != "eds_cluster_config" && value != "CLUSTER_PROVIDED");
    fields.insert("type".to_owned(), json!("STATIC"));
    let endpoints = json!([{ "lb_endpoints": lb_endpoints }]);
    fields.insert("load_assignment".to_owned(), json!({ "cluster_name": name, "endpoints": endpoints }));
    cluster
}

/// Replaces every config source over ADS by a file of the folder that is named like the resource.
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
    if object.contains_key("eds_config") {
        let service = object.get("service_name").and_then(Value::as_str).unwrap_or_default();
        let path = source(folder, &endpoints(service));
        object.insert(
            "eds_config".to_owned(),
            json!({ "resource_api_version": "V3", "path_config_source": path }),
        );
    } else if object.contains_key("sds_config") {
        object.insert("sds_config".to_owned(), from);
    } else if object.contains_key("route_config_name") {
        object.insert("config_source".to_owned(), from);
    } else if let Some(discovery) = object.get_mut("config_discovery") {
        discovery["config_source"] = from;
    }
    object.into_iter().map(|(key, value)| (key, by_file(value, folder))).collect()
}

/// Returns the name under which the endpoints of a cluster are served: its route has its name.
pub fn endpoints(cluster: &str) -> String {
    format!("{cluster}/endpoints")
}

fn source(folder: &Path, name: &str) -> Value {
    json!({ "path": path(folder, name), "watched_directory": { "path": folder } })
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{}.json", name.replace('/', "_")))
}
