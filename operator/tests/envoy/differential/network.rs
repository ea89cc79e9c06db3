//! A network namespace for a proof, where connections reach the proxy as they do in a pod.
//!
//! The test runs itself again in a network namespace. There every address of the offline cluster (198.18.0.0/15) is
//! local; calls to Services go to the proxy's outbound port and calls to the judged workload to its inbound one, so
//! that the product's configuration is served unchanged.

use std::{env, fs::File, process::Command, thread};

use rustix::{
    fd::AsFd as _,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Set in the process inside the namespace: the name of its test.
const INSIDE: &str = "SMIDGE_PROOF_INSIDE";
/// The address of the workload that is judged. Other pods of the offline cluster are the test's own servers.
pub const JUDGED: &str = "198.19.255.1";

const RULES: &str = "table ip proof {
  chain output {
    type nat hook output priority -100;
    ip saddr 127.0.0.6 return
    ip daddr 198.18.0.0/16 meta l4proto tcp redirect to :15001
    ip daddr 198.19.255.1 meta l4proto tcp redirect to :15006
}
}";

const COMMANDS: &str = r#"ip link set lo up
ip route add local 198.18.0.0/15 dev lo
sysctl -q -w net.ipv4.ip_local_port_range="1024 65535" || true
nft -f - <<<"$RULES"
exec "$0" "$@""#;

/// Commands that set up a network namespace and then run the program in it, and the variables that they read.
pub struct Network<'a> {
    pub commands: &'a str,
    pub variables: &'a [(&'a str, &'a str)],
}

/// Runs `proof` where one proxy is judged.
pub fn isolated(test: &str, proof: impl FnOnce()) {
    let network = Network { commands: COMMANDS, variables: &[("RULES", RULES)] };
    isolated_in(&network, &format!("differential::{test}"), proof);
}

/// Runs `proof` in a network namespace: the test of this name, with its modules, in
/// another process. If that is not possible, it prints
/// so and passes, but fails under `CI=true`.
pub fn isolated_in(network: &Network<'_>, test: &str, proof: impl FnOnce()) {
    if env::var(INSIDE).as_deref() == Ok(test) {
        return proof();
    }
    let can = Command::new("unshare").args(["--net", "bash", "-c", "command -v nft ip"]).output();
    if !can.is_ok_and(|it| it.status.success()) {
        assert!(env::var("CI").as_deref() != Ok("true"), "a proof needs root, unshare, nft and ip");
        println!("skipped: a proof needs root, unshare, nft and ip");
        return;
    }
    let status = Command::new("unshare")
        .args(["--net", "--mount", "bash", "-euc", network.commands])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .envs(network.variables.iter().copied())
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed; its output is above");
}

/// Runs `work` in a named network namespace.
pub fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        inside.join().unwrap()
    })
}
