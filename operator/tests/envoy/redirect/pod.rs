//! A pod and the network outside as two network namespaces, with listeners that return the reached port and the
//! original destination.

#![allow(
    clippy::unused_self,
    reason = "a `Pod` is the proof that the process is inside a namespace whose network it may change"
)]

use std::{
    env, fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command},
    thread,
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};

/// Set in the process that runs inside the namespace: the name of the case.
const INSIDE: &str = "SMIDGE_TEST_INSIDE";
/// Set in a process that is to connect: source (or empty), a space, and destination.
const CONNECT: &str = "SMIDGE_TEST_CONNECT";
/// Set in a process that is to listen: addresses, with spaces between them.
const LISTEN: &str = "SMIDGE_TEST_LISTEN";
/// This program and the tool, where every user may run them.
const PROGRAM: &str = "/run/test";
pub const SMIDGE: &str = "/run/smidge";

/// Returns the full name of a test of `redirect`.
fn test(name: &str) -> String {
    format!("redirect::{name}")
}

/// Access to a case's namespace, from the process inside.
pub struct Pod(());

/// Runs a case in a namespace of its own. Without root or the tools it prints so and passes, but fails under `CI=true`.
pub fn in_a_pod(name: &str, case: impl FnOnce(&Pod)) {
    in_an_empty_pod(name, |pod| {
        pod.listen_everywhere();
        case(pod);
    });
}

