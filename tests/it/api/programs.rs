//! Real programs against the API: `promtool`, and Prometheus itself writing to it,
//! federating from it, and answering the same questions over the same data.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use watchfire::model::Clock;
use watchfire::remote_write::{self, proto};
use watchfire::telemetry::clock::{ManualClock, SystemClock};

use super::{NOW_MS, TestServer, answer};
use crate::support::{alike, available, ordered, start_prometheus};

/// Asks until the answer satisfies; another program's progress can only be polled.
async fn eventually(what: &str, url: &str, satisfied: impl Fn(&str) -> bool) {
    let client = reqwest::Client::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut last = String::new();
    while Instant::now() < deadline {
        if let Ok(response) = client.get(url).send().await {
            last = response.text().await.unwrap_or_default();
            if satisfied(&last) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: {url} last answered {last}");
}

fn promtool(arguments: &[&str], input: Option<&str>) -> (bool, String) {
    use std::io::Write;
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.unwrap_or("").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_queries_it_and_accepts_its_metrics() {
    if !available("promtool") {
        return;
    }
    let server = TestServer::start().await;
    server.store(
        &[("__name__", "req_total"), ("job", "api")],
        &[(NOW_MS - 30_000, 1.0), (NOW_MS, 4.0)],
    );
    let base = server.base.as_str();
    let (now, before) = ((NOW_MS / 1000).to_string(), (NOW_MS / 1000 - 30).to_string());
    let time = format!("--time={now}");
    let (start, end) = (format!("--start={before}"), format!("--end={now}"));
    for (arguments, expected) in [
        (
            vec!["query", "instant", &time, base, "req_total * 2"],
            format!("{{job=\"api\"}} => 8 @[{now}]\n"),
        ),
        (
            vec!["query", "range", &start, &end, "--step=30s", base, "req_total"],
            format!("req_total{{job=\"api\"}} =>\n1 @[{before}]\n4 @[{now}]\n"),
        ),
        (
            vec!["query", "series", &start, &end, "--match=req_total", base],
            "{__name__=\"req_total\", job=\"api\"}\n".to_owned(),
        ),
        (vec!["query", "labels", &start, &end, base, "job"], "api\n".to_owned()),
    ] {
        let (ok, text) = promtool(&arguments, None);
        assert_eq!((ok, text), (true, expected), "promtool {arguments:?}");
    }
    let (ok, text) = promtool(&["query", "instant", &time, base, "sum("], None);
    assert!(!ok && text.contains("unclosed left parenthesis"), "{text}");
    let metrics = server.get("/metrics").await.body;
    assert_eq!(promtool(&["check", "metrics"], Some(&metrics)), (true, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_writes_to_it() {
    let server = TestServer::start_with(Arc::new(SystemClock::default()), |state| {
        state.options.enable_remote_write_receiver = true;
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        concat!(
            "global: {{scrape_interval: 1s, external_labels: {{from: real}}}}\n",
            "scrape_configs: [{{job_name: self, static_configs: [{{targets: [SELF]}}]}}]\n",
            "remote_write: [{{url: '{}/api/v1/write', queue_config: {{batch_send_deadline: 200ms}}}}]\n",
        ),
        server.base
    );
    let Some((_prometheus, _)) = start_prometheus(dir.path(), &config) else { return };
    let url =
        format!("{}/api/v1/query?query=count(up%7Bfrom=%22real%22,job=%22self%22%7D)", server.base);
    eventually("remote write", &url, |text| text.contains(",\"1\"]}]")).await;
    let url = format!(
        "{}/api/v1/query?query=sum(rate(prometheus_http_requests_total%5B1m%5D))",
        server.base
    );
    eventually("a rate over written samples", &url, |text| text.contains("\"value\":[")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_federates_from_it() {
    let clock = Arc::new(SystemClock::default());
    let server = TestServer::start_with(Arc::clone(&clock) as Arc<dyn Clock>, |_| {}).await;
    let now_ms = clock.now_ms();
    server.store(
        &[("__name__", "temperature"), ("instance", "attic"), ("room", "a\"\\b\n")],
        &[(now_ms, 21.5)],
    );
    server.store(&[("__name__", "bare")], &[(now_ms, f64::NEG_INFINITY)]);
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        concat!(
            "global: {{scrape_interval: 1s}}\n",
            "scrape_configs: [{{job_name: federate, honor_labels: true, metrics_path: /federate, ",
            "params: {{'match[]': ['{{__name__=~\"temperature|bare\"}}']}}, static_configs: [{{targets: ['{}']}}]}}]\n",
        ),
        server.base.trim_start_matches("http://")
    );
    let Some((_prometheus, base)) = start_prometheus(dir.path(), &config) else { return };
    let expected = |text: &str| {
        text.contains(
            r#"{"__name__":"temperature","instance":"attic","job":"federate","replica":"a","room":"a\"\\b\n"}"#,
        ) && text.contains(",\"21.5\"]")
    };
    eventually("federation", &format!("{base}/api/v1/query?query=temperature"), expected).await;
    // An absent instance stays absent, because it was sent as empty.
    let expected = |text: &str| {
        text.contains(r#"{"__name__":"bare","job":"federate","replica":"a"}"#)
            && text.contains(",\"-Inf\"]")
    };
    eventually("federation", &format!("{base}/api/v1/query?query=bare"), expected).await;
}

/// Half an hour of counters, gauges, histograms and odd values, one sample every 15 s. No
/// sample stands on the edge of a window: whether edges count changed in Prometheus 3.
fn data() -> proto::WriteRequest {
    let mut timeseries = Vec::new();
    let mut add = |pairs: &[(&str, &str)], value: &dyn Fn(i64) -> f64| {
        let mut labels: Vec<_> = pairs
            .iter()
            .map(|(name, value)| proto::Label { name: (*name).into(), value: (*value).into() })
            .collect();
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        let samples = (0..=120)
            .map(|i| proto::Sample { value: value(i), timestamp: NOW_MS - 1_807_000 + i * 15_000 })
            .collect();
        timeseries.push(proto::TimeSeries { labels, samples, ..proto::TimeSeries::default() });
    };
    for (j, job) in ["api", "web", "a<b>&\"c\"\\d"].into_iter().enumerate() {
        for (s, status) in ["200", "404", "500"].into_iter().enumerate() {
            let slope = (1 + j * 3 + s) as f64 * 0.7;
            // Every hundredth sample a reset.
            let value = move |i: i64| (i % 100) as f64 * slope;
            add(&[("__name__", "http_requests_total"), ("job", job), ("status", status)], &value);
        }
        for (b, le) in ["0.1", "0.5", "1", "+Inf"].into_iter().enumerate() {
            let value = move |i: i64| (i * (b as i64 + 1) * (j as i64 + 2)) as f64;
            add(&[("__name__", "latency_bucket"), ("job", job), ("le", le)], &value);
        }
        let phase = j as f64;
        add(&[("__name__", "temperature"), ("job", job)], &|i| {
            20.0 + (i as f64 / 7.0 + phase).sin() * 5.0
        });
        add(&[("__name__", "up"), ("job", job)], &|i| f64::from(i % 40 != 7));
    }
    for (name, value) in [
        ("inf", f64::INFINITY),
        ("neg_inf", f64::NEG_INFINITY),
        ("nan", f64::NAN),
        ("tiny", 1.5e-9),
        ("huge", 2.5e22),
        ("edge", 1e21),
        ("neg_zero", -0.0),
        ("third", 1.0 / 3.0),
    ] {
        add(&[("__name__", "odd"), ("kind", name)], &|_| value);
    }
    proto::WriteRequest { timeseries, metadata: Vec::new() }
}

/// Questions whose answers must be the same, but for order and the last digit of a
/// computed float. Left out are texts and fields that changed since this Prometheus.
const QUESTIONS: &[&str] = &[
    "query?query=odd",
    "query?query=http_requests_total",
    "query?query=http_requests_total&time=NOW.123",
    "query?query=up == 0&time=NOW-1695",
    "query?query=http_requests_total{job=\"api\"}[1m]",
    "query?query=rate(http_requests_total[5m])",
    "query?query=sum by (job) (rate(http_requests_total[5m]))",
    "query?query=sum by (job, status) (increase(http_requests_total{status=~\"4..|5..\"}[10m]))",
    "query?query=sum(rate(http_requests_total{status=\"500\"}[5m])) / sum(rate(http_requests_total[5m])) > 0.05",
    "query?query=histogram_quantile(0.95, sum by (job, le) (rate(latency_bucket[5m])))",
    "query?query=histogram_quantile(0.5, rate(latency_bucket[5m]))",
    "query?query=topk(2, temperature)",
    "query?query=bottomk(1, temperature) by (job)",
    "query?query=avg_over_time(temperature[10m])",
    "query?query=stddev_over_time(temperature[10m])",
    "query?query=quantile_over_time(0.9, temperature[10m])",
    "query?query=max_over_time(temperature[10m:30s])",
    "query?query=deriv(temperature[5m])",
    "query?query=predict_linear(temperature[5m], 600)",
    "query?query=http_requests_total offset 5m",
    "query?query=http_requests_total @ NOW-600",
    "query?query=temperature and on(job) up",
    "query?query=temperature * on(job) group_left(status) http_requests_total{status=\"200\"}",
    "query?query=label_replace(up, \"x\", \"$1\", \"job\", \"(.).*\")",
    "query?query=count_values(\"v\", odd)",
    "query?query=sort_desc(temperature)",
    "query?query=absent(nothing{a=\"b\"})",
    "query?query=absent(up)",
    "query?query=time()",
    "query?query=vector(1)",
    "query?query=1 / 0",
    "query?query=-(2 ^ 70)",
    "query?query=1e-9",
    "query?query=\"text\"",
    "query?query=minute()",
    "query?query=resets(http_requests_total[30m])",
    "query?query=changes(up[30m])",
    "query?query=clamp(temperature, 19, 21)",
    "query?query=round(temperature, 0.1)",
    "query?query=stdvar(temperature)",
    "query?query=quantile(0.5, temperature)",
    "query?query=group(up)",
    "query?query=irate(http_requests_total[5m])",
    "query?query=delta(temperature[5m])",
    "query?query=nothing",
    "query_range?query=sum by (job) (rate(http_requests_total[5m]))&start=NOW-1800&end=NOW&step=60",
    "query_range?query=temperature&start=NOW-300&end=NOW&step=7.5",
    "query_range?query=up == 0&start=NOW-1800&end=NOW&step=15",
    "query_range?query=histogram_quantile(0.9, sum by (le) (rate(latency_bucket[2m])))&start=NOW-1200&end=NOW&step=1m",
    "query_range?query=avg_over_time(temperature[5m:1m])&start=NOW-600&end=NOW&step=30",
    "query_range?query=odd&start=NOW-30&end=NOW&step=15",
    "query_range?query=1&start=NOW-3&end=NOW&step=1",
    "query_range?query=time()&start=NOW-3.5&end=NOW&step=0.5",
    "query_range?query=http_requests_total offset 1h&start=NOW-300&end=NOW&step=15",
    "query?query=",
    "query?query=sum(",
    "query?query=up{",
    "query?query=up{job=~\"*\"}",
    "query?query=foo bar",
    "query?query=rate(up)",
    "query?query=up[5m] + 1",
    "query?query=nofunc(up)",
    "query?query=http_requests_total + on(job) temperature",
    "query?query=1&timeout=abc",
    "query_range?query=1",
    "query_range?query=1&start=x&end=2&step=1",
    "query_range?query=1&start=2&end=1&step=1",
    "query_range?query=1&start=1&end=2&step=0",
    "query_range?query=1&start=1&end=2&step=-1",
    "query_range?query=1&start=1&end=2&step=x",
    "query_range?query=1&start=0&end=100000&step=1",
    "labels?start=NOW-1800&end=NOW",
    "labels?match[]=odd",
    "labels?match[]={",
    "labels?match[]={}",
    "label/job/values",
    "label/job/values?match[]=temperature",
    "label/nothing/values",
    "series?match[]=temperature&start=NOW-1800&end=NOW",
    "series?match[]=odd&match[]={kind=\"inf\"}",
    "series?match[]=temperature&start=1&end=2",
    "series?match[]={}",
    "series?match[]=up{",
    "series",
    "format_query?query=sum by(a)(rate(foo[5m]))/bar>1",
    "format_query?query=sum(",
    "rules",
    "rules?type=x",
    "alerts",
    "metadata?metric=none",
    "metadata?limit=x",
    "targets/metadata?metric=none",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_gives_the_same_answers() {
    struct Empty;
    impl watchfire::rules::view::RulesView for Empty {
        fn handover(&self, _: &str, _: &str) -> Option<Vec<u8>> {
            None
        }

        fn groups(&self) -> Vec<watchfire::rules::view::GroupView> {
            Vec::new()
        }

        fn costs(&self) -> Vec<watchfire::rules::view::GroupCostView> {
            Vec::new()
        }

        fn quarantined(&self) -> Vec<watchfire::rules::view::QuarantinedView> {
            Vec::new()
        }
    }
    let server = TestServer::start_with(Arc::new(ManualClock::new(NOW_MS)), |state| {
        state.options.enable_remote_write_receiver = true;
        state.rules = Arc::new(Empty);
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let Some((_prometheus, real)) = start_prometheus(dir.path(), "global: {}\n") else { return };
    let client = reqwest::Client::new();
    let body = remote_write::encode(&data()).unwrap();
    for base in [&real, &server.base] {
        let request = client
            .post(format!("{base}/api/v1/write"))
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .body(body.clone());
        let got = answer(request).await;
        assert_eq!(got.status, 204, "{base}: {}", got.body);
    }
    let mut different = Vec::new();
    for question in QUESTIONS {
        let url = at_now(question);
        let theirs = answer(client.get(format!("{real}/api/v1/{url}"))).await;
        let ours = answer(client.get(format!("{}/api/v1/{url}", server.base))).await;
        let same = theirs.status == ours.status
            && (theirs.body == ours.body
                || alike(&ordered(&theirs.body), &ordered(&ours.body), 1e-12));
        if !same {
            different.push(format!(
                "{question}\n  theirs {} {}\n  ours   {} {}",
                theirs.status, theirs.body, ours.status, ours.body
            ));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

/// Encodes a question; `NOW` and `NOW-n` stand for times, and instant queries without a
/// time are asked at `NOW`.
fn at_now(question: &str) -> String {
    let (path, parameters) = question.split_once('?').unwrap_or((question, ""));
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    let mut has_time = path != "query";
    let fields = parameters.split('&').filter(|p| !p.is_empty());
    for (name, value) in fields.map(|p| p.split_once('=').unwrap_or((p, ""))) {
        let mut text = String::new();
        let mut rest = value;
        while let Some(at) = rest.find("NOW") {
            text.push_str(&rest[..at]);
            rest = &rest[at + 3..];
            let digits = rest.strip_prefix('-').map_or(0, |tail| {
                tail.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count()
            });
            let back: f64 = if digits == 0 { 0.0 } else { rest[1..=digits].parse().unwrap() };
            rest = if digits == 0 { rest } else { &rest[1 + digits..] };
            text.push_str(&(NOW_MS as f64 / 1000.0 - back).to_string());
        }
        text.push_str(rest);
        has_time |= name == "time";
        pairs.append_pair(name, &text);
    }
    if !has_time {
        pairs.append_pair("time", &(NOW_MS / 1000).to_string());
    }
    format!("{path}?{}", pairs.finish())
}
