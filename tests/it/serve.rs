//! `watchfire serve` as an operator meets it: real exporters and Alertmanagers, kills
//! and restarts, and everything that can be wrong at start.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::{Program, free_address, http_get, http_post, run_watchfire, until};

const PATIENCE: Duration = Duration::from_secs(60);

fn strings<const N: usize>(args: [&str; N]) -> Vec<String> {
    args.map(str::to_owned).to_vec()
}

/// A running Watchfire over its own folder.
struct Server {
    program: Program,
    address: SocketAddr,
}

impl Server {
    fn start(dir: &Path, address: SocketAddr, more: &[&str]) -> Self {
        let mut args = strings(["serve", "--storage.tsdb.path=data"]);
        args.push(format!("--web.listen-address={address}"));
        args.extend(more.iter().map(|a| (*a).to_owned()));
        let mut program = Program::watchfire(&args, dir);
        program.wait_ready(&format!("http://{address}/-/ready"));
        Self { program, address }
    }

    fn get(&self, path: &str) -> Json {
        let (_, body) = http_get(&format!("http://{}{path}", self.address)).expect("an answer");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }

    /// The value of an instant query with one result.
    fn value(&self, query: &str) -> Option<f64> {
        let escaped: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let answer = self.get(&format!("/api/v1/query?query={escaped}"));
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// State of the first alert of a rule, from the API.
    fn alert_state(&self, name: &str) -> Option<String> {
        let alerts = self.get("/api/v1/alerts");
        let all = alerts["data"]["alerts"].as_array()?;
        let alert = all.iter().find(|a| a["labels"]["alertname"] == name)?;
        alert["state"].as_str().map(str::to_owned)
    }
}

/// Active alerts of an Alertmanager, through its own command-line tool.
pub fn amtool_alerts(alertmanager: SocketAddr, name: &str) -> Vec<Json> {
    let output = Command::new("amtool")
        .args(["alert", "query", "-o", "json"])
        .arg(format!("--alertmanager.url=http://{alertmanager}"))
        .arg(format!("alertname={name}"))
        .output()
        .expect("amtool runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let json: Json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("amtool: {e}: {text}"));
    json.as_array().cloned().unwrap_or_default()
}

pub fn start_alertmanager(dir: &Path) -> Option<(Program, SocketAddr)> {
    start_alertmanager_with(dir, "route: {receiver: none}\nreceivers: [{name: none}]\n")
}

pub fn start_alertmanager_with(dir: &Path, config: &str) -> Option<(Program, SocketAddr)> {
    let address = free_address();
    let text = config;
    let config = dir.join("alertmanager.yml");
    fs::write(&config, text).expect("a config");
    let args = vec![
        format!("--config.file={}", config.display()),
        format!("--storage.path={}", dir.join("alertmanager").display()),
        format!("--web.listen-address={address}"),
        "--cluster.listen-address=".to_owned(),
    ];
    let mut program = Program::start("prometheus-alertmanager", &args)?;
    program.wait_ready(&format!("http://{address}/-/ready"));
    Some((program, address))
}

fn start_node_exporter(textfiles: &Path) -> Option<(Program, SocketAddr)> {
    let address = free_address();
    let args = vec![
        format!("--web.listen-address={address}"),
        "--collector.disable-defaults".to_owned(),
        "--collector.loadavg".to_owned(),
        "--collector.meminfo".to_owned(),
        "--collector.textfile".to_owned(),
        format!("--collector.textfile.directory={}", textfiles.display()),
    ];
    let mut program = Program::start("prometheus-node-exporter", &args)?;
    program.wait_ready(&format!("http://{address}/metrics"));
    Some((program, address))
}

/// Sets the gauge the alert of the main test looks at.
fn set_pressure(textfiles: &Path, value: f64) {
    let text = format!("# TYPE demo_pressure gauge\ndemo_pressure {value}\n");
    // Renamed into place, so that the exporter never reads half a file.
    let draft = textfiles.join("draft");
    fs::write(&draft, text).expect("a text file");
    fs::rename(&draft, textfiles.join("demo.prom")).expect("a rename");
}

const RULES: &str = r#"
groups:
  - name: demo
    interval: 1s
    labels: {team: sre}
    rules:
      - record: demo:pressure:double
        expr: demo_pressure * 2
      - alert: PressureHigh
        expr: demo_pressure > 10
        for: 3s
        labels:
          severity: page
          where: '{{ $labels.instance }}'
        annotations:
          summary: 'Pressure is {{ $value | humanize }} on {{ $labels.job }} in {{ $externalLabels.region }}'
"#;

#[test]
fn an_alert_goes_from_a_real_exporter_to_a_real_alertmanager_and_resolves() {
    let dir = tempfile::tempdir().expect("a folder");
    let textfiles = dir.path().join("textfiles");
    fs::create_dir(&textfiles).expect("a folder");
    set_pressure(&textfiles, 1.0);
    let Some((_exporter, exporter)) = start_node_exporter(&textfiles) else { return };
    let Some((_alertmanager, alertmanager)) = start_alertmanager(dir.path()) else { return };
    // Nobody listens here: an Alertmanager that is down must delay nothing.
    let dead = free_address();
    fs::write(dir.path().join("rules.yml"), RULES).expect("rules");
    let config = format!(
        "global:
  scrape_interval: 1s
  evaluation_interval: 1s
  external_labels: {{region: eu}}
rule_files: [rules.yml]
alerting:
  alertmanagers:
    - static_configs: [{{targets: ['{dead}', '{alertmanager}']}}]
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ['{exporter}']}}]
"
    );
    fs::write(dir.path().join("prometheus.yml"), config).expect("a config");
    let address = free_address();
    let flags = ["--config.file=prometheus.yml", "--rules.alert.resend-delay=1s"];
    let mut server = Server::start(dir.path(), address, &flags);

    let scraped = until(PATIENCE, || server.value("node_load1{job=\"node\"}"));
    assert!(scraped.is_some(), "node_exporter was not scraped:\n{}", server.program.log());
    assert_eq!(until(PATIENCE, || server.value("demo:pressure:double")), Some(2.0));
    assert_eq!(server.alert_state("PressureHigh"), None);

    set_pressure(&textfiles, 1234.0);
    let pending = until(PATIENCE, || server.alert_state("PressureHigh"));
    assert_eq!(pending.as_deref(), Some("pending"), "the first state is pending");
    assert!(amtool_alerts(alertmanager, "PressureHigh").is_empty(), "pending alerts stay here");
    let firing =
        until(PATIENCE, || server.alert_state("PressureHigh").filter(|state| state == "firing"));
    assert!(firing.is_some(), "the alert never fired:\n{}", server.program.log());
    let received = until(PATIENCE, || amtool_alerts(alertmanager, "PressureHigh").pop())
        .unwrap_or_else(|| panic!("the alert never arrived:\n{}", server.program.log()));
    let labels = &received["labels"];
    for (name, value) in [
        ("alertname", "PressureHigh"),
        ("job", "node"),
        ("region", "eu"),
        ("severity", "page"),
        ("team", "sre"),
        ("where", exporter.to_string().as_str()),
    ] {
        assert_eq!(labels[name], value, "{received}");
    }
    assert_eq!(received["annotations"]["summary"], "Pressure is 1.234k on node in eu");
    assert!(server.value("ALERTS{alertname=\"PressureHigh\",alertstate=\"firing\"}").is_some());

    // SIGKILL: what was stored is still there, and the alert is not resolved by the gap.
    let stored = server.value("count_over_time(demo_pressure[1h])").expect("samples");
    server.program.kill();
    let mut server = Server::start(dir.path(), address, &flags);
    let kept = server.value("count_over_time(demo_pressure[1h])").expect("samples are kept");
    assert!(kept >= stored, "{kept} samples after the restart, {stored} before");
    let again =
        until(PATIENCE, || server.alert_state("PressureHigh").filter(|state| state == "firing"));
    assert!(again.is_some(), "the alert fires again:\n{}", server.program.log());
    assert_eq!(amtool_alerts(alertmanager, "PressureHigh").len(), 1, "it was never resolved");

    set_pressure(&textfiles, 1.0);
    let resolved =
        until(PATIENCE, || amtool_alerts(alertmanager, "PressureHigh").is_empty().then_some(()));
    assert!(resolved.is_some(), "the alert never resolved:\n{}", server.program.log());
    let status = server.program.terminate(PATIENCE).expect("it ends on SIGTERM");
    assert!(status.success(), "{status}:\n{}", server.program.log());
}

