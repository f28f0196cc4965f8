//! Real exporters from Debian.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use super::bench::{Bench, series_labels};

/// An exporter that is killed with the test.
struct Exporter {
    process: Child,
    address: SocketAddr,
}

impl Exporter {
    /// Starts a program on a free port and waits until it says that it listens. `None`,
    /// after saying so, where the program is not installed.
    fn start(program: &str, arguments: &[&str]) -> Option<Self> {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let started = Command::new(program)
            .arg(format!("--web.listen-address={address}"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut process) = started else {
            eprintln!("SKIPPED: {program} is not installed");
            return None;
        };
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = lines.by_ref().map_while(Result::ok).any(|line| {
            let line = line.to_lowercase();
            line.contains("listening on") || line.contains("listen_address")
        });
        assert!(listening, "{program} ended without listening");
        // The pipe must not fill up: the program would stop.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, address })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_exporter_is_scraped_until_it_dies() {
    let arguments = ["--collector.disable-defaults", "--collector.loadavg", "--collector.cpu"];
    let Some(exporter) = Exporter::start("prometheus-node-exporter", &arguments) else { return };
    let bench = Bench::new();
    bench
        .apply(&format!(
            "scrape_configs: [{{job_name: node, static_configs: [{{targets: ['{}'], labels: \
             {{env: test}}}}]}}]",
            exporter.address
        ))
        .await;
    assert_eq!(bench.next_scrape("node").await.value, 1.0);
    let load = bench.sink.last("node", "node_load1").unwrap();
    assert_eq!(
        series_labels(&load),
        format!("{{env=\"test\", instance=\"{}\", job=\"node\"}}", exporter.address)
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
    let Some(gateway) = Exporter::start("prometheus-pushgateway", &[]) else { return };
    watchfire::http::install_crypto_provider();
    let url = format!("http://{}/metrics/job/batch/stage/load", gateway.address);
    let pushed = reqwest::Client::new().put(url).body("rows_total 42\n").send().await.unwrap();
    assert!(pushed.status().is_success());
    let bench = Bench::new();
    bench
        .apply(&format!(
            "scrape_configs: [{{job_name: gateway, honor_labels: true, static_configs: \
             [{{targets: ['{}']}}]}}]",
            gateway.address
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
