//! The program as a control plane over a folder, with folders and states that are not as they should be: the status with
//! which it ends, the words that it leaves, and what it goes on to serve.
//!
//! What takes effect of a folder that changes is tested in `folder`, and what the state may hold in `ca`.

use std::{
    fs::{self, DirBuilder},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use smidge_testing::control_plane::{ControlPlane, Start, own_address, put, until};
use tempfile::TempDir;

/// A user that may read nothing of the test's user.
const NOBODY: u32 = 65_534;

/// Returns an object with an address of its own.
fn machine(name: &str) -> String {
    let number = name.rsplit('-').next().and_then(|number| number.parse().ok());
    let number: u32 = number.unwrap_or_else(|| 60_000 + name.bytes().map(u32::from).sum::<u32>());
    let address = Ipv4Addr::from(0x0a09_0001 + number);
    format!(
        "---\napiVersion: smidge.mesh/v1alpha1\nkind: ExternalWorkload\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{serviceAccount: {name}, addresses: [{address}]}}\n"
    )
}

/// A place for a control plane, with a folder that has one manifest.
fn place() -> (TempDir, Start) {
    let place = TempDir::new().unwrap();
    let path = |name: &str| place.path().join(name);
    let address = own_address();
    let start = Start {
        program: env!("CARGO_BIN_EXE_smidge").into(),
        dir: path("mesh"),
        state: path("state"),
        xds: SocketAddr::from((address, 15_012)),
        pages: SocketAddr::from((address, 15_014)),
        log: path("log"),
        flags: Vec::new(),
        user: None,
    };
    fs::create_dir(&start.dir).unwrap();
    put(&start.dir, "a.yaml", &machine("one"));
    (place, start)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Checks that the program ends with status 1 and with all of `words` on its last line.
fn is_refused(start: &Start, words: &[&str]) {
    let mut refused = start.run();
    let status = refused.ended();
    let log = refused.log();
    let last = log.lines().last().unwrap_or_default();
    assert_eq!(status.code(), Some(1), "{words:?}: {log}");
    assert!(last.contains("ERROR") && words.iter().all(|word| last.contains(word)), "{words:?}: {log}");
    assert!(!log.contains("panicked"), "{log}");
}

fn serves(control_plane: &ControlPlane, name: &str) {
    let has = || control_plane.page("/debug/mesh").is_some_and(|mesh| mesh.contains(&format!("\"{name}\"")));
    until(&format!("{name} is served"), || control_plane.log_end(), has);
}

#[test]
fn a_folder_that_is_none_ends_the_program() {
    let (place, start) = place();
    let none = place.path().join("none");
    let file = start.dir.join("a.yaml");
    for (dir, words) in [(&none, "does not exist"), (&file, "is not a folder")] {
        is_refused(&Start { dir: dir.clone(), ..start.clone() }, &[dir.to_str().unwrap(), words]);
        assert!(!start.state.exists(), "authorities were made for nothing");
    }
    start.run().ready();
}

#[test]
fn a_folder_below_that_cannot_be_read_costs_only_itself() {
    let (place, mut start) = place();
    let below = start.dir.join("below");
    fs::create_dir(&below).unwrap();
    put(&below, "b.yaml", &machine("two"));
    set_mode(&below, 0o000);
    // The user of tests may be root, who may read everything.
    if fs::read_dir(&below).is_ok() {
        start.user = Some(NOBODY);
        let copy = place.path().join("smidge");
        fs::copy(&start.program, &copy).unwrap();
        start.program = copy;
        for path in [place.path(), &start.dir, &below] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let control_plane = start.run();
    control_plane.ready();
    serves(&control_plane, "one");
    let findings = control_plane.findings();
    let words = ["below", "Permission denied", "what was last read of it stays in effect"];
    assert!(words.iter().all(|word| findings.contains(word)), "{findings}");
    set_mode(&below, 0o755);
    serves(&control_plane, "two");
    until("no finding", || control_plane.findings(), || control_plane.findings() == "[]");
    drop(place);
}

#[test]
fn an_empty_folder_is_awaited_and_reported() {
    let (_place, start) = place();
    fs::remove_file(start.dir.join("a.yaml")).unwrap();
    let mut control_plane = start.run();
    let dir = start.dir.to_str().unwrap();
    control_plane.logs(&["WARN", dir, "holds no manifest (*.yaml, *.yml, *.json)"]);
    until("the pages answer", || control_plane.log_end(), || control_plane.page("/livez").is_some());
    assert_eq!(control_plane.page("/readyz"), None);
    assert!(control_plane.is_running());
    put(&start.dir, "a.yaml", &machine("one"));
    control_plane.ready();
    serves(&control_plane, "one");
}

#[test]
fn ten_thousand_files_are_read_in_time() {
    let (_place, start) = place();
    for number in 0..10_000 {
        let folder = start.dir.join(format!("{:02}", number % 100));
        fs::create_dir_all(&folder).unwrap();
        let text = machine(&format!("m-{number}"));
        fs::write(folder.join(format!("{number}.yaml")), text).unwrap();
    }
    let control_plane = start.run();
    let took = control_plane.ready();
    // Of the processor, which does not depend on what else runs; `ready` has a limit of time.
    let used = control_plane.cpu();
    println!("ready after {took:?} and {used:?} of a core");
    assert!(used < Duration::from_secs(20), "{used:?}");
    assert_eq!(control_plane.metric("smidge_folder_files"), Some(10_001));
    serves(&control_plane, "m-9999");
}

#[test]
fn a_file_that_is_replaced_all_the_time_takes_a_share_of_a_core() {
    const INTERVAL: Duration = Duration::from_millis(10);
    let (_place, start) = place();
    for number in 0..500 {
        put(&start.dir, &format!("m-{number}.yaml"), &machine(&format!("m-{number}")));
    }
    let control_plane = start.run();
    control_plane.ready();
    serves(&control_plane, "m-499");
    let (started, before) = (Instant::now(), control_plane.cpu());
    for number in 0_u32..300 {
        put(&start.dir, "a.yaml", &machine(&format!("state-{}", 1000 + number)));
        thread::park_timeout((started + INTERVAL * (number + 1)).saturating_duration_since(Instant::now()));
    }
    let (time, used) = (started.elapsed(), control_plane.cpu().saturating_sub(before));
    serves(&control_plane, "state-1299");
    assert!(control_plane.page("/debug/mesh").is_some_and(|mesh| !mesh.contains("\"one\"")));
    println!("{used:?} of {time:?}");
    // A third for reading and a third for publishing.
    assert!(used < time * 9 / 10, "{used:?} of {time:?}");
}

#[test]
fn a_state_that_others_may_read_or_that_is_damaged_is_refused_until_it_is_repaired() {
    let (_place, start) = place();
    start.run().ready();
    let state = start.state.to_str().unwrap();
    set_mode(&start.state, 0o755);
    is_refused(&start, &["refused to use", state, "mode 0755, expected 0700", "hint: chmod 0700"]);
    set_mode(&start.state, 0o700);

    let files = |end: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(&start.state).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_str().unwrap().ends_with(end)).collect()
    };
    let secrets = files(".yaml");
    assert!(secrets.len() >= 3, "{secrets:?}");
    for secret in &secrets {
        let path = secret.to_str().unwrap();
        set_mode(secret, 0o644);
        is_refused(&start, &["refused to use", path, "mode 0644, expected 0600", "hint: chmod 0600"]);
        set_mode(secret, 0o600);
        let text = fs::read(secret).unwrap();
        fs::write(secret, &text[..text.len() / 2]).unwrap();
        is_refused(&start, &[path, "is not the manifest of Secret", "hint: restore it from a backup"]);
        assert_eq!(fs::read(secret).unwrap(), text[..text.len() / 2], "a damaged file was touched");
        fs::write(secret, &text).unwrap();
    }
    start.run().ready();
}

#[test]
fn debug_pages_are_for_those_who_can_read_the_state() {
    let (place, start) = place();
    let print = |state: &Path| {
        let mut command = Command::new(&start.program);
        let output = command.args(["status", "--print-token", "--state"]).arg(state).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), output.stderr)
    };
    let copy = place.path().join("copy");
    DirBuilder::new().mode(0o700).create(&copy).unwrap();
    let (code, _, words) = print(&copy);
    let words = String::from_utf8(words).unwrap();
    assert!(code == Some(2) && words.contains("hint: the control plane creates it"), "{words}");
    assert_eq!(fs::read_dir(&copy).unwrap().count(), 0, "the command has made a key of its own");

    let control_plane = start.run();
    control_plane.ready();
    let (code, token, _) = print(&start.state);
    assert_eq!((code, token.trim().len()), (Some(0), 64), "{token}");
    let answer = |token: &str| {
        let mut stream = TcpStream::connect(start.pages).unwrap();
        let head = "GET /debug/mesh HTTP/1.1\r\nhost: pages\r\nconnection: close\r\n";
        write!(stream, "{head}authorization: Bearer {token}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(answer(token.trim()).starts_with("HTTP/1.1 200"), "{}", answer(token.trim()));
    for other in ["", "x", &token.trim()[1..], &"0".repeat(64)] {
        let answer = answer(other);
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("--print-token"), "{answer}");
    }
    for entry in fs::read_dir(&start.state).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(print(&copy).1, token, "a replica with a copy of the state has another token");
}

