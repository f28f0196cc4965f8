//! Remote read as a source: which requests a server sees, and what comes of its answers
//! (`read_wire.rs`). What rules ask at one tick is one request (`batch.rs`); everything else
//! is one request each, whose chunks are decoded when somebody reads them.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::batch::Batches;
use super::kept::Kept;
use super::read_wire::{Part, Wire, query};
use super::series::{Chunked, Sampled};
use super::{LocalStart, failed};
use crate::model::{Labels, MatchOp, Matcher};
use crate::storage::{
    LabelAnswer, LabelRequest, RawSeries, SelectHints, SelectRequest, SeriesSet, Source,
    StorageError,
};

/// Which requests a server sees, and how they are changed on the way.
#[derive(Clone, Default)]
pub(super) struct Restriction {
    /// A request without all of these finds nothing.
    pub required: Vec<Matcher>,
    /// Added as matchers where a request has none of the name, and then taken off the
    /// series found.
    pub external: Labels,
    /// What the local store has is not asked for.
    pub local_start: Option<LocalStart>,
}

impl Restriction {
    /// What to ask the server; `None` for nothing.
    fn narrow(&self, request: &SelectRequest) -> Result<Option<Narrowed>, StorageError> {
        let mut request = request.clone();
        if let Some(local_start) = &self.local_start {
            let start_ms = local_start().ok_or(StorageError::Closed)?;
            if request.from_ms > start_ms {
                return Ok(None);
            }
            request.to_ms = request.to_ms.min(start_ms);
        }
        if self.required.iter().any(|wanted| !request.matchers.contains(wanted)) {
            return Ok(None);
        }
        let mut strip = Vec::new();
        for (name, value) in self.external.iter() {
            if !request.matchers.iter().any(|m| &*m.name == name) {
                request.matchers.push(Matcher::equal(name, value));
                strip.push(name.to_owned());
            }
        }
        Ok(Some(Narrowed { request, strip }))
    }
}

/// See the module.
pub(super) struct Reader {
    wire: Arc<Wire>,
    restriction: Restriction,
    /// What rules ask at each tick, of a server that is asked for everything.
    batches: Option<Batches<Arc<Wire>>>,
}

/// A request as the server sees it.
struct Narrowed {
    request: SelectRequest,
    /// Names to take off the series found.
    strip: Vec<String>,
}

impl Reader {
    /// A source that sees what is the server's business.
    pub(super) fn restricted(wire: Wire, restriction: Restriction) -> Self {
        Self { wire: Arc::new(wire), restriction, batches: None }
    }

    /// A source that sees everything; what it is asked by rules is kept from tick to tick.
    pub(super) fn new(wire: Wire, kept: Kept) -> Self {
        let wire = Arc::new(wire);
        let batches = Some(Batches::new(wire.clone(), kept));
        Self { wire, restriction: Restriction::default(), batches }
    }

    async fn ask(&self, narrowed: Narrowed) -> Result<SeriesSet, StorageError> {
        let endpoint = &self.wire.endpoint;
        let Narrowed { request, strip } = narrowed;
        let limit = request.hints.limit;
        let found = endpoint.within_time(async {
            let query = query(&request.matchers, (request.from_ms, request.to_ms), &request.hints);
            Ok(self.wire.fetch(vec![query]).await?)
        });
        let mut parts = found.await?;
        if !strip.is_empty() {
            for part in &mut parts {
                part.labels = part.labels.retain(|name| !strip.iter().any(|s| s == name));
            }
        }
        let mut series = joined(parts, &endpoint.name.as_str().into());
        if limit > 0 {
            series.truncate(limit);
        }
        Ok(SeriesSet { series, warnings: Vec::new() })
    }
}

/// The series sorted by labels, each label set once.
fn joined(mut parts: Vec<Part>, from: &Arc<str>) -> Vec<Arc<dyn RawSeries>> {
    if !parts.is_sorted_by(|a, b| a.labels < b.labels) {
        parts.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut each: Vec<Part> = Vec::with_capacity(parts.len());
        for part in parts {
            match each.last_mut() {
                Some(last) if last.labels == part.labels => last.add(part),
                _ => each.push(part),
            }
        }
        parts = each;
    }
    let series = |part: Part| -> Option<Arc<dyn RawSeries>> {
        let Part { labels, chunks, samples, .. } = part;
        match (chunks.is_empty(), samples.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Arc::new(Sampled { labels, samples: Arc::new(samples) })),
            _ => Some(Arc::new(Chunked::new(labels, chunks, from.clone()))),
        }
    };
    parts.into_iter().filter_map(series).collect()
}

