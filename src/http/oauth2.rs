//! OAuth 2: the options of the client credentials and JWT bearer grants, and a source of
//! tokens that asks the endpoint when there is none or it is about to expire.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::client::{Client, HttpError, header_value, secret};
use super::config::{
    ClientConfig, ClientConfigError, ProxyConfig, TlsConfig, at_most_one, join, no_ref,
    without_password,
};
use super::jwt::{self, Algorithm, JwtError};
use super::secret::Secret;
use crate::model::{Clock, TimestampMs};

/// The value of `grant_type` that asks with a signed assertion (RFC 7523) instead of a secret.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// A token that expires within this time counts as expired, as in Go's client.
const EXPIRY_MARGIN_MS: i64 = 10_000;
/// A token that is refused is asked for anew when it is at least this old: refusals that no
/// token can mend must not become a storm on the endpoint.
const REFUSED_AGE_MS: i64 = 60_000;
/// Most bytes of an answer of the endpoint.
const ANSWER_MAX: usize = 1 << 20;
/// Most bytes of a refusal that an error repeats.
const REFUSAL_MAX: usize = 1024;

/// The options. Prometheus' names; files are read again for each request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth2 {
    pub client_id: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub client_secret: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_secret_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_secret_ref: String,
    /// Goes into the assertion's header as `kid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_certificate_key_id: String,
    /// The RSA key that signs assertions, as PEM.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub client_certificate_key: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_certificate_key_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_certificate_key_ref: String,
    /// The JWT bearer grant when it names it; client credentials otherwise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub grant_type: String,
    /// RS256 when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub signature_algorithm: String,
    /// The assertion's issuer; `client_id` when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub iss: String,
    /// The assertion's audience; `token_url` when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub audience: String,
    /// Further claims of the assertion.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    pub token_url: String,
    /// Sent along with each request for a token.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_params: BTreeMap<String, String>,
    /// How the endpoint is reached.
    #[serde(skip_serializing_if = "TlsConfig::is_default")]
    pub tls_config: TlsConfig,
    #[serde(skip_serializing_if = "String::is_empty", serialize_with = "without_password")]
    pub proxy_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proxy_from_environment: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

impl OAuth2 {
    pub(super) fn validate(&self) -> Result<(), ClientConfigError> {
        if self.client_id.is_empty() {
            return Err(ClientConfigError::OAuth2Missing("client_id"));
        }
        if self.token_url.is_empty() {
            return Err(ClientConfigError::OAuth2Missing("token_url"));
        }
        let set = |s: &str| !s.is_empty();
        if self.grant_type == JWT_BEARER {
            at_most_one(
                &[
                    !self.client_certificate_key.is_empty(),
                    set(&self.client_certificate_key_file),
                    set(&self.client_certificate_key_ref),
                ],
                "oauth2 client_certificate_key, client_certificate_key_file & \
                 client_certificate_key_ref",
            )?;
            if set(&self.signature_algorithm) {
                Algorithm::new(&self.signature_algorithm)
                    .ok_or(ClientConfigError::OAuth2Algorithm)?;
            }
        } else {
            at_most_one(
                &[
                    !self.client_secret.is_empty(),
                    set(&self.client_secret_file),
                    set(&self.client_secret_ref),
                ],
                "oauth2 client_secret, client_secret_file & client_secret_ref",
            )?;
        }
        no_ref(&self.client_secret_ref, "oauth2 client_secret_ref")?;
        no_ref(&self.client_certificate_key_ref, "oauth2 client_certificate_key_ref")?;
        self.tls_config.validate()
    }

    pub(super) fn resolve_paths(&mut self, dir: &Path) {
        join(dir, &mut self.client_secret_file);
        join(dir, &mut self.client_certificate_key_file);
        self.tls_config.resolve_paths(dir);
    }

    /// How the endpoint is reached.
    fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        config.tls_config = self.tls_config.clone();
        config.proxy = ProxyConfig {
            proxy_url: self.proxy_url.clone(),
            no_proxy: self.no_proxy.clone(),
            proxy_from_environment: self.proxy_from_environment,
            proxy_connect_header: self.proxy_connect_header.clone(),
        };
        config
    }
}

