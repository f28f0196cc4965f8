//! The real Prometheus on our directory, and we on its.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use watchfire::storage::tsdb::WalCompression;

use super::*;
use crate::support::{Program, available, free_address, http_get, until};

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("a time of this age")
}

/// Starts Prometheus on a directory with a configuration; ready when this returns.
pub(super) fn prometheus(dir: &Path, scrape: &str) -> Option<(Program, String)> {
    prometheus_with(dir, scrape, &[])
}

pub(super) fn prometheus_with(
    dir: &Path,
    scrape: &str,
    flags: &[&str],
) -> Option<(Program, String)> {
    let address = free_address();
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, scrape.replace("ADDRESS", &address.to_string())).expect("a file");
    let mut args = vec![
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.join("data").display()),
        format!("--web.listen-address={address}"),
    ];
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let mut program = Program::start("prometheus", &args)?;
    let url = format!("http://{address}");
    program.wait_ready(&format!("{url}/-/ready"));
    Some((program, url))
}

/// `(time in ms, value)` of the single series of a range-vector query.
pub(super) fn query(url: &str, expr: &str) -> Vec<(i64, String)> {
    let (status, body) = http_get(&format!("{url}/api/v1/query?query={expr}")).expect("an answer");
    assert_eq!(status, 200, "{body}");
    let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let values = json["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let point = |v: &serde_json::Value| {
        let ms = (v[0].as_f64()? * 1000.0).round() as i64;
        Some((ms, v[1].as_str()?.to_owned()))
    };
    values.iter().filter_map(point).collect()
}

/// Prometheus scrapes itself five times a second.
pub(super) const SCRAPE_SELF: &str = "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n\
    scrape_configs: [{job_name: self, static_configs: [{targets: [ADDRESS], labels: {instance: me}}]}]\n";

#[test]
fn prometheus_serves_what_we_wrote() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let start = now_ms() / 1000 * 1000 - 60_000;
    for (restart, compression) in
        [WalCompression::Snappy, WalCompression::None].into_iter().enumerate()
    {
        let options = TsdbOptions { wal_compression: compression, ..Default::default() };
        let tsdb = open_with(&data, options).expect("a store");
        for i in 0..25 {
            let i = restart as i64 * 25 + i;
            commit(&tsdb, "interop", 1000, start + i * 1000, i as f64 + 0.5).expect("a commit");
        }
        tsdb.close().expect("a close");
    }
    let Some((_program, url)) = prometheus(dir.path(), "scrape_configs: []\n") else { return };
    let found = query(&url, "interop{series=\"777\"}[5m]");
    let expected: Vec<_> =
        (0..50).map(|i| (start + i * 1000, format!("{}", i as f64 + 0.5))).collect();
    assert_eq!(found, expected);
    let (_, body) = http_get(&format!(
        "{url}/api/v1/query?query=count(interop)&time={}",
        (start + 50_000) / 1000
    ))
    .expect("an answer");
    assert!(body.contains("\"1000\""), "{body}");
}

#[test]
fn promtool_dumps_a_checkpoint_and_segments_we_wrote() {
    if !available("promtool") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let options = TsdbOptions {
        retention_ms: 100_000,
        chunk_range_ms: 20_000,
        wal_segment_bytes: 32 << 10,
        ..Default::default()
    };
    let clock = Arc::new(ManualClock::new(0));
    let tsdb = Tsdb::open(dir.path(), options, clock.clone()).expect("a store");
    for n in 1..=600 {
        clock.set_ms(n * 1000);
        commit(&tsdb, "m", 30, n * 1000, n as f64).expect("a commit");
        tsdb.maintain().expect("maintenance");
    }
    tsdb.close().expect("a close");
    let names: Vec<String> = std::fs::read_dir(dir.path().join("wal"))
        .expect("the log")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().any(|n| n.starts_with("checkpoint.")), "{names:?}");
    assert!(!names.contains(&"00000000".to_owned()), "{names:?}");
    let output = std::process::Command::new("promtool")
        .args(["tsdb", "dump", "--match={series=\"7\"}"])
        .arg(dir.path())
        .output()
        .expect("promtool");
    let text = String::from_utf8_lossy(&output.stdout);
    let times: Vec<i64> = text.lines().filter_map(|l| l.rsplit(' ').next()?.parse().ok()).collect();
    assert!(times.ends_with(&[598_000, 599_000, 600_000]), "{text}{:?}", output.stderr);
    assert!(times.iter().all(|t| times[0] <= *t) && times[0] <= 500_000 && times.len() >= 100);
}