#[test]
fn without_configuration_it_watches_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let address = free_address();
    let mut args = strings(["serve"]);
    args.push(format!("--web.listen-address={address}"));
    let mut program = Program::watchfire(&args, dir.path());
    program.wait_ready(&format!("http://{address}/-/ready"));
    let server = Server { program, address };

    assert_eq!(until(PATIENCE, || server.value("up{job=\"watchfire\"}")), Some(1.0));
    assert!(dir.path().join("watchfire-data/wal").is_dir(), "data lies under ./watchfire-data");
    let found = "prometheus_sd_discovered_targets{name=\"scrape\",config=\"watchfire\"}";
    assert_eq!(until(PATIENCE, || server.value(found)), Some(1.0));
    let groups = server.get("/api/v1/rules");
    let groups = groups["data"]["groups"].as_array().expect("groups").len();
    assert!(groups > 0, "the shipped rules are loaded");
    let healthy = until(PATIENCE, || {
        let answer = server.get("/api/v1/rules");
        let all = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        let rules: Vec<Json> =
            all.iter().flat_map(|g| g["rules"].as_array().cloned().unwrap_or_default()).collect();
        (!rules.is_empty() && rules.iter().all(|r| r["health"] == "ok")).then_some(())
    });
    assert!(healthy.is_some(), "every shipped rule evaluates");
    let (status, page) = http_get(&format!("http://{address}/")).expect("the page");
    assert!(status == 200 && page.contains("<html"), "{status}: {page}");
}

