//! The CNI plugin and its agent in network namespaces of the test's own: the plugin runs as a container runtime runs it, in
//! the network of the node, and the pod's network has the rules afterwards.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::symlink, net::UnixStream},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    APPLICATION, GROUP, PROXY,
    pod::{Pod, Running, SMIDGE, in_a_pod},
};

const SOCKET: &str = "/run/smidge-cni/agent.sock";
const PLUGIN: &str = "/run/smidge-cni/smidge-cni";
const RULES: [&str; 2] = ["--proxy-user=31337", "--exclude-outbound-ports=5432"];

/// Runs a program in the network of the node, which is the one outside of the pod.
fn on_the_node(program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "outside", program]);
    command
}

fn agent() -> Running {
    let child = on_the_node(SMIDGE).args(["cni", "agent", "--socket", SOCKET]).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while UnixStream::connect(SOCKET).is_err() {
        assert!(Instant::now() < end, "the agent does not listen within 10 s");
        thread::park_timeout(Duration::from_millis(10));
    }
    Running(child)
}

fn config(annotation: Option<String>) -> Value {
    let annotations = annotation.map(|text| json!({"smidge.mesh/cni-redirect": text}));
    json!({
        "cniVersion": "0.4.0", "name": "net", "type": "smidge-cni", "socket": SOCKET,
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
        "prevResult": {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.9.0.2/24"}]},
    })
}

/// Runs the plugin as a runtime does.
fn plugin(command: &str, config: &Value) -> Output {
    let mut child: Child = on_the_node(PLUGIN)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_NETNS", format!("/proc/{}/ns/net", std::process::id()))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/run/smidge-cni")
        .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn succeeds(command: &str, config: &Value) -> Value {
    let output = plugin(command, config);
    assert!(output.status.success(), "{command}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn fails(command: &str, config: &Value) -> Value {
    let output = plugin(command, config);
    assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Verifies as the init container does: as a user without any capability.
fn verify(args: &[&str]) -> (bool, String) {
    let output = Command::new("setpriv")
        .args(["--reuid=65532", "--regid=65532", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"])
        .args(["--no-new-privs", SMIDGE, "redirect", "--verify"])
        .args(args)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn prepare() {
    fs::create_dir_all("/run/smidge-cni").unwrap();
    symlink(SMIDGE, PLUGIN).unwrap();
    // The init container sees the alias of its own loopback interface, which sysfs has by the network of its mount.
    assert!(Command::new("mount").args(["-t", "sysfs", "sysfs", "/sys"]).status().unwrap().success());
}

#[test]
fn the_plugin_redirects_a_pod() {
    in_a_pod("cni::the_plugin_redirects_a_pod", |pod: &Pod| {
        prepare();
        let wanted = config(Some(RULES.join(" ")));

        // Without the agent, a pod of the mesh waits, and others start.
        let error = fails("ADD", &wanted);
        assert_eq!(error["code"], 11, "{error}");
        assert!(error["msg"].as_str().unwrap().contains("pod shop/web-0"), "{error}");
        assert!(error["details"].as_str().unwrap().contains("DaemonSet smidge-cni"), "{error}");
        assert_eq!(succeeds("ADD", &config(None)), wanted["prevResult"]);

        let _agent = agent();
        let before = pod.rules();
        assert_eq!(succeeds("ADD", &config(None)), wanted["prevResult"]);
        assert_eq!(pod.rules(), before, "a pod outside of the mesh is left alone");
        fails("CHECK", &wanted);

        // Clients that send too much, nothing, or no network keep the agent from no pod.
        let idle: Vec<_> = (0..6).map(|_| UnixStream::connect(SOCKET).unwrap()).collect();
        let long = vec![b'x'; 20_000];
        for sent in [&long[..], b"{}\n", b"{\"action\":\"apply\",\"pod\":\"a\",\"redirection\":\"--\"}\n"] {
            // The agent may end the connection before everything is sent.
            let _ = UnixStream::connect(SOCKET).unwrap().write_all(sent);
        }
        assert_eq!(succeeds("ADD", &wanted), wanted["prevResult"]);
        drop(idle);
        let rules = pod.rules();
        succeeds("ADD", &wanted);
        assert_eq!(pod.rules(), rules, "a second time changed the rules");
        succeeds("CHECK", &wanted);
        fails("CHECK", &config(Some("--".to_owned())));
        pod.expect(APPLICATION, None, "10.9.0.1:80", "15001 for 10.9.0.1:80");
        pod.expect(APPLICATION, None, "[fd09::1]:80", "15001 for [fd09::1]:80");
        pod.expect(APPLICATION, None, "10.9.0.1:5432", "refused");
        pod.expect_of((PROXY, GROUP), None, "10.9.0.1:80", "refused");
        pod.expect_from_outside("10.9.0.2:8080", "15006 for 10.9.0.2:8080");
        pod.expect_from_outside("[fd09::2]:8080", "15006 for [fd09::2]:8080");

        // The runtime ends a pod whether or not it knows the plugin's files.
        succeeds("DEL", &wanted);
        succeeds("GC", &wanted);
        succeeds("STATUS", &wanted);
        assert_eq!(succeeds("VERSION", &json!({"cniVersion": "1.0.0"}))["cniVersion"], "1.0.0");
        // The network of the node itself, by mistake.
        let output = Command::new(PLUGIN)
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", "c1")
            .env("CNI_NETNS", "/proc/self/ns/net")
            .env("CNI_IFNAME", "eth0")
            .stdin(fs::File::open(saved(&wanted)).unwrap())
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("the node's own"), "{output:?}");
    });
}

fn saved(config: &Value) -> &'static str {
    fs::write("/run/config.json", config.to_string()).unwrap();
    "/run/config.json"
}

#[test]
fn a_pod_verifies_its_redirection() {
    use super::pod::in_an_empty_pod;
    in_an_empty_pod("cni::a_pod_verifies_its_redirection", |pod: &Pod| {
        prepare();
        let _outside = pod.listen_outside("10.9.0.1:80");
        let refused = |args: &[&str], message: &str| {
            let (is_verified, output) = verify(args);
            assert!(!is_verified && output.contains(message), "{args:?}: {output}");
            assert!(output.contains("delete the pod"), "{output}");
        };
        refused(&RULES, "is not redirected");
        let _agent = agent();
        succeeds("ADD", &config(Some(RULES.join(" "))));
        let (is_verified, output) = verify(&RULES);
        assert!(is_verified, "{output}");
        // Other rules than the manifest's, as if the annotation was changed after injection.
        refused(&["--proxy-user=31337"], "is not redirected");
        refused(&["--proxy-user=31337", "--exclude-outbound-ports=5432,6379"], "is not redirected");
        // Rules that are gone, while the record of them is there.
        assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
        refused(&RULES, "is not redirected");
    });
}

/// A pod of a cluster with IPv6 alone has no route to an address of IPv4.
#[test]
fn a_pod_with_ipv6_alone_verifies_its_redirection() {
    use super::pod::in_an_empty_pod;
    in_an_empty_pod("cni::a_pod_with_ipv6_alone_verifies_its_redirection", |pod: &Pod| {
        prepare();
        pod.take_ipv4_away();
        let _agent = agent();
        succeeds("ADD", &config(Some(RULES.join(" "))));
        let (is_verified, output) = verify(&RULES);
        assert!(is_verified, "{output}");
        assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
        let (is_verified, output) = verify(&RULES);
        assert!(!is_verified && output.contains("is not redirected"), "{output}");
    });
}
