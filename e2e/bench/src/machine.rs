//! Description of the machine of a run: without it a figure is meaningless.
//!
//! Read once by `main` and by `growth`. Linux only.

use std::collections::BTreeMap;

/// Load of the machine by other programs.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Load average of the machine before the run began; by default, the current one.
    #[arg(long = "load", env = "SMIDGE_BENCH_LOAD", default_value_t = now())]
    before: String,
}

fn now() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// Returns the command, the size of the machine, and its load.
pub fn about(load: &Load) -> BTreeMap<String, String> {
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
    BTreeMap::from([
        ("command".to_owned(), command()),
        ("machine".to_owned(), machine),
        ("load before it began".to_owned(), load.before.clone()),
    ])
}

/// Returns the words of the command, without the path of the checkout.
fn command() -> String {
    let here = std::env::current_dir().map(|here| format!("{}/", here.display())).unwrap_or_default();
    let words =
        std::env::args().skip(1).map(|word| if here.is_empty() { word } else { word.replace(&here, "") });
    words.collect::<Vec<_>>().join(" ")
}
