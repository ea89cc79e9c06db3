//! The program as a control plane over a folder: a process with its log, its pages, and what is in its metrics.
//!
//! The process is killed when its value is dropped. Nothing waits longer than [`DEADLINE`].

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Time limit of a step, longer than any takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Interval between looks at a condition.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until a condition is true. Panics after [`DEADLINE`] with the condition and `state`.
pub fn until(what: &str, state: impl Fn() -> String, mut is_true: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}\n{}", state());
        thread::park_timeout(INTERVAL);
    }
    started.elapsed()
}

/// Returns a loopback address that no other test uses, so that every server can have the port it wants.
pub fn own_address() -> Ipv4Addr {
    static NUMBER: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // Other programs use the lower half of 127.0.0.0/8, if anything but 127.0.0.1.
    Ipv4Addr::new(127, high | 0x80, low, NUMBER.fetch_add(1, Relaxed))
}

/// Settings of a process to start.
#[derive(Debug, Clone)]
pub struct Start {
    pub program: PathBuf,
    pub dir: PathBuf,
    pub state: PathBuf,
    pub xds: SocketAddr,
    pub pages: SocketAddr,
    /// File of its log.
    pub log: PathBuf,
    /// Further flags.
    pub flags: Vec<String>,
    /// User and group of the process, if it is another one than that of the test.
    pub user: Option<u32>,
}

impl Start {
    /// Starts the process.
    pub fn run(&self) -> ControlPlane {
        let mut command = Command::new(&self.program);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let child = command
            .arg("run")
            .args(["--dir".as_ref(), self.dir.as_os_str(), "--state".as_ref(), self.state.as_os_str()])
            .args(["--xds-listen", &self.xds.to_string(), "--admin-listen", &self.pages.to_string()])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&self.log).unwrap())
            .spawn()
            .unwrap();
        ControlPlane { start: self.clone(), child, token: OnceLock::new() }
    }
}

/// A process.
pub struct ControlPlane {
    pub start: Start,
    child: Child,
    token: OnceLock<String>,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ControlPlane {
    /// Returns the id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the end of its log.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.start.log).unwrap_or_default()
    }

    /// Kills it, as a crash would end it.
    pub fn kill(mut self) -> Start {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.start.clone()
    }

    /// Returns true if it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        let log = self.start.log.clone();
        until(
            "the control plane ends",
            || fs::read_to_string(&log).unwrap_or_default(),
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
        );
        status.unwrap()
    }

    /// Waits until it serves, and returns the time that took.
    pub fn ready(&self) -> Duration {
        until("the control plane is ready", || self.log_end(), || self.page("/readyz").is_some())
    }

    /// Waits until its log has a line with all of `words`.
    pub fn logs(&self, words: &[&str]) {
        let has = |line: &str| words.iter().all(|word| line.contains(word));
        until(&format!("a line with {words:?}"), || self.log_end(), || self.log().lines().any(has));
    }

    /// Returns the token for its debug pages; empty as long as it has no state.
    fn token(&self) -> String {
        if let Some(token) = self.token.get() {
            return token.clone();
        }
        let mut command = Command::new(&self.start.program);
        command.args(["status", "--print-token", "--state"]).arg(&self.start.state).stdin(Stdio::null());
        if let Some(user) = self.start.user {
            command.uid(user).gid(user);
        }
        let Output { status, stdout, .. } = command.output().unwrap();
        if !status.success() {
            return String::new();
        }
        self.token.get_or_init(|| String::from_utf8(stdout).unwrap().trim().to_owned()).clone()
    }

    /// Returns a page, if it is answered with 200. Those for debugging are asked for with the token of the state.
    pub fn page(&self, path: &str) -> Option<String> {
        let token = if path.starts_with("/debug/") { self.token() } else { String::new() };
        let mut stream = TcpStream::connect(self.start.pages).ok()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: pages\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// Returns the value of a metric without labels.
    pub fn metric(&self, name: &str) -> Option<u64> {
        let page = self.page("/metrics")?;
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Returns the digest of the manifests in effect.
    pub fn digest(&self) -> Option<String> {
        let page = self.page("/metrics")?;
        let line = page.lines().find(|line| line.starts_with("smidge_folder_digest{"))?;
        line.split('"').nth(1).map(str::to_owned)
    }

    /// Returns the words of all findings, one a line.
    pub fn findings(&self) -> String {
        self.page("/debug/findings").unwrap_or_default()
    }

    /// Returns the names of the connected proxies.
    pub fn proxies(&self) -> Vec<String> {
        let page = self.page("/debug/proxies").unwrap_or_default();
        let all: Vec<Value> = serde_json::from_str(&page).unwrap_or_default();
        all.iter().map(|proxy| proxy["proxy"].to_string()).collect()
    }

    /// Returns the CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        // Hundredths of a second: USER_HZ is 100 on every architecture.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }
}

/// Writes a file as tools do that mean it: beside its place, and then moved there.
pub fn put(folder: &Path, name: &str, text: &str) {
    let draft = folder.join(format!(".{name}"));
    fs::write(&draft, text).unwrap();
    fs::rename(draft, folder.join(name)).unwrap();
}
