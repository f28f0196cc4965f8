//! How servers are reached: every option of HTTP clients, on every kind of datasource, against
//! a real Prometheus with TLS and passwords where it has the like, and a small server that
//! checks what it is sent where it has not.

use std::process::Command;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use watchfire::config;
use watchfire::storage::datasources;

use super::*;
use crate::support::{available, serve_app};

/// A datasource as it stands in a configuration file.
async fn source(yaml: &str) -> Arc<dyn Source> {
    let text = format!("datasources:\n  other: {{{yaml}}}\n");
    let loaded = config::parse(&text, Path::new("")).unwrap_or_else(|e| panic!("{text}: {e}"));
    let local: Arc<dyn Source> = Arc::new(MemoryStorage::new());
    let around = surroundings();
    let all = datasources::open_all(&loaded.config.datasources, &local, &around).await;
    all.unwrap().remove("other").unwrap()
}

/// What a query over a datasource comes to: how many series, or the error.
async fn count(yaml: &str, expr: &str, at_ms: i64) -> Result<usize, String> {
    let source = source(yaml).await;
    let engine = pushing(&source);
    let result = ask(&engine, &source, expr, When::At(at_ms)).await;
    let failed = result.as_ref().err().map(ToString::to_string);
    match (comparable(result), failed) {
        (Some(value), _) => Ok(value["data"]["result"].as_array().map_or(0, Vec::len)),
        (None, error) => Err(error.unwrap_or_default()),
    }
}

/// A self-signed certificate for 127.0.0.1, as two PEM files.
pub fn certificate(dir: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=other.test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The bcrypt of `secret`.
pub const HASHED: &str = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_behind_tls_and_a_password_is_read_and_written() {
    if !available("prometheus") || !available("openssl") {
        return;
    }
    watchfire::http::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let web = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n";
    let web = format!("{web}basic_auth_users: {{reader: '{HASHED}'}}\n");
    std::fs::write(dir.path().join("web.yml"), web).unwrap();
    std::fs::write(dir.path().join("p.yml"), "global: {}\n").unwrap();
    let address = free_address();
    let args = [
        format!("--config.file={}", dir.path().join("p.yml").display()),
        format!("--storage.tsdb.path={}", dir.path().join("p").display()),
        format!("--web.listen-address={address}"),
        format!("--web.config.file={}", dir.path().join("web.yml").display()),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    let prometheus = Program::start("prometheus", &args).unwrap();
    let ca = dir.path().join("cert.pem");
    let tls = format!("tls_config: {{ca_file: '{}'}}", ca.display());
    let auth = "basic_auth: {username: reader, password: secret}";

    // Written by the sender of remote write, from a Watchfire of its own.
    let own = free_address();
    let write = format!(
        "scrape_configs: [{{job_name: own, scrape_interval: 1s, static_configs: [{{targets: \
         ['{own}']}}]}}]\nremote_write: [{{url: 'https://{address}/api/v1/write', {tls}, {auth}, \
         queue_config: {{batch_send_deadline: 100ms}}}}]\n"
    );
    std::fs::write(dir.path().join("w.yml"), write).unwrap();
    let args = [
        "serve".to_owned(),
        "--config.file=w.yml".to_owned(),
        format!("--web.listen-address={own}"),
        "--storage.tsdb.path=own".to_owned(),
    ];
    let writer = Program::watchfire(&args, dir.path());

    for (kind, path) in [
        ("prometheus", ""),
        ("prometheus, evaluate: push_down", ""),
        ("remote_read", "/api/v1/read"),
    ] {
        let check = async |more: &str| {
            let yaml = format!("type: {kind}, url: 'https://{address}{path}', {more}");
            count(&yaml, "sum by (job) (up)", surroundings().clock.now_ms()).await
        };
        let mut found = check(&format!("{tls}, {auth}")).await;
        for _ in 0..600 {
            if found == Ok(1) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            found = check(&format!("{tls}, {auth}")).await;
        }
        assert_eq!(found, Ok(1), "{kind}\n{}\n{}", prometheus.log(), writer.log());
        let file = dir.path().join("password");
        std::fs::write(&file, "secret").unwrap();
        let auth_file =
            format!("basic_auth: {{username: reader, password_file: '{}'}}", file.display());
        assert_eq!(check(&format!("{tls}, {auth_file}")).await, Ok(1), "{kind}");
        let skipping = "tls_config: {insecure_skip_verify: true}";
        assert_eq!(check(&format!("{skipping}, {auth}")).await, Ok(1), "{kind}");
        let refused = |found: Result<usize, String>, with: &str| {
            let error = found.expect_err(kind);
            assert!(error.contains(with), "{kind}: {error}");
        };
        let wrong = "basic_auth: {username: reader, password: guess}";
        refused(check(&format!("{tls}, {wrong}")).await, "401 Unauthorized");
        refused(check(&tls).await, "401 Unauthorized");
        refused(check(auth).await, "certificate");
        let other = format!("tls_config: {{ca_file: '{}', server_name: x.test}}", ca.display());
        refused(check(&format!("{other}, {auth}")).await, "certificate");
    }
}

/// What a server was sent last, and whether it gives out tokens.
#[derive(Default)]
struct Sent {
    head: Mutex<Option<(Uri, HeaderMap)>>,
    tokens: Mutex<Vec<String>>,
}

const VECTOR: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"job":"x"},"value":[1000,"1"]}]}}"#;