/// Why there is no token; texts are those of Go's client.
#[derive(Debug, Error)]
pub enum OAuth2Error {
    #[error("unable to use oauth2 token_url {url}: {why}")]
    Url { url: String, why: String },
    #[error("oauth2: cannot overwrite parameter {}", crate::model::labels::quote(.0))]
    Overwrite(String),
    #[error("oauth2: cannot fetch token: {0}")]
    Unreachable(#[source] Box<HttpError>),
    #[error("oauth2: cannot fetch token: {status}\nResponse: {answer}")]
    Refused { status: reqwest::StatusCode, answer: String },
    /// The endpoint's own words: code, description, URI.
    #[error("oauth2:{0}")]
    Error(String),
    #[error("oauth2: cannot parse json: {0}")]
    Json(String),
    #[error("oauth2: server response missing access_token")]
    NoToken,
    #[error("oauth2: cannot fetch token: the answer is longer than {ANSWER_MAX} bytes")]
    TooLong,
    #[error("oauth2: {0}")]
    Jwt(#[from] JwtError),
}

/// Gives tokens of one client, and asks for a new one no more than once at a time.
pub(super) struct Tokens {
    config: OAuth2,
    url: Url,
    client: Client,
    clock: Arc<dyn Clock>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Where the endpoint wants the client's name and secret, once that is known.
    place: Option<Place>,
}

/// Where the client's name and secret stand. RFC 6749 wants the first, some endpoints
/// know only the second.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Header,
    Body,
}

struct Token {
    authorization: HeaderValue,
    /// What it was asked for with: a changed file asks anew.
    secret: String,
    asked_ms: TimestampMs,
    /// `None` when it does not expire.
    expires_ms: Option<TimestampMs>,
}

impl Token {
    fn holds(&self, secret: &str, now_ms: TimestampMs) -> bool {
        let fresh = |at: TimestampMs| at.saturating_sub(EXPIRY_MARGIN_MS) > now_ms;
        self.secret == secret && self.expires_ms.is_none_or(fresh)
    }
}

impl Tokens {
    /// A source that has asked nobody yet.
    pub(super) async fn new(
        config: &OAuth2,
        user_agent: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HttpError> {
        let url = Url::parse(&config.token_url)
            .map_err(|e| OAuth2Error::Url { url: config.token_url.clone(), why: e.to_string() })?;
        let options = config.client_config();
        let client = Box::pin(Client::new(&options, user_agent, clock.clone())).await?;
        let state = tokio::sync::Mutex::default();
        Ok(Self { config: config.clone(), url, client, clock, state })
    }

    /// The value of an `Authorization` header that holds now.
    pub(super) async fn authorization(&self) -> Result<HeaderValue, HttpError> {
        let config = &self.config;
        let secret = if config.grant_type == JWT_BEARER {
            let (key, file) = (&config.client_certificate_key, &config.client_certificate_key_file);
            secret("oauth2 client certificate key file", key.expose(), file).await?
        } else {
            let (word, file) = (&config.client_secret, &config.client_secret_file);
            secret("oauth2 client secret file", word.expose(), file).await?
        };
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && token.holds(&secret, self.clock.now_ms())
        {
            return Ok(token.authorization.clone());
        }
        state.token = None;
        let token = if config.grant_type == JWT_BEARER {
            self.ask_with_assertion(secret).await?
        } else {
            self.ask_with_secret(&mut state.place, secret).await?
        };
        Ok(state.token.insert(token).authorization.clone())
    }

    /// Whoever was shown the token refused it: it may have been revoked. (Go's client goes
    /// on with it until it expires, which may be never.)
    pub(super) async fn refused(&self, authorization: &HeaderValue) {
        let mut state = self.state.lock().await;
        let now_ms = self.clock.now_ms();
        state.token.take_if(|token| {
            token.authorization == *authorization && now_ms - token.asked_ms >= REFUSED_AGE_MS
        });
    }

    async fn ask_with_secret(
        &self,
        place: &mut Option<Place>,
        secret: String,
    ) -> Result<Token, OAuth2Error> {
        let form = self.form([("grant_type", "client_credentials".to_owned())])?;
        let places = match *place {
            Some(known) => &[known][..],
            None => &[Place::Header, Place::Body],
        };
        let mut outcome = Err(OAuth2Error::NoToken);
        for tried in places {
            let mut form = form.clone();
            let mut headers = HeaderMap::new();
            if *tried == Place::Header {
                let pair = format!("{}:{}", escape(&self.config.client_id), escape(&secret));
                use base64::Engine;
                let pair = base64::engine::general_purpose::STANDARD.encode(pair);
                let value = header_value("oauth2 client_secret", &format!("Basic {pair}"));
                headers.insert(AUTHORIZATION, value.map_err(unreachable)?);
            } else {
                form.insert("client_id".to_owned(), self.config.client_id.clone());
                if !secret.is_empty() {
                    form.insert("client_secret".to_owned(), secret.clone());
                }
            }
            outcome = self.ask(&form, headers, &secret).await;
            match outcome {
                Ok(_) => {
                    *place = Some(*tried);
                    break;
                }
                // Asking again elsewhere does not help.
                Err(OAuth2Error::Unreachable(_)) => break,
                Err(_) => {}
            }
        }
        outcome
    }

    async fn ask_with_assertion(&self, key: String) -> Result<Token, OAuth2Error> {
        let config = &self.config;
        let or = |text: &String, other: &String| {
            if text.is_empty() { other.clone() } else { text.clone() }
        };
        let assertion = jwt::assertion(
            &key,
            &jwt::Statement {
                algorithm: Algorithm::new(&config.signature_algorithm).unwrap_or_default(),
                key_id: &config.client_certificate_key_id,
                issuer: or(&config.iss, &config.client_id),
                subject: config.client_id.clone(),
                audience: or(&config.audience, &config.token_url),
                scope: config.scopes.join(" "),
                claims: &config.claims,
                now_ms: self.clock.now_ms(),
            },
        )?;
        let form = self.form([("grant_type", JWT_BEARER.to_owned()), ("assertion", assertion)])?;
        self.ask(&form, HeaderMap::new(), &key).await
    }

    /// What every request says. `grant_type` alone may be replaced by `endpoint_params`:
    /// not all endpoints follow the standard.
    fn form<const N: usize>(
        &self,
        own: [(&str, String); N],
    ) -> Result<BTreeMap<String, String>, OAuth2Error> {
        let mut form: BTreeMap<_, _> = own.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        if !self.config.scopes.is_empty() && self.config.grant_type != JWT_BEARER {
            form.insert("scope".to_owned(), self.config.scopes.join(" "));
        }
        for (name, value) in &self.config.endpoint_params {
            if name != "grant_type" && form.contains_key(name) {
                return Err(OAuth2Error::Overwrite(name.clone()));
            }
            form.insert(name.clone(), value.clone());
        }
        Ok(form)
    }

    async fn ask(
        &self,
        form: &BTreeMap<String, String>,
        headers: HeaderMap,
        secret: &str,
    ) -> Result<Token, OAuth2Error> {
        let mut request = self.client.request(Method::POST, self.url.clone());
        *request.headers_mut() = headers;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        let body: String =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        *request.body_mut() = Some(body.into());
        let sent_ms = self.clock.now_ms();
        // A client whose options have no oauth2: the recursion ends here.
        let response = Box::pin(self.client.execute(request)).await.map_err(unreachable)?;
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let is_form = kind.is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            matches!(kind, "application/x-www-form-urlencoded" | "text/plain")
        });
        let body = read(response).await?;
        let answer = if is_form { Answer::of_form(&body) } else { Answer::of_json(&body) };
        if !status.is_success() {
            return Err(match answer.ok().and_then(Answer::complaint) {
                Some(complaint) => complaint,
                None => {
                    let shown = &body[..body.len().min(REFUSAL_MAX)];
                    let answer = String::from_utf8_lossy(shown).into_owned();
                    OAuth2Error::Refused { status, answer }
                }
            });
        }
        let answer = answer?;
        if answer.access_token.is_empty() {
            return Err(answer.complaint().unwrap_or(OAuth2Error::NoToken));
        }
        let text = format!("{} {}", kind_of(&answer.token_type), answer.access_token);
        let authorization = header_value("the oauth2 token", &text).map_err(unreachable)?;
        let lifetime_ms = answer.expires_in.filter(|seconds| *seconds > 0);
        let expires_ms =
            lifetime_ms.map(|seconds| sent_ms.saturating_add(seconds.saturating_mul(1000)));
        Ok(Token { authorization, secret: secret.to_owned(), asked_ms: sent_ms, expires_ms })
    }
}

