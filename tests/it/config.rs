//! The configuration file as a user meets it: what is accepted, refused and warned about.

use std::path::Path;

use watchfire::config::{self, CheckProblem};

use crate::support;

fn refusal(yaml: &str) -> String {
    match config::parse(yaml, Path::new("/etc/x")) {
        Ok(loaded) => format!("accepted with {:?}", loaded.warnings),
        Err(e) => e.to_string().replace("parsing YAML file configuration: ", ""),
    }
}

#[test]
fn an_empty_file_means_the_defaults_of_prometheus() {
    for text in ["", "global:\nalerting:\nstorage:\nruntime:\nscrape_configs:\n"] {
        let loaded = config::parse(text, Path::new("")).unwrap();
        let global = &loaded.config.global;
        assert_eq!(
            (global.scrape_interval_ms, global.scrape_timeout_ms, global.evaluation_interval_ms),
            (60_000, 10_000, 60_000)
        );
        assert_eq!(loaded.warnings, [] as [&str; 0]);
    }
}

#[test]
fn mistakes_are_refused_with_line_and_the_words_of_prometheus() {
    let job = |rest: &str| format!("scrape_configs:\n- job_name: a\n  {rest}\n");
    for (yaml, expected) in [
        (
            "global: {scrape_interval: 5s, scrape_timeout: 6s}".to_owned(),
            "line 1: global scrape timeout greater than scrape interval",
        ),
        (
            job("scrape_timeout: 2m"),
            "line 2: scrape timeout greater than scrape interval for scrape config with job name \
             \"a\"",
        ),
        (job("scrape_interval: 5"), "line 3: not a valid duration string: \"5\""),
        (
            "scrape_configs:\n- job_name: a\n- job_name: b\n- job_name: a".to_owned(),
            "line 4: found multiple scrape configs with job name \"a\"",
        ),
        ("scrape_configs:\n- scheme: http".to_owned(), "line 2: job_name is empty"),
        (
            "scrape_configs:\n- job_name: a\n-".to_owned(),
            "line 3: empty or null scrape config section",
        ),
        (
            job("static_configs: [{targets: ['http://bad']}]"),
            "line 2: \"http://bad\" is not a valid hostname",
        ),
        (
            job("relabel_configs: [~]"),
            "line 3: empty or null target relabeling rule in scrape config",
        ),
        (
            job("relabel_configs: [{action: hashmod, target_label: x}]"),
            "line 2: relabel configuration for hashmod requires non-zero modulus",
        ),
        (
            job("scrape_intervall: 5s"),
            "line 3: unknown field \"scrape_intervall\": did you mean \"scrape_interval\"?",
        ),
        (
            job("basic_auth: {username: a, passwort: b}"),
            "line 3: unknown field \"passwort\": did you mean \"password\"?",
        ),
        (
            job("bearer_token: a\n  bearer_token_file: b"),
            "line 2: at most one of bearer_token & bearer_token_file must be configured",
        ),
        (
            job("scrape_protocols: [Bogus]"),
            "line 2: scrape_protocols: unknown scrape protocol Bogus, supported: \
             [OpenMetricsText0.0.1 OpenMetricsText1.0.0 PrometheusProto PrometheusText0.0.4 \
             PrometheusText1.0.0] for scrape config with job name \"a\"",
        ),
        (
            "alerting: {alertmanagers: [{api_version: v1}]}".to_owned(),
            "line 1: expected Alertmanager api version to be one of [v2] but got v1",
        ),
        ("remote_write: [{name: x}]".to_owned(), "line 1: url for remote_write is empty"),
        (
            "remote_write: [{url: 'http://x/', headers: {Authorization: y}}]".to_owned(),
            "line 1: authorization header must be changed via the basic_auth, authorization, \
             oauth2, sigv4, azuread or google_iam parameter",
        ),
        (
            "remote_write: [{url: 'http://x/', headers: {Content-Type: y}}]".to_owned(),
            "line 1: Content-Type is a reserved header. It must not be changed",
        ),
        (
            "remote_write: [{url: 'http://x/', protobuf_message: v3}]".to_owned(),
            "line 1: unknown remote write protobuf message v3, supported: \
             prometheus.WriteRequest, io.prometheus.write.v2.Request",
        ),
        (
            "remote_write: [{url: 'http://x/', sigv4: {region: r}, basic_auth: {username: u}}]"
                .to_owned(),
            "line 1: at most one of basic_auth, authorization, oauth2, sigv4, azuread or \
             google_iam must be configured",
        ),
        (
            "remote_write: [{url: 'http://x/', name: a}, {url: 'http://y/', name: a}]".to_owned(),
            "line 1: found multiple remote write configs with job name \"a\"",
        ),
        (
            "remote_write: [{url: 'http://x/', queue_config: {max_shards: 0}}]".to_owned(),
            "line 1: queue_config: max_shards must be at least 1",
        ),
        ("rule_files: ['a/*/b.yml']".to_owned(), "line 1: invalid rule file path \"a/*/b.yml\""),
        // Several mistakes are named together.
        (
            "globall:\nscrape_configs:\n- job_name: a\n  foo: 1\n- job_name: b\n  scheme: [x]"
                .to_owned(),
            "line 1: unknown field \"globall\": did you mean \"global\"?; line 4: unknown field",
        ),
    ] {
        let got = refusal(&yaml);
        assert!(got.starts_with(expected), "{yaml}\n got {got}\nwant {expected}");
    }
}

