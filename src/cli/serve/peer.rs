//! A replica that runs the same rules, asked by its API for the alerts of a group.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT_ENCODING, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::backend::USER_AGENT;
use crate::http::{Client, ENCODINGS, Unpacker};
use crate::model::Clock;
use crate::rules::state::Peer;
use crate::storage::remote::DatasourceConfig;

/// How long it may take to answer about one group.
const TIMEOUT: Duration = Duration::from_secs(5);
/// One that did not answer is not asked again for so long: a thousand groups start at once.
const REST_MS: i64 = 30_000;
/// What may be told of one group: some million alerts.
const BYTES_MAX: u64 = 1 << 30;

/// See the module.
pub(super) struct HttpPeer {
    url: Url,
    client: Client,
    clock: Arc<dyn Clock>,
    /// Nobody asks before.
    rests_until_ms: AtomicI64,
}

impl HttpPeer {
    /// A peer below this URL. Nobody is asked yet.
    pub async fn new(peer: &DatasourceConfig, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let failed = |why: String| format!("--state.peer={}: {why}", peer.url);
        let mut url = Url::parse(&peer.url).map_err(|e| failed(e.to_string()))?;
        url.path_segments_mut()
            .map_err(|()| failed("it can have no path".to_owned()))?
            .pop_if_empty()
            .extend(["api", "v1", "rules", "handover"]);
        let client = Client::new(&peer.http, USER_AGENT, clock.clone()).await;
        let client = client.map_err(|e| failed(e.to_string()))?;
        Ok(Self { url, client, clock, rests_until_ms: AtomicI64::new(i64::MIN) })
    }

    async fn ask(&self, file: &str, group: &str) -> Result<Option<Vec<u8>>, String> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("file", file).append_pair("group", group);
        let mut request = self.client.request(Method::GET, url);
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(ENCODINGS));
        let mut answer = self.client.execute(request).await.map_err(|e| e.to_string())?;
        match answer.status() {
            StatusCode::OK => {}
            // It does not run the group, or is a Prometheus, whose storage tells less.
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(format!("server returned HTTP status {status}")),
        }
        let mut body = Unpacker::of(answer.headers(), BYTES_MAX).map_err(|e| e.to_string())?;
        while let Some(chunk) = answer.chunk().await.map_err(|e| e.to_string())? {
            body.write(&chunk).map_err(|e| e.to_string())?;
        }
        body.finish().map(Some).map_err(|e| e.to_string())
    }
}

impl Peer for HttpPeer {
    fn group<'a>(
        &'a self,
        file: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>> {
        Box::pin(async move {
            if self.clock.now_ms() < self.rests_until_ms.load(Ordering::Relaxed) {
                return Err("it did not answer a moment ago".to_owned());
            }
            let asked = tokio::time::timeout(TIMEOUT, self.ask(file, group)).await;
            let told = asked.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
            if told.is_err() {
                let until_ms = self.clock.now_ms().saturating_add(REST_MS);
                self.rests_until_ms.store(until_ms, Ordering::Relaxed);
            }
            told
        })
    }
}
