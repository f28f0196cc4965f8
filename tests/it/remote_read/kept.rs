//! Rules over a real VictoriaMetrics at one tick after the other, while samples come in: what
//! is kept from tick to tick and the little that is fetched are what our own store has.

use std::sync::Arc;

use watchfire::query::{Bundle, Engine, EngineOptions, RunOptions};
use watchfire::telemetry::new_registry;

use super::rules::rules;
use super::*;

const TICK_MS: i64 = 30_000;
const TICKS: i64 = 14;

/// Those samples of a request that lie in a closed interval.
fn part(request: &proto::WriteRequest, from_ms: i64, to_ms: i64) -> proto::WriteRequest {
    let mut part = request.clone();
    for series in &mut part.timeseries {
        series.samples.retain(|s| (from_ms..=to_ms).contains(&s.timestamp));
    }
    part.timeseries.retain(|series| !series.samples.is_empty());
    part
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_tick_after_tick_come_to_the_same_with_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_vm, base)) = start_victoria_metrics(dir.path()) else { return };
    // The samples are moved so that the last ticks are now.
    let now_ms = surroundings().clock.now_ms();
    let shift_ms = (now_ms - data::END_MS) / 1000 * 1000;
    let mut sent = without_nan(data::request(SEED));
    for sample in sent.timeseries.iter_mut().flat_map(|series| &mut series.samples) {
        sample.timestamp += shift_ms;
    }
    let last_ms = data::END_MS + shift_ms - 500;
    let first_ms = last_ms - (TICKS - 1) * TICK_MS;

    let mut registry = new_registry();
    let around = Surroundings { metrics: RemoteMetrics::new(&mut registry), ..surroundings() };
    let config = DatasourceConfig {
        url: base.clone(),
        name: "other".to_owned(),
        kind: DatasourceKind::VictoriaMetrics,
        evaluate: Evaluation::Here,
        ..DatasourceConfig::default()
    };
    let remote = remote::open(&config, &around).await.unwrap();
    let metric = |registry: &watchfire::telemetry::Registry, name: &str| -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };

    let rules: Vec<String> = rules().into_iter().step_by(4).collect();
    let plain = Engine::new(EngineOptions::default());
    let bundle = |engine: &Arc<Engine>| {
        let queries = rules.iter().map(|r| Arc::new(engine.prepare(r).unwrap())).collect();
        Bundle::new(engine, queries)
    };
    let (ours, theirs) = (bundle(&plain), bundle(&plain));
    let (mut done_ms, mut bytes, mut requests) = (i64::MIN, Vec::new(), Vec::new());
    for tick in 0..TICKS {
        let at_ms = first_ms + tick * TICK_MS;
        // What comes in the last seconds before a tick comes after it.
        let so_far_ms = at_ms - 7_000 * (tick % 3);
        send(&base, &part(&sent, done_ms, so_far_ms)).await;
        flush(&base).await;
        done_ms = so_far_ms + 1;
        let store = local(&part(&sent, i64::MIN, so_far_ms));
        let before = metric(&registry, "watchfire_remote_read_received_bytes_total");
        let asked = metric(&registry, "prometheus_remote_storage_read_queries_total");
        let got = theirs.instant(&remote, at_ms, &RunOptions::default()).await;
        bytes.push(metric(&registry, "watchfire_remote_read_received_bytes_total") - before);
        requests.push(metric(&registry, "prometheus_remote_storage_read_queries_total") - asked);
        let wanted = ours.instant(&store, at_ms, &RunOptions::default()).await;
        for ((rule, wanted), got) in rules.iter().zip(wanted).zip(got) {
            let (wanted, got) = (comparable(wanted), comparable(got));
            assert!(same(&wanted, &got), "tick {tick} {rule}\n{wanted:?}\n{got:?}");
        }
    }
    assert!(metric(&registry, "watchfire_remote_read_kept_samples") > 1000.0);
    println!("bytes {bytes:?}\nrequests {requests:?}");
    // The first tick fetches everything, the second keeps it, later ones what is new.
    let later = &bytes[2..];
    let mean = later.iter().sum::<f64>() / later.len() as f64;
    assert!(mean * 3.0 < bytes[0], "{bytes:?}");
    assert!(requests[2..].iter().all(|n| *n <= 80.0), "{requests:?}");
}