#[test]
fn what_is_not_served_is_named_in_a_warning() {
    let yaml = "
remote_write: [{url: 'http://x/', basic_auth: {username: u, password: hunter2}, azuread: {oauth: {client_secret: hunter2}}}]
otlp: {promote_resource_attributes: [a]}
storage: {tsdb: {out_of_order_time_window: 30m, retention: {time: 10d, size: 1GB}}}
scrape_configs:
- job_name: k8s
  kubernetes_sd_configs: [{role: pod, basic_auth: {password: hunter2}}]
  oauth2: {client_id: a, client_secret: hunter2, token_url: 'http://t/'}
  scrape_native_histograms: true
alerting:
  alertmanagers: [{sigv4: {region: r, access_key: a, secret_key: hunter2}}]
";
    let loaded = config::parse(yaml, Path::new("/etc/x")).unwrap();
    for word in [
        "azuread",
        "otlp",
        "scrape config \"k8s\": kubernetes_sd_configs",
        "scrape_native_histograms",
    ] {
        let found = loaded.warnings.iter().filter(|w| w.contains(word)).count();
        assert_eq!(found, 1, "{word}: {:#?}", loaded.warnings);
    }
    assert_eq!(loaded.config.storage.out_of_order_window_ms(), 30 * 60_000);
    let printed = loaded.config.to_yaml();
    assert!(!printed.contains("hunter2"), "{printed}");
    let retention = loaded.config.storage.tsdb.unwrap().retention.unwrap();
    assert_eq!((retention.time_ms, retention.size_bytes), (864_000_000, 1 << 30));
}

#[test]
fn other_systems_are_checked_as_prometheus_does_and_in_our_own_words() {
    let check = |yaml: &str, expected: &str| {
        let error = config::parse(yaml, Path::new("/etc/x")).unwrap_err().to_string();
        assert!(error.contains(expected), "{yaml}: {error}");
    };
    check("remote_read: [{}]", "url for remote_read is empty");
    check("remote_read: [null]", "empty or null remote read config section");
    check("remote_read: [{url: 'x'}]", "parse \"x\"");
    check("remote_read: [{url: 'http://x/', nonsense: 1}]", "nonsense");
    check(
        "remote_read: [{url: 'http://x/', headers: {Host: a}}]",
        "Host is a reserved header. It must not be changed",
    );
    check(
        "remote_read: [{url: 'http://x/', headers: {authorization: a}}]",
        "authorization header must be changed via",
    );
    check(
        "remote_read: [{url: 'http://x/', name: a}, {url: 'http://y/', name: a}]",
        "found multiple remote read configs with job name \"a\"",
    );
    check("datasources: {a: {url: 'ftp://x'}}", "datasources.a: \"ftp://x\" is not an HTTP URL");
    check("datasources: {a: {url: 'http://x', type: odd}}", "odd");
    check("datasources: {a: {url: 'http://x', max_series: 0}}", "max_series must be greater");
    check("datasources: {a: {shards: [b]}}", "there is no datasource \"b\"");
    check("datasources: {a: {shards: [a]}}", "datasources.a is made of itself");
    check("datasources: {local: {url: 'http://x'}}", "that of the local storage");
    let yaml = "
remote_read: [{url: 'http://u:hunter2@x/', basic_auth: {username: u, password: hunter2}, required_matchers: {a: b}, read_recent: true}]
datasources:
  a: {url: 'http://u:hunter2@x/', type: victoriametrics, evaluate: here, bearer_token: hunter2}
  b: {shards: [a, local], replica_labels: [r], partial_response: warn}
  c: {routes: [{source: a, max_age: 2d}, {source: b}]}
";
    let loaded = config::parse(yaml, Path::new("/etc/x")).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let printed = loaded.config.to_yaml();
    assert!(!printed.contains("hunter2"), "{printed}");
    for text in ["read_recent: true", "type: victoriametrics", "evaluate: here", "max_age: 2d"] {
        assert!(printed.contains(text), "{text}: {printed}");
    }
}

