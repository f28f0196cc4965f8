//! Exemplars, scraped and sent, as Watchfire and a real Prometheus keep them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::{Program, free_address, http_get, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// The times are those of the scrapes but where a time stands.
const BODY: &str = r#"# TYPE http histogram
http_bucket{le="0.1"} 8 # {} 0.054
http_bucket{le="2.5"} 11 # {trace_id="KOO5S4vxi0o",span=""} 0.67
http_bucket{le="+Inf"} 17 # {trace_id="oHg5SJYRHA0",user="é"} 9.8 1520879607.789
http_count 17
http_sum 324789.3
# TYPE calls counter
calls_total{path="/a"} 5 # {trace_id="first"} 1
calls_total{path="/long"} 5 # {trace_id="LONG"} 1
# EOF
"#;

/// Serves a body for as long as the test runs.
fn serve_metrics() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let body = BODY.replace("LONG", &"x".repeat(130));
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A scraper that went away is none of the test's business.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

fn arguments(dir: &Path, address: SocketAddr) -> Vec<String> {
    vec![
        format!("--config.file={}", dir.join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", dir.join("data").display()),
        format!("--web.listen-address={address}"),
        "--enable-feature=exemplar-storage".to_owned(),
    ]
}

/// What is kept of these series, with times of scrapes made alike.
fn exemplars(address: SocketAddr, query: &str) -> Option<Json> {
    let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let url = format!("http://{address}/api/v1/query_exemplars?query={query}");
    let (status, body) = http_get(&url).ok()?;
    assert_eq!(status, 200, "{body}");
    let mut answer: Json = serde_json::from_str(&body).expect("JSON");
    for series in answer["data"].as_array_mut()? {
        for exemplar in series["exemplars"].as_array_mut()? {
            let own = exemplar["timestamp"].as_f64() == Some(1_520_879_607.789);
            exemplar["timestamp"] = if own { "own".into() } else { "of the scrape".into() };
        }
    }
    Some(answer)
}

#[test]
fn scraped_exemplars_are_kept_as_prometheus_keeps_them_and_over_a_restart() {
    let target = serve_metrics();
    let config = format!(
        "scrape_configs: [{{job_name: j, scrape_interval: 1s, scrape_timeout: 1s, \
         static_configs: [{{targets: ['{target}'], labels: {{instance: i}}}}]}}]\n\
         storage: {{exemplars: {{max_exemplars: 100}}}}\n"
    );
    let (ours, theirs) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
    for dir in [&ours, &theirs] {
        fs::write(dir.path().join("prometheus.yml"), &config).expect("a config");
    }
    let query = r#"rate(http_bucket[5m]) + on () group_left calls_total{path=~".+"}"#;
    let all = |address| {
        let found = until(PATIENCE, || {
            exemplars(address, query)
                .filter(|got| got["data"].as_array().is_some_and(|d| d.len() >= 4))
        });
        found.unwrap_or_else(|| panic!("no exemplars: {:?}", exemplars(address, query)))
    };

    let address = free_address();
    let mut args = vec!["serve".to_owned()];
    args.extend(arguments(ours.path(), address));
    let mut watchfire = Program::watchfire(&args, ours.path());
    watchfire.wait_ready(&format!("http://{address}/-/ready"));
    let kept = all(address);
    let narrow = exemplars(address, "calls_total{path='/b'}").expect("an answer");
    assert_eq!(narrow["data"], serde_json::json!([]));
    let (status, _) =
        http_get(&format!("http://{address}/api/v1/query_exemplars?query=1")).expect("an answer");
    assert_eq!(status, 204, "an expression without selectors");

    // Killed and started without the target: what is kept comes from the log.
    watchfire.kill();
    let config = "storage: {exemplars: {max_exemplars: 100}}\n";
    fs::write(ours.path().join("prometheus.yml"), config).expect("a config");
    let mut watchfire = Program::watchfire(&args, ours.path());
    watchfire.wait_ready(&format!("http://{address}/-/ready"));
    assert_eq!(exemplars(address, query), Some(kept.clone()));
    let (_, metrics) = http_get(&format!("http://{address}/metrics")).expect("metrics");
    assert!(metrics.contains("\nprometheus_tsdb_exemplar_exemplars_in_storage 4\n"), "{metrics}");

    let address = free_address();
    let arguments = arguments(theirs.path(), address);
    let Some(mut prometheus) = Program::start("prometheus", &arguments) else { return };
    prometheus.wait_ready(&format!("http://{address}/-/ready"));
    assert_eq!(all(address), kept);
}