/// Starts `watchfire serve` where it cannot start; returns what it said.
fn refusal(dir: &Path, more: &[&str]) -> String {
    let mut args = strings(["serve"]);
    if !more.iter().any(|a| a.starts_with("--storage.tsdb.path")) {
        args.push("--storage.tsdb.path=data".to_owned());
    }
    if !more.iter().any(|a| a.starts_with("--web.listen-address")) {
        args.push(format!("--web.listen-address={}", free_address()));
    }
    args.extend(more.iter().map(|a| (*a).to_owned()));
    let mut program = Program::watchfire(&args, dir);
    let status = program.wait(PATIENCE).expect("it gives up at once");
    // The pipe is read by another thread: wait for what was written last.
    let said = until(Duration::from_secs(5), || Some(program.log()).filter(|log| !log.is_empty()));
    let log = said.unwrap_or_default();
    assert_eq!(status.code(), Some(1), "{log}");
    log
}

#[test]
fn what_is_wrong_at_start_is_said_with_its_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |config: &str, expected: &[&str]| {
        fs::write(dir.path().join("bad.yml"), config).expect("a config");
        let log = refusal(dir.path(), &["--config.file=bad.yml", "--rules.strict"]);
        for text in expected {
            assert!(log.contains(text), "want {text:?} in:\n{log}");
        }
    };
    let log = refusal(dir.path(), &["--config.file=absent.yml"]);
    assert!(log.contains("absent.yml") && log.contains("No such file"), "{log}");
    check("globall: {}\n", &["bad.yml", "globall"]);
    check("groups: []\n", &["help: bad.yml is a rule file, which `watchfire check rules bad.yml`"]);
    check(
        "scrape_configs:\n  - job_name: a\n    relabel_configs: [{regex: '(', action: keep, source_labels: [x]}]\n",
        &["bad.yml", "missing closing )"],
    );
    fs::write(
        dir.path().join("rules.yml"),
        "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: up ==\n",
    )
    .expect("rules");
    check("rule_files: [rules.yml]\n", &["rules.yml", "rule 1, ", "parse error"]);
    fs::write(
        dir.path().join("rules.yml"),
        "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: up\n        annotations: {s: '{{ $nope }}'}\n",
    )
    .expect("rules");
    check("rule_files: [rules.yml]\n", &["rules.yml", "undefined variable", "$nope"]);

    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let held = holder.local_addr().expect("an address");
    let log = refusal(dir.path(), &[&format!("--web.listen-address={held}")]);
    assert!(log.contains(&held.to_string()) && log.contains("in use"), "{log}");

    fs::write(dir.path().join("file"), "").expect("a file");
    let log = refusal(dir.path(), &["--storage.tsdb.path=file/data"]);
    assert!(log.contains("file/data"), "{log}");
}

