//! Requests to a query API, and how their answers are read.

use std::sync::Arc;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};

use super::endpoint::{Endpoint, Refused};
use super::{Limits, failed};
use crate::http::ENCODINGS;
use crate::storage::StorageError;

/// Answers up to this size are decoded where they arrive.
const SMALL_BYTES: usize = 256 << 10;

pub(super) type Parameters<'a> = Vec<(&'a str, String)>;

/// A server's query API.
pub(super) struct QueryApi {
    pub endpoint: Arc<Endpoint>,
    pub limits: Limits,
}

impl QueryApi {
    /// The body of the answer to a form.
    pub(super) async fn post(
        &self,
        path: &[&str],
        form: &Parameters<'_>,
    ) -> Result<Vec<u8>, Refused> {
        let url = self.url(path);
        let all = form
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(self.endpoint.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish();
        let request = || {
            let mut request = Request::new(Method::POST, url.clone());
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(CONTENT_TYPE, kind);
            let packed = HeaderValue::from_static(ENCODINGS);
            request.headers_mut().insert(ACCEPT_ENCODING, packed);
            *request.body_mut() = Some(body.clone().into());
            request
        };
        let response = self.endpoint.send(|_| "", request).await?;
        // A body that is too large, or one that breaks off.
        let body = self.endpoint.body(response, self.limits.bytes).await;
        body.map_err(|error| Refused { error, by_request: true })
    }

    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.endpoint.url.clone();
        // An error means that the URL can have no path, which was refused.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        url
    }

    pub(super) fn wrong(&self, why: impl std::fmt::Display) -> StorageError {
        failed(&self.endpoint.name, format_args!("{}: {why}", self.endpoint.shown_url()))
    }

    /// Parses where it holds nobody up.
    pub(super) async fn parsed<T: Send + 'static>(
        &self,
        body: Vec<u8>,
        parse: impl FnOnce(&[u8]) -> Result<T, String> + Send + 'static,
    ) -> Result<T, StorageError> {
        let parsed = match body.len() <= SMALL_BYTES {
            true => parse(&body),
            false => tokio::task::spawn_blocking(move || parse(&body))
                .await
                .unwrap_or_else(|e| Err(format!("decoding died: {e}"))),
        };
        parsed.map_err(|why| self.wrong(why))
    }

    pub(super) fn too_many_series(&self) -> StorageError {
        self.endpoint.too_many_series(self.limits.series)
    }
}
