//! How receivers are reached: credentials, signatures and proxies of a target, against a
//! server that checks them on every request, also on one that is made again.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use ring::hmac;
use sha2::{Digest, Sha256};

use super::sender::{FAST, Rig, target};
use crate::support::serve_app;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

struct Sent {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Default)]
struct Kept {
    /// Writes; the first of them was answered with 503.
    writes: Mutex<Vec<Sent>>,
    tokens: Mutex<Vec<String>>,
}

async fn serve(State(kept): State<Arc<Kept>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    if head.uri.path() == "/token" {
        kept.tokens.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
        let token = r#"{"access_token":"t1","token_type":"Bearer","expires_in":3600}"#;
        return ([("content-type", "application/json")], token).into_response();
    }
    let mut writes = kept.writes.lock().unwrap();
    writes.push(Sent { method: head.method, uri: head.uri, headers: head.headers, body });
    match writes.len() {
        1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The signature that AWS computes for a request, from what arrived of it.
fn signature(sent: &Sent, signed: &str, scope: &str) -> String {
    let header = |name: &str| sent.headers.get(name).unwrap().to_str().unwrap();
    let names: Vec<&str> = signed.split(';').collect();
    let lines: String =
        names.iter().map(|name| format!("{name}:{}\n", header(name).trim())).collect();
    let body = hex(&Sha256::digest(&sent.body));
    let (method, path) = (&sent.method, sent.uri.path());
    let query = sent.uri.query().unwrap_or_default();
    let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{signed}\n{body}");
    let hashed = hex(&Sha256::digest(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hashed}", header("x-amz-date"));
    let sign = |key: &[u8], text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let key = scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |k, part| sign(&k, part));
    hex(&sign(&key, &text))
}

/// The headers of both requests pass a check.
fn check_aws(sent: &Sent) {
    let text = sent.headers["authorization"].to_str().unwrap();
    let rest = text.strip_prefix("AWS4-HMAC-SHA256 Credential=AKID/").expect(text);
    let (scope, rest) = rest.split_once(", SignedHeaders=").expect(text);
    let (signed, given) = rest.split_once(", Signature=").expect(text);
    assert!(scope.ends_with("/eu-central-1/aps/aws4_request"), "{text}");
    assert!(signed.split(';').any(|name| name == "host"), "{text}");
    assert_eq!(given, signature(sent, signed, scope), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_are_written_to_with_their_credentials() {
    let kept = Arc::new(Kept::default());
    let app = Router::new().fallback(serve).with_state(kept.clone());
    let base = format!("http://{}", serve_app(app).await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "from-file\n").unwrap();
    let oauth2 = format!(
        "oauth2: {{client_id: me, client_secret: hidden, token_url: '{base}/token', scopes: [a]}}"
    );
    let sigv4 = format!("sigv4: {{region: eu-central-1, access_key: AKID, secret_key: {SECRET}}}");
    let cases = [
        ("authorization: {credentials: abc}".to_owned(), "Bearer abc"),
        (format!("authorization: {{credentials_file: '{}'}}", file.display()), "Bearer from-file"),
        ("basic_auth: {username: u, password: p}".to_owned(), "Basic dTpw"),
        (oauth2, "Bearer t1"),
        (sigv4, "AWS4-HMAC-SHA256 Credential=AKID/"),
        (format!("proxy_url: '{base}'\n  authorization: {{credentials: abc}}"), "Bearer abc"),
    ];
    for (number, (options, expected)) in cases.iter().enumerate() {
        kept.writes.lock().unwrap().clear();
        let proxied = options.starts_with("proxy");
        let url = if proxied { "http://nowhere.invalid/api/write?a=b" } else { &base };
        let url = if proxied { url.to_owned() } else { format!("{url}/api/write?a=b") };
        let queue = dir.path().join(number.to_string());
        let config = target(&url, &format!("{FAST}  {options}\n"));
        let rig = Rig::start(&queue, &config).await;
        rig.commit(3, 1000);
        rig.wait("prometheus_remote_storage_samples_pending", "", 0.0);
        rig.sender.shutdown().await;
        let writes = std::mem::take(&mut *kept.writes.lock().unwrap());
        assert_eq!(writes.len(), 2, "{options}: one was made again");
        for sent in &writes {
            assert_eq!((sent.uri.path(), sent.uri.query()), ("/api/write", Some("a=b")));
            assert_eq!(sent.uri.host(), proxied.then_some("nowhere.invalid"), "{options}");
            let all: Vec<_> = sent.headers.get_all("authorization").iter().collect();
            assert_eq!(all.len(), 1, "{options}");
            assert!(all[0].to_str().unwrap().starts_with(expected), "{options}: {all:?}");
            assert_eq!(sent.headers["content-encoding"], "snappy");
            if options.starts_with("sigv4") {
                check_aws(sent);
            }
        }
    }
    let tokens = kept.tokens.lock().unwrap().clone();
    assert_eq!(tokens.len(), 1, "a token is used until it expires");
    assert!(tokens[0].contains("grant_type=client_credentials"), "{tokens:?}");
}