#[test]
fn what_prometheus_accepts_starts_and_is_named_where_it_has_no_effect() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = "
scrape_configs:
  - job_name: odd
    scheme: gopher
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs: [{targets: ['127.0.0.1:1']}]
  - job_name: found
    consul_sd_configs: [{server: '127.0.0.1:2'}]
otlp: {promote_resource_attributes: [a]}
";
    fs::write(dir.path().join("prometheus.yml"), config).expect("a config");
    let flags = ["--config.file=prometheus.yml", "--storage.agent.path=x"];
    let server = Server::start(dir.path(), free_address(), &flags);
    let log = server.program.log();
    for text in ["gopher", "consul_sd_configs", "otlp", "storage.agent.path"] {
        assert!(log.contains(text), "want {text:?} in:\n{log}");
    }
    let error = until(PATIENCE, || {
        let targets = server.get("/api/v1/targets");
        let target = &targets["data"]["activeTargets"][0];
        (target["health"] == "down").then(|| target["lastError"].to_string())
    });
    assert!(error.is_some_and(|e| e.contains("scheme")), "the target's error says why");
}

#[test]
fn aligned_groups_of_several_files_see_each_other_in_their_tick() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    write("prometheus.yml", "{global: {evaluation_interval: 1s}, rule_files: ['*.rules']}");
    write("a.rules", "groups: [{name: last, rules: [{record: third, expr: second + 0}]}]");
    write(
        "b.rules",
        "groups: [{name: first, rules: [{record: first, expr: vector(time())}, {record: second, expr: first}]}]",
    );
    let flags = [
        "--config.file=prometheus.yml",
        "--rules.align-groups",
        "--rules.read-your-writes=always",
        "--enable-feature=concurrent-rule-eval",
    ];
    let server = Server::start(dir.path(), free_address(), &flags);
    let lag = "max_over_time(abs(third - second)[5s:1s] offset 2s)";
    let seen = until(PATIENCE, || {
        let enough = "min_over_time((count_over_time(third[6s]))[1s:1s] offset 2s) > 4";
        // On a busy machine a tick may be missed: look at another five seconds then.
        server.value(enough).and_then(|_| server.value(lag)).filter(|lag| *lag == 0.0)
    });
    assert_eq!(seen, Some(0.0), "every value is that of its own tick");
    let (_, metrics) = http_get(&format!("http://{}/metrics", server.address)).expect("metrics");
    let laid = metrics.lines().find_map(|l| l.strip_prefix("watchfire_rules_overlay_samples "));
    assert!(laid.is_some_and(|n| n.parse::<f64>().is_ok_and(|n| n > 0.0)), "{laid:?}");
    assert!(!server.program.log().contains("concurrent-rule-eval"), "the feature is known");
}

#[test]
fn a_second_process_is_kept_out_of_the_data_directory() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(dir.path(), free_address(), &[]);
    let log = refusal(dir.path(), &[]);
    assert!(log.contains("data") && log.contains("lock"), "{log}");
    assert!(server.value("vector(1)").is_some(), "the first one goes on");
}

