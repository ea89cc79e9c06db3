//! Three control planes with a copy of a folder each serve real proxies under load: one is stale, one is killed, one has
//! a file that is half-written and then broken, and no request fails.
//!
//! Everything is the product: the program with its folder and its state, the certificates and bootstraps that its
//! commands write, the redirection of the machines, and stock Envoys.

mod machines;

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use machines::{CALLER, CONTROL_PLANE, Load, Machine, SERVERS};
use smidge_testing::control_plane::{ControlPlane, Start, put, until};
use smidge_xds_testing::binaries;
use tempfile::TempDir;

const OBJECTS: &str = include_str!("replicas/mesh.yaml");

/// Split of which all requests go to one of the servers.
fn split(server: &str) -> String {
    let weight = |name: &str| u8::from(name == server) * 100;
    let backends = SERVERS.map(|name| format!("{{service: {name}, weight: {}}}", weight(name))).join(", ");
    format!(
        "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {{name: api, namespace: shop}}\n\
         spec: {{service: api, backends: [{backends}]}}\n"
    )
}

/// Control planes, a folder and a port each, with one state.
struct Replicas {
    folder: TempDir,
    all: Vec<ControlPlane>,
}

impl Replicas {
    fn start() -> Self {
        let mut replicas = Self { folder: TempDir::new().unwrap(), all: Vec::new() };
        for number in 0..3 {
            let dir = replicas.dir(number);
            fs::create_dir(&dir).unwrap();
            put(&dir, "mesh.yaml", OBJECTS);
            put(&dir, "split.yaml", &split(SERVERS[0]));
            let place = replicas.folder.path();
            let start = Start {
                program: env!("CARGO_BIN_EXE_smidge").into(),
                dir,
                state: place.join("state"),
                xds: address(15_100, number),
                pages: address(15_200, number),
                log: place.join(format!("control-plane-{number}.log")),
                flags: Vec::new(),
                user: None,
            };
            replicas.all.push(start.run());
        }
        for replica in &replicas.all {
            replica.ready();
        }
        replicas
    }

    fn dir(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("folder-{number}"))
    }

    fn digests(&self) -> Vec<Option<String>> {
        self.all.iter().map(ControlPlane::digest).collect()
    }

    fn state(&self) -> String {
        let proxies: Vec<_> = self.all.iter().map(ControlPlane::proxies).collect();
        let logs: Vec<_> = self.all.iter().map(ControlPlane::log).collect();
        format!("digests {:?}, proxies {proxies:?}, logs:\n{}", self.digests(), logs.join("\n"))
    }

    /// Number of streams that proxies have open.
    fn streams(&self) -> usize {
        self.all.iter().map(|replica| replica.proxies().len()).sum()
    }

    fn until(&self, what: &str, mut is_true: impl FnMut(&Self) -> bool) {
        until(what, || self.state(), || is_true(self));
    }
}

fn address(first: u16, number: usize) -> SocketAddr {
    format!("{CONTROL_PLANE}:{}", usize::from(first) + number).parse().unwrap()
}

/// Opens a file as an editor that writes in place does, and writes a part of it.
fn half_write(file: &Path) -> fs::File {
    let mut open = OpenOptions::new().write(true).truncate(true).open(file).unwrap();
    let (half, _) = OBJECTS.split_at(OBJECTS.len() / 2);
    open.write_all(half.as_bytes()).unwrap();
    open.flush().unwrap();
    open
}

fn prove(envoy: &Path) {
    let mut replicas = Replicas::start();
    let equal = replicas.digests();
    assert!(equal[0].is_some() && equal.iter().all(|digest| *digest == equal[0]), "{equal:?}");

    let machines: Vec<Machine> =
        SERVERS.iter().chain([&CALLER]).map(|name| Machine::start(envoy, name, &replicas)).collect();
    for machine in &machines {
        machine.ready(&replicas);
    }
    // The one that is killed is that of the caller.
    let of_caller = |it: &ControlPlane| it.proxies().iter().any(|proxy| proxy.contains(CALLER));
    let one = replicas.all.iter().position(of_caller).unwrap();
    let [two, three] = [(one + 1) % 3, (one + 2) % 3];
    let load = Load::start();
    load.goes_on(&replicas);
    assert!(load.last_served(SERVERS[0]), "{load}");

    // The third folder is not changed with the others.
    for number in [one, two] {
        put(&replicas.dir(number), "split.yaml", &split(SERVERS[1]));
    }
    replicas.until("two replicas are ahead of the third", |it| {
        let digests = it.digests();
        digests[one] == digests[two] && digests[one] != digests[three] && digests[three] == equal[three]
    });
    load.goes_on(&replicas);
    let ahead = replicas.digests();

    let file = replicas.dir(two).join("mesh.yaml");
    let mut open = half_write(&file);
    let reads = replicas.all[two].metric("smidge_folder_reads_total").unwrap();
    replicas.until("the second looks at its folder", |it| {
        it.all[two].metric("smidge_folder_reads_total").is_some_and(|now| now > reads)
    });
    load.goes_on(&replicas);
    assert_eq!(replicas.digests(), ahead, "a half-written file took effect");
    assert_eq!(replicas.all[two].findings().matches("mesh.yaml").count(), 0);
    open.write_all(b"\n---\nkind: [").unwrap();
    drop(open);
    replicas.until("the second reports its broken file", |it| it.all[two].findings().contains("mesh.yaml"));
    load.goes_on(&replicas);
    assert_eq!(replicas.digests(), ahead, "a broken file took effect");

    assert!(of_caller(&replicas.all[one]), "{}", replicas.state());
    let start = replicas.all.remove(one).kill();
    replicas.until("all proxies are with the others", |it| it.streams() == machines.len());
    load.goes_on(&replicas);
    replicas.all.insert(one, start.run());
    replicas.all[one].ready();
    assert_eq!(replicas.digests(), ahead, "an equal folder has another digest after a restart");

    // The folders become equal again, and the proxies move to the restarted one.
    put(&replicas.dir(two), "mesh.yaml", OBJECTS);
    put(&replicas.dir(three), "split.yaml", &split(SERVERS[1]));
    replicas.until("all are equal", |it| {
        it.digests().iter().all(|digest| *digest == ahead[one])
            && !it.all[two].findings().contains("mesh.yaml")
    });
    let [lower, higher] = [two.min(three), two.max(three)];
    drop([higher, lower].map(|number| replicas.all.remove(number).kill()));
    replicas.until("all proxies are with the first", |it| it.streams() == machines.len());
    load.goes_on(&replicas);
    until("the new split is in force", || load.to_string(), || load.last_served(SERVERS[1]));
    let requests = load.end();
    println!("{}: {requests} requests, none failed", envoy.display());
}

#[test]
fn no_request_fails_while_replicas_differ_and_end() {
    machines::isolated("replicas::no_request_fails_while_replicas_differ_and_end", || {
        if let Some(envoy) = binaries::envoys().last() {
            prove(envoy);
        }
    });
}
