//! The sender is killed at random moments, while it is fed as fast as it takes, and its
//! receiver, a real Prometheus, stands still, is away, or catches up. Nothing that was
//! acknowledged, and nothing that the sender's own store shows, may be missing at the receiver
//! unless the loud counter has it. WATCHFIRE_QUEUE_KILLS is the number of kills, 6 unless given.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::real::{Feeder, Kind, body, start_sender};
use crate::support::{Program, available, free_address, http_get, until};

const SERIES: usize = 300;
const PATIENCE: Duration = Duration::from_secs(120);

/// What was fed: the number, and whether it was acknowledged.
type Fed = Vec<(i64, bool)>;

/// Feeds until told to stop; the sender may die meanwhile.
fn feed(sending: SocketAddr, from_ms: i64, first: i64, stop: &AtomicBool) -> Fed {
    let feeder = Feeder::new();
    let mut fed = Fed::new();
    while !stop.load(Ordering::Relaxed) {
        let n = first + fed.len() as i64;
        let taken = feeder.post(sending, body(SERIES, from_ms + n, n as f64));
        fed.push((n, taken));
        if !taken {
            break;
        }
    }
    fed
}

fn signal(program: &Program, name: &str) {
    let status = Command::new("kill").args([name, &program.pid().to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "{name}");
}

fn metric(sending: SocketAddr, name: &str) -> f64 {
    let (_, text) = http_get(&format!("http://{sending}/metrics")).expect("metrics");
    let lines = text.lines().filter(|l| l.starts_with(&format!("{name}{{")));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The numbers of a series that a server has, which must be in order and as they were fed.
fn numbers(address: SocketAddr, i: usize, from_ms: i64, last: i64) -> Vec<i64> {
    let stored = Kind::Prometheus.stored(address, i, from_ms + last);
    assert!(stored.is_sorted_by(|a, b| a.0 < b.0), "series {i}");
    assert!(stored.iter().all(|(ts, value)| *ts == from_ms + *value as i64), "series {i}");
    stored.iter().map(|(_, value)| *value as i64).collect()
}

fn judge(seed: u64, kills: usize, quota: Option<&str>) {
    let dir = tempfile::tempdir().expect("a folder");
    let (receiving, sending) = (free_address(), free_address());
    let Some(mut receiver) = Kind::Prometheus.start(dir.path(), receiving) else { return };
    configure(dir.path(), receiving, quota);
    let mut random = StdRng::seed_from_u64(seed);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let from_ms = since.as_millis() as i64 - 1_000_000;
    let mut fed = Fed::new();
    let mut sender = start_sender(dir.path(), sending);
    for kill in 0..kills {
        // Of four kills one meets a receiver that takes everything, one that stands still,
        // one that is away, and one that comes back just then.
        match kill % 4 {
            1 => signal(&receiver, "-STOP"),
            2 => {
                signal(&receiver, "-CONT");
                receiver.kill();
            }
            3 => receiver = Kind::Prometheus.start(dir.path(), receiving).expect("as before"),
            _ => {}
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (told, first) = (stop.clone(), fed.len() as i64);
        let feeding = std::thread::spawn(move || feed(sending, from_ms, first, &told));
        let lives = Duration::from_micros(random.random_range(20_000..700_000));
        let began = Instant::now();
        std::thread::sleep(lives.saturating_sub(began.elapsed()));
        sender.kill();
        stop.store(true, Ordering::Relaxed);
        fed.extend(feeding.join().expect("the feeder"));
        sender = start_sender(dir.path(), sending);
    }
    if kills % 4 == 2 {
        signal(&receiver, "-CONT");
    } else if kills % 4 == 3 {
        receiver = Kind::Prometheus.start(dir.path(), receiving).expect("as before");
    }
    let done = until(PATIENCE, || {
        (metric(sending, "prometheus_remote_storage_samples_pending") == 0.0).then_some(())
    });
    assert!(done.is_some(), "seed {seed}: {}", sender.log());
    let lost = metric(sending, "watchfire_remote_storage_queue_lost_samples_total");
    let failed = metric(sending, "prometheus_remote_storage_samples_failed_total");
    let last = fed.len() as i64;
    let (mut missing, mut arrived, mut hidden) = (0, 0, 0);
    for i in 0..SERIES {
        let there = numbers(receiving, i, from_ms, last);
        let has = |n: &i64| there.binary_search(n).is_ok();
        let acknowledged = fed.iter().filter(|(_, taken)| *taken);
        missing += acknowledged.filter(|(n, _)| !has(n)).count();
        hidden += numbers(sending, i, from_ms, last).iter().filter(|n| !has(n)).count();
        arrived += there.len();
    }
    let attempts = SERIES * fed.len();
    eprintln!(
        "seed {seed}: of {attempts} samples {arrived} arrived, {lost} were lost, {missing} \
         acknowledged and {hidden} of the store are not there"
    );
    assert_eq!(failed, 0.0, "seed {seed}: {}", sender.log());
    if quota.is_none() {
        assert_eq!((missing, hidden, lost), (0, 0, 0.0), "seed {seed}: {}", sender.log());
    } else {
        assert!(missing as f64 <= lost && hidden as f64 <= lost, "seed {seed}: {}", sender.log());
        // A request that was cut off may have arrived and be counted as lost, one for each
        // shard and kill.
        let uncertain = (kills * SHARDS * BATCH) as f64;
        assert!(arrived as f64 + lost <= attempts as f64 + uncertain, "seed {seed}");
    }
    sender.kill();
    receiver.kill();
}

const SHARDS: usize = 2;
const BATCH: usize = 100;

fn configure(dir: &Path, receiving: SocketAddr, quota: Option<&str>) {
    let quota = quota.map(|quota| format!(", max_disk_size: {quota}")).unwrap_or_default();
    let config = format!(
        "remote_write:
- url: http://{receiving}/api/v1/write
  remote_timeout: 2s
  queue_config: {{batch_send_deadline: 50ms, max_samples_per_send: {BATCH}, capacity: 1000, \
         min_shards: {SHARDS}, max_shards: {SHARDS}, max_backoff: 200ms{quota}}}
  metadata_config: {{send: false}}
"
    );
    fs::write(dir.join("sender.yml"), config).expect("a file");
}

fn kills() -> usize {
    std::env::var("WATCHFIRE_QUEUE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    if available("prometheus") {
        judge(1, kills(), None);
    }
}

#[test]
fn a_kill_at_any_moment_of_a_full_queue_loses_nothing_uncounted() {
    if available("prometheus") {
        judge(2, kills(), Some("100KiB"));
    }
}
