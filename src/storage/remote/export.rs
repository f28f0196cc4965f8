//! Raw samples of VictoriaMetrics, with their staleness markers: `/api/v1/export`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Limits;
use super::api::{in_order, seconds, selector};
use super::api_json::{export_labels, export_line};
use super::batch::{Fetch, Unpacked};
use super::client::QueryApi;
use super::endpoint::{Endpoint, Refused};
use crate::model::{Labels, Matcher, TimestampMs};
use crate::storage::fanout::merge;
use crate::vector::RawSamples;

/// See the module.
pub(super) struct Export(pub Arc<QueryApi>);

impl Fetch for Export {
    type Body = Vec<u8>;

    fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    fn limits(&self) -> Limits {
        self.0.limits
    }

    fn bytes_of(matchers: &[Matcher]) -> usize {
        selector(matchers).len()
    }

    fn ask<'a>(
        &'a self,
        selectors: Vec<&'a [Matcher]>,
        (from_ms, to_ms): (TimestampMs, TimestampMs),
    ) -> BoxFuture<'a, Result<Vec<u8>, Refused>> {
        let mut form = vec![("start", seconds(from_ms)), ("end", seconds(to_ms))];
        form.extend(selectors.into_iter().map(|matchers| ("match[]", selector(matchers))));
        Box::pin(async move { self.0.post(&["export"], &form).await })
    }

    fn size(body: &Vec<u8>) -> usize {
        body.len()
    }

    fn unpack(body: &Vec<u8>, _: (TimestampMs, TimestampMs)) -> Result<Unpacked<'_>, String> {
        let text = std::str::from_utf8(body).map_err(|e| e.to_string())?;
        let mut found: HashMap<Cow<'_, [u8]>, RawSamples> = HashMap::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (labels, mut samples) = export_line(line)?;
            in_order(&mut samples);
            let known = found.entry(Cow::Borrowed(labels.as_bytes())).or_default();
            *known = if known.is_empty() { samples } else { merge(known, &samples) };
        }
        Ok(found.into())
    }

    fn labels(key: &[u8]) -> Result<Labels, String> {
        export_labels(std::str::from_utf8(key).map_err(|e| e.to_string())?)
    }
}
