//! Processes that are measured: starts, queries and ends them, and reads their use of CPU and memory from `/proc`.
//!
//! Used by the scenarios for the operator and by `baseline` for the baseline server. Linux only.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// Returns the CPU time of a process's threads, in nanoseconds; threads that have ended do not count.
pub fn cpu(pid: u32) -> Duration {
    Duration::from_nanos(threads(pid).map(|(_, used)| used).sum())
}

/// Returns the CPU time of this program's threads of that name.
pub fn own_cpu(thread: &str) -> Duration {
    let pid = std::process::id();
    let name = |id: &str| fs::read_to_string(format!("/proc/{pid}/task/{id}/comm")).unwrap_or_default();
    let named = threads(pid).filter(|(id, _)| name(id).trim() == thread);
    Duration::from_nanos(named.map(|(_, used)| used).sum())
}

/// Returns the threads of a process, each with its id and the nanoseconds that it has run.
fn threads(pid: u32) -> impl Iterator<Item = (String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| {
        let used = fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some((task.file_name().into_string().ok()?, used.split(' ').next()?.parse().ok()?))
    })
}

/// Interval between two readings of the operator's threads.
const TICK: Duration = Duration::from_secs(1);

/// CPU time of a process whose threads start and end, as those of the operator's runtime do: a thread that is idle for
/// ten seconds ends, and its CPU time would be missing. So a thread of the meter reads more often than that.
#[derive(Debug)]
struct Meter {
    pid: u32,
    count: Arc<Mutex<Count>>,
    /// Held for its drop, which ends the thread.
    _ends: mpsc::Sender<()>,
}

impl Meter {
    fn start(pid: u32) -> io::Result<Self> {
        let (count, (ends, ended)) = (Arc::new(Mutex::new(Count::default())), mpsc::channel());
        let counted = Arc::clone(&count);
        std::thread::Builder::new().name("meter".to_owned()).spawn(move || {
            while ended.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                Self::read(&counted, pid);
            }
        })?;
        Ok(Self { pid, count, _ends: ends })
    }

    fn read(count: &Mutex<Count>, pid: u32) -> Duration {
        count.lock().unwrap_or_else(PoisonError::into_inner).read(threads(pid))
    }
}

/// CPU time of threads at their last reading.
#[derive(Debug, Default)]
struct Count {
    threads: HashMap<String, u64>,
    ended: u64,
}

impl Count {
    fn read(&mut self, threads: impl Iterator<Item = (String, u64)>) -> Duration {
        let mut before = std::mem::replace(&mut self.threads, threads.collect());
        // A thread id that has run for less than before belongs to a new thread.
        before.retain(|id, used| self.threads.get(id).is_none_or(|now| now < used));
        self.ended += before.values().sum::<u64>();
        Duration::from_nanos(self.ended + self.threads.values().sum::<u64>())
    }
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Memory {
    /// Resident memory now.
    pub resident: u64,
    /// Peak of resident memory.
    pub peak: u64,
}

/// Returns the memory of a process.
pub fn memory(pid: u32) -> Memory {
    let of = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
    };
    Memory { resident: of("VmRSS:"), peak: of("VmHWM:") }
}

/// Resets the peak of resident memory.
pub fn forget_peak(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// Start parameters of the operator.
#[derive(Debug, Clone)]
pub struct Plan {
    pub program: PathBuf,
    pub kubeconfig: PathBuf,
    /// First of four ports.
    pub port: u16,
    pub log: PathBuf,
}

impl Plan {
    pub fn xds(&self) -> u16 {
        self.port
    }

    pub fn webhook(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port + 1).into()
    }

    pub fn pages(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port + 2).into()
    }

    fn replicas(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port + 3).into()
    }

    /// Starts the operator; does not wait for it. It is killed with this program, however this program ends.
    pub fn start(&self) -> anyhow::Result<Operator> {
        let log = File::create(&self.log)?;
        let started = Instant::now();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .arg("run")
            // Set explicitly, as the environment may describe other clusters.
            .args(["--cluster-name", "local", "--trust-domain", "cluster.local"])
            .args(["--init-image", "smidge.local/smidge:dev"])
            .arg(format!("--xds-listen=0.0.0.0:{}", self.xds()))
            .arg(format!("--webhook-listen={}", self.webhook()))
            .arg(format!("--admin-listen={}", self.pages()))
            .arg(format!("--peer-listen={}", self.replicas()))
            .args(["--pod-name", "bench"])
            // There is no kubelet, and so no such token; there is no other replica either.
            .args(["--peer-token", "/dev/null"])
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {}", self.program.display()))?;
        let meter = Meter::start(child.id())?;
        Ok(Operator { child, pages: self.pages(), started, log: self.log.clone(), meter })
    }
}