#[test]
fn reload_applies_a_good_configuration_and_keeps_the_old_one_when_it_is_bad() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("prometheus.yml");
    let rules = |name: &str| {
        format!("groups: [{{name: {name}, rules: [{{record: a:b, expr: vector(1)}}]}}]\n")
    };
    fs::write(dir.path().join("rules.yml"), rules("first")).expect("rules");
    fs::write(&file, "rule_files: [rules.yml]\n").expect("a config");
    let flags = ["--config.file=prometheus.yml", "--web.enable-lifecycle"];
    let mut server = Server::start(dir.path(), free_address(), &flags);
    let listener = listen(server.address, "/api/v1/notifications/live");
    let group = || {
        let answer = server.get("/api/v1/rules");
        answer["data"]["groups"][0]["name"].as_str().map(str::to_owned)
    };
    let reload = || http_post(&format!("http://{}/-/reload", server.address)).expect("an answer");
    assert_eq!(group().as_deref(), Some("first"));
    fs::write(dir.path().join("rules.yml"), rules("second")).expect("rules");
    let (status, _) = reload();
    assert_eq!((status, group().as_deref()), (200, Some("second")));
    fs::write(&file, "rule_filess: []\n").expect("a config");
    let (status, body) = reload();
    assert_eq!(status, 500, "{body}");
    assert!(body.contains("rule_filess"), "{body}");
    assert_eq!(group().as_deref(), Some("second"), "the old rules go on");
    let notifications = || server.get("/api/v1/notifications")["data"].clone();
    assert_eq!(notifications()[0]["text"], "Configuration reload has failed.");

    fs::write(&file, "rule_files: []\n").expect("a config");
    let _ = Command::new("kill").args(["-HUP", &server.program.pid().to_string()]).status();
    let clear = || notifications().as_array().is_some_and(Vec::is_empty);
    assert!(until(PATIENCE, || clear().then_some(())).is_some(), "SIGHUP reloads too");
    assert_eq!(group(), None);

    // Who listens hears all of it, and does not hold up the end.
    assert!(server.program.terminate(PATIENCE).is_some_and(|status| status.success()));
    let heard = listener.join().expect("a stream");
    let events: Vec<Json> = heard
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|event| serde_json::from_str(event).expect("JSON"))
        .collect();
    let events: Vec<(&str, bool)> = events
        .iter()
        .map(|e| (e["text"].as_str().unwrap_or_default(), e["active"] == true))
        .collect();
    let (failed, stopping) = (
        "Configuration reload has failed.",
        "Prometheus is shutting down and gracefully stopping all operations.",
    );
    assert_eq!(events, [(failed, true), (failed, false), (stopping, true)], "{heard}");
}

/// Reads an answer that goes on until the server ends it.
fn listen(address: SocketAddr, path: &str) -> std::thread::JoinHandle<String> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut first = [0];
    stream.read_exact(&mut first).expect("the answer begins");
    std::thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the stream ends");
        text
    })
}

