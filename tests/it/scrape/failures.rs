//! A target that misbehaves in every way a target can.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::rig::{Bench, within};
use crate::support::serve_app;

const TEXT: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain")];

fn gzip(body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn gzipped(body: &[u8]) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain"), (header::CONTENT_ENCODING, "gzip")];
    (headers, gzip(body)).into_response()
}

fn echo(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map_or("none", |v| v.to_str().unwrap()).replace('"', "'")
}

async fn headers(headers: HeaderMap) -> Response {
    let body = format!(
        "a{{authorization=\"{}\",agent=\"{}\",accept=\"{}\",encoding=\"{}\",timeout=\"{}\",\
         custom=\"{}\"}} 1\n",
        echo(&headers, "authorization"),
        echo(&headers, "user-agent"),
        echo(&headers, "accept").split(';').next().unwrap(),
        echo(&headers, "accept-encoding"),
        echo(&headers, "x-prometheus-scrape-timeout-seconds"),
        echo(&headers, "x-custom"),
    );
    (TEXT, body).into_response()
}

async fn elsewhere(State(other): State<SocketAddr>) -> Redirect {
    Redirect::temporary(&format!("http://{other}/headers"))
}

async fn target() -> SocketAddr {
    let other = serve_app(Router::new().route("/headers", get(headers))).await;
    serve_app(
        Router::new()
            .route("/ok", get(|| async { (TEXT, "a 1\n") }))
            .route("/500", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
            .route("/malformed", get(|| async { (TEXT, "a 1\nb{\n") }))
            .route("/html", get(|| async { ([(header::CONTENT_TYPE, "text/html")], "<p>") }))
            .route("/blank", get(|| async { ([(header::CONTENT_TYPE, "")], "a 1\n") }))
            .route("/gzip", get(|| async { gzipped(b"a 1\n") }))
            .route("/bomb", get(|| async { gzipped(&vec![b'#'; 50 << 20]) }))
            .route(
                "/noise",
                get(|| async {
                    (
                        [(header::CONTENT_TYPE, "text/plain"), (header::CONTENT_ENCODING, "gzip")],
                        "this is not what gzip makes",
                    )
                }),
            )
            .route("/large", get(|| async { (TEXT, "a 1\n".repeat(1000)) }))
            .route("/loop", get(|| async { Redirect::temporary("/loop") }))
            .route("/moved", get(|| async { Redirect::permanent("/headers") }))
            .route("/elsewhere", get(elsewhere))
            .route("/headers", get(headers))
            .route(
                "/om",
                get(|| async {
                    (
                        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0")],
                        "# TYPE a counter\na_total 1 1700000000\n# EOF\n",
                    )
                }),
            )
            .with_state(other),
    )
    .await
}

fn job(address: SocketAddr, path: &str, options: &str) -> String {
    format!(
        "scrape_configs:\n- job_name: t\n  metrics_path: {path}\n  static_configs: [{{targets: \
         ['{address}']}}]\n  {options}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_told_in_the_words_of_prometheus() {
    let address = target().await;
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    for (address, path, options, expected) in [
        (address, "/ok", "", ""),
        (address, "/gzip", "", ""),
        (address, "/om", "", ""),
        (address, "/500", "", "server returned HTTP status 500 Internal Server Error"),
        (address, "/none", "", "server returned HTTP status 404 Not Found"),
        (
            address,
            "/malformed",
            "",
            "line 3: expected label name or brace close, got the end of the data while parsing: \
             \"b{\\n\"",
        ),
        (
            address,
            "/html",
            "",
            "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol \
             specified for target",
        ),
        (
            address,
            "/blank",
            "",
            "non-compliant scrape target sending blank Content-Type and no \
             fallback_scrape_protocol specified for target",
        ),
        (address, "/blank", "fallback_scrape_protocol: PrometheusText0.0.4", ""),
        (address, "/bomb", "body_size_limit: 1MB", "body size limit exceeded"),
        (address, "/large", "body_size_limit: 1KB", "body size limit exceeded"),
        (address, "/large", "body_size_limit: 1MB", ""),
        (address, "/noise", "", "gzip: invalid gzip header"),
        (address, "/ok", "sample_limit: 1", ""),
        (
            address,
            "/large",
            "label_limit: 1",
            "label_limit limit exceeded (metric: a, number of labels: 3, limit: 1)",
        ),
        (address, "/loop", "", "Get \"URL\": stopped after 10 redirects"),
        (
            address,
            "/moved",
            "follow_redirects: false",
            "server returned HTTP status 308 Permanent Redirect",
        ),
        (address, "/moved", "", ""),
        (address, "/ok", "scheme: ftp", "Get \"URL\": unsupported protocol scheme \"ftp\""),
        (refused, "/ok", "", "Get \"URL\": Connection refused (os error 111)"),
    ] {
        let bench = Bench::new();
        bench.apply(&job(address, path, options)).await;
        let up = bench.next_scrape("t").await;
        let page = bench.target("t").await;
        let error = page.last_error.replace(&page.scrape_url, "URL");
        assert_eq!(error, expected, "{path} {options}");
        assert_eq!(up.value, f64::from(u8::from(expected.is_empty())), "{path} {options}");
        assert_eq!(page.health.as_str(), if expected.is_empty() { "up" } else { "down" });
        bench.manager.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_hangs_delays_no_other_and_fails_at_its_timeout() {
    let address = target().await;
    let reached = Arc::new(Notify::new());
    let notify = reached.clone();
    let hanging = Router::new().fallback(get(move || {
        notify.notify_one();
        std::future::pending::<StatusCode>()
    }));
    let hanging = serve_app(hanging).await;
    let bench = Bench::new();
    let hang = job(hanging, "/hang", "").replace("job_name: t", "job_name: hang");
    let ok = job(address, "/ok", "").replace("scrape_configs:\n", "");
    bench.apply(&format!("{hang}{ok}")).await;
    assert_eq!(bench.next_scrape("t").await.value, 1.0);
    assert_eq!(bench.sink.count("hang", "up"), 0);
    within("the request that hangs", reached.notified()).await;
    // The timeout runs on the clock too: ten seconds after the scrape began.
    bench.clock.advance_ms(10_000);
    let up = bench.sink.until("the timeout", |sink| sink.last("hang", "up")).await;
    assert_eq!(up.value, 0.0);
    let page = bench.target("hang").await;
    assert_eq!(
        page.last_error,
        format!("Get \"http://{hanging}/hang\": context deadline exceeded")
    );
    bench.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_carry_what_is_configured_and_secrets_stay_with_their_host() {
    let address = target().await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "from-file\n").unwrap();
    let with_file = format!("authorization: {{credentials_file: '{}'}}", token.display());
    for (path, options, authorization, custom) in [
        ("/headers", "", "none", "none"),
        ("/headers", "basic_auth: {username: u, password: p}", "Basic dTpw", "none"),
        ("/headers", "bearer_token: x", "Bearer x", "none"),
        ("/headers", with_file.as_str(), "Bearer from-file", "none"),
        ("/headers", "http_headers: {X-Custom: {values: [v]}}", "none", "v"),
        ("/moved", "bearer_token: x", "Bearer x", "none"),
        (
            "/elsewhere",
            "bearer_token: x\n  http_headers: {X-Custom: {secrets: [v]}}",
            "none",
            "none",
        ),
    ] {
        let bench = Bench::new();
        bench.apply(&job(address, path, options)).await;
        assert_eq!(bench.next_scrape("t").await.value, 1.0, "{path} {options}");
        let got = bench.sink.last("t", "a").unwrap().labels;
        assert_eq!(got.get("authorization"), Some(authorization), "{path} {options}");
        assert_eq!(got.get("custom"), Some(custom), "{path} {options}");
        assert_eq!(got.get("agent"), Some("Watchfire/test"));
        assert_eq!(got.get("accept"), Some("application/openmetrics-text"));
        assert_eq!(got.get("encoding"), Some("gzip"));
        assert_eq!(got.get("timeout"), Some("10"));
        bench.manager.stop().await;
    }
    // A file is read again: a new token needs no reload.
    let bench = Bench::new();
    bench.apply(&job(address, "/headers", &with_file)).await;
    bench.next_scrape("t").await;
    std::fs::write(&token, "rotated").unwrap();
    bench.next_scrape("t").await;
    let got = bench.sink.last_live("t", "a").unwrap();
    assert_eq!(got.labels.get("authorization"), Some("Bearer rotated"));
    std::fs::remove_file(&token).unwrap();
    bench.next_scrape("t").await;
    let error = bench.target("t").await.last_error;
    assert!(error.contains("unable to read credentials file"), "{error}");
    bench.manager.stop().await;
}
