//! `watchfire serve` with `remote_read` and `datasources` in its configuration.

use super::*;
use crate::support::{http_get, until};

/// A server of ours with this configuration.
fn start(dir: &Path, config: &str) -> (Program, String) {
    let address = free_address();
    std::fs::write(dir.join("watchfire.yml"), config).unwrap();
    let args = [
        "serve".to_owned(),
        format!("--config.file={}", dir.join("watchfire.yml").display()),
        format!("--storage.tsdb.path={}", dir.join("ours").display()),
        format!("--web.listen-address={address}"),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    let base = format!("http://{address}");
    let mut program = Program::watchfire(&args, dir);
    let ready = format!("{base}/-/ready");
    std::thread::scope(|scope| scope.spawn(|| program.wait_ready(&ready)).join()).unwrap();
    (program, base)
}

fn get(url: &str) -> Value {
    let (status, body) =
        std::thread::scope(|scope| scope.spawn(|| http_get(url)).join()).unwrap().unwrap();
    let value: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!(value["status"] == "success", status == 200, "{body}");
    value
}

fn query(base: &str, query: &str, more: &str) -> Value {
    let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    get(&format!("{base}/api/v1/query?query={query}&time=1699999990.5{more}"))
}

fn count(answer: &Value) -> usize {
    answer["data"]["result"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_are_about_the_sources_the_configuration_names() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_prometheus, theirs)) = start_prometheus(dir.path(), "global: {}\n") else { return };
    send(&theirs, &data::request(SEED)).await;
    let dead = free_address();
    let rules = "groups:\n- name: g\n  interval: 1s\n  datasource: prom\n  rules:\n  - {record: theirs, expr: count(up @ 1699999990.5)}\n  - {record: ours, expr: count(theirs) + 41, datasource: local}\n";
    std::fs::write(dir.path().join("rules.yml"), rules).unwrap();
    let config = format!(
        "rule_files: [rules.yml]\nremote_read:\n- url: {theirs}/api/v1/read\n  name: real\n- url: http://{dead}/api/v1/read\n  name: dead\n  required_matchers: {{dead: 'yes'}}\n\
         datasources:\n  prom: {{url: '{theirs}', evaluate: push_down}}\n  read: {{url: '{theirs}/api/v1/read', type: remote_read}}\n  down: {{url: 'http://{dead}', timeout: 1s}}\n  \
         both: {{shards: [prom, down], partial_response: warn}}\n  strict: {{shards: [prom, down]}}\n  \
         pair: {{shards: [prom, read], replica_labels: [instance]}}\n  aged: {{routes: [{{source: local, max_age: 1d}}, {{source: read}}]}}\n"
    );
    let (program, base) = start(dir.path(), &config);
    assert!(!program.log().contains("is not served"), "{}", program.log());
    let up = count(&query(&theirs, "up", ""));
    assert!(up > 5);

    // Beside our own store, which has nothing.
    let answer = query(&base, "up", "");
    assert_eq!((count(&answer), answer.get("warnings")), (up, None));
    let answer = query(&base, "up or vector(1) unless on () absent(x{dead=\"yes\"})", "");
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("dead: ") && warning.contains("Connection refused"), "{warning}");

    // By parameter and by matcher, also in one expression.
    for name in ["prom", "read", "aged"] {
        assert_eq!(count(&query(&base, "up", &format!("&datasource={name}"))), up, "{name}");
    }
    let joined = "up{__datasource__=\"prom\"} == on (job, instance) up{__datasource__=\"read\"}";
    assert_eq!(count(&query(&base, joined, "")), up);
    assert_eq!(count(&query(&base, "up", "&datasource=local")), up);
    let instances = count(&query(&base, "count by (job) (up)", "&datasource=prom"));
    assert_eq!(count(&query(&base, "up", "&datasource=pair")), instances);

    // Rules read from one and write to the other.
    let value = |name: &str| {
        let answer = get(&format!("{base}/api/v1/query?query={name}"));
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    let made = until(PATIENCE, || value("theirs").zip(value("ours")));
    assert_eq!(made, Some((up.to_string(), "42".to_owned())));
    let listed = get(&format!("{base}/api/v1/rules"));
    let shown = &listed["data"]["groups"][0]["rules"][0]["query"];
    assert_eq!(shown, "count(up{__datasource__=\"prom\"} @ 1699999990.500)");

    // What is down is an error or a warning, never an empty answer.
    let error = query(&base, "up", "&datasource=down");
    assert!(error["error"].as_str().unwrap().contains("down: "), "{error}");
    assert_eq!(query(&base, "up", "&datasource=strict")["status"], "error");
    let answer = query(&base, "sum by (job) (up)", "&datasource=both");
    assert_eq!(count(&answer), instances);
    assert!(answer["warnings"][0].as_str().unwrap().contains("down: "), "{answer}");
    let error = query(&base, "up", "&datasource=nowhere");
    assert!(error["error"].as_str().unwrap().contains("there is no datasource"), "{error}");

    let config = get(&format!("{base}/api/v1/status/config"));
    let yaml = config["data"]["yaml"].as_str().unwrap();
    assert!(yaml.contains("remote_read:") && yaml.contains("partial_response: warn"), "{yaml}");
    let metrics = std::thread::scope(|s| s.spawn(|| http_get(&format!("{base}/metrics"))).join());
    let (_, metrics) = metrics.unwrap().unwrap();
    let line = "prometheus_remote_storage_read_queries_total{remote_name=\"real\"";
    assert!(metrics.contains(line), "{metrics}");
    drop(program);
}
