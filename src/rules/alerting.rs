//! Alerting rules: a query's result to alerts, the series about them, and notifications.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::alert::{Alert, AlertParams, AlertSample, AlertStates, step};
use super::config::{AlertSpec, RuleSpec};
use super::error::RuleError;
use super::expand::{Queries, Text};
use super::group::{Context, External};
use super::state::{Hold, RuleLog};
use super::template::TemplateData;
use super::view::AlertState;
use crate::model::value::VectorSample;
use crate::model::{Labels, METRIC_NAME, Sample, TimestampMs};
use crate::notifier::{OutgoingAlert, Receipt};

/// Name of the label that carries the alert's name.
const ALERT_NAME: &str = "alertname";
/// Name of the label of `ALERTS` that carries the alert's state.
const ALERT_STATE: &str = "alertstate";
/// The series of what is pending or firing.
const ALERTS: &str = "ALERTS";
/// The series that remembers since when an alert is active.
pub(super) const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";

/// What an alerting rule has beyond its query.
pub(super) struct Alerting {
    pub spec: AlertSpec,
    pub params: AlertParams,
    labels: Vec<(String, Text)>,
    annotations: Vec<(String, Text)>,
    /// Written only by the group's evaluation; others read.
    pub states: Mutex<AlertStates>,
    /// Whether restoring from before the start is done or was not needed. Until then
    /// neither `ALERTS` nor `ALERTS_FOR_STATE` is written: it would hide what is to be read.
    pub restored: AtomicBool,
    /// The rule's part of the state log, when there is one.
    pub log: OnceLock<Arc<RuleLog>>,
    /// After a restart: when absence says nothing.
    pub hold: Mutex<Option<Hold>>,
}

impl Alerting {
    pub(super) fn new(alert: &AlertSpec, spec: &RuleSpec, restored: bool) -> Self {
        let texts = |pairs: &std::collections::BTreeMap<String, String>| {
            pairs.iter().map(|(n, v)| (n.clone(), Text::new(&alert.alert, v))).collect()
        };
        Self {
            spec: alert.clone(),
            params: AlertParams {
                for_ms: alert.for_ms,
                keep_firing_for_ms: alert.keep_firing_for_ms,
                ..AlertParams::default()
            },
            labels: texts(&spec.labels),
            annotations: texts(&alert.annotations),
            states: Mutex::default(),
            restored: AtomicBool::new(restored),
            log: OnceLock::new(),
            hold: Mutex::default(),
        }
    }

    /// Takes the alerts of the rule this one replaces.
    pub(super) fn copy_state(&self, from: &Alerting) {
        *self.states.lock() = std::mem::take(&mut *from.states.lock());
        self.restored.store(from.restored.load(Ordering::Relaxed), Ordering::Relaxed);
        *self.hold.lock() = *from.hold.lock();
        if let Some(log) = from.log.get() {
            let _ = self.log.set(log.clone());
        }
    }

    /// Drops what the state log holds of the rule, which is gone.
    pub(super) fn forget_state(&self) {
        if let Some(log) = self.log.get() {
            log.forget();
        }
    }

    /// The rule's parameters at a tick.
    fn params_at(&self, ts: TimestampMs) -> AlertParams {
        let hold = self.hold.lock().filter(|hold| ts < hold.until_ms);
        AlertParams { hold_before_ms: hold.map(|hold| hold.until_ms), ..self.params }
    }

    /// Moves the alerts on to tick `ts` and gives the samples about them.
    pub(super) async fn evaluate(
        &self,
        rule: &RuleSpec,
        cx: &Context,
        result: Vec<VectorSample>,
        ts: TimestampMs,
    ) -> Result<Vec<(Labels, Sample)>, RuleError> {
        let external = cx.external.load_full();
        let mut queries = Queries::new(cx, ts);
        let mut samples = Vec::with_capacity(result.len());
        for sample in result {
            samples.push(self.expand(&external, &mut queries, sample, ts).await);
        }
        let mut states = self.states.lock();
        let out = step(std::mem::take(&mut *states), &self.params_at(ts), samples, ts);
        *states = out.states;
        out.result?;
        if !self.restored.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let mut series = Vec::with_capacity(2 * states.iter().count());
        for alert in states.active() {
            series.extend(self.series(rule, alert));
        }
        Ok(series)
    }