impl Source for Reader {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        let SelectHints { step_ms, limit, function, .. } = &request.hints;
        if let Some(batches) = &self.batches
            && (*step_ms, *limit) == (0, 0)
            && function != "series"
        {
            return Box::pin(batches.select(request));
        }
        Box::pin(async move {
            match self.restriction.narrow(request)? {
                Some(narrowed) => self.ask(narrowed).await,
                None => Ok(SeriesSet::default()),
            }
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let mut names = BTreeSet::new();
            for series in self.matching(request).await? {
                names.extend(series.labels().iter().map(|(name, _)| name.to_owned()));
            }
            Ok(LabelAnswer { values: names.into_iter().collect(), warnings: Vec::new() })
        })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let mut values = BTreeSet::new();
            for series in self.matching(request).await? {
                values.extend(series.labels().get(name).map(str::to_owned));
            }
            Ok(LabelAnswer { values: values.into_iter().collect(), warnings: Vec::new() })
        })
    }
}

impl Reader {
    /// The protocol knows no look-up of labels: what is not about some series is refused, as
    /// by Prometheus; for the rest their samples are asked for.
    async fn matching(
        &self,
        request: &LabelRequest,
    ) -> Result<Vec<Arc<dyn RawSeries>>, StorageError> {
        let selects =
            |set: &Vec<Matcher>| set.iter().any(|m| !m.matches_empty() && m.op == MatchOp::Equal);
        if request.matcher_sets.is_empty() || !request.matcher_sets.iter().all(selects) {
            return Err(failed(&self.wire.endpoint.name, "not implemented"));
        }
        let mut found = Vec::new();
        for matchers in &request.matcher_sets {
            let (from_ms, to_ms) = (request.from_ms, request.to_ms);
            let hints = SelectHints { function: "series".to_owned(), ..SelectHints::default() };
            let request = SelectRequest { matchers: matchers.clone(), from_ms, to_ms, hints };
            found.extend(self.select(&request).await?.series);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server is asked, as `matchers to_ms`, and what is taken off again.
    fn check(restriction: &Restriction, matchers: &[&str], expected: Option<(&str, &str)>) {
        let matcher = |text: &&str| {
            let (name, value) = text.split_once('=').unwrap();
            Matcher::equal(name, value)
        };
        let request = SelectRequest {
            matchers: matchers.iter().map(matcher).collect(),
            from_ms: 1000,
            to_ms: 2000,
            hints: SelectHints::default(),
        };
        let asked = restriction.narrow(&request).unwrap().map(|narrowed| {
            let texts: Vec<String> =
                narrowed.request.matchers.iter().map(ToString::to_string).collect();
            let asked = format!("{} {}", texts.join(","), narrowed.request.to_ms);
            (asked, narrowed.strip.join(","))
        });
        let asked = asked.as_ref().map(|(asked, strip)| (asked.as_str(), strip.as_str()));
        assert_eq!(asked, expected, "{matchers:?}");
    }

    #[test]
    fn a_server_is_asked_for_what_is_its_business_alone() {
        let external = Labels::from_pairs([("region", "eu"), ("replica", "a")]);
        let by_labels = Restriction { external, ..Restriction::default() };
        let asked = "a=\"b\",region=\"eu\",replica=\"a\" 2000";
        check(&by_labels, &["a=b"], Some((asked, "region,replica")));
        // Who asks for a label sees it.
        let asked = "region=\"us\",replica=\"a\" 2000";
        check(&by_labels, &["region=us"], Some((asked, "replica")));
        let required = vec![Matcher::equal("job", "x"), Matcher::equal("env", "y")];
        let required = Restriction { required, ..Restriction::default() };
        check(&required, &["job=x"], None);
        check(&required, &["job=x", "env=z"], None);
        check(&required, &["env=y", "job=x"], Some(("env=\"y\",job=\"x\" 2000", "")));
        let until = |start_ms: Option<i64>| Restriction {
            local_start: Some(Arc::new(move || start_ms)),
            ..Restriction::default()
        };
        check(&until(Some(999)), &["a=b"], None);
        check(&until(Some(1000)), &["a=b"], Some(("a=\"b\" 1000", "")));
        check(&until(Some(1500)), &["a=b"], Some(("a=\"b\" 1500", "")));
        check(&until(Some(i64::MAX)), &["a=b"], Some(("a=\"b\" 2000", "")));
        let request =
            SelectRequest { matchers: vec![], from_ms: 0, to_ms: 1, hints: SelectHints::default() };
        // While the local store opens nobody knows what it will have.
        assert!(until(None).narrow(&request).is_err());
    }
}
