//! A network namespace for a proof, where connections reach the proxy as they do in a pod.
//!
//! The test runs itself again in a network namespace. There every address of the offline cluster (198.18.0.0/15) is
//! local; calls to Services go to the proxy's outbound port and calls to the judged workload to its inbound one, so
//! that the product's configuration is served unchanged. For proofs of several proxies there are several namespaces, each
//! with the redirection of the product.

use std::{env, fs::File, os::unix::process::CommandExt as _, path::Path, process::Command, thread};

use rustix::{
    fd::AsFd as _,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use smidge::redirect::{self, Exclusions, ProxySockets};

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

/// Makes namespaces, between which this one routes.
const HOSTS: &str = r#"mount -t tmpfs tmpfs /run
ip link set lo up
ip address add 169.254.1.1/32 dev lo
ip address add "$OWN/32" dev lo
sysctl -q -w net.ipv4.ip_forward=1
while read -r name address; do
  ip netns add "$name"
  ip link add "$name" type veth peer name eth0 netns "$name"
  ip link set "$name" up
  ip route add "$address" dev "$name" src "$OWN"
  ip -n "$name" link set lo up
  ip -n "$name" address add "$address/32" dev eth0
  ip -n "$name" link set eth0 up
  ip -n "$name" route add 169.254.1.1 dev eth0
  ip -n "$name" route add default via 169.254.1.1
  ip netns exec "$name" nft -f - <<<"$REDIRECTION"
done <<<"$HOSTS""#;

/// The user and the group of the proxies of [`Hosts`]. The test runs as the same user in another group.
const PROXY: (u32, u32) = (0, redirect::PROXY_GROUP);

/// Network namespaces with the redirection of the product, between which that of the test routes.
pub struct Hosts<'a> {
    /// Address of the test's own namespace.
    pub own: &'a str,
    /// Names and addresses of the others.
    pub all: &'a [(&'a str, &'a str)],
    /// Further commands for the test's own.
    pub commands: &'a str,
    /// Variables that they read.
    pub variables: &'a [(&'a str, &'a str)],
}

/// Runs `proof` where these namespaces are; the name of the test as for [`isolated_in`].
pub fn isolated_among(hosts: &Hosts<'_>, test: &str, proof: impl FnOnce()) {
    let redirection = redirect::nftables(&Exclusions::default(), ProxySockets::OfUser(PROXY.0));
    let all: Vec<String> = hosts.all.iter().map(|(name, address)| format!("{name} {address}")).collect();
    let all = all.join("\n");
    let own = [("OWN", hosts.own), ("HOSTS", &all), ("REDIRECTION", &redirection)];
    let variables: Vec<_> = own.into_iter().chain(hosts.variables.iter().copied()).collect();
    let commands = format!("{HOSTS}\n{}\nexec \"$0\" \"$@\"", hosts.commands);
    isolated_in(&Network { commands: &commands, variables: &variables }, test, proof);
}

/// Returns the command that runs an Envoy in one of [`Hosts`].
pub fn envoy_in(namespace: &str, binary: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(binary).gid(PROXY.1);
    command
}

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
