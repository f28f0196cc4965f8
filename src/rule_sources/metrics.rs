//! What fetching rules counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::url::Fetched;
use crate::telemetry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UrlLabels {
    url: String,
}

/// Metrics of rule sources. Clones share state.
#[derive(Clone, Debug)]
pub struct RuleSourceMetrics {
    fetches: Family<UrlLabels, Counter>,
    failures: Family<UrlLabels, Counter>,
    ok: Family<UrlLabels, Gauge>,
}

impl RuleSourceMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics =
            Self { fetches: Family::default(), failures: Family::default(), ok: Family::default() };
        registry.register(
            "watchfire_rule_source_fetches",
            "Times a server was asked for rules",
            metrics.fetches.clone(),
        );
        registry.register(
            "watchfire_rule_source_fetch_failures",
            "Times a server did not give the rules it was asked for",
            metrics.failures.clone(),
        );
        registry.register(
            "watchfire_rule_source_up",
            "Whether a server gave rules when it was asked last",
            metrics.ok.clone(),
        );
        metrics
    }

    pub(super) fn note(&self, url: &str, fetched: &Fetched) {
        // Secrets of a URL do not belong into metrics.
        let url = super::url::shown(url);
        let labels = &UrlLabels { url };
        self.fetches.get_or_create(labels).inc();
        if fetched.text.is_err() {
            self.failures.get_or_create(labels).inc();
        }
        self.ok.get_or_create(labels).set(i64::from(fetched.text.is_ok()));
    }
}