#[test]
fn a_second_control_plane_on_a_port_ends_and_the_first_goes_on() {
    let (place, start) = place();
    let mut first = start.run();
    first.ready();
    let other = Start { log: place.path().join("log-2"), ..start.clone() };
    let free = own_address();
    for (second, server, taken) in [
        (Start { pages: SocketAddr::from((free, 15_014)), ..other.clone() }, "xds", start.xds),
        (Start { xds: SocketAddr::from((free, 15_012)), ..other.clone() }, "pages", start.pages),
    ] {
        let address = taken.to_string();
        is_refused(&second, &["failed to listen on", &address, server, "Address already in use"]);
    }
    assert!(first.is_running());
    put(&start.dir, "a.yaml", &machine("later"));
    serves(&first, "later");
}

#[test]
fn control_planes_that_make_their_state_together_have_the_same_roots() {
    let (place, start) = place();
    let all: Vec<ControlPlane> = (0..3)
        .map(|number| {
            let address = own_address();
            let log = place.path().join(format!("log-{number}"));
            let (xds, pages) = (SocketAddr::from((address, 15_012)), SocketAddr::from((address, 15_014)));
            Start { xds, pages, log, ..start.clone() }.run()
        })
        .collect();
    for control_plane in &all {
        control_plane.ready();
    }
    let meshes: Vec<String> = all.iter().map(|it| it.page("/debug/mesh").unwrap()).collect();
    assert!(meshes[0].contains("BEGIN CERTIFICATE"), "{}", meshes[0]);
    assert!(meshes.iter().all(|mesh| *mesh == meshes[0]), "{meshes:#?}");
    let names = fs::read_dir(&start.state).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    assert!(names.iter().all(|name| !name.contains("unfinished")), "{names:?}");
}

#[test]
fn a_folder_without_a_state_is_an_error_of_the_arguments() {
    let (_place, start) = place();
    for (given, missing) in [("--dir", "--state"), ("--state", "--dir")] {
        let output = Command::new(&start.program).arg("run").arg(given).arg(&start.dir).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains(missing), "{words}");
    }
}
