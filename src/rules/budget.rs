//! How many alerts may be active at once over all rules, and how much memory they may
//! take. A rule takes room for new alerts before it adds them and gives it back when they
//! end; what is active is never taken away.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::alert::Alert;
use super::metrics::ActiveAlerts;

/// Alerts and the bytes they take, see `Alert::bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub alerts: usize,
    pub bytes: usize,
}

impl Load {
    pub(super) fn of<'a>(alerts: impl Iterator<Item = &'a Alert>) -> Load {
        alerts.fold(Load::default(), |load, a| load.plus(Load { alerts: 1, bytes: a.bytes() }))
    }

    fn plus(self, other: Load) -> Load {
        let (alerts, bytes) = (self.alerts, self.bytes);
        Load {
            alerts: alerts.saturating_add(other.alerts),
            bytes: bytes.saturating_add(other.bytes),
        }
    }

    pub(super) fn minus(self, other: Load) -> Load {
        let (alerts, bytes) = (self.alerts, self.bytes);
        Load {
            alerts: alerts.saturating_sub(other.alerts),
            bytes: bytes.saturating_sub(other.bytes),
        }
    }
}

/// The room all rules share. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub(super) struct AlertBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `--rules.max-active-alerts` and `--rules.active-alerts-memory`; 0 is no limit.
    max: Load,
    used: Mutex<Load>,
    metric: ActiveAlerts,
}

impl AlertBudget {
    pub(super) fn new(max: Load, metric: ActiveAlerts) -> Self {
        Self(Arc::new(Inner { max, used: Mutex::default(), metric }))
    }

    /// Whether there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.0.max != Load::default()
    }

    /// Takes room for up to `wanted` alerts of at most `each_bytes`.
    fn take(&self, wanted: usize, each_bytes: usize) -> Load {
        // Of something of which each takes so much, how many there is room for.
        let room = |max: usize, used: usize, each: usize| match max {
            0 => usize::MAX,
            max => max.saturating_sub(used) / each.max(1),
        };
        let max = self.0.max;
        let mut used = self.0.used.lock();
        let in_number = room(max.alerts, used.alerts, 1);
        let in_memory = room(max.bytes, used.bytes, each_bytes);
        let alerts = wanted.min(in_number).min(in_memory);
        let granted = Load { alerts, bytes: alerts.saturating_mul(each_bytes) };
        *used = used.plus(granted);
        granted
    }

    /// Replaces what a rule holds by what it needs, even beyond the limit.
    fn exchange(&self, held: Load, needed: Load) {
        let mut used = self.0.used.lock();
        *used = used.minus(held).plus(needed);
        self.0.metric.set(*used);
    }
}

/// What one rule holds of the budget; given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    budget: OnceLock<AlertBudget>,
    held: Mutex<Load>,
}

impl Share {
    /// Says what alerts the rule has, and takes room for up to `wanted` more of at most
    /// `each_bytes`; how many there is room for.
    pub(super) fn take(
        &self,
        budget: &AlertBudget,
        active: Load,
        wanted: usize,
        each_bytes: usize,
    ) -> usize {
        self.budget.get_or_init(|| budget.clone());
        self.settle(active);
        let granted = budget.take(wanted, each_bytes);
        let mut held = self.held.lock();
        *held = held.plus(granted);
        granted.alerts
    }

    /// Says what alerts the rule has now.
    pub(super) fn settle(&self, active: Load) {
        if let Some(budget) = self.budget.get() {
            let mut held = self.held.lock();
            budget.exchange(std::mem::replace(&mut *held, active), active);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(Load::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Registry;

    fn load(alerts: usize, bytes: usize) -> Load {
        Load { alerts, bytes }
    }

    #[test]
    fn shares_stay_within_the_budget_and_come_back() {
        let metrics = super::super::Metrics::new(&mut Registry::default());
        let budget = |max| AlertBudget::new(max, metrics.active_alerts.clone());
        let ten = budget(load(10, 0));
        let used = || ten.0.used.lock().alerts;
        let (a, b) = (Share::default(), Share::default());
        assert_eq!(a.take(&ten, load(0, 0), 7, 100), 7);
        a.settle(load(6, 600));
        assert_eq!((b.take(&ten, load(0, 0), 9, 100), used()), (4, 10));
        b.settle(load(4, 400));
        // What is there already counts, even when it is too much.
        assert_eq!((a.take(&ten, load(8, 800), 1, 100), used()), (0, 12));
        a.settle(load(2, 200));
        assert_eq!((b.take(&ten, load(4, 400), 9, 100), used()), (4, 10));
        drop(b);
        assert_eq!(*ten.0.used.lock(), load(2, 200));
        let open = budget(load(0, 0));
        assert_eq!(a.take(&open, load(2, 200), usize::MAX - 5, 100), usize::MAX - 5);
        assert!(ten.is_limited() && !open.is_limited());
    }

    #[test]
    fn memory_bounds_as_numbers_do() {
        let metrics = super::super::Metrics::new(&mut Registry::default());
        let budget = AlertBudget::new(load(50, 10_000), metrics.active_alerts.clone());
        let (a, b) = (Share::default(), Share::default());
        // The largest of the new ones decides; what they take in fact is known afterwards.
        assert_eq!(a.take(&budget, load(0, 0), 100, 1_000), 10);
        a.settle(load(10, 4_000));
        assert_eq!(b.take(&budget, load(0, 0), 100, 100), 40);
        b.settle(load(40, 4_000));
        assert_eq!(a.take(&budget, load(10, 4_000), 1, 1), 0, "there are 50");
        // Texts that grow may go beyond it: what is active stays.
        b.settle(load(20, 7_000));
        assert_eq!(a.take(&budget, load(10, 4_000), 5, 1), 0);
        assert!(budget.is_limited());
    }
}