    async fn expand(
        &self,
        external: &External,
        queries: &mut Queries<'_>,
        sample: VectorSample,
        ts: TimestampMs,
    ) -> AlertSample {
        let data = TemplateData::alert(
            sample.labels.clone(),
            external.labels.clone(),
            external.url.as_str(),
            &sample.sample,
            ts,
        );
        let mut labels = sample.labels.builder();
        labels.del(METRIC_NAME);
        for (name, text) in &self.labels {
            labels.set(name, &text.expand(&data, queries).await);
        }
        labels.set(ALERT_NAME, &self.spec.alert);
        let mut annotations = Vec::with_capacity(self.annotations.len());
        for (name, text) in &self.annotations {
            annotations.push((name.as_str(), text.expand(&data, queries).await));
        }
        AlertSample {
            labels: labels.build(),
            // Unlike a label, an annotation whose text comes out empty stays.
            annotations: {
                annotations.sort_by_key(|(name, _)| *name);
                Labels::from_sorted_pairs(annotations.iter().map(|(n, v)| (*n, v.as_str())))
            },
            // As in Prometheus, an alert on a histogram has the value 0.
            value: match sample.sample {
                Sample::Float(value) => value,
                Sample::Histogram(_) => 0.0,
            },
        }
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of one active alert. The rule's labels as written
    /// are their base: they show where a label's template expanded to nothing.
    fn series(&self, rule: &RuleSpec, alert: &Alert) -> [(Labels, Sample); 2] {
        let mut builder = rule.label_set().builder();
        for (name, value) in alert.labels.iter() {
            builder.set(name, value);
        }
        builder.set(METRIC_NAME, ALERTS_FOR_STATE);
        builder.set(ALERT_NAME, &self.spec.alert);
        let for_state = builder.build();
        builder.set(METRIC_NAME, ALERTS);
        builder.set(ALERT_STATE, alert.state.as_str());
        let active_since = alert.active_at_ms.div_euclid(1000) as f64;
        [(builder.build(), Sample::Float(1.0)), (for_state, Sample::Float(active_since))]
    }

    /// Writes what changed to the state log, and takes what is due at `ts` when the alerts
    /// `moved` on. Comes before anything that others see: samples and notifications.
    pub(super) fn commit(
        &self,
        cx: &Context,
        ts: TimestampMs,
        interval_ms: i64,
        moved: bool,
    ) -> Vec<Alert> {
        let mut states = self.states.lock();
        let due = match moved {
            true => states.take_due(ts, cx.resend_delay_ms, interval_ms),
            false => Vec::new(),
        };
        if let Some(log) = self.log.get() {
            log.record(&mut states, &due, self.restored.load(Ordering::Relaxed));
        }
        due
    }

    /// Hands what is due at `ts` to the notifier.
    pub(super) fn send(&self, rule: &RuleSpec, cx: &Context, ts: TimestampMs, due: Vec<Alert>) {
        if due.is_empty() {
            return;
        }
        let url = generator_url(&cx.external.load().url, &rule.expr.printed);
        let receipt = self.log.get().map(|log| log.receipt(ts)).unwrap_or_default();
        let alerts = due.into_iter().map(|alert| outgoing(alert, ts, &url, receipt.clone()));
        cx.notifier.send(alerts.collect());
    }

    /// What is firing now, by labels.
    pub(super) fn firing(&self) -> Vec<Alert> {
        let states = self.states.lock();
        let mut firing: Vec<Alert> =
            states.iter().filter(|a| a.state == AlertState::Firing).cloned().collect();
        firing.sort_by(|a, b| a.labels.cmp(&b.labels));
        firing
    }
}

fn outgoing(alert: Alert, ts: TimestampMs, url: &str, receipt: Receipt) -> OutgoingAlert {
    OutgoingAlert {
        labels: alert.labels,
        annotations: alert.annotations,
        starts_at_ms: alert.fired_at_ms.unwrap_or(alert.active_at_ms),
        ends_at_ms: alert.resolved_at_ms.or(alert.valid_until_ms).unwrap_or(ts),
        generator_url: url.to_owned(),
        receipt,
    }
}

/// What Go's `url.QueryEscape` leaves alone.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a person sees the expression: the graph page of this server.
fn generator_url(external_url: &str, expr: &str) -> String {
    let expr = utf8_percent_encode(expr, QUERY).to_string().replace("%20", "+");
    format!("{}/graph?g0.expr={expr}&g0.tab=1", external_url.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_urls_are_escaped_as_prometheus_does() {
        assert_eq!(
            generator_url("http://h:9090/p/", r#"up{a="b~c"} == 0"#),
            "http://h:9090/p/graph?g0.expr=up%7Ba%3D%22b~c%22%7D+%3D%3D+0&g0.tab=1"
        );
    }
}