#[test]
fn bad_rules_are_set_aside_and_every_error_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = |value: f64| {
        format!(
            "groups: [{{name: g, interval: 1s, rules: [{{record: kept, expr: vector({value})}}]}}]\n"
        )
    };
    fs::write(dir.path().join("a.yml"), good(1.0)).expect("rules");
    fs::write(dir.path().join("b.yml"), "groups: [{name: b, rules: [{record: r, expr: 'up =='}]}]")
        .expect("rules");
    fs::create_dir(dir.path().join("config")).expect("a folder");
    fs::write(dir.path().join("config/prometheus.yml"), "rule_files: ['../*.yml']\n")
        .expect("a config");
    let flags = ["--config.file=config/prometheus.yml", "--web.enable-lifecycle"];
    let server = Server::start(dir.path(), free_address(), &flags);
    let metric = |name: &str| {
        let (_, text) = http_get(&format!("http://{}/metrics", server.address)).expect("metrics");
        let line = text.lines().find(|l| l.starts_with(name)).map(str::to_owned);
        line.and_then(|l| l.rsplit(' ').next().map(str::to_owned))
    };
    let reload = || http_post(&format!("http://{}/-/reload", server.address)).expect("an answer");
    let kept = |value: f64| until(PATIENCE, || server.value("kept").filter(|v| *v == value));

    // It starts with what is good.
    assert_eq!(kept(1.0), Some(1.0));
    assert_eq!(metric("prometheus_config_last_reload_successful").as_deref(), Some("0"));
    assert_eq!(metric("watchfire_rules_quarantined{").as_deref(), Some("1"));

    // The good version goes on, and what is new and good comes into effect beside it.
    fs::write(dir.path().join("a.yml"), "groups: [").expect("rules");
    let more = "groups: [{name: c, interval: 1s, rules: [{record: fresh, expr: '1'}]}]";
    fs::write(dir.path().join("c.yml"), more).expect("rules");
    let (status, body) = reload();
    assert_eq!(status, 500, "{body}");
    for text in ["a.yml:2:1: yaml: line 2", "b.yml: 1:", "parse error"] {
        assert!(body.contains(text), "want {text:?} in {body}");
    }
    assert_eq!(until(PATIENCE, || server.value("fresh")), Some(1.0));
    let at = server.value("timestamp(kept)").expect("a time");
    assert!(until(PATIENCE, || server.value("timestamp(kept)").filter(|t| *t > at)).is_some());
    let rules = server.get("/api/v1/rules");
    let data = &rules["data"];
    let first = &data["groups"][0]["rules"][0];
    assert_eq!((&first["name"], &first["health"]), (&Json::from("kept"), &Json::from("err")));
    assert_eq!(first["quarantined"]["lastGoodRuns"], true, "{first}");
    let error = first["lastError"].as_str().expect("an error");
    assert!(error.contains("a.yml:2:1: yaml: line 2") && error.contains("version runs"), "{error}");
    let aside = data["quarantined"].as_array().expect("a list");
    let kinds: Vec<(&str, bool)> = aside
        .iter()
        .map(|q| (q["kind"].as_str().unwrap_or(""), q["lastGoodRuns"] == true))
        .collect();
    assert_eq!(kinds, [("file", true), ("rule", false)], "{aside:?}");
    assert_eq!(metric("prometheus_config_last_reload_successful").as_deref(), Some("0"));

    // All is well again.
    fs::write(dir.path().join("a.yml"), good(2.0)).expect("rules");
    fs::remove_file(dir.path().join("b.yml")).expect("no file");
    let (status, body) = reload();
    assert_eq!(status, 200, "{body}");
    assert_eq!(kept(2.0), Some(2.0));
    assert_eq!(metric("prometheus_config_last_reload_successful").as_deref(), Some("1"));
    assert_eq!(metric("watchfire_rules_quarantined{"), None);
    let top = server.get("/api/v1/rules/top?by=series&limit=1");
    assert_eq!(top["data"]["rules"][0]["series"]["last"], 1.0, "{top}");
    assert!(top["data"]["groups"][0]["used"].as_f64().expect("a share") > 0.0, "{top}");

    // What was good is known after a restart, too.
    let mut server = server;
    server.program.kill();
    fs::write(dir.path().join("a.yml"), "groups: [").expect("rules");
    let server = Server::start(dir.path(), server.address, &flags);
    let rules = server.get("/api/v1/rules");
    assert_eq!(rules["data"]["quarantined"][0]["lastGoodRuns"], true, "{rules}");
    let at = server.value("timestamp(kept)").expect("a time");
    assert!(until(PATIENCE, || server.value("timestamp(kept)").filter(|t| *t > at)).is_some());
    assert_eq!(server.value("kept"), Some(2.0));
}

#[test]
fn the_query_client_prints_what_promtool_prints() {
    if !crate::support::available("promtool") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(dir.path(), free_address(), &[]);
    assert_eq!(until(PATIENCE, || server.value("up")), Some(1.0));
    let url = format!("http://{}", server.address);
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        let output = command.arg("query").args(args).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let check = |args: &[&str]| {
        let ours = run(env!("CARGO_BIN_EXE_watchfire"), args);
        assert_eq!(ours, run("promtool", args), "{args:?}");
        ours
    };
    check(&["instant", "--time=1700000000.5", &url, "vector(1) or vector(2)"]);
    check(&["instant", "--time=1700000000", &url, "1.5e3"]);
    let times = ["--start=1700000000", "--end=1700000060", "--step=30s"];
    check(&["range", times[0], times[1], times[2], &url, "vector(time())"]);
    check(&["series", "--match=up", &url]);
    let (code, jobs, _) = check(&["labels", &url, "job"]);
    assert_eq!((code, jobs.as_str()), (Some(0), "watchfire"));
    let (code, _, error) = run(env!("CARGO_BIN_EXE_watchfire"), &["instant", &url, "sum("]);
    assert_eq!(code, Some(1));
    assert!(error.starts_with("query error: bad_data: ") && error.contains("1:5"), "{error}");
}

