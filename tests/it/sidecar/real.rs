//! Beside the real Prometheus and the real VictoriaMetrics.

use std::fs;
use std::path::Path;

use super::{PATIENCE, Server, query, times};
use crate::serve::{amtool_alerts, start_alertmanager};
use crate::support::{Program, available, free_address, http_get, start_prometheus, until};

/// A chain: the second rule reads the first, and the alert reads the second, in one tick. A
/// scrape that takes longer than its second, as on a busy machine, changes nothing of it.
const RULES: &str = r#"
groups:
  - name: beside
    rules:
      - record: beside:up:count
        expr: count by (job) (up)
      - record: beside:up:double
        expr: beside:up:count * 2
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
    let firing = "ALERTS{alertname='Doubled', alertstate='firing'}";
    assert!(until(PATIENCE, || query(base, firing).pop()).is_some(), "an alert's series");

    sidecar.program.kill();
    sidecar = Server::start(dir, address, &args);
    let again = until(PATIENCE, || active_at(&sidecar));
    assert_eq!(again.as_ref(), Some(&since), "{}", sidecar.program.log());
    // Nothing of what was evaluated is missing in the server, nor there twice.
    let before = times(&own, "beside:up:count").len();
    let behind = until(PATIENCE, || {
        let (theirs, ours) = (times(base, "beside:up:count"), times(&own, "beside:up:count"));
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
    live(dir.path(), &base, "auto");
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
    live(dir.path(), &format!("http://{address}"), "auto");
}

/// A Prometheus that scrapes itself.
fn scraping_itself(dir: &Path, address: std::net::SocketAddr, more: &[&str]) -> Program {
    let config = dir.join("p.yml");
    let scrape = format!(
        "global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: self, static_configs: [{{targets: ['{address}']}}]}}]
"
    );
    fs::write(&config, scrape).expect("a file");
    let mut args = vec![
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.join("p").display()),
        format!("--web.listen-address={address}"),
    ];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    let mut program = Program::start("prometheus", &args).expect("it is there");
    program.wait_ready(&format!("http://{address}/-/ready"));
    program
}

