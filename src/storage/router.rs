//! Which of several sources a selector is about. A selector says so itself, by a matcher of
//! the reserved label [`DATASOURCE`]; the ones of a rule, group or query that names a
//! datasource are given one before they are planned. So one expression may join what several
//! datasources hold, and what is shared between rules is shared across them.
//!
//! Selectors without one are about the local source, and what is read beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;

use super::fanout::Fanout;
use super::shards::{PartialResponse, Shards};
use super::{
    ExemplarSeries, LabelAnswer, LabelRequest, PushDown, SelectRequest, SeriesSet, Source,
    StorageError,
};
use crate::model::{DATASOURCE, MatchOp, Matcher};

/// The name under which the local source stands beside datasources.
pub const LOCAL: &str = "local";

/// The sources there are now.
#[derive(Clone, Default)]
pub struct Table {
    /// Merged with what the local source has; their failures are warnings.
    pub beside: Vec<Arc<dyn Source>>,
    pub named: BTreeMap<String, Arc<dyn Source>>,
}

/// See the module. What it leads to can be replaced at any time; selects under way end as
/// they began.
pub struct Router {
    local: Arc<dyn Source>,
    current: ArcSwap<Current>,
}

struct Current {
    unnamed: Arc<dyn Source>,
    named: BTreeMap<String, Arc<dyn Source>>,
}

impl Router {
    /// Everything goes to the local source.
    pub fn new(local: Arc<dyn Source>) -> Self {
        let current = Current { unnamed: local.clone(), named: BTreeMap::new() };
        Self { local, current: ArcSwap::from_pointee(current) }
    }

    /// Leads to these sources from now on.
    pub fn set(&self, table: Table) {
        let unnamed = match table.beside.is_empty() {
            true => self.local.clone(),
            false => Arc::new(Fanout::new(self.local.clone(), table.beside)),
        };
        self.current.store(Arc::new(Current { unnamed, named: table.named }));
    }

    /// The source that matchers are about, and the matchers for it.
    fn route(&self, matchers: &[Matcher]) -> Result<(Arc<dyn Source>, Vec<Matcher>), StorageError> {
        let current = self.current.load();
        let (about, rest): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|m| &*m.name == DATASOURCE);
        Ok((current.about(&about)?, rest.into_iter().cloned().collect()))
    }

    fn route_all(
        &self,
        request: &LabelRequest,
    ) -> Result<(Arc<dyn Source>, LabelRequest), StorageError> {
        let mut about: Vec<Matcher> = Vec::new();
        let mut request = request.clone();
        for set in &mut request.matcher_sets {
            about.extend(set.extract_if(.., |m| &*m.name == DATASOURCE));
        }
        about.dedup();
        let source = self.current.load().about(&about.iter().collect::<Vec<_>>())?;
        Ok((source, request))
    }
}

impl Current {
    fn about(&self, matchers: &[&Matcher]) -> Result<Arc<dyn Source>, StorageError> {
        let all = self.named.iter().map(|(name, source)| (name.as_str(), source));
        let all = all.chain([(LOCAL, &self.unnamed)]);
        let source: Option<Arc<dyn Source>> = match matchers {
            [] => Some(self.unnamed.clone()),
            [one] if one.op == MatchOp::Equal => {
                let mut named = all.filter(|(name, _)| *name == &*one.value);
                named.next().map(|(_, source)| source.clone())
            }
            several => {
                let wanted = |name: &str| several.iter().all(|m| m.matches(name));
                let found: Vec<_> = all
                    .filter(|(name, _)| wanted(name))
                    .map(|(_, source)| source.clone())
                    .collect();
                match &found[..] {
                    [] => None,
                    [one] => Some(one.clone()),
                    _ => Some(Arc::new(Shards::new(found, Vec::new(), PartialResponse::Fail))),
                }
            }
        };
        source.ok_or_else(|| {
            let wanted: Vec<String> = matchers.iter().map(ToString::to_string).collect();
            let known: Vec<&str> = self.named.keys().map(String::as_str).chain([LOCAL]).collect();
            StorageError::Unsupported(format!(
                "there is no datasource with {}: the configuration has {}",
                wanted.join(","),
                known.join(", ")
            ))
        })
    }
}

impl Source for Router {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            if !request.matchers.iter().any(|m| &*m.name == DATASOURCE) {
                let source = self.current.load().unnamed.clone();
                return source.select(request).await;
            }
            let (source, matchers) = self.route(&request.matchers)?;
            source.select(&SelectRequest { matchers, ..request.clone() }).await
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let (source, request) = self.route_all(request)?;
            source.label_names(&request).await
        })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let (source, request) = self.route_all(request)?;
            source.label_values(name, &request).await
        })
    }

    fn push_down(&self, datasource: Option<&str>) -> Option<PushDown> {
        let current = self.current.load();
        match datasource {
            None | Some(LOCAL) => current.unnamed.push_down(None),
            Some(name) => current.named.get(name)?.push_down(None),
        }
    }

    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        Box::pin(async move {
            let (source, request) = self.route_all(request)?;
            source.select_exemplars(&request).await
        })
    }
}
