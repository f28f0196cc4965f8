//! How many alerts may be active at once over all rules. A rule takes room for new alerts
//! before it adds them and gives it back when they end; what is active is never taken away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::metrics::ActiveAlerts;

/// The room all rules share. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub(super) struct AlertBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `--rules.max-active-alerts`; 0 is no limit.
    max: usize,
    used: AtomicUsize,
    metric: ActiveAlerts,
}

impl AlertBudget {
    pub(super) fn new(max: usize, metric: ActiveAlerts) -> Self {
        Self(Arc::new(Inner { max, used: AtomicUsize::new(0), metric }))
    }

    /// Whether there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.0.max > 0
    }

    /// Takes room for up to `wanted` alerts.
    fn take(&self, wanted: usize) -> usize {
        let max = if self.0.max == 0 { usize::MAX } else { self.0.max };
        let grant = |used: usize| wanted.min(max.saturating_sub(used));
        let before = self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            Some(used.saturating_add(grant(used)))
        });
        grant(before.unwrap_or_else(|used| used))
    }

    /// Replaces what a rule holds by what it needs, even beyond the limit.
    fn exchange(&self, held: usize, needed: usize) {
        let settled = self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            Some(used.saturating_sub(held).saturating_add(needed))
        });
        let before = settled.unwrap_or_else(|used| used);
        self.0.metric.set(before.saturating_sub(held).saturating_add(needed));
    }
}

/// What one rule holds of the budget; given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    budget: OnceLock<AlertBudget>,
    held: AtomicUsize,
}

impl Share {
    /// Says how many alerts the rule has, and takes room for up to `wanted` more. Called
    /// by the group's evaluation alone.
    pub(super) fn take(&self, budget: &AlertBudget, active: usize, wanted: usize) -> usize {
        self.budget.get_or_init(|| budget.clone());
        self.settle(active);
        let granted = budget.take(wanted);
        self.held.fetch_add(granted, Ordering::Relaxed);
        granted
    }

    /// Says how many alerts the rule has now.
    pub(super) fn settle(&self, active: usize) {
        if let Some(budget) = self.budget.get() {
            budget.exchange(self.held.swap(active, Ordering::Relaxed), active);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Registry;

    #[test]
    fn shares_stay_within_the_budget_and_come_back() {
        let metrics = super::super::Metrics::new(&mut Registry::default());
        let budget = AlertBudget::new(10, metrics.active_alerts.clone());
        let used = || budget.0.used.load(Ordering::Relaxed);
        let (a, b) = (Share::default(), Share::default());
        assert_eq!(a.take(&budget, 0, 7), 7);
        a.settle(6);
        assert_eq!((b.take(&budget, 0, 9), used()), (4, 10));
        b.settle(4);
        // What is there already counts, even when it is too much.
        assert_eq!((a.take(&budget, 8, 1), used()), (0, 12));
        a.settle(2);
        assert_eq!((b.take(&budget, 4, 9), used()), (4, 10));
        drop(b);
        assert_eq!(used(), 2);
        let open = AlertBudget::new(0, metrics.active_alerts.clone());
        assert_eq!(a.take(&open, 2, usize::MAX - 5), usize::MAX - 5);
    }
}
