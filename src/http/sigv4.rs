//! AWS Signature Version 4: signing one request, as a pure function of request, credentials
//! and time.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Request, Url};
use ring::hmac;
use sha2::{Digest, Sha256};

use super::client::{HttpError, header_value};
use crate::model::TimestampMs;

/// Who signs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub access_key: String,
    pub secret_key: String,
    /// Of credentials that hold for a while; empty otherwise.
    pub session_token: String,
}

/// What a signature is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
}

/// What RFC 3986 calls unreserved stays, everything else is escaped.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// In a path slashes stay, too.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// Signs a request whose headers are complete: adds `X-Amz-Date`, `X-Amz-Security-Token`
/// and `Authorization`. What it was signed with before is replaced.
pub(super) fn sign(
    request: &mut Request,
    credentials: &Credentials,
    scope: Scope<'_>,
    now_ms: TimestampMs,
) -> Result<(), HttpError> {
    let time = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
    let time = time.format("%Y%m%dT%H%M%SZ").to_string();
    let date = &time[..8];
    clean_path(request.url_mut());
    let headers = request.headers_mut();
    headers.remove(AUTHORIZATION);
    headers.insert("x-amz-date", header_value("the time", &time)?);
    if credentials.session_token.is_empty() {
        headers.remove("x-amz-security-token");
    } else {
        let token = header_value("the session token", &credentials.session_token)?;
        headers.insert("x-amz-security-token", token);
    }
    let (signed_headers, canonical) = canonical(request);
    let scope_text = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope_text}\n{}", hex_sha256(&canonical));
    let mut key = format!("AWS4{}", credentials.secret_key).into_bytes();
    for part in [date, scope.region, scope.service, "aws4_request"] {
        key = mac(&key, part);
    }
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope_text}, SignedHeaders={signed_headers}, \
         Signature={}",
        credentials.access_key,
        hex(&mac(&key, &to_sign))
    );
    let authorization = header_value("the signature", &authorization)?;
    request.headers_mut().insert(AUTHORIZATION, authorization);
    Ok(())
}

/// A path without empty segments and without a slash at its end, as AWS wants it signed.
fn clean_path(url: &mut Url) {
    let segments: Vec<&str> = url.path().split('/').filter(|part| !part.is_empty()).collect();
    let clean = format!("/{}", segments.join("/"));
    if url.path() != clean {
        url.set_path(&clean);
    }
}

/// The names of the headers that are signed, and the text the signature is about.
fn canonical(request: &Request) -> (String, String) {
    let url = request.url();
    let mut headers: Vec<(&HeaderName, String)> = Vec::new();
    for name in request.headers().keys() {
        // Programs on the way may change it.
        if *name == USER_AGENT {
            continue;
        }
        let values = request.headers().get_all(name).iter().map(canonical_value);
        headers.push((name, values.collect::<Vec<_>>().join(",")));
    }
    let host = HeaderName::from_static("host");
    if !headers.iter().any(|(name, _)| **name == host) {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        headers.push((&host, format!("{}{port}", url.host_str().unwrap_or_default())));
    }
    headers.sort_by_key(|(name, _)| name.as_str());
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let mut text = format!(
        "{}\n{}\n{}\n",
        request.method(),
        utf8_percent_encode(url.path(), PATH),
        canonical_query(url)
    );
    for (name, value) in &headers {
        let _ = writeln!(text, "{name}:{value}");
    }
    let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
    let _ = write!(text, "\n{names}\n{}", hex_sha256(body));
    (names, text)
}

/// Without spaces at the ends, and one for many.
fn canonical_value(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    text.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn canonical_query(url: &Url) -> String {
    let escape = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (escape(&name), escape(&value))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex_sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use reqwest::Method;

    use super::*;

    /// Cases of AWS' published test suite (aws-sig-v4-test-suite) and of its manual; all
    /// but the last for the service `service`.
    #[test]
    fn signatures_are_those_of_the_published_cases() {
        const FORM: &str = "application/x-www-form-urlencoded";
        let check = |method, url: &str, kind: &str, body: &str, token: &str, expected: &str| {
            let mut request = Request::new(method, Url::parse(url).unwrap());
            if !kind.is_empty() {
                let kind = HeaderValue::from_str(kind).unwrap();
                request.headers_mut().insert("content-type", kind);
            }
            request.headers_mut().insert("user-agent", HeaderValue::from_static("any/1"));
            if !body.is_empty() {
                *request.body_mut() = Some(body.to_owned().into());
            }
            let credentials = Credentials {
                access_key: "AKIDEXAMPLE".into(),
                secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
                session_token: token.into(),
            };
            let service = if url.contains("iam") { "iam" } else { "service" };
            let scope = Scope { region: "us-east-1", service };
            // 2015-08-30T12:36:00Z; a second signature replaces the first.
            for now_ms in [0, 1_440_938_160_000] {
                sign(&mut request, &credentials, scope, now_ms).unwrap();
            }
            let got = request.headers()[AUTHORIZATION].to_str().unwrap();
            let head = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request, \
                 SignedHeaders="
            );
            let (names, signature) = expected.split_once(' ').unwrap();
            assert_eq!(got, format!("{head}{names}, Signature={signature}"), "{url}");
        };
        let (get, post) = (Method::GET, Method::POST);
        let plain = "https://example.amazonaws.com/";
        for (method, url, kind, body, token, expected) in [
            (
                &get,
                plain,
                "",
                "",
                "",
                "host;x-amz-date 5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                &post,
                plain,
                "",
                "",
                "",
                "host;x-amz-date 5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                &get,
                "https://example.amazonaws.com/?Param2=value2&Param1=value1",
                "",
                "",
                "",
                "host;x-amz-date b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                &get,
                "https://example.amazonaws.com/?\u{1234}=bar",
                "",
                "",
                "",
                "host;x-amz-date 2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            (
                &get,
                "https://example.amazonaws.com/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                "",
                "",
                "",
                "host;x-amz-date 07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            ),
            (
                &post,
                plain,
                FORM,
                "Param1=value1",
                "",
                "content-type;host;x-amz-date ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                &get,
                "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
                "application/x-www-form-urlencoded; charset=utf-8",
                "",
                "",
                "content-type;host;x-amz-date 5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ] {
            check(method.clone(), url, kind, body, token, expected);
        }
    }
}
