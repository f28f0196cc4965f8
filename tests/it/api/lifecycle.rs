//! Health, readiness, reload, quit, CORS, compression, prefixes, the page.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use watchfire::api::{ApiState, Phase};
use watchfire::model::regex::AnchoredRegex;
use watchfire::telemetry::clock::ManualClock;

use super::{Answer, NOW_MS, TestServer, answer};

async fn start_with(adjust: impl FnOnce(&mut ApiState)) -> TestServer {
    TestServer::start_with(Arc::new(ManualClock::new(NOW_MS)), adjust).await
}

async fn send(server: &TestServer, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = server.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request).await
}

#[tokio::test]
async fn nothing_but_health_and_metrics_answers_before_the_server_is_ready() {
    let server = TestServer::start().await;
    server.check("/-/healthy", 200, "Watchfire is Healthy.\n").await;
    server.check("/-/ready", 200, "Watchfire is Ready.\n").await;
    assert_eq!(send(&server, "HEAD", "/-/ready", &[]).await.status, 200);
    for (phase, stopping) in [(Phase::Starting, "false"), (Phase::Stopping, "true")] {
        server.state.readiness.set(phase);
        for path in ["/-/ready", "/api/v1/query?query=1", "/federate", "/version"] {
            let got = server.get(path).await;
            assert_eq!((got.status, got.body.as_str()), (503, "Service Unavailable\n"), "{path}");
            assert_eq!(got.header("x-prometheus-stopping"), stopping);
        }
        for path in ["/-/healthy", "/metrics", "/api/v1/status/walreplay", "/query"] {
            assert_eq!(server.get(path).await.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn reload_and_quit_need_the_flag_and_the_method() {
    let server = TestServer::start().await;
    for path in ["/-/reload", "/-/quit"] {
        let got = send(&server, "POST", path, &[]).await;
        assert_eq!((got.status, got.body.as_str()), (403, "Lifecycle API is not enabled.\n"));
    }
    let reloads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reloads);
    let server = start_with(|state| {
        state.options.enable_lifecycle = true;
        state.reload = Arc::new(move || {
            let number = counter.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                if number == 0 { Ok(()) } else { Err("a.yml:3: unknown field".to_owned()) }
            })
        });
    })
    .await;
    let got = server.get("/-/reload").await;
    assert_eq!((got.status, got.body.as_str()), (405, "Only POST or PUT requests allowed\n"));
    let got = send(&server, "POST", "/-/reload", &[]).await;
    assert_eq!((got.status, got.body.as_str()), (200, ""));
    let got = send(&server, "PUT", "/-/reload", &[]).await;
    let expected = "failed to reload config: a.yml:3: unknown field\n";
    assert_eq!((got.status, got.body.as_str()), (500, expected));
    assert!(!server.state.quit.is_cancelled());
    let got = send(&server, "POST", "/-/quit", &[]).await;
    assert_eq!((got.status, got.body.contains("Goodbye!")), (200, true));
    assert!(server.state.quit.is_cancelled());
}

#[tokio::test]
async fn cors_follows_the_flag() {
    let origin = [("Origin", "https://grafana.example")];
    let server = TestServer::start().await;
    let got = send(&server, "GET", "/api/v1/labels", &origin).await;
    assert_eq!(got.header("access-control-allow-origin"), "*");
    let got = send(&server, "OPTIONS", "/api/v1/query", &origin).await;
    assert_eq!(
        (got.status, got.header("access-control-allow-methods")),
        (204, "GET, POST, OPTIONS")
    );
    let got = send(&server, "GET", "/api/v1/labels", &[]).await;
    assert_eq!(got.header("access-control-allow-origin"), "");

    let server = start_with(|state| {
        state.options.cors_origin = AnchoredRegex::new("https://.*\\.example").ok();
    })
    .await;
    for (origin, allowed) in
        [("https://grafana.example", "https://grafana.example"), ("https://evil.test", "")]
    {
        let got = send(&server, "GET", "/api/v1/labels", &[("Origin", origin)]).await;
        assert_eq!(got.header("access-control-allow-origin"), allowed, "{origin}");
    }
}

#[tokio::test]
async fn answers_are_compressed_on_request() {
    let server = TestServer::start().await;
    for path in ["/metrics", "/api/v1/status/runtimeinfo"] {
        let got = send(&server, "GET", path, &[("Accept-Encoding", "identity")]).await;
        assert_eq!(got.header("content-encoding"), "");
        let response =
            server.request("GET", path).header("Accept-Encoding", "gzip").send().await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip", "{path}");
        assert!(response.bytes().await.unwrap().starts_with(&[0x1f, 0x8b]));
    }
}

#[tokio::test]
async fn metrics_come_in_the_format_asked_for_and_count_requests() {
    let server = TestServer::start().await;
    server.get("/api/v1/label/job/values").await;
    server.get("/api/v1/query?query=(").await;
    server.get("/made/up/path").await;
    let got = server.get("/metrics").await;
    assert_eq!(got.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "# TYPE prometheus_http_requests_total counter",
        r#"prometheus_http_requests_total{code="200",handler="/api/v1/label/:name/values"} 1"#,
        r#"prometheus_http_requests_total{code="400",handler="/api/v1/query"} 1"#,
        r#"prometheus_http_requests_total{code="404",handler="/*"} 1"#,
        "prometheus_ready 1",
    ] {
        assert!(got.body.lines().any(|l| l == line), "{line} is missing from\n{}", got.body);
    }
    assert!(!got.body.contains("# EOF"));
    let accept = [("Accept", "application/openmetrics-text;version=1.0.0")];
    let got = send(&server, "GET", "/metrics", &accept).await;
    assert_eq!(
        got.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(got.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_page_is_served_below_any_prefix() {
    let server = start_with(|state| state.options.page_title = "A <b> & c".to_owned()).await;
    let got = server.get("/").await;
    assert_eq!((got.status, got.header("location")), (302, "/query"));
    let got = server.get("/query").await;
    assert_eq!((got.status, got.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(got.body.contains("<title>A &lt;b&gt; &amp; c</title>"));
    let got = server.get("/assets/app.js").await;
    assert_eq!((got.status, got.header("content-type")), (200, "text/javascript; charset=utf-8"));
    let tag = got.header("etag").to_owned();
    let got = send(&server, "GET", "/assets/app.js", &[("If-None-Match", &tag)]).await;
    assert_eq!((got.status, got.body.as_str()), (304, ""));
    for path in ["/assets/none.js", "/assets/index.html", "/assets/..%2fCargo.toml", "/none"] {
        server.check(path, 404, "404 page not found\n").await;
    }

    let server = start_with(|state| {
        state.options.external_url = "https://host.example/prom/".parse().ok();
        state.options.route_prefix = "/prom".to_owned();
    })
    .await;
    for path in ["/", "/prom", "/prom/"] {
        let got = server.get(path).await;
        assert_eq!((got.status, got.header("location")), (302, "/prom/query"), "{path}");
    }
    for path in ["/prom/query", "/prom/assets/style.css", "/prom/api/v1/labels", "/prom/metrics"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    server.check("/query", 404, "404 page not found\n").await;
    let metrics = server.get("/prom/metrics").await.body;
    assert!(metrics.contains(r#"{code="200",handler="/api/v1/labels"} 1"#), "{metrics}");
}
