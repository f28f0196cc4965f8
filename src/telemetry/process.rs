//! The process as its operators see it: CPU, memory, file descriptors, start time, under
//! the names every Prometheus client library uses. Read from `/proc` at each scrape; what
//! cannot be read is left out.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// `USER_HZ`: the unit of times in `/proc`, 100 on every Linux this builds for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the `process_*` metrics.
pub(super) fn register(registry: &mut super::Registry) {
    registry.register_collector(Box::new(ProcessCollector));
}

/// Unix time in seconds at which this process started, by the kernel's account.
pub fn start_time_seconds() -> Option<f64> {
    Some(boot_time_seconds()? + stat_field(22)? / TICKS_PER_SECOND)
}

/// Memory of this process that is in physical memory, in bytes.
pub fn resident_bytes() -> Option<f64> {
    status_bytes("VmRSS:")
}

#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if let (Some(user), Some(system)) = (stat_field(14), stat_field(15)) {
            let counter = ConstCounter::new((user + system) / TICKS_PER_SECOND);
            let help = "Total user and system CPU time spent in seconds.";
            let metric = encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                MetricType::Counter,
            )?;
            counter.encode(metric)?;
        }
        for (name, help, value) in [
            ("open_fds", "Number of open file descriptors.", open_fds()),
            ("max_fds", "Maximum number of open file descriptors.", limit("Max open files")),
            ("virtual_memory_bytes", "Virtual memory size in bytes.", status_bytes("VmSize:")),
            (
                "virtual_memory_max_bytes",
                "Maximum amount of virtual memory available in bytes.",
                limit("Max address space"),
            ),
            ("resident_memory_bytes", "Resident memory size in bytes.", resident_bytes()),
            (
                "start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                start_time_seconds(),
            ),
            ("threads", "Number of threads of the process.", stat_field(20)),
        ] {
            let Some(value) = value else { continue };
            let name = format!("process_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

/// Field of `/proc/self/stat`, counted from 1 as proc(5) does.
fn stat_field(number: usize) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name stands in parentheses and may hold spaces and parentheses itself.
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn boot_time_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn status_bytes(key: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

fn open_fds() -> Option<f64> {
    // The directory handle itself is one of the entries.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

/// Soft limit of a resource; "unlimited" is what client_golang shows for it, 2^64 - 1.
fn limit(name: &str) -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let value = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match value.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::exposition::{ExpositionFormat, encode};
    use super::*;

    #[test]
    fn proc_gives_every_metric() {
        let mut registry = super::super::Registry::default();
        register(&mut registry);
        let text = encode(&registry, ExpositionFormat::Text);
        for name in [
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_max_fds",
            "process_virtual_memory_bytes",
            "process_virtual_memory_max_bytes",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
        ] {
            assert!(text.contains(&format!("\n{name} ")), "{name} is missing from\n{text}");
        }
        let start = start_time_seconds().unwrap();
        assert!(start > 1.7e9, "{start}");
    }
}
