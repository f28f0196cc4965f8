//! Authentication of the HTTP client end to end: keys and certificates made by the openssl
//! command, and an Alertmanager that checks what it gets.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA512, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value as Json, json};
use watchfire::config;
use watchfire::discovery::DiscoveryMetrics;
use watchfire::model::Labels;
use watchfire::notifier::{Manager, Notifier, NotifierOptions, OutgoingAlert, Receipt};
use watchfire::telemetry::Registry;
use watchfire::telemetry::clock::ManualClock;

use crate::support::{available, serve_app};

/// 2023-11-14T22:13:20Z.
const NOW_MS: i64 = 1_700_000_000_000;

fn openssl(args: &[&str]) -> Vec<u8> {
    let made = Command::new("openssl").args(args).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

/// What came to a listener: the `Authorization` header, the other headers and the body.
type Requests = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

/// A listener that notes what it gets and answers `answer` to who says `accepts`.
fn listener(accepts: &'static str, answer: &'static str) -> (Router, Requests) {
    let requests = Requests::default();
    let noted = requests.clone();
    let take = async move |headers: HeaderMap, body: String| {
        let header = headers.get("authorization").map_or("", |v| v.to_str().unwrap()).to_owned();
        let accepted = header.starts_with(accepts);
        noted.lock().unwrap().push((header, headers, body));
        let status = if accepted { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        (status, [("content-type", "application/json")], answer)
    };
    (Router::new().fallback(post(take)), requests)
}

/// Sends one alert with these options of an Alertmanager, and gives what the notifier
/// counted: sent and failed.
async fn send(address: &str, options: &str) -> (u64, u64) {
    let yaml = format!(
        "alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}], {options}}}]}}"
    );
    let loaded = config::parse(&yaml, Path::new("/")).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let mut registry = Registry::default();
    let discovery = DiscoveryMetrics::new(&mut registry);
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let manager = Manager::new(NotifierOptions::default(), clock, discovery, &mut registry);
    manager.apply(&loaded.config.alerting, &Labels::empty()).await.unwrap();
    manager.send(vec![OutgoingAlert {
        labels: Labels::from_pairs([("alertname", "A")]),
        annotations: Labels::empty(),
        starts_at_ms: NOW_MS,
        ends_at_ms: NOW_MS,
        generator_url: "".into(),
        receipt: Receipt::default(),
    }]);
    let count = |name: &str| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let start = format!("prometheus_notifications_{name}_total{{");
        let line = text.lines().find(|line| line.starts_with(&start));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0, |value| value.parse().unwrap())
    };
    loop {
        let counts = (count("sent"), count("errors"));
        if counts != (0, 0) {
            // What was sent can only be looked up while the queue is there.
            manager.shutdown().await;
            return counts;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn alerts_are_sent_with_a_token_from_an_endpoint_behind_tls() {
    if !available("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=tokens.test",
        "-addext",
        "subjectAltName=DNS:tokens.test",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        &path("key.pem"),
        "-out",
        &path("cert.pem"),
    ]);
    watchfire::http::install_crypto_provider();
    let tls = RustlsConfig::from_pem_file(path("cert.pem"), path("key.pem")).await.unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let endpoint = socket.local_addr().unwrap();
    let (tokens, asked) = listener("Basic", r#"{"access_token":"the-token","expires_in":3600}"#);
    let server = axum_server::from_tcp_rustls(socket, tls).unwrap();
    tokio::spawn(server.serve(tokens.into_make_service()));
    let (app, got) = listener("Bearer the-token", "");
    let address = serve_app(app).await.to_string();

    let oauth2 = |tls: &str| {
        format!(
            "oauth2: {{client_id: me, client_secret: s, token_url: 'https://{endpoint}/', \
             tls_config: {{server_name: tokens.test, {tls}}}}}"
        )
    };
    // An endpoint that cannot be trusted gets no secret, and nothing is sent without a token.
    assert_eq!(send(&address, &oauth2("")).await, (0, 1));
    assert!(asked.lock().unwrap().is_empty() && got.lock().unwrap().is_empty());
    let trusting = oauth2(&format!("ca_file: '{}'", path("cert.pem")));
    assert_eq!(send(&address, &trusting).await, (1, 0));
    assert_eq!(asked.lock().unwrap()[0].0, "Basic bWU6cw==");
    assert_eq!(got.lock().unwrap()[0].0, "Bearer the-token");
}

#[tokio::test]
async fn alerts_are_signed_for_aws() {
    let (app, got) = listener("AWS4-HMAC-SHA256 Credential=AKID/20231114/eu-central-1/aps/", "");
    let address = serve_app(app).await.to_string();
    let sigv4 = "path_prefix: /workspaces/ws-1/alertmanager, sigv4: {region: eu-central-1, access_key: AKID, secret_key: hunter2}";
    assert_eq!(send(&address, sigv4).await, (1, 0));
    let (authorization, headers, _) = got.lock().unwrap()[0].clone();
    assert!(authorization.contains(", SignedHeaders=content-type;host;x-amz-date, Signature="));
    assert_eq!(headers["x-amz-date"], "20231114T221320Z");
    // A key of somebody else.
    assert_eq!(send(&address, &sigv4.replace("AKID", "OTHER")).await, (0, 1));
}

#[tokio::test]
async fn assertions_are_signed_and_say_what_is_configured() {
    if !available("openssl") {
        return;
    }
    let key = String::from_utf8(openssl(&["genrsa", "2048"])).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &key).unwrap();
    let (tokens, asked) = listener("", r#"{"access_token":"t"}"#);
    let endpoint = serve_app(tokens).await.to_string();
    let (app, _got) = listener("Bearer t", "");
    let address = serve_app(app).await.to_string();
    let oauth2 = format!(
        "oauth2: {{client_id: me, token_url: 'http://{endpoint}/', \
         grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', audience: them, \
         signature_algorithm: RS512, client_certificate_key_id: key 1, scopes: [a, b], \
         client_certificate_key_file: '{}', claims: {{tenant: t}}}}",
        file.path().display()
    );
    assert_eq!(send(&address, &oauth2).await, (1, 0));
    let (header, _, form) = asked.lock().unwrap().remove(0);
    assert_eq!(header, "");
    let rest = form.strip_prefix("assertion=").unwrap();
    let (assertion, rest) = rest.split_once('&').unwrap();
    assert_eq!(rest, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer");

    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let header: Json = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!(header, json!({"alg": "RS512", "typ": "JWT", "kid": "key 1"}));
    let mut claims: Json = serde_json::from_slice(&decode(claims)).unwrap();
    let number = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(number.as_str().unwrap().len(), 32);
    assert_eq!(
        claims,
        json!({
            "iss": "me", "sub": "me", "aud": "them", "scope": "a b", "tenant": "t",
            "iat": 1_700_000_000, "exp": 1_700_001_800,
        })
    );
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA512, pair.public_key().as_ref())
        .verify(signed.as_bytes(), &decode(signature))
        .expect("a valid signature");

    // Something else than a key sends nothing.
    std::fs::write(file.path(), "no key").unwrap();
    assert_eq!(send(&address, &oauth2).await, (0, 1));
    assert!(asked.lock().unwrap().is_empty());
}
