//! Reloads: what stays keeps running, what goes ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::header;
use axum::routing::get;
use watchfire::scrape::ScrapeView;

use super::rig::Bench;
use crate::support::serve_app;

async fn counting_target() -> (SocketAddr, Arc<AtomicUsize>) {
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let router = Router::new().fallback(get(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            let body = "# TYPE a counter\n# HELP a Some help.\na 1\ngo_x 1\n";
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], body)
        }
    }));
    (serve_app(router).await, hits)
}

fn config(address: SocketAddr, jobs: &[&str], options: &str) -> String {
    let mut yaml = "scrape_configs:\n".to_owned();
    for job in jobs {
        yaml += &format!(
            "- job_name: {job}\n  static_configs: [{{targets: ['{address}', 'drop:1']}}]\n  \
             relabel_configs: [{{source_labels: [__address__], regex: 'drop:1', action: drop}}]\n  \
             {options}\n"
        );
    }
    yaml
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_targets_that_stay_alone() {
    let (address, hits) = counting_target().await;
    let bench = Bench::new();
    bench.apply(&config(address, &["a"], "")).await;
    let first = bench.next_scrape("a").await;
    assert_eq!(bench.sink.last("a", "scrape_series_added").unwrap().value, 2.0);

    // The same again, and a further job: no scrape out of turn, nothing forgotten.
    bench.apply(&config(address, &["a"], "")).await;
    bench.apply(&config(address, &["a", "b"], "")).await;
    let second = bench.next_scrape("a").await;
    assert_eq!(second.ts - first.ts, 60_000);
    assert_eq!(bench.sink.last("a", "scrape_series_added").unwrap().value, 0.0);
    bench.sink.until("job b", |sink| sink.last("b", "up")).await;
    assert_eq!(hits.load(Ordering::SeqCst), 3);

    // Another relabelling: the target keeps its beat, the dropped series ends, the other
    // goes on.
    let rules =
        "metric_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}]";
    bench.apply(&config(address, &["a"], rules)).await;
    bench.next_scrape("a").await;
    assert!(bench.sink.last("a", "go_x").unwrap().is_stale());
    assert!(!bench.sink.last("a", "a").unwrap().is_stale());
    bench.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_removed_ends_after_two_intervals() {
    let (address, _) = counting_target().await;
    let bench = Bench::new();
    bench.apply(&config(address, &["a"], "")).await;
    let up = bench.next_scrape("a").await;
    // The loop must have moved on to its next tick before the clock jumps.
    while bench.manager.active_targets()[0].last_scrape_ms.is_none() {
        tokio::task::yield_now().await;
    }
    bench.apply("").await;
    assert!(bench.manager.active_targets().is_empty());
    bench.clock.advance_ms(60_000 * 3);
    for metric in ["a", "go_x", "up", "scrape_duration_seconds"] {
        let last =
            bench.sink.until("the end", |sink| sink.last("a", metric).filter(|s| s.is_stale()));
        let last = last.await;
        // Stamped with the first scrape that did not take place.
        assert!(last.ts > up.ts && last.ts <= up.ts + 60_000, "{metric}: {last:?}");
    }
    bench.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_marks_nothing_stale() {
    let (address, _) = counting_target().await;
    let bench = Bench::new();
    bench.apply(&config(address, &["a"], "")).await;
    bench.next_scrape("a").await;
    bench.manager.stop().await;
    bench.clock.advance_ms(600_000);
    assert!(!bench.sink.last("a", "up").unwrap().is_stale());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_shows_targets_dropped_ones_and_metadata() {
    let (address, _) = counting_target().await;
    let bench = Bench::new();
    bench.apply(&config(address, &["a"], "extra_scrape_metrics: true")).await;
    let page = bench.manager.active_targets().remove(0);
    assert_eq!(page.health.as_str(), "unknown");
    assert_eq!((page.scrape_interval_ms, page.scrape_timeout_ms), (60_000, 10_000));
    assert_eq!(page.scrape_url, format!("http://{address}/metrics"));
    assert_eq!(page.global_url, format!("http://box:{}/metrics", address.port()));
    assert_eq!(page.labels.to_string(), format!("{{instance=\"{address}\", job=\"a\"}}"));
    assert_eq!(page.discovered_labels.get("__scheme__"), Some("http"));
    let dropped = bench.manager.dropped_targets();
    assert_eq!(dropped[0].discovered_labels.get("__address__"), Some("drop:1"));
    assert_eq!(bench.manager.dropped_target_counts(), [("a".to_owned(), 1)]);

    bench.next_scrape("a").await;
    let metadata = bench.manager.metadata();
    assert_eq!(metadata.len(), 1);
    assert_eq!(&*metadata[0].metadata.help, "Some help.");
    assert_eq!(metadata[0].metadata.kind.as_str(), "counter");
    assert_eq!(bench.sink.last("a", "scrape_timeout_seconds").unwrap().value, 10.0);
    assert_eq!(bench.sink.last("a", "scrape_body_size_bytes").unwrap().value, 48.0);
    bench.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_targets_fail_the_whole_job() {
    let (address, hits) = counting_target().await;
    let bench = Bench::new();
    let yaml = format!(
        "scrape_configs: [{{job_name: a, target_limit: 1, static_configs: [{{targets: \
         ['{address}', 'localhost:{}']}}]}}]",
        address.port()
    );
    bench.apply(&yaml).await;
    assert_eq!(bench.next_scrape("a").await.value, 0.0);
    bench.sink.until("both targets", |sink| (sink.count("a", "up") == 2).then_some(())).await;
    assert_eq!(hits.load(Ordering::SeqCst), 0);
    bench.manager.stop().await;
}
