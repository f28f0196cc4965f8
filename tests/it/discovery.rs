//! Discovery of targets and Alertmanagers by files, HTTP and DNS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, MX, NS, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use watchfire::config;
use watchfire::discovery::{
    Discovery, DiscoveryConfig, DiscoveryMetrics, DiscoveryUser, Surroundings,
};
use watchfire::model::Labels;
use watchfire::notifier::{Manager, NotifierOptions, NotifierView};
use watchfire::telemetry::Registry;
use watchfire::telemetry::clock::SystemClock;

use crate::support::serve_app;

/// Longest wait for something that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    around: Surroundings,
    registry: Registry,
}

impl Rig {
    fn new(name_server: Option<SocketAddr>) -> Self {
        let mut registry = Registry::default();
        let around = Surroundings {
            clock: Arc::new(SystemClock::default()),
            metrics: DiscoveryMetrics::new(&mut registry),
            user: DiscoveryUser::Scrape,
            user_agent: "Watchfire/test".to_owned(),
            name_server,
        };
        Self { around, registry }
    }

    async fn start(&self, config: &DiscoveryConfig) -> Discovery {
        Discovery::start(config, "a", &self.around).await.unwrap()
    }

    /// Series of metrics that begin so: the rest of their name and labels, and the value.
    fn lines(&self, start: &str) -> Vec<(String, f64)> {
        lines(&self.registry, start)
    }

    /// Waits until a counter has at least that value.
    async fn counted(&self, line: &str, least: f64) {
        let look = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
            let value = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
            value.is_some_and(|value: f64| value >= least)
        };
        soon(line, look).await;
    }
}

fn lines(registry: &Registry, start: &str) -> Vec<(String, f64)> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let mut lines: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix(start)?.rsplit_once(' '))
        .map(|(labels, value)| (labels.to_owned(), value.parse().unwrap()))
        .collect();
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines
}

async fn soon(what: &str, mut look: impl FnMut() -> bool) {
    let wait = async {
        while !look() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("gave up: {what}"));
}

/// The discovery of the only job of a configuration.
fn discovery(yaml: &str) -> DiscoveryConfig {
    let text = format!("scrape_configs: [{{job_name: a, {yaml}}}]");
    let loaded = config::parse(&text, Path::new("/")).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    loaded.config.all_scrape_configs().next().unwrap().discovery.clone()
}

/// Every target found, printed and sorted.
fn targets(discovery: &Discovery) -> Vec<String> {
    let groups = discovery.groups();
    let sets = groups.iter().flat_map(|group| group.label_sets().collect::<Vec<_>>());
    let mut all: Vec<String> = sets.map(|labels: Labels| labels.to_string()).collect();
    all.sort();
    all
}