#[test]
fn a_printed_configuration_reads_back_the_same() {
    let yaml = "
global: {scrape_interval: 15s, external_labels: {a: b, c: '$$x'}, body_size_limit: 10MB}
rule_files: [rules/*.yml, /abs/x.yml]
alerting:
  alert_relabel_configs: [{source_labels: [a], regex: 'x|y', action: drop}]
  alertmanagers:
  - {path_prefix: /am, timeout: 5s, static_configs: [{targets: ['am:9093'], labels: {l: v}}]}
scrape_configs:
- job_name: node
  params: {module: [http_2xx]}
  tls_config: {ca_file: ca.pem, insecure_skip_verify: true}
  proxy_url: http://proxy:3128
  authorization: {credentials_file: token}
  metric_relabel_configs: [{regex: 'go_.*', action: labeldrop}]
  static_configs: [{targets: ['a:1', 'b:2']}]
";
    let first = config::parse(yaml, Path::new("/etc/x")).unwrap().config;
    assert_eq!(first.rule_files, ["/etc/x/rules/*.yml", "/abs/x.yml"]);
    assert_eq!(first.scrape_configs[0].http.tls_config.ca_file, "/etc/x/ca.pem");
    assert_eq!(first.scrape_configs[0].scrape_interval_ms, 15_000);
    assert_eq!(first.global.external_labels.get("c"), Some("$x"));
    let printed = first.to_yaml();
    let again = printed.replace("$x", "$$x");
    let second =
        config::parse(&again, Path::new("/etc/x")).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    assert_eq!(second.config, first, "{printed}");
}

#[test]
fn included_scrape_configs_are_loaded_and_clashes_found() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("prometheus.yml");
    std::fs::create_dir(dir.path().join("jobs")).unwrap();
    std::fs::write(&main, "scrape_config_files: ['jobs/*.yml']\nscrape_configs: [{job_name: a}]")
        .unwrap();
    let included = dir.path().join("jobs/b.yml");
    std::fs::write(&included, "scrape_configs: [{job_name: b, tls_config: {ca_file: ca}}]")
        .unwrap();
    let config = config::load(&main).unwrap().config;
    let jobs: Vec<&str> = config.all_scrape_configs().map(|c| c.job_name.as_str()).collect();
    assert_eq!(jobs, ["a", "b"]);
    let ca = &config.included_scrape_configs[0].http.tls_config.ca_file;
    assert_eq!(Path::new(ca), dir.path().join("jobs/ca"));

    std::fs::write(&included, "scrape_configs: [{job_name: a}]").unwrap();
    let text = config::load(&main).unwrap_err().to_string();
    assert!(
        text.contains(
            "found multiple scrape configs with job name \"a\", first found in main config file"
        ),
        "{text}"
    );
    let missing = config::load(&dir.path().join("no.yml")).unwrap_err().to_string();
    assert!(missing.contains("cannot read") && missing.contains("no.yml"), "{missing}");
}

#[test]
fn verdicts_on_configurations_agree_with_promtool() {
    let Some(dir) = support::shared("conformance/promtool") else { return };
    let text = std::fs::read_to_string(dir.join("cases.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = cases.as_array().or_else(|| cases["cases"].as_array()).unwrap();
    let mut checked = 0;
    for case in cases.iter().filter(|c| c["command"] == "check config") {
        let args: Vec<&str> =
            case["args"].as_array().unwrap().iter().filter_map(|a| a.as_str()).collect();
        let file = args.last().unwrap();
        let lint = args.iter().any(|a| a.starts_with("--lint"));
        // Whether rule files lint is the rules' business.
        if lint || case["id"] == "cli-130" {
            continue;
        }
        let verdict = match config::load(&dir.join("files").join(file)) {
            Err(e) => Err(e.to_string()),
            Ok(_) if args.contains(&"--syntax-only") => Ok(()),
            Ok(loaded) => {
                let problems = config::check_references(&loaded.config);
                match problems.iter().find(|p| matches!(p, CheckProblem::Error(_))) {
                    Some(problem) => Err(problem.to_string()),
                    None => Ok(()),
                }
            }
        };
        let expected = case["expect"]["exit_code"] == 0;
        assert_eq!(verdict.is_ok(), expected, "{}: {args:?}: {verdict:?}", case["id"]);
        checked += 1;
    }
    assert!(checked >= 10, "only {checked} cases were checked");
}
