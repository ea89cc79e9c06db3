//! `smidge try` with real Envoys: the bookstore with the expectations of `docs/try.md`, an edit while it runs, commands,
//! and that nothing is left afterwards. Needs root or user namespaces, `unshare`, `nsenter`, `ip` and `nft`.

mod corpus;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    thread::park_timeout,
    time::{Duration, Instant},
};

use serde_json::Value;
use smidge_xds_testing::binaries;
use tempfile::TempDir;

/// Time limit of a step, longer than any takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// The bookstore in a folder of the test's own, with the split of which each version has half.
fn bookstore() -> TempDir {
    let folder = TempDir::new().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookstore");
    for part in ["workloads", "policy"] {
        for entry in fs::read_dir(examples.join(part)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{part}-{}", path.file_name().unwrap().to_str().unwrap());
            fs::copy(&path, folder.path().join(name)).unwrap();
        }
    }
    fs::copy(examples.join("split/50-50.yaml"), folder.path().join("split.yaml")).unwrap();
    folder
}

/// The file of expectations that `docs/try.md` shows.
fn documented() -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/try.md")).unwrap();
    let (_, rest) = text.split_once("```yaml\n# expectations.yaml\n").expect("docs/try.md shows no file");
    rest.split_once("```").unwrap().0.to_owned()
}