/// Runs a case without a listener in the pod.
pub fn in_an_empty_pod(name: &str, case: impl FnOnce(&Pod)) {
    if env::var_os(CONNECT).is_some() || env::var_os(LISTEN).is_some() {
        return;
    }
    if env::var(INSIDE).as_deref() == Ok(name) {
        return case(&Pod::make());
    }
    if let Some(missing) = missing() {
        assert!(env::var("CI").as_deref() != Ok("true"), "cannot test redirection: {missing}");
        println!("skipped: {missing}");
        return;
    }
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", &test(name), "--nocapture"])
        .env(INSIDE, name)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn missing() -> Option<String> {
    let tools = ["nft", "iptables-restore", "ip6tables-restore", "ip", "unshare", "setpriv", "mount"];
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let is_root = run("id", &["-u"]).trim() == "0";
    (!is_root).then(|| "not root".to_owned()).or_else(|| {
        let lacks = |tool: &&&str| !folders.iter().any(|folder| folder.join(tool).exists());
        tools.iter().find(lacks).map(|tool| format!("no {tool}"))
    })
}

impl Pod {
    fn make() -> Self {
        // Names of namespaces are files below /run; no other process sees these.
        for line in [
            "mount --make-rprivate /",
            "mount -t tmpfs tmpfs /run",
            "ip link set lo up",
            "ip netns add outside",
        ] {
            shell(line);
        }
        fs::copy(env::current_exe().unwrap(), PROGRAM).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_smidge"), SMIDGE).unwrap();
        for line in [
            "ip link add eth0 type veth peer name eth0 netns outside",
            "ip address add 10.9.0.2/24 dev eth0",
            "ip address add fd09::2/64 dev eth0 nodad",
            "ip link set eth0 up",
            "ip -n outside link set lo up",
            "ip -n outside address add 10.9.0.1/24 dev eth0",
            "ip -n outside address add fd09::1/64 dev eth0 nodad",
            "ip -n outside address add 198.51.100.7/32 dev lo",
            "ip -n outside address add 2001:db8::7/128 dev lo",
            "ip -n outside link set eth0 up",
            "ip route add default via 10.9.0.1",
            "ip route add default via fd09::1",
        ] {
            shell(line);
        }
        Self(())
    }

    fn listen_everywhere(&self) {
        for address in ["127.0.0.1:15001", "[::1]:15001"] {
            listen(address);
        }
        for port in [15006, 8080, 9000, 15021, 15090] {
            listen(&format!("0.0.0.0:{port}"));
            listen(&format!("[::]:{port}"));
        }
    }

    /// Adds an interface to a further network, as is done for pods with several ones: 10.10.0.2, beside 10.10.0.1 outside.
    pub fn add_network(&self, interface: &str) {
        for line in [
            format!("ip link add {interface} type veth peer name {interface} netns outside"),
            format!("ip address add 10.10.0.2/24 dev {interface}"),
            format!("ip address add fd10::2/64 dev {interface} nodad"),
            format!("ip link set {interface} up"),
            format!("ip -n outside address add 10.10.0.1/24 dev {interface}"),
            format!("ip -n outside address add fd10::1/64 dev {interface} nodad"),
            format!("ip -n outside link set {interface} up"),
        ] {
            shell(&line);
        }
    }

    /// Removes it.
    pub fn remove_network(&self, interface: &str) {
        shell(&format!("ip link delete {interface}"));
    }

    /// Takes every address and route of IPv4 away, except for those of loopback.
    pub fn take_ipv4_away(&self) {
        shell("ip -4 address flush dev eth0");
    }

    /// Switches IPv6 off on every interface of the pod.
    pub fn switch_ipv6_off(&self) {
        for interface in ["all", "default", "lo"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1").unwrap();
        }
    }

    /// Listens in the other namespace, until the result is dropped.
    pub fn listen_outside(&self, addresses: &str) -> Running {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", "outside", PROGRAM, "--exact", &test("connects"), "--nocapture"]);
        Running(command.env(LISTEN, addresses).spawn().unwrap())
    }

    pub fn redirect(&self, args: &[&str]) -> String {
        succeeds(Command::new(SMIDGE).arg("redirect").args(args))
    }

    /// Redirects in an image that lacks a tool.
    pub fn redirect_without(&self, tool: &str, args: &[&str]) -> String {
        fs::create_dir("/run/bin").unwrap();
        for known in ["nft", "ip", "iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"]
        {
            if known != tool {
                let path = succeeds(Command::new("sh").args(["-c", &format!("command -v {known}")]));
                std::os::unix::fs::symlink(path.trim(), format!("/run/bin/{known}")).unwrap();
            }
        }
        succeeds(Command::new(SMIDGE).env("PATH", "/run/bin").arg("redirect").args(args))
    }

    /// Returns the error where a policy has removed the capability.
    pub fn redirect_without_net_admin(&self) -> String {
        let output = Command::new("setpriv")
            .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", SMIDGE, "redirect"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Returns everything that decides about redirection.
    pub fn rules(&self) -> String {
        let saved = run("nft", &["list", "ruleset"]) + &run("ip", &["-6", "address", "show", "dev", "lo"]);
        // Lines that begin with a hash hold the lifetime of a handle and the like.
        saved.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    }

    /// Connects as `user`, and expects `answer`.
    pub fn expect(&self, user: u32, source: Option<&str>, to: &str, answer: &str) {
        self.expect_of((user, user), source, to, answer);
    }

    /// Connects as a user and group, and expects `answer`.
    pub fn expect_of(&self, (user, group): (u32, u32), source: Option<&str>, to: &str, answer: &str) {
        let mut command = Command::new(PROGRAM);
        command.uid(user).gid(group);
        assert_eq!(ask(&mut command, source, to), answer, "{user}:{group} from {source:?} to {to}");
    }

    /// Drops what is sent to a port of the network outside, as where no host has the address.
    pub fn drop_outside(&self, port: u16) {
        for rule in [
            "table ip silent".to_owned(),
            "chain ip silent input { type filter hook input priority 0 ; }".to_owned(),
            format!("rule ip silent input tcp dport {port} drop"),
        ] {
            shell(&format!("ip netns exec outside nft add {rule}"));
        }
    }

    /// Connects from the other namespace, and expects `answer`.
    pub fn expect_from_outside(&self, to: &str, answer: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", "outside", PROGRAM]);
        assert_eq!(ask(&mut command, None, to), answer, "from outside to {to}");
    }
}

fn ask(command: &mut Command, source: Option<&str>, to: &str) -> String {
    let connect = format!("{} {to}", source.unwrap_or_default());
    command.args(["--exact", &test("connects"), "--nocapture"]).env(CONNECT, connect);
    let said = succeeds(command);
    let answer = said.lines().find_map(|line| line.split_once("answer: "));
    answer.unwrap_or_else(|| panic!("no answer in {said}")).1.trim().to_owned()
}

/// A program that ends when this value is dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connects as the environment defines, and prints the result; or listens until it is killed.
pub fn connect_if_told() {
    if let Ok(addresses) = env::var(LISTEN) {
        addresses.split(' ').for_each(listen);
        loop {
            thread::park();
        }
    }
    let Ok(told) = env::var(CONNECT) else { return };
    let (source, to) = told.split_once(' ').unwrap();
    let to: SocketAddr = to.parse().unwrap();
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    if !source.is_empty() {
        socket.bind(&SocketAddr::new(source.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
    }
    let answer = match socket.connect_timeout(&to.into(), Duration::from_secs(5)) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused".to_owned(),
        Err(error) => error.to_string(),
        Ok(()) => {
            let mut answer = String::new();
            TcpStream::from(socket).read_to_string(&mut answer).unwrap();
            answer
        }
    };
    println!("\nanswer: {answer}");
}

/// Listens, and sends each client the reached port, and the original destination if the system has redirected the
/// connection.
fn listen(address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    socket.listen(16).unwrap();
    let listener = TcpListener::from(socket);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let local = stream.local_addr().unwrap();
            let socket = SockRef::from(&stream);
            let wanted = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
            let wanted = wanted.ok().and_then(|wanted| wanted.as_socket()).filter(|wanted| *wanted != local);
            let way = wanted.map_or_else(|| "direct".to_owned(), |wanted| format!("for {wanted}"));
            let _ = write!(stream, "{} {way}", local.port());
        }
    });
}

fn shell(line: &str) {
    let mut words = line.split(' ');
    succeeds(Command::new(words.next().unwrap()).args(words));
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}