#[test]
fn a_sidecar_that_starts_before_its_server_evaluates_when_it_is_there() {
    if !available("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let Some((_alertmanager, alertmanager)) = start_alertmanager(dir.path()) else { return };
    fs::create_dir(dir.path().join("rules")).expect("a folder");
    fs::write(dir.path().join("rules/a.yml"), RULES).expect("rules");
    let server = free_address();
    let args = args(&format!("http://{server}"), "auto", alertmanager);
    let sidecar = Server::start(dir.path(), free_address(), &args);
    let failing = until(PATIENCE, || {
        let rules = sidecar.get("/api/v1/rules");
        (rules["data"]["groups"][0]["rules"][0]["health"] == "err").then_some(())
    });
    assert!(failing.is_some(), "{}", sidecar.program.log());
    let told = sidecar.program.log();
    assert_eq!(told.matches("It is not known yet what the server is").count(), 1, "{told}");
    let more = "--web.enable-remote-write-receiver";
    let _prometheus = scraping_itself(dir.path(), server, &[more]);
    let paged = until(PATIENCE, || amtool_alerts(alertmanager, "Doubled").pop());
    assert!(paged.is_some(), "{}", sidecar.program.log());
    let (_, metrics) = http_get(&format!("http://{}/metrics", sidecar.address)).expect("metrics");
    let known = |line: &&str| line.starts_with("watchfire_remote_read_type{");
    let known: Vec<&str> = metrics.lines().filter(known).collect();
    assert!(known.len() == 1 && known[0].contains("type=\"remote_read\""), "{known:?}");
    let told = || sidecar.program.log().contains("Rules were planned anew").then_some(());
    assert!(until(PATIENCE, told).is_some(), "{}", sidecar.program.log());
}

#[test]
fn a_server_that_takes_no_remote_write_is_named_and_alerts_go_out_all_the_same() {
    if !available("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let Some((_alertmanager, alertmanager)) = start_alertmanager(dir.path()) else { return };
    let server = free_address();
    let mut prometheus = scraping_itself(dir.path(), server, &[]);
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

/// With a data directory that is only read, results go to the server whose directory it is,
/// and come back from there.
#[test]
fn over_a_data_directory_results_are_written_to_its_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = "global: {scrape_interval: 1s}
scrape_configs: [{job_name: self, static_configs: [{targets: ['SELF']}]}]
";
    let Some((_prometheus, base)) = start_prometheus(dir.path(), config) else { return };
    let Some((_alertmanager, alertmanager)) = start_alertmanager(dir.path()) else { return };
    fs::create_dir(dir.path().join("rules")).expect("a folder");
    fs::write(dir.path().join("rules/a.yml"), RULES).expect("rules");
    let mut args = args(&base, "prometheus", alertmanager);
    args.push(format!("--storage.tsdb.read-only={}", dir.path().join("data").display()));
    let address = free_address();
    let sidecar = Server::start(dir.path(), address, &args);
    let paged = until(PATIENCE, || amtool_alerts(alertmanager, "Doubled").pop());
    assert!(paged.is_some(), "{}", sidecar.program.log());
    let written = until(PATIENCE, || query(&base, "beside:up:double").pop());
    assert!(written.is_some(), "{}", sidecar.program.log());
    let firing = "ALERTS{alertname='Doubled', alertstate='firing'}";
    assert!(until(PATIENCE, || query(&base, firing).pop()).is_some(), "an alert's series");
    // What the server has by now is in its directory, where the sidecar reads it.
    let written = times(&base, "beside:up:count");
    let own = format!("http://{address}");
    let seen = until(PATIENCE, || {
        let seen = times(&own, "beside:up:count");
        written.iter().all(|ts| seen.contains(ts)).then_some(())
    });
    assert!(seen.is_some(), "{written:?} {}", sidecar.program.log());
}

/// A rule was left to the server until another one began to record what it reads: from then
/// on the server does not have all of it.
#[test]
fn what_others_begin_to_record_is_not_left_to_the_server_any_more() {
    if !available("victoria-metrics") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let address = free_address();
    let args = [
        format!("-storageDataPath={}", dir.path().join("vm").display()),
        format!("-httpListenAddr={address}"),
        "-memory.allowedBytes=64MB".to_owned(),
    ];
    let mut server = Program::start("victoria-metrics", &args).expect("it is there");
    server.wait_ready(&format!("http://{address}/health"));
    fs::create_dir(dir.path().join("rules")).expect("a folder");
    let reader = "groups: [{name: reader, rules: [{record: out, expr: sum(fresh)}]}]";
    fs::write(dir.path().join("rules/a.yml"), reader).expect("rules");
    let args = [
        "sidecar",
        &format!("--prometheus.url=http://{address}"),
        "--prometheus.type=victoriametrics",
        "--prometheus.evaluate=push-down",
        // What is recorded never comes to the server.
        "--remote-write.url=none",
        "--rules=rules/*.yml",
        "--rules.evaluation-interval=1s",
        "--rules.refresh-interval=1s",
    ];
    let sidecar = Server::start(dir.path(), free_address(), &args.map(str::to_owned));
    let own = format!("http://{}", sidecar.address);
    let ran = || {
        let rules = sidecar.get("/api/v1/rules");
        (rules["data"]["groups"][0]["rules"][0]["health"] == "ok").then_some(())
    };
    assert!(until(PATIENCE, ran).is_some(), "{}", sidecar.program.log());
    assert!(query(&own, "out").is_empty());
    let writer = "groups: [{name: writer, rules: [{record: fresh, expr: vector(5)}]}]";
    fs::write(dir.path().join("rules/b.yml"), writer).expect("rules");
    let out = until(PATIENCE, || query(&own, "out").pop());
    let out = out.unwrap_or_else(|| panic!("{}", sidecar.program.log()));
    assert_eq!(out["value"][1], "5");
}
