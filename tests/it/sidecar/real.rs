//! Beside the real Prometheus and the real VictoriaMetrics.

use std::fs;
use std::path::Path;

use super::{PATIENCE, Server, query, times};
use crate::serve::{amtool_alerts, start_alertmanager};
use crate::support::{Program, available, free_address, http_get, start_prometheus, until};

/// A chain: the second rule reads the first, and the alert reads the second, in one tick.
const RULES: &str = r#"
groups:
  - name: beside
    rules:
      - record: beside:up:sum
        expr: sum by (job) (up)
      - record: beside:up:double
        expr: beside:up:sum * 2
      - alert: Doubled
        expr: beside:up:double == 2
        for: 3s
        annotations: {summary: 'is {{ $value }}'}
"#;

fn args(server: &str, kind: &str, alertmanager: std::net::SocketAddr) -> Vec<String> {
    [
        "sidecar",
        &format!("--prometheus.url={server}"),
        &format!("--prometheus.type={kind}"),
        "--rules=rules/*.yml",
        &format!("--alertmanager=http://{alertmanager}"),
        "--rules.evaluation-interval=1s",
        "--rules.alert.resend-delay=1s",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn active_at(server: &Server) -> Option<String> {
    let alerts = server.alerts("Doubled");
    let alert = alerts.first().filter(|a| a["state"] == "firing")?;
    alert["activeAt"].as_str().map(str::to_owned)
}

/// The sidecar's life over a server at `base`: evaluates, pages, writes back, is killed and
/// goes on.
fn live(dir: &Path, base: &str, kind: &str) {
    let Some((_alertmanager, alertmanager)) = start_alertmanager(dir) else { return };
    fs::create_dir(dir.join("rules")).expect("a folder");
    fs::write(dir.join("rules/a.yml"), RULES).expect("rules");
    let address = free_address();
    let args = args(base, kind, alertmanager);
    let mut sidecar = Server::start(dir, address, &args);
    let since = until(PATIENCE, || active_at(&sidecar));
    let since = since.unwrap_or_else(|| panic!("no alert\n{}", sidecar.program.log()));
    let paged = until(PATIENCE, || amtool_alerts(alertmanager, "Doubled").pop());
    assert_eq!(paged.expect("a page")["annotations"]["summary"], "is 2");
    // Whoever asks the sidecar sees results at once; the server has them a little later.
    let own = format!("http://{address}");
    assert_eq!(query(&own, "beside:up:double").len(), 1);
    let written = until(PATIENCE, || query(base, "beside:up:double").pop());
    assert!(written.is_some(), "{}", sidecar.program.log());
    let state = until(PATIENCE, || query(base, "ALERTS{alertname='Doubled'}").pop());
    assert_eq!(state.expect("an alert's series")["metric"]["alertstate"], "firing");

    sidecar.program.kill();
    sidecar = Server::start(dir, address, &args);
    let again = until(PATIENCE, || active_at(&sidecar));
    assert_eq!(again.as_ref(), Some(&since), "{}", sidecar.program.log());
    // Nothing of what was evaluated is missing in the server, nor there twice.
    let before = times(&own, "beside:up:sum").len();
    let behind = until(PATIENCE, || {
        let (theirs, ours) = (times(base, "beside:up:sum"), times(&own, "beside:up:sum"));
        let ordered = theirs.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(ordered, "{theirs:?}");
        (ours.len() >= before && theirs.len() >= before).then_some(())
    });
    assert!(behind.is_some(), "{}", sidecar.program.log());
    assert!(sidecar.program.terminate(PATIENCE).is_some_and(|s| s.success()));
}

#[test]
fn beside_a_real_prometheus_it_pages_writes_back_and_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = "global: {scrape_interval: 1s}
scrape_configs: [{job_name: self, static_configs: [{targets: ['SELF']}]}]
";
    let Some((_prometheus, base)) = start_prometheus(dir.path(), config) else { return };
    live(dir.path(), &base, "prometheus");
}

#[test]
fn beside_a_real_victoria_metrics_it_pages_writes_back_and_goes_on_after_a_kill() {
    if !available("victoria-metrics") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let address = free_address();
    let config = dir.path().join("scrape.yml");
    let scrape = format!(
        "global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: self, static_configs: [{{targets: ['{address}']}}]}}]
"
    );
    fs::write(&config, scrape).expect("a file");
    let args = [
        format!("-storageDataPath={}", dir.path().join("vm").display()),
        format!("-httpListenAddr={address}"),
        format!("-promscrape.config={}", config.display()),
        "-search.latencyOffset=0s".to_owned(),
        "-dedup.minScrapeInterval=1ms".to_owned(),
        "-memory.allowedBytes=64MB".to_owned(),
    ];
    let mut server = Program::start("victoria-metrics", &args).expect("it is there");
    server.wait_ready(&format!("http://{address}/health"));
    live(dir.path(), &format!("http://{address}"), "victoriametrics");
}

#[test]
fn a_server_that_takes_no_remote_write_is_named_and_alerts_go_out_all_the_same() {
    if !available("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let Some((_alertmanager, alertmanager)) = start_alertmanager(dir.path()) else { return };
    let server = free_address();
    let config = dir.path().join("p.yml");
    let scrape = format!(
        "global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: self, static_configs: [{{targets: ['{server}']}}]}}]
"
    );
    fs::write(&config, scrape).expect("a file");
    let prometheus = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.path().join("p").display()),
        format!("--web.listen-address={server}"),
    ];
    let mut prometheus = Program::start("prometheus", &prometheus).expect("it is there");
    prometheus.wait_ready(&format!("http://{server}/-/ready"));
    fs::create_dir(dir.path().join("rules")).expect("a folder");
    fs::write(dir.path().join("rules/a.yml"), RULES).expect("rules");
    let args = args(&format!("http://{server}"), "prometheus", alertmanager);
    let sidecar = Server::start(dir.path(), free_address(), &args);
    let paged = until(PATIENCE, || amtool_alerts(alertmanager, "Doubled").pop());
    assert!(paged.is_some(), "the chain of rules holds by what is remembered here");
    let told = until(PATIENCE, || {
        sidecar.program.log().contains("--web.enable-remote-write-receiver").then_some(())
    });
    assert!(told.is_some(), "{}", sidecar.program.log());
    // The server goes: an alert that cannot be evaluated is not resolved.
    prometheus.kill();
    let failing = until(PATIENCE, || {
        let rules = sidecar.get("/api/v1/rules");
        (rules["data"]["groups"][0]["rules"][0]["health"] == "err").then_some(())
    });
    assert!(failing.is_some(), "the source is away");
    assert!(active_at(&sidecar).is_some(), "no false resolve");
    let (status, _) = http_get(&format!("http://{}/-/ready", sidecar.address)).expect("an answer");
    assert_eq!(status, 200);
}