fn command(envoy: &Path, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smidge"));
    command.arg("try").arg("-f").arg(folder).arg("--envoy").arg(envoy).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn expect(envoy: &Path, folder: &Path, expectations: &str) -> (i32, Value, String) {
    let file = TempDir::new().unwrap();
    let path = file.path().join("expectations.yaml");
    fs::write(&path, expectations).unwrap();
    let (code, stdout, stderr) = run(command(envoy, folder).arg("--expect").arg(&path).args(["-o", "json"]));
    (code, serde_json::from_str(&stdout).unwrap_or_default(), stderr)
}

#[test]
fn the_bookstore_does_what_the_documented_file_expects() {
    for envoy in binaries::envoys() {
        let folder = bookstore();
        let (code, judged, stderr) = expect(&envoy, folder.path(), &documented());
        assert_eq!(code, 0, "{judged:#} {stderr}");
        let judged = judged.as_array().unwrap();
        let wires: Vec<&str> = judged.iter().map(|it| it["wire"].as_str().unwrap()).collect();
        assert!(wires.contains(&"allowed") && wires.contains(&"denied"), "{wires:?}");
        for judgement in judged {
            assert_eq!(judgement["wire"], judgement["explain"], "{judgement:#}");
        }
        let shares = &judged[0]["outcome"]["answers"];
        let number = |name: &str| shares[name].as_u64().unwrap();
        assert_eq!(number("bookstore/bookstore-v1") + number("bookstore/bookstore-v2"), 400, "{shares}");
    }
}

#[test]
fn what_is_not_as_expected_is_an_error_with_its_reason() {
    let Some(envoy) = binaries::envoys().pop() else { return };
    let folder = bookstore();
    let path = folder.path().join("expectations.txt");
    let expectations = "- {from: bookthief, to: bookstore/bookstore, path: /books, expect: allowed}\n\
                        - {from: bookbuyer, to: bookstore/bookstore, path: /books, expect: allowed, \
                        shares: {bookstore/bookstore-v1: 100}}\n";
    fs::write(&path, expectations).unwrap();
    let (code, stdout, stderr) = run(command(&envoy, folder.path()).arg("--expect").arg(&path));
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(stdout.contains("WRONG denied: bookthief/bookthief to bookstore/bookstore"), "{stdout}");
    assert!(stdout.contains("TrafficTarget bookstore/bookstore would do with one more source"), "{stdout}");
    assert!(stdout.contains("bookstore/bookstore-v1 answered"), "{stdout}");
}

#[test]
fn a_command_runs_as_a_workload_with_the_names_of_services() {
    let Some(envoy) = binaries::envoys().pop() else { return };
    let folder = bookstore();
    // No program but the shell: it resolves nothing, so the names are read as a program reads them.
    let script = "grep -q ' bookstore.bookstore bookstore$' /etc/hosts && cat split.yaml && exit 7";
    let mut command = command(&envoy, folder.path());
    command.current_dir(folder.path()).args(["--", "bookstore/bookstore-v1", "sh", "-c", script]);
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!(code, 7, "{stdout}{stderr}");
    assert!(stdout.contains("kind: TrafficSplit"), "{stdout}");
}

/// A sandbox with a prompt.
struct Prompt {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Prompt {
    fn start(envoy: &Path, folder: &Path) -> Self {
        Self::of(command(envoy, folder).env_remove("VISUAL"))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    /// Returns the first line of the answer.
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        self.next()
    }

    /// Returns the next line of the answer.
    fn next(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Namespaces of processes of the processes below one, other than its own.
fn namespaces_below(process: u32) -> Vec<PathBuf> {
    let namespace = |process: u32| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    let own = namespace(process);
    let mut found: Vec<PathBuf> = processes()
        .into_iter()
        .filter(|it| ancestors(*it).contains(&process))
        .filter_map(namespace)
        .filter(|it| Some(it) != own.as_ref())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn ancestors(process: u32) -> Vec<u32> {
    let parent = |process: u32| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:\t"))?.parse().ok()
    };
    std::iter::successors(parent(process), |it| parent(*it)).collect()
}

fn is_empty(namespace: &Path) -> bool {
    !processes()
        .into_iter()
        .any(|it| fs::read_link(format!("/proc/{it}/ns/pid")).is_ok_and(|of| of == namespace))
}

fn until(what: &str, mut is_done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_done() {
        assert!(Instant::now() < end, "not in time: {what}");
        park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn an_edit_is_in_force_at_once_and_nothing_is_left_after_the_end() {
    let Some(envoy) = binaries::envoys().pop() else { return };
    for is_killed in [false, true] {
        let folder = bookstore();
        let mut prompt = Prompt::start(&envoy, folder.path());
        let call = "call bookbuyer bookstore/bookstore GET /books";
        let first = prompt.ask(call);
        assert!(first.starts_with("allowed: bookbuyer/bookbuyer to bookstore/bookstore"), "{first}");
        let split = folder.path().join("split.yaml");
        let text = fs::read_to_string(&split).unwrap();
        assert!(text.contains("bookstore-v1, weight: 50"), "{text}");
        fs::write(&split, text.replace("bookstore-v1, weight: 50", "bookstore-v1, weight: 0")).unwrap();
        // By chance it would be v2 each time once in a thousand million times.
        let mut in_sequence = 0;
        until("all calls are answered by v2", || {
            let is_second = prompt.ask(call).contains("bookstore-v2");
            in_sequence = if is_second { in_sequence + 1 } else { 0 };
            in_sequence == 30
        });
        fs::remove_file(folder.path().join("policy-bookstore.yaml")).unwrap();
        until("without its policy the call is denied", || prompt.ask(call).starts_with("denied"));
        assert!(prompt.ask("nonsense").contains("hint: help"));
        let namespaces = namespaces_below(prompt.child.id());
        assert_eq!(namespaces.len(), 1, "{namespaces:?}");
        assert!(!is_empty(&namespaces[0]));
        if is_killed {
            prompt.child.kill().unwrap();
        } else {
            writeln!(prompt.input, "quit").unwrap();
        }
        let status = prompt.child.wait().unwrap();
        assert_eq!(status.success(), !is_killed, "{status}");
        until("its processes have ended", || is_empty(&namespaces[0]));
    }
}

/// Writes an editor that replaces text in the file of its last argument, and writes down the name of that.
fn editor(place: &Path, from: &str, to: &str) -> String {
    let (script, edited) = (place.join("editor"), place.join("edited"));
    let text = format!("sed -i 's|{from}|{to}|' \"$2\" && echo \"$1 $2\" >>{}\n", edited.display());
    fs::write(&script, text).unwrap();
    // As other programs have it: the variable may have arguments.
    format!("sh {} --wait", script.display())
}

#[test]
fn the_prompt_lists_proxies_and_opens_the_first_file_in_the_editor() {
    let Some(envoy) = binaries::envoys().pop() else { return };
    let (folder, place) = (bookstore(), TempDir::new().unwrap());
    let first = folder.path().join("policy-bookstore.yaml");
    // The path of the first source only: the name of the ServiceAccount, and not that of its namespace.
    let editor = editor(place.path(), "      name: bookbuyer$", "      name: bookthief");
    let mut prompt = Prompt::of(command(&envoy, folder.path()).env_remove("VISUAL").env("EDITOR", &editor));
    let mut lines = vec![prompt.ask("proxies")];
    lines.extend((0..5).map(|_| prompt.next()));
    let mut names: Vec<&str> = lines.iter().map(|line| line.split("  ").next().unwrap()).collect();
    names.sort_unstable();
    let expected = [
        "bookbuyer/bookbuyer",
        "bookstore/bookstore-v1",
        "bookstore/bookstore-v2",
        "bookthief/bookthief",
        "bookwarehouse/bookwarehouse",
        "bookwarehouse/store",
    ];
    assert_eq!(names, expected, "{lines:?}");
    for line in &lines {
        let [_, address, ports, memory] = line.trim_end().split("  ").collect::<Vec<_>>()[..] else {
            panic!("{line:?} has not four columns")
        };
        assert!(address.starts_with("198.19.128.") && ports.starts_with("ports "), "{line:?}");
        let memory: u64 = memory.strip_suffix(" MiB").unwrap().parse().unwrap();
        assert!((1..1000).contains(&memory), "{line:?}");
    }

    let call = "call bookbuyer bookstore/bookstore GET /books";
    assert!(prompt.ask(call).starts_with("allowed"));
    writeln!(prompt.input, "edit").unwrap();
    until("the edit is in force", || prompt.ask(call).starts_with("denied"));
    let edited = fs::read_to_string(place.path().join("edited")).unwrap();
    assert_eq!(edited, format!("--wait {}\n", first.display()));
    assert!(fs::read_to_string(&first).unwrap().contains("      name: bookthief\n"));
}

#[test]
fn an_editor_that_fails_is_reported_and_the_prompt_goes_on() {
    let Some(envoy) = binaries::envoys().pop() else { return };
    let folder = bookstore();
    // The first variable takes precedence.
    let mut prompt =
        Prompt::of(command(&envoy, folder.path()).env("VISUAL", "exit 3;").env("EDITOR", "true"));
    let answer = prompt.ask("edit");
    assert!(answer.starts_with("error: exit 3; ended with exit status: 3"), "{answer}");
    assert!(prompt.ask("call bookbuyer bookstore/bookstore GET /books").starts_with("allowed"));
}
