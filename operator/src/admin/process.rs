//! Metrics of this process, under the names that Prometheus' clients have for them, and of the program that it runs.
//!
//! Registered by `runtime`; read from `/proc` at each scrape. What cannot be read is absent from the page.

use std::fmt;

use procfs::{ProcResult, process::LimitValue};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

/// Returns a registry with the standard metrics of a process, `process_*`, and no others.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process));
    registry
}

/// Registers the version of the program, as `build_info`; the caller chooses the prefix.
pub fn build(registry: &mut Registry) {
    let info = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "Version of the operator; the value is always 1", info);
}

/// This process, as a collector.
#[derive(Debug)]
struct Process;

/// Resources of a process at one time.
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    start_seconds: f64,
    threads: i64,
    open_files: usize,
    /// `None` if it is unlimited.
    max_files: Option<u64>,
}

#[expect(clippy::cast_precision_loss, reason = "ticks and seconds are far below 2^52")]
fn usage() -> ProcResult<Usage> {
    let own = procfs::process::Process::myself()?;
    let stat = own.stat()?;
    let per_second = procfs::ticks_per_second().max(1) as f64;
    Ok(Usage {
        cpu_seconds: stat.utime.saturating_add(stat.stime) as f64 / per_second,
        resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
        virtual_bytes: stat.vsize,
        start_seconds: procfs::boot_time_secs()? as f64 + stat.starttime as f64 / per_second,
        threads: stat.num_threads,
        open_files: own.fd_count()?,
        max_files: match own.limits()?.max_open_files.soft_limit {
            LimitValue::Value(files) => Some(files),
            LimitValue::Unlimited => None,
        },
    })
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Ok(usage) = usage() else { return Ok(()) };
        let encoder = &mut encoder;
        let cpu = ConstCounter::new(usage.cpu_seconds);
        add(encoder, "process_cpu", "Time of all CPUs that was used", Some(&Unit::Seconds), &cpu)?;
        let resident = ConstGauge::new(usage.resident_bytes);
        add(encoder, "process_resident_memory", "Memory in use", Some(&Unit::Bytes), &resident)?;
        let reserved = ConstGauge::new(usage.virtual_bytes);
        add(encoder, "process_virtual_memory", "Memory that is mapped", Some(&Unit::Bytes), &reserved)?;
        let start = ConstGauge::new(usage.start_seconds);
        let help = "Time at which the process started, in seconds since 1970";
        add(encoder, "process_start_time", help, Some(&Unit::Seconds), &start)?;
        add(encoder, "process_threads", "Threads", None, &ConstGauge::new(usage.threads))?;
        let open = ConstGauge::new(usage.open_files);
        add(encoder, "process_open_fds", "Files and connections that are open", None, &open)?;
        let Some(most) = usage.max_files else { return Ok(()) };
        let help = "Maximum number of files and connections that may be open";
        add(encoder, "process_max_fds", help, None, &ConstGauge::new(most))
    }
}

fn add(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn page() -> String {
        let mut page = String::new();
        encode(&mut page, &registry()).unwrap();
        page
    }

    fn value(page: &str, name: &str) -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }

    #[test]
    fn values_are_those_of_this_process() {
        let before = page();
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = page();
        let opened = value(&after, "process_open_fds") - value(&before, "process_open_fds");
        // Other tests of this program open and close files meanwhile.
        assert!((25.0..500.0).contains(&opened), "{opened}");
        drop(files);
        assert!(value(&after, "process_max_fds") > value(&after, "process_open_fds"));
        assert!(value(&after, "process_threads") >= 1.0);
        let (resident, mapped) =
            (value(&after, "process_resident_memory_bytes"), value(&after, "process_virtual_memory_bytes"));
        assert!(resident > f64::from(1 << 20) && resident < mapped, "{resident} of {mapped}");
        assert!(value(&after, "process_cpu_seconds_total") >= value(&before, "process_cpu_seconds_total"));
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let age = now - value(&after, "process_start_time_seconds");
        // The kernel counts in hundredths, and boots on a whole second.
        assert!((-2.0..3_600.0).contains(&age), "{age}");
    }
}
