//! A client of somebody's HTTP API: the server's address, options of the HTTP client from
//! a file, headers from flags, bounded answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::config::read_http_client;
use crate::http::{Client, ClientConfig, HttpError};
use crate::telemetry::clock::SystemClock;

/// The part of a server's configuration that commands look at.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServerConfig {
    pub global: ServerGlobals,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServerGlobals {
    pub scrape_interval: Option<String>,
    pub evaluation_interval: Option<String>,
    pub external_labels: BTreeMap<String, String>,
}

impl ServerConfig {
    /// Of the answer of `api/v1/status/config`.
    pub fn of(answer: &Json) -> Result<Self, String> {
        let text = answer["yaml"].as_str().ok_or("there is no YAML in its answer")?;
        serde_yaml::from_str(text).map_err(|e| e.to_string())
    }
}

/// Largest answer read into memory.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// How requests are made.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ClientArgs {
    /// File with options of the HTTP client, such as credentials and TLS, in Prometheus'
    /// format.
    #[arg(long = "http.config.file", value_name = "FILE", global = true)]
    pub http_config: Option<PathBuf>,
    /// Header to send, NAME=VALUE; repeatable.
    #[arg(long = "header", value_name = "NAME=VALUE", global = true)]
    pub headers: Vec<String>,
}

/// A server to ask.
pub(crate) struct ApiClient {
    client: Client,
    base: Url,
    headers: HeaderMap,
    timeout: Duration,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl ApiClient {
    /// Nothing is sent yet. A server without a scheme is one of http. `timeout` is for one
    /// request, its answer included.
    pub(crate) async fn new(
        args: &ClientArgs,
        server: &str,
        timeout: Duration,
    ) -> Result<Self, String> {
        let with_scheme =
            if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let base = Url::parse(&with_scheme).map_err(|e| format!("server URL {server:?}: {e}"))?;
        let config = match &args.http_config {
            Some(file) => read_http_client(file).map_err(|e| e.to_string())?,
            None => ClientConfig::default(),
        };
        let agent = concat!("watchfire/", env!("CARGO_PKG_VERSION"));
        let clock = Arc::new(SystemClock::default());
        let client = Client::new(&config, agent, clock).await.map_err(|e| e.to_string())?;
        Ok(Self { client, base, headers: headers(&args.headers)?, timeout })
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        if path.is_empty() {
            return url;
        }
        let prefix = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{prefix}/{path}"));
        url
    }

    /// Asks for a path below the server's.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Answer, String> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(Method::GET, url, HeaderMap::new(), Vec::new()).await
    }

    /// Posts a body.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        self.send(Method::POST, self.url(path), headers, body).await
    }

    /// `data` of an answer in the form of Prometheus' API to a form that is posted.
    pub(crate) async fn api_post(
        &self,
        path: &str,
        form: &[(&str, String)],
    ) -> Result<Json, String> {
        api_data(&self.post_form(path, form).await?)
    }

    /// Posts a form.
    pub(crate) async fn post_form(
        &self,
        path: &str,
        form: &[(&str, String)],
    ) -> Result<Answer, String> {
        let mut encoder = url::form_urlencoded::Serializer::new(String::new());
        let body = encoder.extend_pairs(form).finish().into_bytes();
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        self.post(path, headers, body).await
    }

    /// The HTTP status of the server's own address; what it says beside is not read.
    pub(crate) async fn status(&self) -> Result<u16, String> {
        let mut request = self.client.request(Method::GET, self.base.clone());
        *request.headers_mut() = self.headers.clone();
        *request.timeout_mut() = Some(self.timeout);
        let response = self.client.execute(request).await.map_err(|e| e.to_string())?;
        Ok(response.status().as_u16())
    }

    /// `data` of an answer in the form of Prometheus' API.
    pub(crate) async fn api_get(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Json, String> {
        api_data(&self.get(path, query).await?)
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        let mut request = self.client.request(method, url);
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().extend(headers);
        *request.body_mut() = Some(body.into());
        *request.timeout_mut() = Some(self.timeout);
        let mut response = self.client.execute(request).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let cut_off = |error| HttpError::Request(error).to_string();
        while let Some(chunk) = response.chunk().await.map_err(cut_off)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("answer is larger than {ANSWER_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }
}

/// An answer of Prometheus' API, be it an error. Its warnings are left in it.
pub(crate) fn api_answer(answer: &Answer) -> Result<Json, String> {
    let json: Option<Json> = serde_json::from_slice(&answer.body).ok();
    json.filter(|json| json["status"].is_string()).ok_or_else(|| {
        format!("server answered HTTP status {}, not Prometheus' JSON", answer.status)
    })
}

/// `data` of an answer of the API, or its error.
pub(crate) fn outcome(json: &Json) -> Result<Json, String> {
    match json["status"].as_str() {
        Some("success") => Ok(json["data"].clone()),
        _ => {
            let text = |key: &str| json[key].as_str().unwrap_or("unknown").to_owned();
            Err(format!("{}: {}", text("errorType"), text("error")))
        }
    }
}

/// Takes an answer of the API apart; its warnings go to standard error.
fn api_data(answer: &Answer) -> Result<Json, String> {
    let json = api_answer(answer)?;
    for warning in json["warnings"].as_array().into_iter().flatten() {
        eprintln!("query warning: {}", warning.as_str().unwrap_or(""));
    }
    outcome(&json)
}

fn headers(given: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in given {
        let parsed = header.split_once('=').and_then(|(name, value)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::from_str(value).ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| format!("header {header:?}: want NAME=VALUE"))?;
        headers.append(name, value);
    }
    Ok(headers)
}
