//! Who is let in: the users and headers of `--web.config.file`, around every request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::response::text_response;
use crate::config::web::Web;

/// Checked passwords that are remembered: hashing one takes long by design.
const REMEMBERED_MAX: usize = 100;

/// Gives what holds now: asked for each connection and each request, as files change.
#[derive(Clone)]
pub struct AccessSource(pub Arc<dyn Fn() -> Result<Arc<Web>, String> + Send + Sync>);

impl fmt::Debug for AccessSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessSource")
    }
}

/// Lets in who may.
pub(super) struct Guard {
    source: AccessSource,
    /// By the digest of user, hash and password, whether they belong together.
    checked: Mutex<BTreeMap<[u8; 32], bool>>,
    /// One password at a time, so that guesses do not take all processors.
    turn: Semaphore,
}

impl Guard {
    pub(super) fn new(source: AccessSource) -> Arc<Self> {
        Arc::new(Self { source, checked: Mutex::default(), turn: Semaphore::new(1) })
    }

    async fn lets_in(&self, web: &Web, headers: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(headers) else { return false };
        let known = web.users.get(&user);
        // Who is not there takes as long as who is, so that names cannot be found out.
        let Some(hash) = known.or_else(|| web.users.values().next()).cloned() else {
            return false;
        };
        let mut digest = Sha256::new();
        for part in [user.as_bytes(), hash.as_bytes(), &password] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let key: [u8; 32] = digest.finalize().into();
        let remembered = {
            let checked = self.checked.lock();
            checked.get(&key).copied()
        };
        let is_right = match remembered {
            Some(is_right) => is_right,
            None => {
                let Ok(_turn) = self.turn.acquire().await else { return false };
                let verified =
                    tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await;
                let is_right = matches!(verified, Ok(Ok(true)));
                let mut checked = self.checked.lock();
                // Digests have no order that could be guessed: any of them may go.
                while checked.len() >= REMEMBERED_MAX {
                    checked.pop_first();
                }
                checked.insert(key, is_right);
                is_right
            }
        };
        is_right && known.is_some()
    }
}

/// User and password of basic authentication.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

/// Refuses who may not, and adds the configured headers to every answer.
pub(super) async fn guard(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let web = match (guard.source.0)() {
        Ok(web) => web,
        Err(error) => {
            tracing::error!(
                err = error,
                "Unable to parse the web configuration (--web.config.file)"
            );
            return text_response(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        }
    };
    let mut response = match web.users.is_empty() || guard.lets_in(&web, request.headers()).await {
        true => next.run(request).await,
        false => {
            let mut refused = text_response(StatusCode::UNAUTHORIZED, "Unauthorized");
            refused
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            refused
        }
    };
    for (name, value) in &web.headers {
        let pair = (HeaderName::try_from(name), HeaderValue::try_from(value));
        if let (Ok(name), Ok(value)) = pair {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_as_they_are_sent() {
        let check = |value: &str, expected: Option<(&str, &str)>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::try_from(value).unwrap());
            let got = credentials(&headers);
            let expected = expected.map(|(user, password)| (user.to_owned(), password.into()));
            assert_eq!(got, expected, "{value}");
        };
        check("Basic YTpi", Some(("a", "b")));
        check("basic YTpiOmM=", Some(("a", "b:c")));
        check("Basic Og==", Some(("", "")));
        for bad in ["Basic", "Basic ???", "Bearer YTpi", "Basic YWI=", "YTpi"] {
            check(bad, None);
        }
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_let_in() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let users = BTreeMap::from([("alice".to_owned(), hash)]);
        let web = Web { users, ..Web::default() };
        let guard = Guard::new(AccessSource(Arc::new(|| Err(String::new()))));
        // Twice: the second time it is remembered.
        for _ in 0..2 {
            for (user, password, expected) in [
                ("alice", "secret", true),
                ("alice", "Secret", false),
                ("alice", "", false),
                ("bob", "secret", false),
                ("", "secret", false),
            ] {
                let mut headers = HeaderMap::new();
                let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
                headers.insert(header::AUTHORIZATION, HeaderValue::try_from(value).unwrap());
                assert_eq!(guard.lets_in(&web, &headers).await, expected, "{user} {password}");
            }
        }
        assert!(!guard.lets_in(&web, &HeaderMap::new()).await);
        for i in 0..2 * REMEMBERED_MAX {
            guard.checked.lock().insert([i as u8; 32], false);
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
        assert!(!guard.lets_in(&web, &headers).await);
        assert!(guard.checked.lock().len() <= REMEMBERED_MAX);
    }
}
