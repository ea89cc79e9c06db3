//! The CNI plugin: the configuration of a node's network before and after it is installed and taken out, the folder on
//! disk, and the plugin's commands without an agent.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::{Value, json};
use smidge::cni::{
    PLUGIN,
    conflist::{ConflistError, Edit, Files, chain, is_chained, unchain},
    install::{Node, State},
    plugin,
};

const SOCKET: &str = "/run/smidge-cni/agent.sock";
const LIST: &str = r#"{"cniVersion": "0.4.0", "name": "net", "plugins": [{"type": "ptp", "ipam": {"type": "host-local"}}, {"type": "portmap"}]}"#;
const SINGLE: &str = r#"{"cniVersion": "0.3.1", "name": "net", "type": "bridge", "bridge": "cni0"}"#;

fn files(list: &[(&str, &str)]) -> Files {
    list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Applies edits as the installer does.
fn applied(mut files: Files, edits: &[Edit]) -> Files {
    for edit in edits {
        match edit {
            Edit::Write { name, text } => drop(files.insert(name.clone(), text.clone())),
            Edit::Rename { from, to } => {
                let text = files.remove(from).expect("a file that is renamed exists");
                files.insert(to.clone(), text);
            }
            Edit::Remove { name } => drop(files.remove(name).expect("a file that is removed exists")),
        }
    }
    files
}

fn settled(files: Files) -> Files {
    let edits = chain(&files, SOCKET).unwrap().unwrap();
    let after = applied(files, &edits);
    assert!(is_chained(&after, SOCKET), "{after:?}");
    assert_eq!(chain(&after, SOCKET).unwrap().unwrap(), [], "settling again changes nothing");
    after
}

fn json(files: &Files, name: &str) -> Value {
    serde_json::from_str(&files[name]).unwrap()
}

fn own() -> Value {
    json!({"type": PLUGIN, "capabilities": {"io.kubernetes.cri.pod-annotations": true}, "socket": SOCKET})
}

#[test]
fn the_plugin_is_the_last_of_the_first_list() {
    let before = files(&[("10-net.conflist", LIST), ("20-other.conflist", LIST), ("05-notes.txt", "x")]);
    let after = settled(before.clone());
    let list = json(&after, "10-net.conflist");
    assert_eq!(
        list,
        json!({"cniVersion": "0.4.0", "name": "net", "plugins": [
            {"type": "ptp", "ipam": {"type": "host-local"}}, {"type": "portmap"}, own()
        ]})
    );
    assert_eq!(after["20-other.conflist"], LIST);
    assert_eq!(after.len(), 3);
    let back = applied(after.clone(), &unchain(&after));
    assert_eq!(json(&back, "10-net.conflist"), json(&before, "10-net.conflist"));
    assert_eq!(unchain(&back), []);
    assert_eq!(
        after["10-net.conflist"],
        r#"{
  "cniVersion": "0.4.0",
  "name": "net",
  "plugins": [
    {
      "ipam": {
        "type": "host-local"
      },
      "type": "ptp"
    },
    {
      "type": "portmap"
    },
    {
      "capabilities": {
        "io.kubernetes.cri.pod-annotations": true
      },
      "socket": "/run/smidge-cni/agent.sock",
      "type": "smidge-cni"
    }
  ]
}
"#
    );
}

#[test]
fn a_single_plugin_becomes_a_list_and_comes_back() {
    for name in ["10-net.conf", "10-net.json"] {
        let before = files(&[(name, SINGLE), ("20-other.conflist", LIST)]);
        let after = settled(before.clone());
        assert_eq!(
            json(&after, "10-net.conflist"),
            json!({"cniVersion": "0.3.1", "name": "net", "plugins": [{"type": "bridge", "bridge": "cni0"}, own()]})
        );
        assert_eq!(after[&format!("{name}.smidge-saved")], SINGLE);
        assert!(!after.contains_key(name));
        assert_eq!(applied(after.clone(), &unchain(&after)), before);
        // Its owner writes it again: it is converted again; or it is what remains.
        let mut rewritten = after;
        rewritten.insert(name.to_owned(), SINGLE.replace("cni0", "cni1"));
        let again = settled(rewritten.clone());
        assert_eq!(json(&again, "10-net.conflist")["plugins"][0]["bridge"], "cni1");
        let back = applied(rewritten.clone(), &unchain(&rewritten));
        assert_eq!(back.keys().collect::<Vec<_>>(), [name, "20-other.conflist"]);
    }
}