fn unreachable(error: HttpError) -> OAuth2Error {
    OAuth2Error::Unreachable(Box::new(error))
}

/// The whole body, within its limit.
async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, OAuth2Error> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|e| unreachable(HttpError::Request(e)))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_MAX {
            return Err(OAuth2Error::TooLong);
        }
    }
    Ok(body)
}

/// How a type of token is written in a header.
fn kind_of(kind: &str) -> &str {
    match kind.to_ascii_lowercase().as_str() {
        "" | "bearer" => "Bearer",
        "mac" => "MAC",
        "basic" => "Basic",
        _ => kind,
    }
}

/// What the endpoint says.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    access_token: String,
    token_type: String,
    /// Seconds; some endpoints write the number as a text.
    #[serde(deserialize_with = "number")]
    expires_in: Option<i64>,
    error: String,
    error_description: String,
    error_uri: String,
}

fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(f64),
        Text(String),
    }
    match Option::<Number>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Number::Number(seconds)) => Ok(Some(seconds as i64)),
        Some(Number::Text(text)) => {
            text.parse().map(Some).map_err(|_| serde::de::Error::custom("expires_in is no number"))
        }
    }
}

impl Answer {
    fn of_json(body: &[u8]) -> Result<Self, OAuth2Error> {
        serde_json::from_slice(body).map_err(|e| OAuth2Error::Json(e.to_string()))
    }

    fn of_form(body: &[u8]) -> Result<Self, OAuth2Error> {
        let fields: BTreeMap<String, String> =
            url::form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        Ok(Self {
            access_token: field("access_token"),
            token_type: field("token_type"),
            expires_in: field("expires_in").parse().ok(),
            error: field("error"),
            error_description: field("error_description"),
            error_uri: field("error_uri"),
        })
    }

    /// The error of an answer that says one.
    fn complaint(self) -> Option<OAuth2Error> {
        let parts = [self.error, self.error_description, self.error_uri];
        if parts[0].is_empty() {
            return None;
        }
        let parts = parts.iter().filter(|part| !part.is_empty());
        let quoted = parts.map(|part| format!(" {}", crate::model::labels::quote(part)));
        Some(OAuth2Error::Error(quoted.collect()))
    }
}

/// What Go's `url.QueryEscape` leaves alone.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn escape(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string().replace("%20", "+")
}

#[cfg(test)]
#[path = "oauth2_tests.rs"]
mod tests;