async fn finds(discovery: &Discovery, expected: &[String]) {
    let last = Mutex::new(Vec::new());
    let look = || {
        *last.lock().unwrap() = targets(discovery);
        *last.lock().unwrap() == expected
    };
    let wait = async {
        while !look() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        panic!("found {:#?}\ninstead of {expected:#?}", last.lock().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let put = |name: &str, text: &str| {
        // As careful writers do: nobody sees half a file.
        std::fs::write(path("new"), text).unwrap();
        std::fs::rename(path("new"), path(name)).unwrap();
    };
    put("a.yml", "- targets: ['a:1', 'b:2']\n  labels: {env: prod, __address__: never}\n");
    put("b.json", r#"[{"targets": ["c:3"]}, {"labels": {"x": "y"}}]"#);
    let rig = Rig::new(None);
    let files = path("*.yml").display().to_string();
    let json = path("b.json").display().to_string();
    let found = rig
        .start(&discovery(&format!("file_sd_configs: [{{files: ['{files}', '{json}']}}]")))
        .await;
    let target = |address: &str, file: &str, more: &str| {
        let file = path(file).display().to_string();
        format!("{{__address__=\"{address}\", __meta_filepath=\"{file}\"{more}}}")
    };
    let env = ", env=\"prod\"";
    let c = target("c:3", "b.json", "");
    finds(&found, &[target("a:1", "a.yml", env), target("b:2", "a.yml", env), c.clone()]).await;

    put("a.yml", "- targets: ['d:4']\n");
    put("c.yml", "- targets: ['e:5']\n");
    let d = target("d:4", "a.yml", "");
    finds(&found, &[c.clone(), d.clone(), target("e:5", "c.yml", "")]).await;

    // What cannot be read keeps what was read before; what is gone has nothing.
    let errors = "prometheus_sd_file_read_errors_total";
    for (n, broken) in ["- targets: 1", "- nothing: []", "- null", ": ["].iter().enumerate() {
        put("a.yml", broken);
        rig.counted(errors, n as f64 + 1.0).await;
    }
    std::fs::remove_file(path("c.yml")).unwrap();
    finds(&found, &[c.clone(), d]).await;
    put("a.yml", "");
    finds(&found, &[c]).await;

    // Times are shown of the files there are, as long as they are read.
    let times = || {
        let lines = rig.lines("prometheus_sd_file_mtime_seconds{");
        lines.iter().map(|(labels, _)| labels.clone()).collect::<Vec<_>>()
    };
    let time = |name: &str| format!("filename=\"{}\"}}", path(name).display());
    soon("times", || times() == [time("a.yml"), time("b.json")]).await;
    let scans = rig.lines("prometheus_sd_file_scan_duration_seconds_count");
    assert!(scans[0].1 >= 3.0, "{scans:?}");
    drop(found);
    soon("no times", || times().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_asked_again_and_again() {
    type Answer = (StatusCode, &'static str, &'static str);
    let good = (
        StatusCode::OK,
        "application/json; charset=utf-8",
        r#"[{"targets": ["a:1"], "labels": {"l": "v"}}, {"targets": ["b:2"]}]"#,
    );
    let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(good));
    let asked: Arc<Mutex<Option<HeaderMap>>> = Arc::default();
    let (current, seen) = (answer.clone(), asked.clone());
    let app = Router::new().route(
        "/sd",
        get(move |headers: HeaderMap| async move {
            *seen.lock().unwrap() = Some(headers);
            let (status, kind, body) = *current.lock().unwrap();
            (status, [(header::CONTENT_TYPE, kind)], body).into_response()
        }),
    );
    let url = format!("http://{}/sd", serve_app(app).await);

    let rig = Rig::new(None);
    let found = rig
        .start(&discovery(&format!(
            "http_sd_configs: [{{url: '{url}', refresh_interval: 100ms, \
             basic_auth: {{username: u, password: p}}}}]"
        )))
        .await;
    let target = |address: &str, more: &str| {
        format!("{{__address__=\"{address}\", __meta_url=\"{url}\"{more}}}")
    };
    let both = [target("a:1", ", l=\"v\""), target("b:2", "")];
    finds(&found, &both).await;
    let headers = asked.lock().unwrap().clone().unwrap();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("x-prometheus-refresh-interval-seconds"), "0.1");
    assert_eq!(header("accept"), "application/json");
    assert_eq!(header("authorization"), "Basic dTpw");
    assert_eq!(header("user-agent"), "Watchfire/test");

    let mut failures = 0.0;
    for bad in [
        (StatusCode::INTERNAL_SERVER_ERROR, good.1, good.2),
        (StatusCode::OK, "text/html", good.2),
        (StatusCode::OK, good.1, "{}"),
        (StatusCode::OK, good.1, "[null]"),
        (StatusCode::OK, good.1, "[{\"target\": []}]"),
    ] {
        *answer.lock().unwrap() = bad;
        // Two more, so that the last is surely one of these.
        failures += 2.0;
        rig.counted("prometheus_sd_http_failures_total", failures).await;
        assert_eq!(targets(&found), both, "{bad:?}");
    }
    *answer.lock().unwrap() = (StatusCode::OK, "application/json", r#"[{"targets": ["c:3"]}]"#);
    finds(&found, &[target("c:3", "")]).await;
    let failed = rig.lines("prometheus_sd_refresh_failures_total{mechanism=\"http\"");
    assert_eq!(failed[0].0, ",config=\"a\"}");
    let counts =
        ["prometheus_sd_http_failures_total", "prometheus_sd_refresh_duration_seconds_count"]
            .map(|name| rig.lines(name)[0].1);
    assert!(failed[0].1 >= 10.0 && counts[0] >= 10.0 && counts[1] >= 12.0, "{counts:?}");
}

/// A name server on loopback that knows a few names.
async fn name_server() -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
            let mut answer = question.into_response();
            let query = answer.queries[0].clone();
            let name = |text: &str| Name::from_ascii(text).unwrap();
            let data = match (query.name().to_ascii().as_str(), query.query_type()) {
                ("_am._tcp.test.", RecordType::SRV) => vec![
                    RData::SRV(SRV::new(0, 0, 9094, name("am2.test."))),
                    RData::SRV(SRV::new(0, 0, 9093, name("am1.test."))),
                ],
                ("am.test.", RecordType::A) => vec![RData::A(A([10, 0, 0, 1].into()))],
                ("am.test.", RecordType::AAAA) => {
                    vec![RData::AAAA(AAAA("fd00::1".parse().unwrap()))]
                }
                ("am.test.", RecordType::MX) => vec![RData::MX(MX::new(1, name("mx.test.")))],
                ("am.test.", RecordType::NS) => vec![RData::NS(NS(name("ns.test.")))],
                ("broken.test.", _) => {
                    answer.metadata.response_code = ResponseCode::ServFail;
                    Vec::new()
                }
                _ => {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                    Vec::new()
                }
            };
            for data in data {
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
            let _ = socket.send_to(&answer.to_vec().unwrap(), peer).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_looked_up() {
    let rig = Rig::new(Some(name_server().await));
    let srv = |n: u8| {
        format!(
            "{{__address__=\"am{n}.test:909{}\", __meta_dns_name=\"_am._tcp.test\", \
             __meta_dns_srv_record_port=\"909{}\", __meta_dns_srv_record_target=\"am{n}.test.\"}}",
            n + 2,
            n + 2
        )
    };
    let one = |address: &str, more: &str| {
        vec![format!("{{__address__=\"{address}\"{more}, __meta_dns_name=\"am.test\"}}")]
    };
    for (options, expected) in [
        ("names: [_am._tcp.test]", vec![srv(1), srv(2)]),
        ("names: [am.test], type: a, port: 80", one("10.0.0.1:80", "")),
        ("names: [am.test], type: AAAA, port: 80", one("[fd00::1]:80", "")),
        (
            "names: [am.test], type: MX, port: 25",
            vec![
                "{__address__=\"mx.test:25\", __meta_dns_mx_record_target=\"mx.test.\", \
                  __meta_dns_name=\"am.test\"}"
                    .to_owned(),
            ],
        ),
        (
            "names: [am.test, gone.test, broken.test], type: NS, port: 53",
            vec![
                "{__address__=\"ns.test:53\", __meta_dns_name=\"am.test\", \
                  __meta_dns_ns_record_target=\"ns.test.\"}"
                    .to_owned(),
            ],
        ),
    ] {
        let found = rig.start(&discovery(&format!("dns_sd_configs: [{{{options}}}]"))).await;
        finds(&found, &expected).await;
    }
    rig.counted("prometheus_sd_dns_lookup_failures_total", 1.0).await;
    rig.counted("prometheus_sd_dns_lookups_total", 7.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanagers_come_and_go_with_discovery() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("am.yml");
    std::fs::write(&file, "- targets: ['127.0.0.1:1']\n").unwrap();
    let text = format!(
        "alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:9']}}], \
         path_prefix: /x, file_sd_configs: [{{files: ['{}']}}]}}]}}",
        file.display()
    );
    let config = config::parse(&text, Path::new("/")).unwrap().config;
    let mut registry = Registry::default();
    let discovery = DiscoveryMetrics::new(&mut registry);
    let clock = Arc::new(SystemClock::default());
    let options = NotifierOptions::default();
    let manager = Arc::new(Manager::new(options, clock, discovery, &mut registry));
    manager.apply(&config.alerting, &Labels::empty()).await.unwrap();
    let follower = manager.clone();
    tokio::spawn(async move { follower.follow_discovery().await });

    let url = |port: u32| format!("http://127.0.0.1:{port}/x/api/v2/alerts");
    let are = async |ports: &[u32]| {
        let expected: Vec<String> = ports.iter().map(|port| url(*port)).collect();
        soon(&format!("{ports:?}"), || manager.active_alertmanagers() == expected).await;
    };
    are(&[9, 1]).await;
    // What is listed counts, too, and what relabelling would drop.
    let found = |registry: &Registry| lines(registry, "prometheus_sd_discovered_targets{");
    let config = |n: f64| vec![("name=\"notify\",config=\"config-0\"}".to_owned(), n)];
    assert_eq!(found(&registry), config(2.0));
    std::fs::write(&file, "- targets: ['127.0.0.1:2', '127.0.0.1:3']\n").unwrap();
    are(&[9, 2, 3]).await;
    assert_eq!(found(&registry), config(3.0));
    // An address that is none changes nothing.
    std::fs::write(&file, "- targets: ['http://127.0.0.1:2']\n").unwrap();
    std::fs::write(&file, "- targets: ['127.0.0.1:3']\n").unwrap();
    are(&[9, 3]).await;
    // A reload without discovery drops what it found.
    let plain = "alerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:9']}]}]}";
    let apply = async |yaml: &str| {
        let loaded = config::parse(yaml, Path::new("/")).unwrap().config;
        manager.apply(&loaded.alerting, &Labels::empty()).await.unwrap();
    };
    apply(plain).await;
    assert_eq!(manager.active_alertmanagers(), ["http://127.0.0.1:9/api/v2/alerts"]);
    assert_eq!(found(&registry), config(1.0));
    apply("{}").await;
    assert_eq!(found(&registry), []);
    let value =
        |name: &str| lines(&registry, &format!("prometheus_sd_{name}{{name=\"notify\"}}"))[0].1;
    // The list once; the file at least three times, each of which arrived.
    assert!(value("received_updates_total") >= 4.0 && value("updates_total") >= 4.0);
    assert_eq!(value("failed_configs"), 0.0);
    manager.shutdown().await;
}