#[test]
fn what_another_writer_does_is_repaired() {
    let after = settled(files(&[("10-net.conflist", LIST)]));
    // The network's own plugin writes its file anew.
    let mut files = after.clone();
    files.insert("10-net.conflist".to_owned(), LIST.replace("portmap", "bandwidth"));
    assert!(!is_chained(&files, SOCKET));
    let again = settled(files);
    assert_eq!(json(&again, "10-net.conflist")["plugins"][1]["type"], "bandwidth");
    // Another network takes the place of the first.
    let mut files = after;
    files.insert("05-new.conflist".to_owned(), LIST.to_owned());
    let moved = settled(files);
    assert_eq!(json(&moved, "10-net.conflist")["plugins"].as_array().unwrap().len(), 2);
    assert_eq!(json(&moved, "05-new.conflist")["plugins"].as_array().unwrap().len(), 3);
    // Another plugin chains itself after this one, or an older release had another socket.
    let mut files = moved;
    let text = files["05-new.conflist"].replace(SOCKET, "/run/old.sock");
    files.insert("05-new.conflist".to_owned(), text);
    let upgraded = settled(files);
    assert_eq!(json(&upgraded, "05-new.conflist")["plugins"][2], own());
}

#[test]
fn what_cannot_be_chained_is_named() {
    assert_eq!(chain(&Files::new(), SOCKET), Ok(None));
    assert_eq!(chain(&files(&[("net.conf.smidge-saved", SINGLE)]), SOCKET), Ok(None));
    for (name, text, field) in [
        ("10-a.conflist", "{", "the file"),
        ("10-a.conflist", "[]", "the file"),
        ("10-a.conflist", r#"{"cniVersion": "1.0.0"}"#, "plugins"),
        ("10-a.conflist", r#"{"cniVersion": "1.0.0", "plugins": {}}"#, "plugins"),
        ("10-a.conflist", r#"{"cniVersion": "1.0.0", "plugins": []}"#, "plugins"),
        ("10-a.conflist", r#"{"cniVersion": "1.0.0", "plugins": [{"type": "smidge-cni"}]}"#, "plugins"),
        ("10-a.conflist", r#"{"cniVersion": "0.2.0", "plugins": [{"type": "ptp"}]}"#, "cniVersion"),
        ("10-a.conflist", r#"{"plugins": [{"type": "ptp"}]}"#, "cniVersion"),
        ("10-a.conf", r#"{"cniVersion": "1.0.0"}"#, "type"),
    ] {
        match chain(&files(&[(name, text)]), SOCKET) {
            Err(ConflistError::Form { name: found, field: of, .. }) => {
                assert_eq!((found.as_str(), of), (name, field));
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let several = r#"{"cniVersion": "0.2.0", "cniVersions": ["1.1.0"], "plugins": [{"type": "ptp"}]}"#;
    settled(files(&[("10-a.conflist", several)]));
    let both = files(&[("10-a.conf", SINGLE), ("10-a.conflist", LIST)]);
    assert!(matches!(chain(&both, SOCKET), Err(ConflistError::Both { .. })));
}

fn node(folder: &Path) -> Node {
    let (bin_dir, conf_dir) = (folder.join("bin"), folder.join("conf"));
    for folder in [&bin_dir, &conf_dir] {
        fs::create_dir(folder).unwrap();
    }
    Node { bin_dir, conf_dir, socket: SOCKET.to_owned() }
}

#[test]
fn a_node_is_installed_repaired_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path());
    assert_eq!(node.install().unwrap(), State::NoNetwork);
    assert!(!node.is_installed());
    let conf = node.conf_dir.join("10-net.conf");
    fs::write(&conf, SINGLE).unwrap();
    assert_eq!(node.install().unwrap(), State::Changed);
    assert_eq!(node.install().unwrap(), State::Unchanged);
    assert!(node.is_installed());
    let plugin = node.bin_dir.join(PLUGIN);
    assert_eq!(fs::metadata(&plugin).unwrap().permissions().mode() & 0o777, 0o755);
    // Another release, of the same size or not.
    for content in [b"old".to_vec(), vec![0; usize::try_from(fs::metadata(&plugin).unwrap().len()).unwrap()]]
    {
        fs::write(&plugin, content).unwrap();
        node.install().unwrap();
        let program = std::env::current_exe().unwrap();
        assert!(fs::read(&plugin).unwrap() == fs::read(program).unwrap(), "the plugin is this program");
    }
    fs::write(&conf, SINGLE).unwrap();
    assert!(!node.is_installed());
    assert_eq!(node.chain().unwrap(), State::Changed);
    assert_eq!(node.uninstall().unwrap(), State::Changed);
    assert_eq!(node.uninstall().unwrap(), State::Unchanged);
    let names: Vec<_> =
        fs::read_dir(&node.conf_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((names, fs::read_to_string(&conf).unwrap()), (vec!["10-net.conf".into()], SINGLE.to_owned()));
    // The runtime still calls it for pods that were started with it.
    assert!(plugin.exists());
}

/// Runs a command of the plugin in an environment.
fn command(command: &str, input: &Value) -> (Value, bool) {
    let variable = |name: &str| {
        let value = match name {
            "CNI_COMMAND" => command,
            "CNI_CONTAINERID" => "c1",
            "CNI_NETNS" => "/proc/self/ns/net",
            "CNI_IFNAME" => "eth0",
            "CNI_ARGS" => "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let output = plugin::run(variable, input.to_string().as_bytes());
    (serde_json::from_str(&output.text).unwrap_or(Value::Null), output.is_error)
}

fn config(annotation: Option<&str>) -> Value {
    let annotations = annotation.map(|text| json!({"smidge.mesh/cni-redirect": text}));
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": PLUGIN, "socket": "/nonexistent/agent.sock",
        "prevResult": {"cniVersion": "1.1.0", "interfaces": [], "ips": [{"address": "10.0.0.2/24"}]},
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
    })
}

/// Only pods of the mesh wait for an agent that is not there.
#[test]
fn pods_outside_of_the_mesh_need_no_agent() {
    let before = config(None)["prevResult"].clone();
    assert_eq!(command("ADD", &config(None)), (before, false));
    assert_eq!(command("CHECK", &config(None)), (Value::Null, false));
    for always in ["DEL", "GC"] {
        assert_eq!(command(always, &config(Some("--"))), (Value::Null, false), "{always}");
        assert_eq!(command(always, &json!("?")), (Value::Null, false), "{always}");
    }
    assert_eq!(command("STATUS", &config(None)), (Value::Null, false));
    let (versions, is_error) = command("VERSION", &json!({"cniVersion": "1.0.0"}));
    assert_eq!((versions["supportedVersions"][3].as_str(), is_error), (Some("1.1.0"), false));
}

#[test]
fn errors_name_the_pod_and_have_a_hint() {
    let (error, is_error) = command("ADD", &config(Some("--proxy-user=31337")));
    assert!(is_error);
    assert_eq!((error["cniVersion"].as_str(), error["code"].as_u64()), (Some("1.1.0"), Some(100)));
    assert_eq!(error["msg"], "smidge: the traffic of pod shop/web-0 is not redirected to its proxy");
    assert!(error["details"].as_str().unwrap().contains("the node's own"), "{error}");
    let (error, _) = command("ADD", &config(Some("--mark=1")));
    assert!(error["details"].as_str().unwrap().contains("smidge.mesh/cni-redirect"), "{error}");
    let (error, _) = command("MOVE", &config(None));
    assert_eq!(error["code"], 4);
    let (error, _) = command("ADD", &json!({"cniVersion": "1.0.0"}));
    assert_eq!(error["code"], 7);
    let (error, _) = command("ADD", &json!("text"));
    assert_eq!((error["code"].as_u64(), error["cniVersion"].as_str()), (Some(6), Some("1.1.0")));
}

/// An input that does not end is read up to the bound.
#[test]
fn the_input_is_bounded() {
    let output = plugin::run(|name| (name == "CNI_COMMAND").then(|| "ADD".to_owned()), std::io::repeat(b' '));
    assert!(output.is_error && output.text.contains("more than"), "{}", output.text);
}
