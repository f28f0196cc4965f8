//! Asks one server many questions: each once, a few at a time, not more than allowed, and
//! none any more when it does not answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::sync::{OnceCell, Semaphore};

use crate::cli::client::{self, Answer, ApiClient};

/// Requests under way at once.
pub(super) const AT_ONCE: usize = 8;

/// Requests in a row without an answer, after which no more are made.
const FAILURES_MAX: usize = 8;

type Known = Arc<OnceCell<Result<Json, String>>>;

pub(super) struct Asker<'a> {
    client: &'a ApiClient,
    /// Answers of instant queries.
    known: Mutex<HashMap<String, Known>>,
    slots: Semaphore,
    left: AtomicUsize,
    /// Failures since the last answer.
    failures: AtomicUsize,
}

impl<'a> Asker<'a> {
    pub(super) fn new(client: &'a ApiClient, requests_max: usize) -> Self {
        Self {
            client,
            known: Mutex::default(),
            slots: Semaphore::new(AT_ONCE),
            left: AtomicUsize::new(requests_max),
            failures: AtomicUsize::new(0),
        }
    }

    /// `data` of an instant query, asked once.
    pub(super) async fn instant(&self, query: &str) -> Result<Json, String> {
        self.remembered(&[("query", query.to_owned())]).await
    }

    /// As `instant`, with the server's statistics.
    pub(super) async fn with_stats(&self, query: &str) -> Result<Json, String> {
        self.remembered(&[("query", query.to_owned()), ("stats", "all".to_owned())]).await
    }

    /// As `instant`, at a time in seconds.
    pub(super) async fn at(&self, query: &str, seconds: i64) -> Result<Json, String> {
        self.remembered(&[("query", query.to_owned()), ("time", seconds.to_string())]).await
    }

    async fn remembered(&self, form: &[(&str, String)]) -> Result<Json, String> {
        let key = format!("{form:?}");
        let cell = {
            let mut known = self.known.lock();
            Arc::clone(known.entry(key).or_default())
        };
        cell.get_or_init(|| self.post("api/v1/query", form)).await.clone()
    }

    /// `data` of an answer to a form.
    pub(super) async fn post(&self, path: &str, form: &[(&str, String)]) -> Result<Json, String> {
        self.ask(self.client.post_form(path, form)).await
    }

    /// `data` of an answer.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Json, String> {
        self.ask(self.client.get(path, query)).await
    }

    async fn ask(
        &self,
        request: impl Future<Output = Result<Answer, String>>,
    ) -> Result<Json, String> {
        let _slot = self.slots.acquire().await.map_err(|e| e.to_string())?;
        if self.failures.load(Ordering::Relaxed) >= FAILURES_MAX {
            return Err(format!("not asked, as {FAILURES_MAX} requests in a row had no answer"));
        }
        let take = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err("not asked, as --server.max-requests were made".to_owned());
        }
        let answer = request.await.and_then(|answer| client::api_answer(&answer));
        match answer {
            Ok(answer) => {
                self.failures.store(0, Ordering::Relaxed);
                client::outcome(&answer)
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }
}