/// Running operator. Ends with this value.
pub struct Operator {
    child: Child,
    pages: SocketAddr,
    pub started: Instant,
    log: PathBuf,
    meter: Meter,
}

impl Operator {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        Meter::read(&self.meter.count, self.meter.pid)
    }

    /// Waits until it reports ready.
    pub async fn ready(&mut self, within: Duration) -> anyhow::Result<()> {
        while self.started.elapsed() < within {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("the operator has ended with {status}; see {}", self.log.display());
            }
            if self
                .page("/readyz")
                .is_ok_and(|page| page.starts_with("HTTP/1.0 200") || page.starts_with("HTTP/1.1 200"))
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        anyhow::bail!("the operator is not ready after {within:?}; see {}", self.log.display())
    }

    /// Returns one of its pages, with the header.
    pub fn page(&self, path: &str) -> anyhow::Result<String> {
        page(self.pages, path, Duration::from_secs(5))
    }

    /// Returns a counter or gauge of this name, summed over all labels.
    pub fn counter(&self, name: &str) -> anyhow::Result<f64> {
        Ok(self.counters(&[name])?.first().copied().unwrap_or_default())
    }

    /// Returns several of them, at one moment.
    pub fn counters(&self, names: &[&str]) -> anyhow::Result<Vec<f64>> {
        let page = self.page("/metrics")?;
        let sum = |name: &&str| {
            let lines = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Ok(names.iter().map(sum).collect())
    }

    /// Returns the time from the first line of its log to the first one that contains `text`.
    pub fn logged_after(&self, text: &str) -> Option<Duration> {
        let log = fs::read_to_string(&self.log).ok()?;
        let first = seconds(log.lines().next()?)?;
        let time = seconds(log.lines().find(|line| line.contains(text))?)?;
        Some(Duration::from_secs_f64((time - first).max(0.0)))
    }

    /// Kills it, as a failing node would, and waits for its end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Returns a page with its header; each read has the time limit `within`.
pub fn page(pages: SocketAddr, path: &str, within: Duration) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&pages, within)?;
    stream.set_read_timeout(Some(within))?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: bench\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// Parses the second of the day at the start of a log line: `2026-01-01T10:20:30.123456Z …`.
fn seconds(line: &str) -> Option<f64> {
    let time = line.split_once('T')?.1.split_once('Z')?.0;
    let parts: Vec<f64> = time.split(':').filter_map(|part| part.parse().ok()).collect();
    let [hours, minutes, seconds] = parts.as_slice() else { return None };
    Some(hours * 3600.0 + minutes * 60.0 + seconds)
}

/// Returns the text that `program crds` prints.
pub fn definitions(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program).arg("crds").output().context("failed to run `smidge crds`")?;
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_ended_thread_has_used_counts() {
        let mut count = Count::default();
        let mut read = |threads: &[(&str, u64)]| {
            let threads = threads.iter().map(|(id, used)| ((*id).to_owned(), *used));
            count.read(threads).as_nanos()
        };
        assert_eq!(read(&[("1", 10), ("2", 20)]), 30);
        assert_eq!(read(&[("1", 11)]), 31, "2 has ended");
        assert_eq!(read(&[("1", 11), ("2", 5)]), 36, "another 2");
        assert_eq!(read(&[("1", 12), ("2", 6)]), 38);
    }
}
