//! Real exporters from Debian.

use std::net::SocketAddr;

use super::rig::{Bench, series_labels};
use crate::support::{Program, free_address};

/// Starts an exporter and waits until it answers.
fn start(name: &str, arguments: &[&str]) -> Option<(Program, SocketAddr)> {
    let address = free_address();
    let mut all = vec![format!("--web.listen-address={address}")];
    all.extend(arguments.iter().map(|a| (*a).to_owned()));
    let mut program = Program::start(name, &all)?;
    tokio::task::block_in_place(|| program.wait_ready(&format!("http://{address}/metrics")));
    Some((program, address))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_exporter_is_scraped_until_it_dies() {
    let arguments = ["--collector.disable-defaults", "--collector.loadavg", "--collector.cpu"];
    let Some((exporter, address)) = start("prometheus-node-exporter", &arguments) else { return };
    let bench = Bench::new();
    bench
        .apply(&format!(
            "scrape_configs: [{{job_name: node, static_configs: [{{targets: ['{}'], labels: \
             {{env: test}}}}]}}]",
            address
        ))
        .await;
    assert_eq!(bench.next_scrape("node").await.value, 1.0);
    let load = bench.sink.last("node", "node_load1").unwrap();
    assert_eq!(
        series_labels(&load),
        format!("{{env=\"test\", instance=\"{}\", job=\"node\"}}", address)
    );
    let cpu = bench.sink.last("node", "node_cpu_seconds_total").unwrap();
    assert!(cpu.labels.get("mode").is_some() && cpu.value >= 0.0);
    let scraped = bench.sink.last("node", "scrape_samples_scraped").unwrap().value;
    let added = bench.sink.last("node", "scrape_series_added").unwrap().value;
    assert!(scraped > 20.0 && added == scraped, "{scraped} {added}");
    bench.next_scrape("node").await;
    assert_eq!(bench.sink.last("node", "scrape_series_added").unwrap().value, 0.0);

    drop(exporter);
    let up = bench.next_scrape("node").await;
    assert_eq!(up.value, 0.0);
    let load = bench.sink.last("node", "node_load1").unwrap();
    assert!(load.is_stale() && load.ts == up.ts);
    bench.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushgateways_labels_are_honored() {
    let Some((_gateway, address)) = start("prometheus-pushgateway", &[]) else { return };
    watchfire::http::install_crypto_provider();
    let url = format!("http://{}/metrics/job/batch/stage/load", address);
    let pushed = reqwest::Client::new().put(url).body("rows_total 42\n").send().await.unwrap();
    assert!(pushed.status().is_success());
    let bench = Bench::new();
    bench
        .apply(&format!(
            "scrape_configs: [{{job_name: gateway, honor_labels: true, static_configs: \
             [{{targets: ['{}']}}]}}]",
            address
        ))
        .await;
    assert_eq!(bench.next_scrape("gateway").await.value, 1.0);
    let rows = bench.sink.last("batch", "rows_total").unwrap();
    // The pushed job stands; the gateway's empty instance keeps the target's away.
    assert_eq!(series_labels(&rows), r#"{job="batch", stage="load"}"#);
    assert_eq!(rows.value, 42.0);
    assert!(bench.sink.last("gateway", "pushgateway_build_info").is_some());
    bench.manager.stop().await;
}
