//! The rules run over given samples, and what the alert does at each evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fixture::Point;
use super::{Plan, Surroundings};
use crate::model::{Labels, TimestampMs};
use crate::rules::config::GroupSpec;
use crate::rules::unit_test::UnitTestOptions;
use crate::rules::unit_test::data::Feed;
use crate::rules::unit_test::run::{Recorder, alerts_that, context, failures, plan as groups_of};
use crate::rules::unit_test::schema::{ExpectedAlert, Test, TestFile};
use crate::rules::view::AlertState;

/// What an alert does at one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    pub at_ms: TimestampMs,
    pub firing: Vec<ExpectedAlert>,
    pub pending: Vec<ExpectedAlert>,
}

/// The rules, and when they run.
pub(super) struct Rig<'a> {
    plan: &'a Plan,
    pub test: Test,
    file: TestFile,
}

impl<'a> Rig<'a> {
    pub(super) fn new(plan: &'a Plan, surroundings: &Surroundings) -> Self {
        let start_ms = if plan.absolute { plan.start_ms } else { 0 };
        let external = plan.uses_external;
        let test = Test {
            interval_ms: plan.interval_ms,
            start_ms,
            external_labels: if external {
                surroundings.external_labels.clone()
            } else {
                Labels::empty()
            },
            external_url: if external { surroundings.external_url.clone() } else { String::new() },
            ..Test::default()
        };
        let file = TestFile { evaluation_interval_ms: plan.interval_ms, ..TestFile::default() };
        Self { plan, test, file }
    }

    /// The groups that run, in their order.
    pub(super) fn groups(&self) -> &[GroupSpec] {
        &self.plan.groups
    }

    /// What the alert does over these samples, from the first evaluation that counts on.
    pub(super) async fn run(&self, samples: &[Point]) -> Result<Vec<Moment>, String> {
        let Self { plan, test, file } = self;
        let options = UnitTestOptions::default();
        let cx = context(test, file, &options, Arc::new(Recorder::default()));
        let groups = groups_of(test, file, plan.groups.clone(), &cx)?;
        // Times of the test: they count from its own start.
        let shift = test.start_ms - plan.start_ms;
        let mut feed =
            Feed::of(samples.iter().map(|(at, labels, v)| (at + shift, labels.clone(), *v)));
        let mut moments = Vec::new();
        for tick in 0..plan.ticks() {
            let at_ms = plan.start_ms + tick as i64 * plan.interval_ms;
            if at_ms < plan.active_ms {
                continue;
            }
            let ts = at_ms + shift;
            feed.store_until(ts, &*cx.sink)?;
            for group in &groups {
                group.evaluate(&cx, ts, || false).await;
                if let Some(error) = failures(group, ts).into_iter().next() {
                    return Err(error);
                }
            }
            if at_ms >= plan.from_ms {
                let firing = alerts_that(&groups, &plan.alert, |a| a.state == AlertState::Firing);
                let pending = alerts_that(&groups, &plan.alert, |a| a.state == AlertState::Pending);
                moments.push(Moment { at_ms, firing, pending });
            }
        }
        Ok(moments)
    }
}

/// Whether the same alerts fire at the same evaluations, whatever their annotations say.
pub(super) fn same_alerts(a: &[Moment], b: &[Moment]) -> bool {
    fn labels(alerts: &[ExpectedAlert]) -> impl Iterator<Item = &Labels> {
        alerts.iter().map(|alert| &alert.labels)
    }
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| labels(&a.firing).eq(labels(&b.firing)))
}

/// When which alert fires.
pub(super) fn fired(moments: &[Moment]) -> BTreeMap<Labels, Vec<TimestampMs>> {
    let mut fired: BTreeMap<Labels, Vec<TimestampMs>> = BTreeMap::new();
    for moment in moments {
        for alert in &moment.firing {
            let labels = alert.labels.retain(|name| name != "alertname");
            fired.entry(labels).or_default().push(moment.at_ms);
        }
    }
    fired
}
