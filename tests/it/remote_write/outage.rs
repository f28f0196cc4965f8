//! An outage of the receiver at scale. The tests that always run are small; with
//! WATCHFIRE_OUTAGE_SECONDS set they feed 50,000 samples a second for that long, as
//! `tests/outage.sh` does for ten minutes, and the one with a quota has WATCHFIRE_OUTAGE_QUOTA.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use prost::Message;
use watchfire::remote_write::{WriteLimits, decode, proto};

use super::real::{Feeder, body, start_sender};
use crate::support::{free_address, http_get, until};

const SERIES: usize = 5000;
/// One request of all series in each: 50,000 samples a second.
const TICK: Duration = Duration::from_millis(100);

/// The newest sample of each series, and what was wrong.
#[derive(Default)]
struct Seen {
    newest: Vec<i64>,
    again: u64,
    gaps: u64,
    total: u64,
}

async fn take(State(seen): State<Arc<Mutex<Seen>>>, body: Bytes) -> StatusCode {
    let bytes = decode(&body, WriteLimits::default()).expect("a snappy body");
    let request = proto::WriteRequest::decode(&*bytes).expect("a message");
    let mut seen = seen.lock().unwrap();
    seen.newest.resize(SERIES, -1);
    for series in &request.timeseries {
        let label = series.labels.iter().find(|l| l.name == "i").expect("a label");
        let i: usize = label.value.parse().expect("a number");
        for sample in &series.samples {
            let (n, last) = (sample.value as i64, seen.newest[i]);
            seen.total += 1;
            if n <= last {
                seen.again += 1;
            } else {
                seen.gaps += (n - last - 1) as u64;
                seen.newest[i] = n;
            }
        }
    }
    StatusCode::NO_CONTENT
}

#[test]
fn a_long_outage_with_a_kill_in_the_middle_loses_nothing() {
    outage(None);
}

#[test]
fn an_outage_longer_than_the_quota_loses_the_oldest_and_says_how_many() {
    let quota = std::env::var("WATCHFIRE_OUTAGE_QUOTA");
    outage(Some(&quota.unwrap_or_else(|_| "200KiB".to_owned())));
}

fn outage(quota: Option<&str>) {
    let seconds = std::env::var("WATCHFIRE_OUTAGE_SECONDS").ok().and_then(|s| s.parse().ok());
    let ticks = seconds.map_or(30, |seconds: usize| seconds * 10);
    let dir = tempfile::tempdir().expect("a folder");
    let (receiving, sending) = (free_address(), free_address());
    let config = format!(
        "remote_write:
- url: http://{receiving}/write
  queue_config: {{batch_send_deadline: 100ms, max_backoff: 500ms{}}}
  metadata_config: {{send: false}}
",
        quota.map(|quota| format!(", max_disk_size: {quota}")).unwrap_or_default()
    );
    fs::write(dir.path().join("sender.yml"), config).expect("a file");
    let mut sender = start_sender(dir.path(), sending);
    let feeder = Feeder::new();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let from_ms = since.as_millis() as i64 - 3_000_000;
    let metric = |name: &str| -> f64 {
        let (_, text) = http_get(&format!("http://{sending}/metrics")).expect("metrics");
        let line = text.lines().find(|l| l.starts_with(&format!("{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    // Of all processes.
    let lost = || metric("watchfire_remote_storage_queue_lost_samples_total");
    let began = Instant::now();
    let mut acknowledged = Vec::new();
    for n in 0..ticks {
        if n == ticks / 2 {
            sender.kill();
            sender = start_sender(dir.path(), sending);
        }
        if feeder.post(sending, body(SERIES, from_ms + 100 * n as i64, n as f64)) {
            acknowledged.push(n);
        }
        if seconds.is_some() {
            std::thread::sleep((TICK * (n as u32 + 1)).saturating_sub(began.elapsed()));
        }
    }
    assert_eq!(acknowledged.len(), ticks, "the receiver being away delays no commit");
    let fed = (SERIES * ticks) as f64;
    let (waiting, bytes) = (
        metric("prometheus_remote_storage_samples_pending"),
        metric("watchfire_remote_storage_queue_bytes"),
    );
    assert_eq!(fed, lost() + waiting, "what does not wait was counted, over the kill as well");
    assert!(bytes <= metric("watchfire_remote_storage_queue_bytes_max"));
    eprintln!("of {fed} samples {waiting} wait in {bytes} bytes");

    let seen = Arc::new(Mutex::new(Seen::default()));
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let app = Router::new()
        .route("/write", post(take))
        .layer(axum::extract::DefaultBodyLimit::max(32 << 20))
        .with_state(seen.clone());
    let back = Instant::now();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::bind(receiving).await.expect("the address");
        axum::serve(listener, app).await
    });
    // Killed once more, while it catches up.
    let halfway = until(Duration::from_secs(600), || {
        (seen.lock().unwrap().total as f64 > waiting / 2.0).then_some(())
    });
    assert!(halfway.is_some(), "{}", sender.log());
    sender.kill();
    sender = start_sender(dir.path(), sending);
    let done = until(Duration::from_secs(600), || {
        (metric("prometheus_remote_storage_samples_pending") == 0.0).then_some(())
    });
    assert!(done.is_some(), "{}", sender.log());
    eprintln!("everything arrived {:?} after the receiver came back", back.elapsed());
    let seen = seen.lock().unwrap();
    assert!(seen.newest.iter().all(|n| *n == ticks as i64 - 1), "the newest are there");
    let lost = lost();
    assert_eq!(seen.gaps as f64, lost, "nothing else is missing, and all in order");
    assert_eq!(lost > 0.0, quota.is_some());
    eprintln!("{lost} were lost, {} came again", seen.again);
    // The kill may have cut off one request whose answer was not heard yet.
    assert!(seen.again <= 2000 * 50, "{} samples came again", seen.again);
}