#[test]
fn we_serve_what_prometheus_scraped_even_after_sigkill() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some((mut program, url)) = prometheus(dir.path(), SCRAPE_SELF) else { return };
    let expr = "scrape_samples_scraped[5m]";
    let before =
        until(Duration::from_secs(60), || Some(query(&url, expr)).filter(|v| v.len() >= 5))
            .expect("Prometheus scrapes itself");
    program.kill();
    let tsdb = open(&dir.path().join("data"));
    let ours = select(
        &tsdb,
        vec![Matcher::equal("__name__", "scrape_samples_scraped")],
        i64::MIN,
        i64::MAX,
    );
    let samples: Vec<(i64, String)> =
        ours.values().flatten().take(before.len()).map(|(ts, v)| (*ts, format!("{v}"))).collect();
    assert_eq!(samples, before);
    let names = label_values(
        &tsdb,
        "__name__",
        &LabelRequest { from_ms: i64::MIN, to_ms: i64::MAX, ..Default::default() },
    );
    assert!(names.len() > 200, "{} metric names", names.len());
    // And the log goes on where Prometheus left it.
    commit(&tsdb, "ours", 1, now_ms(), 1.0).expect("a commit");
}

/// Blocks after seconds instead of hours.
pub(super) const QUICK: [&str; 2] =
    ["--storage.tsdb.min-block-duration=2s", "--storage.tsdb.max-block-duration=18s"];

#[test]
fn prometheus_serves_blocks_and_log_we_wrote() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let minute = 60_000;
    let end = now_ms() / minute * minute - minute;
    let start = end - 30 * 60 * minute;
    let clock = Arc::new(ManualClock::new(start));
    let options = || TsdbOptions { block_range_max_ms: 18 * 60 * minute, ..Default::default() };
    let tsdb = Tsdb::open(&data, options(), clock.clone()).expect("a store");
    let mut expected = Vec::new();
    for n in 0..=30 * 60 {
        let ts = start + n * minute;
        clock.set_ms(ts);
        commit(&tsdb, "interop", 50, ts, n as f64 / 4.0).expect("a commit");
        expected.push((ts, format!("{}", n as f64 / 4.0)));
        if n % 30 == 0 {
            tsdb.maintain().expect("maintenance");
        }
    }
    let blocks = tsdb.block_metas();
    assert!(blocks.iter().any(|b| b.compaction.level > 1), "{blocks:?}");
    tsdb.close().expect("a close");
    let Some((mut program, url)) = prometheus(dir.path(), "scrape_configs: []\n") else { return };
    let expr = "interop{series=\"37\"}[31h]";
    assert_eq!(query(&url, expr), expected);
    let (_, body) = http_get(&format!("{url}/api/v1/label/series/values")).expect("an answer");
    let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(json["data"].as_array().map(Vec::len), Some(50), "{body}");
    // And back: what Prometheus did to the directory meanwhile loses nothing.
    program.kill();
    let tsdb = Tsdb::open(&data, options(), clock).expect("a store");
    let ours = select(&tsdb, vec![Matcher::equal("series", "37")], i64::MIN, i64::MAX);
    let found: Vec<_> = ours.values().flatten().map(|(ts, v)| (*ts, format!("{v}"))).collect();
    assert_eq!(found, expected);
}

#[test]
fn we_serve_blocks_and_log_of_prometheus_and_it_serves_them_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some((mut program, url)) = prometheus_with(dir.path(), SCRAPE_SELF, &QUICK) else { return };
    let blocks = || {
        let (_, metrics) = http_get(&format!("{url}/metrics")).ok()?;
        let line =
            metrics.lines().find_map(|l| l.strip_prefix("prometheus_tsdb_blocks_loaded "))?;
        line.parse::<f64>().ok().filter(|n| *n >= 3.0)
    };
    until(Duration::from_secs(90), blocks).expect("Prometheus cuts blocks");
    let expr = "scrape_samples_scraped[5m]";
    let before = query(&url, expr);
    program.kill();
    let data = dir.path().join("data");
    let matchers = || vec![Matcher::equal("__name__", "scrape_samples_scraped")];
    let tsdb = open(&data);
    assert!(tsdb.block_metas().len() >= 3);
    let ours = select(&tsdb, matchers(), i64::MIN, i64::MAX);
    let samples: Vec<(i64, String)> =
        ours.values().flatten().take(before.len()).map(|(ts, v)| (*ts, format!("{v}"))).collect();
    assert_eq!(samples, before);
    tsdb.maintain().expect("maintenance");
    commit(&tsdb, "ours", 1, now_ms(), 1.0).expect("a commit");
    assert!(select(&tsdb, matchers(), i64::MIN, i64::MAX) == ours, "compaction changes nothing");
    tsdb.close().expect("a close");
    let Some((_program, url)) = prometheus(dir.path(), "scrape_configs: []\n") else { return };
    assert_eq!(query(&url, expr)[..before.len()], before);
    assert_eq!(query(&url, "ours[5m]").len(), 1);
}
