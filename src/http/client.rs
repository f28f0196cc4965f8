//! A client made from options. Secrets that stand in files are read again for each
//! request; certificates are, too, and a changed one replaces the connections.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Method, Request, Response, StatusCode, Url};
use thiserror::Error;

use super::aws::{SigV4Config, SigV4Error, Signer, process_environment};
use super::config::{ClientConfig, ProxyConfig};
use super::oauth2::{OAuth2Error, Tokens};
use super::tls::{self, Material};
use crate::model::Clock;

/// Most redirects that are followed, as in Go.
const REDIRECTS_MAX: usize = 10;
/// How long a TLS handshake and connection may take when the request has no deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a request was not answered.
#[derive(Debug, Error)]
pub enum HttpError {
    #[error("unable to read {what} {file}: {cause}")]
    ReadFile { what: &'static str, file: String, cause: String },
    #[error("unable to use the {what} of tls_config: {why}")]
    Tls { what: &'static str, why: String },
    #[error("unable to use proxy_url {url}: {why}")]
    Proxy { url: String, why: String },
    #[error("{what} cannot be sent as an HTTP header: it holds a line break or control character")]
    HeaderValue { what: &'static str },
    #[error(transparent)]
    OAuth2(#[from] OAuth2Error),
    #[error(transparent)]
    SigV4(#[from] SigV4Error),
    #[error("stopped after {REDIRECTS_MAX} redirects")]
    TooManyRedirects,
    #[error("redirect to {0}, which is not a URL")]
    BadRedirect(String),
    #[error("{}", describe(.0))]
    Request(#[source] reqwest::Error),
}

/// The error with its causes: reqwest's own text stops at the outermost.
fn describe(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    let url = error.url().map_or("", Url::as_str);
    if text.is_empty() {
        return error.to_string();
    }
    format!("request to {url} failed: {text}")
}

/// Makes ring the TLS provider of the process. Safe to call any number of times; a
/// client cannot be built before.
pub fn install_crypto_provider() {
    // An error means that a provider is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client with its options. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    user_agent: String,
    current: ArcSwap<Transport>,
    /// Tokens of OAuth 2, when the options ask for them.
    tokens: Option<Tokens>,
    /// Signs requests for AWS.
    signer: Option<Signer>,
}

struct Transport {
    material: Material,
    client: reqwest::Client,
}

impl Client {
    /// Builds a client; the options must have been normalized. Files are read now, so
    /// that a missing one is an error here and not at the first request; nobody is asked for
    /// a token before. The clock says when tokens expire and what signatures are dated.
    pub async fn new(
        config: &ClientConfig,
        user_agent: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HttpError> {
        Self::build(config, None, user_agent, clock).await
    }

    /// As `new`; requests are signed for AWS. That takes the place of other authentication.
    pub async fn signed(
        config: &ClientConfig,
        sigv4: &SigV4Config,
        user_agent: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HttpError> {
        install_crypto_provider();
        let environment = process_environment();
        // The signer has a client of its own, without a signer.
        let signer = Box::pin(Signer::new(sigv4, user_agent, environment, clock.clone())).await?;
        Self::build(config, Some(signer), user_agent, clock).await
    }

    async fn build(
        config: &ClientConfig,
        signer: Option<Signer>,
        user_agent: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HttpError> {
        install_crypto_provider();
        let tokens = match &config.oauth2 {
            Some(oauth2) => Some(Tokens::new(oauth2, user_agent, clock).await?),
            None => None,
        };
        let material = Material::read(&config.tls_config).await?;
        let client = build(config, user_agent, &material)?;
        let current = ArcSwap::from_pointee(Transport { material, client });
        let (config, user_agent) = (config.clone(), user_agent.to_owned());
        let shared = Shared { config, user_agent, current, tokens, signer };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The options the client was built from.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// A request without the options' headers, to be filled and given to `execute`.
    pub fn request(&self, method: Method, url: Url) -> Request {
        Request::new(method, url)
    }

    /// Sends a request: adds authentication and configured headers, follows redirects
    /// when the options say so. Neither credentials nor configured headers go along to
    /// another host. The caller bounds the time.
    pub async fn execute(&self, mut request: Request) -> Result<Response, HttpError> {
        let transport = self.transport().await?;
        let private = self.private_headers().await?;
        let plain = request.headers().clone();
        let origin = origin(request.url());
        for _ in 0..=REDIRECTS_MAX {
            if self::origin(request.url()) == origin {
                request.headers_mut().extend(private.clone());
                if let Some(signer) = &self.shared.signer {
                    signer.sign(&mut request).await?;
                }
            }
            let retry = request.try_clone();
            let response = transport.client.execute(request).await.map_err(HttpError::Request)?;
            if response.status() == StatusCode::UNAUTHORIZED
                && let Some(tokens) = &self.shared.tokens
                && let Some(shown) = private.get(AUTHORIZATION)
            {
                tokens.refused(shown).await;
            }
            let location = response.headers().get(LOCATION);
            let (Some(retry), Some(location)) = (retry, location) else { return Ok(response) };
            if !self.shared.config.follow_redirects || !is_redirect(response.status()) {
                return Ok(response);
            }
            let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
            request = redirected(retry, &response, &location)?;
            *request.headers_mut() = plain.clone();
        }
        Err(HttpError::TooManyRedirects)
    }

    /// The transport, rebuilt when a certificate file has changed.
    async fn transport(&self) -> Result<Arc<Transport>, HttpError> {
        let current = self.shared.current.load_full();
        if Material::is_static(&self.shared.config.tls_config) {
            return Ok(current);
        }
        let material = Material::read(&self.shared.config.tls_config).await?;
        if material == current.material {
            return Ok(current);
        }
        let client = build(&self.shared.config, &self.shared.user_agent, &material)?;
        let fresh = Arc::new(Transport { material, client });
        self.shared.current.store(fresh.clone());
        Ok(fresh)
    }

    /// Headers that only the configured host may see.
    async fn private_headers(&self) -> Result<HeaderMap, HttpError> {
        let config = &self.shared.config;
        let mut headers = HeaderMap::new();
        for (name, header) in config.http_headers.iter().flat_map(|h| &h.0) {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| HttpError::HeaderValue { what: "a name in http_headers" })?;
            for value in &header.values {
                headers.append(&name, header_value("a value in http_headers", value)?);
            }
            for value in &header.secrets {
                let value = header_value("a secret in http_headers", value.expose())?;
                headers.append(&name, value);
            }
            for file in &header.files {
                let value = read_secret("headers file", file).await?;
                headers.append(&name, header_value("a file in http_headers", &value)?);
            }
        }
        if let Some(auth) = &config.authorization {
            let file = &auth.credentials_file;
            let secret = secret("credentials file", auth.credentials.expose(), file).await?;
            let text = format!("{} {secret}", auth.kind);
            headers.insert(AUTHORIZATION, header_value("authorization credentials", &text)?);
        }
        if let Some(basic) = &config.basic_auth {
            let user = secret("username file", &basic.username, &basic.username_file).await?;
            let word = basic.password.expose();
            let word = secret("password file", word, &basic.password_file).await?;
            use base64::Engine;
            let encoded =
                base64::engine::general_purpose::STANDARD.encode(format!("{user}:{word}"));
            headers.insert(AUTHORIZATION, header_value("basic_auth", &format!("Basic {encoded}"))?);
        }
        if let Some(tokens) = &self.shared.tokens {
            headers.insert(AUTHORIZATION, tokens.authorization().await?);
        }
        Ok(headers)
    }
}

fn build(
    config: &ClientConfig,
    user_agent: &str,
    material: &Material,
) -> Result<reqwest::Client, HttpError> {
    // Decompression is the caller's: it knows how large a body may become.
    let mut builder = reqwest::Client::builder()
        .user_agent(user_agent)
        .redirect(Policy::none())
        .gzip(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(300));
    if !config.enable_http2 {
        builder = builder.http1_only();
    }
    builder = with_proxy(builder, &config.proxy)?;
    builder = tls::configure(builder, &config.tls_config, material)?;
    builder.build().map_err(HttpError::Request)
}

fn with_proxy(
    builder: reqwest::ClientBuilder,
    config: &ProxyConfig,
) -> Result<reqwest::ClientBuilder, HttpError> {
    if config.proxy_from_environment {
        // The client reads the environment's proxies unless told otherwise.
        return Ok(builder);
    }
    if config.proxy_url.is_empty() {
        return Ok(builder.no_proxy());
    }
    let mut proxy = reqwest::Proxy::all(&config.proxy_url)
        .map_err(|e| HttpError::Proxy { url: config.proxy_url.clone(), why: e.to_string() })?;
    proxy = proxy.no_proxy(reqwest::NoProxy::from_string(&config.no_proxy));
    let mut headers = HeaderMap::new();
    for (name, values) in &config.proxy_connect_header {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| HttpError::HeaderValue { what: "a name in proxy_connect_header" })?;
        for value in values {
            headers.append(&name, header_value("a value in proxy_connect_header", value.expose())?);
        }
    }
    if !headers.is_empty() {
        proxy = proxy.headers(headers);
    }
    Ok(builder.proxy(proxy))
}

pub(super) fn header_value(what: &'static str, text: &str) -> Result<HeaderValue, HttpError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| HttpError::HeaderValue { what })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The text itself, or what its file holds now.
pub(super) async fn secret(
    what: &'static str,
    text: &str,
    file: &str,
) -> Result<String, HttpError> {
    if file.is_empty() { Ok(text.to_owned()) } else { read_secret(what, file).await }
}

pub(super) async fn read_secret(what: &'static str, file: &str) -> Result<String, HttpError> {
    let text = tokio::fs::read_to_string(file).await.map_err(|e| HttpError::ReadFile {
        what,
        file: file.to_owned(),
        cause: e.to_string(),
    })?;
    Ok(text.trim().to_owned())
}

fn origin(url: &Url) -> (String, Option<String>, Option<u16>) {
    (url.scheme().into(), url.host_str().map(Into::into), url.port_or_known_default())
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The request a redirect asks for: 307 and 308 repeat it, the others make it a GET.
fn redirected(
    mut request: Request,
    response: &Response,
    location: &str,
) -> Result<Request, HttpError> {
    let url =
        response.url().join(location).map_err(|_| HttpError::BadRedirect(location.to_owned()))?;
    *request.url_mut() = url;
    let repeats = matches!(response.status().as_u16(), 307 | 308);
    if !repeats && !matches!(*request.method(), Method::GET | Method::HEAD) {
        *request.method_mut() = Method::GET;
        *request.body_mut() = None;
    }
    Ok(request)
}
