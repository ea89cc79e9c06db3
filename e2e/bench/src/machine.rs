//! What a run was made on: a figure without that means nothing.
//!
//! Asked once by `main` and by `growth`. Linux only.

use std::collections::BTreeMap;

/// The command, the machine's size, and what else it did.
pub fn about() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory: f64 =
        field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let machine = format!(
        "{cores} cores ({}), {:.0} GiB of memory, Linux {}",
        field(&read("/proc/cpuinfo"), "model name"),
        memory / f64::from(1 << 20),
        read("/proc/sys/kernel/osrelease").trim()
    );
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    BTreeMap::from([("machine".to_owned(), machine), ("load before it began".to_owned(), load)])
}