#[test]
fn blocks_are_served_deleted_from_and_copied_by_administrators() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut text = String::new();
    for (i, series) in ["a", "b"].iter().enumerate() {
        for minute in 0..4 * 60 {
            let seconds = 1_700_000_000 + minute * 60;
            text += &format!("imported{{series=\"{series}\"}} {} {seconds}\n", minute * (i + 1));
        }
    }
    fs::write(dir.path().join("in.om"), text + "# EOF\n").expect("a file");
    let args = ["tsdb", "create-blocks-from", "openmetrics", "-q", "in.om", "data"];
    assert!(run_watchfire(&args, dir.path(), b"").status.success());
    let address = free_address();
    let mut server = Server::start(dir.path(), address, &[]);
    let blocks = || server.get("/api/v1/status/tsdb/blocks")["data"]["blocks"].clone();
    let metas = blocks();
    let all = metas.as_array().expect("blocks");
    assert_eq!((all.len(), &all[0]["compaction"]["level"]), (3, &Json::from(1)));
    let count = "sum(count_over_time(imported[5h] @ 1700014400))";
    assert_eq!(server.value(count), Some(480.0));
    let post = |address: SocketAddr, path: &str| {
        http_post(&format!("http://{address}/api/v1/admin/tsdb/{path}")).expect("an answer")
    };
    let (status, body) = post(address, "delete_series?match[]=imported");
    assert!(status == 500 && body.contains("admin APIs disabled"), "{status} {body}");
    server.program.terminate(PATIENCE).expect("an end");

    let address = free_address();
    let server = Server::start(dir.path(), address, &["--web.enable-admin-api"]);
    for (path, why) in [
        ("delete_series", "no match[] parameter provided"),
        ("delete_series?match[]=imported{", "invalid parameter"),
        ("delete_series?match[]=imported&start=x", "start"),
        ("snapshot?skip_head=maybe", "unable to parse boolean 'skip_head' argument"),
    ] {
        let (status, body) = post(address, path);
        assert!(status == 400 && body.contains(why), "{path}: {status} {body}");
    }
    let delete = "delete_series?match[]=imported{series=\"a\"}&start=1700000000&end=1700003600";
    assert_eq!(post(address, delete), (204, String::new()));
    assert_eq!(server.value(count), Some(480.0 - 61.0));
    assert_eq!(post(address, "clean_tombstones"), (204, String::new()));
    assert_eq!(server.value(count), Some(480.0 - 61.0));
    let blocks = server.get("/api/v1/status/tsdb/blocks")["data"]["blocks"].clone();
    let left: u64 = blocks
        .as_array()
        .expect("blocks")
        .iter()
        .filter_map(|b| b["stats"]["numSamples"].as_u64())
        .sum();
    assert_eq!(left, 480 - 61);
    let (status, body) = post(address, "snapshot");
    let answer: Json = serde_json::from_str(&body).expect("JSON");
    let name = answer["data"]["name"].as_str().expect("a name");
    assert_eq!(status, 200);
    let copy = format!("data/snapshots/{name}");
    let dumped = run_watchfire(&["tsdb", "dump", "--match=imported", &copy], dir.path(), b"");
    assert_eq!(String::from_utf8_lossy(&dumped.stdout).lines().count(), 480 - 61);
    let (_, metrics) = http_get(&format!("http://{address}/metrics")).expect("metrics");
    for line in ["prometheus_tsdb_blocks_loaded 3", "prometheus_tsdb_retention_limit_bytes 0"] {
        assert!(metrics.lines().any(|l| l == line), "{line}");
    }
}

#[test]
fn metrics_are_pushed_in_either_version() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("prometheus.yml"), "global: {}\n").expect("a config");
    let text = "# TYPE x_total counter\n# HELP x_total So many.\nx_total{a=\"b\"} 3\n";
    fs::write(dir.path().join("m.prom"), text).expect("a file");
    let address = free_address();
    let server = Server::start(dir.path(), address, &["--web.enable-remote-write-receiver"]);
    let url = format!("http://{address}");
    for (job, message) in
        [("one", "prometheus.WriteRequest"), ("two", "io.prometheus.write.v2.Request")]
    {
        let label = format!("--label=job={job}");
        let message = format!("--protobuf_message={message}");
        let args = ["push", "metrics", &url, "m.prom", &label, &message];
        let output = run_watchfire(&args, dir.path(), &[]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(server.value(&format!("x_total{{job='{job}'}}")), Some(3.0));
    }
}
