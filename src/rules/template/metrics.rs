//! `prometheus_template_text_expansion*`.

use prometheus_client::metrics::counter::Counter;

use super::TemplateError;
use crate::telemetry::Registry;

/// Counts expansions. Clones share state.
#[derive(Clone, Debug, Default)]
pub struct TemplateMetrics {
    expansions: Counter,
    failures: Counter,
}

impl TemplateMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "prometheus_template_text_expansions",
            "The total number of template text expansions.",
            metrics.expansions.clone(),
        );
        registry.register(
            "prometheus_template_text_expansion_failures",
            "The total number of template text expansion failures.",
            metrics.failures.clone(),
        );
        metrics
    }

    /// Counts an expansion by its result.
    pub fn count<T>(&self, result: &Result<T, TemplateError>) {
        self.expansions.inc();
        if result.is_err() {
            self.failures.inc();
        }
    }
}
