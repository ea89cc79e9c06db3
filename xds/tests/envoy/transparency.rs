//! The table of HTTP/1 with and without the mesh (docs/http.md): the same bytes are sent to a server directly, and through
//! a real Envoy of the caller's side and one of the server's side. Every difference has its reason in the table.
//!
//! `UPDATE_EXPECT=1` writes the table; without it, any difference from the written one is a failure.

mod cases;
mod difference;

use smidge_xds_testing::{
    binaries,
    caller::{Authority, plain},
    http1::{Message, Script, Scripted, read_response},
    inbound::{Inbound, at},
    outbound::Outbound,
    process, trust,
};
use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    io::{self, BufReader, Write},
    iter,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
};

use smidge_xds::{
    mesh::{Mesh, service::Protocol},
    snapshot::Snapshot,
};

use cases::{Case, cases};
use difference::{SAME, difference};

/// One exchange as its two ends see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    /// Requests as the server received them.
    requests: Vec<Message>,
    /// Responses as the client received them, interim ones included.
    responses: Vec<Message>,
    /// True if the client could use the connection again.
    is_open: bool,
}

#[test]
fn http_differs_by_the_mesh_only_as_the_table_lists() {
    let binaries = binaries::envoys();
    let direct = Scripted::start();
    let without = thread::spawn(move || observe(direct.address, &direct));
    let with: Vec<Vec<Seen>> = thread::scope(|scope| {
        let runs: Vec<_> = binaries.iter().map(|binary| scope.spawn(|| through(binary))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let without = without.join().unwrap();
    let mut lines = vec![include_str!("transparency/head.md").to_owned()];
    for (index, case) in cases().iter().enumerate() {
        let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (binary, seen) in iter::zip(&binaries, &with) {
            let usual = (index > 0).then_some((&without[0], &seen[0]));
            let difference = difference(&without[index], &seen[index], usual);
            found.entry(difference).or_default().push(version(binary));
        }
        let is_same = found.keys().all(|difference| difference == SAME);
        assert_eq!(is_same, case.reason.is_empty(), "{}: {found:?}: {}", case.name, case.reason);
        let differences: Vec<String> = match found.len() {
            0 | 1 => found.into_keys().collect(),
            _ => found
                .iter()
                .map(|(text, versions)| format!("Envoy {}: {text}", versions.join(", ")))
                .collect(),
        };
        let (name, without, with) = (case.name, answers(&without[index]), differences.join("; "));
        lines.push(format!("| {name} | {without} | {with} | {} |\n", case.reason));
    }
    let text = lines.concat();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http.md");
    if binaries.len() < 2 {
        println!("skipped: the table needs the oldest and the newest Envoy");
    } else if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(file, text).unwrap();
    } else {
        assert_eq!(fs::read_to_string(file).unwrap(), text, "UPDATE_EXPECT=1 writes the table");
    }
}

/// Returns the version of an Envoy, by the name of its folder.
fn version(binary: &Path) -> &str {
    let folder = binary.parent().and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
    folder.trim_start_matches("envoy-")
}

fn answers(seen: &Seen) -> String {
    let statuses: Vec<String> = seen.responses.iter().map(|response| response.status().to_string()).collect();
    format!("{}{}", statuses.join(", "), if seen.is_open { "" } else { ", closed" })
}

/// Observes every case through both proxies.
fn through(binary: &Path) -> Vec<Seen> {
    let [port, outer] = process::reserved_ports();
    let authority = Authority::generate();
    let snapshot = Snapshot::next(Arc::new(mesh(&authority, port)), None);
    let server = Scripted::start();
    let inbound = Inbound::start(binary, authority, &[port], &snapshot, server.address);
    let listener = ("outbound/10.96.0.10:80", outer);
    let outbound = Outbound::start(binary, &inbound.authority, listener, &snapshot, at(port));
    observe(outbound.address(), &server)
}

/// Builds a mesh in which `web` calls `api`, whose proxy listens at `port`.
fn mesh(authority: &Authority, port: u16) -> Mesh {
    trust::pair(authority, &[(port, Protocol::Http)])
}

/// Observes every case at an address that leads to the server.
fn observe(address: SocketAddr, server: &Scripted) -> Vec<Seen> {
    let observe = |case: &Case| {
        server.set(case.script.clone());
        let (responses, is_open) =
            exchange(address, case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        Seen { requests: server.set(Script::default()), responses, is_open }
    };
    cases().iter().map(observe).collect()
}

/// Sends the requests of a case, and returns the responses, and whether the connection can be used again.
fn exchange(address: SocketAddr, case: &Case) -> io::Result<(Vec<Message>, bool)> {
    let stream = plain(address)?;
    let (mut writer, mut reader) = (stream.try_clone()?, BufReader::new(stream));
    writer.write_all(case.request.as_bytes())?;
    let method = case.request.split(' ').next().unwrap();
    let mut responses = Vec::new();
    let mut finals = 0;
    while finals < case.responses
        && let Some(response) = read_response(&mut reader, method)?
    {
        if response.status() == 100 {
            writer.write_all(case.body.as_bytes())?;
        }
        finals += usize::from(response.status() == 101 || response.status() >= 200);
        responses.push(response);
    }
    if responses.last().is_some_and(|last| last.status() == 101) {
        return Ok((responses, true));
    }
    // The other end may have closed the connection already.
    let asked = writer.write_all(b"GET /probe HTTP/1.1\r\nHost: api\r\n\r\n");
    let is_open = asked.is_ok()
        && matches!(read_response(&mut reader, "GET"), Ok(Some(response)) if response.status() == 200);
    Ok((responses, is_open))
}