/// Answers every request with a vector of one, or gives out a token.
async fn serve(State(sent): State<Arc<Sent>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    if head.uri.path() == "/token" {
        sent.tokens.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
        let token = r#"{"access_token":"t1","token_type":"Bearer","expires_in":3600}"#;
        return ([("content-type", "application/json")], token).into_response();
    }
    *sent.head.lock().unwrap() = Some((head.uri, head.headers));
    ([("content-type", "application/json")], VECTOR).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_headers_and_proxies_are_sent_as_configured() {
    watchfire::http::install_crypto_provider();
    let sent = Arc::new(Sent::default());
    let app = Router::new().fallback(serve).with_state(sent.clone());
    let base = format!("http://{}", serve_app(app).await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "from-file\n").unwrap();
    let file = file.display();
    let sigv4 = "sigv4: {region: eu-central-1, access_key: AKID, secret_key: SECRET}";
    let oauth2 = format!(
        "oauth2: {{client_id: me, client_secret: hidden, token_url: '{base}/token', scopes: [a, b]}}"
    );
    let cases = [
        ("authorization: {credentials: abc}".to_owned(), "authorization", "Bearer abc"),
        ("authorization: {type: Token, credentials: abc}".to_owned(), "authorization", "Token abc"),
        (
            format!("authorization: {{credentials_file: '{file}'}}"),
            "authorization",
            "Bearer from-file",
        ),
        ("basic_auth: {username: u, password: p}".to_owned(), "authorization", "Basic dTpw"),
        (oauth2, "authorization", "Bearer t1"),
        ("headers: {X-Scope-OrgID: tenant}".to_owned(), "x-scope-orgid", "tenant"),
        (sigv4.to_owned(), "authorization", "AWS4-HMAC-SHA256 Credential=AKID/"),
    ];
    for (options, header, expected) in &cases {
        let yaml = format!("url: '{base}', evaluate: push_down, {options}");
        assert_eq!(count(&yaml, "sum by (job) (m)", 1_000_000).await, Ok(1), "{options}");
        let (uri, headers) = sent.head.lock().unwrap().take().unwrap();
        assert_eq!(uri.path(), "/api/v1/query");
        let got = headers.get(*header).and_then(|v| v.to_str().ok()).unwrap_or_default();
        assert!(got.starts_with(expected), "{options}: {got}");
        assert!(headers.get_all(AUTHORIZATION).iter().count() < 2, "{options}");
        if options.starts_with("sigv4") {
            assert!(got.contains("/eu-central-1/aps/aws4_request, SignedHeaders="), "{got}");
            assert!(got.contains("Signature=") && headers.contains_key("x-amz-date"), "{got}");
        }
    }
    let tokens = sent.tokens.lock().unwrap().clone();
    assert_eq!(tokens.len(), 1, "a token is used until it expires");
    assert!(tokens[0].contains("grant_type=client_credentials"), "{tokens:?}");
    assert!(tokens[0].contains("scope=a+b") || tokens[0].contains("scope=a%20b"), "{tokens:?}");
    // A proxy is asked for hosts nobody else knows.
    for kind in ["prometheus", "remote_read"] {
        let yaml = format!(
            "type: {kind}, url: 'http://nowhere.invalid/base', evaluate: push_down, proxy_url: '{base}'"
        );
        let found = count(&yaml, "sum by (job) (m)", 1_000_000).await;
        assert_eq!(found.is_ok(), kind == "prometheus", "{found:?}");
        let (uri, _) = sent.head.lock().unwrap().take().unwrap();
        assert_eq!(uri.host(), Some("nowhere.invalid"), "{uri}");
    }
}
