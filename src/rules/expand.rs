//! Expanding the templates of an alerting rule, with the queries they make.
//!
//! Templates are synchronous and queries are not. An expansion that asks for a query whose
//! result is not known yet is thrown away, the query runs, and the expansion starts anew;
//! results are kept for the rest of the rule's evaluation, so that a query the templates
//! of all alerts share runs once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::group::Context;
use super::recording::vector;
use super::template::{Template, TemplateData, TemplateError};
use crate::model::TimestampMs;
use crate::model::value::VectorSample;
use crate::query::QueryOrigin;

/// Most different queries one label or annotation may make.
const QUERIES_MAX: usize = 100;

/// The text of a label or annotation.
pub(super) struct Text {
    template: Result<Template, TemplateError>,
}

impl Text {
    pub(super) fn new(alert: &str, text: &str) -> Self {
        Self { template: Template::parse_alert(alert, text) }
    }

    /// Expands. What goes wrong becomes the text: an alert without its annotation is still
    /// an alert.
    pub(super) async fn expand(
        &self,
        data: &TemplateData,
        queries: &mut Queries<'_>,
    ) -> Cow<'_, str> {
        queries.cx.metrics.template_expansions.inc();
        let error = match &self.template {
            Ok(Template { plain: Some(plain), .. }) => return plain.into(),
            Ok(template) => match expand(template, data, queries).await {
                Ok(text) => return text.into(),
                Err(e) => e.to_string(),
            },
            Err(e) => e.to_string(),
        };
        queries.cx.metrics.template_failures.inc();
        tracing::warn!(error, "expanding the template of an alert failed");
        format!("<error expanding template: {error}>").into()
    }
}

async fn expand(
    template: &Template,
    data: &TemplateData,
    queries: &mut Queries<'_>,
) -> Result<String, TemplateError> {
    for _ in 0..QUERIES_MAX {
        let mut wanted = None;
        let result = template.expand(data, &mut |query| match queries.known.get(query) {
            Some(result) => result.clone(),
            None => {
                wanted.get_or_insert_with(|| query.to_owned());
                Err("not known yet".to_owned())
            }
        });
        match wanted {
            None => return result,
            Some(query) => queries.run(query).await,
        }
    }
    template.expand(data, &mut |query| match queries.known.get(query) {
        Some(result) => result.clone(),
        None => Err(format!("a template may make at most {QUERIES_MAX} different queries")),
    })
}

/// The queries made by templates in one evaluation of a rule.
pub(super) struct Queries<'a> {
    cx: &'a Context,
    /// The rule's.
    datasource: &'a str,
    /// The tick: templates query at it, whatever the group's offset.
    ts: TimestampMs,
    origin: &'a Arc<QueryOrigin>,
    known: HashMap<String, Result<Vec<VectorSample>, String>>,
}

impl<'a> Queries<'a> {
    pub(super) fn new(
        cx: &'a Context,
        datasource: &'a str,
        ts: TimestampMs,
        origin: &'a Arc<QueryOrigin>,
    ) -> Self {
        Self { cx, datasource, ts, origin, known: HashMap::new() }
    }

    async fn run(&mut self, query: String) {
        let result = match self.cx.engine.prepare_on(&query, self.datasource) {
            Ok(prepared) => {
                let prepared = prepared.with_origin(self.origin.clone());
                prepared.instant(&self.cx.source, self.ts, &self.cx.run).await
            }
            Err(e) => Err(e),
        };
        let result = match result {
            Ok(result) => vector(result.value).map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        self.known.insert(query, result);
    }
}
