//! What became of the alerts that were handed over together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Says that every Alertmanager took the alerts of one hand-over.
///
/// Each alert carries a clone. Whoever puts an alert into the queue of an Alertmanager
/// calls [`Receipt::offered`], and [`Receipt::accepted`] once that Alertmanager has it; an
/// alert that is given up is just dropped. When the last clone is dropped and everything
/// that was offered was accepted, the callback runs, on whatever thread that happens and
/// with no lock held. Alerts that reached no queue at all were delivered to nobody.
#[derive(Clone, Default)]
pub struct Receipt(Option<Arc<HandOver>>);

struct HandOver {
    offered: AtomicUsize,
    accepted: AtomicUsize,
    delivered: Box<dyn Fn() + Send + Sync>,
}

impl Receipt {
    /// A receipt that runs `delivered` once, or never.
    pub fn new(delivered: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(HandOver {
            offered: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            delivered: Box::new(delivered),
        })))
    }

    /// The alert was put into one Alertmanager's queue.
    pub fn offered(&self) {
        if let Some(hand_over) = &self.0 {
            hand_over.offered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One Alertmanager has the alert.
    pub fn accepted(&self) {
        if let Some(hand_over) = &self.0 {
            hand_over.accepted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        let offered = *self.offered.get_mut();
        if offered > 0 && offered == *self.accepted.get_mut() {
            (self.delivered)();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Receipt" } else { "no receipt" })
    }
}

/// Alerts are equal whoever wants to know of their delivery.
impl PartialEq for Receipt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `queues` is how many took each alert: offered and accepted.
    fn check(queues: &[(usize, usize)], expected: usize) {
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = calls.clone();
        let receipt = Receipt::new(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        let alerts = vec![receipt; queues.len()];
        for (alert, (offered, accepted)) in alerts.iter().zip(queues) {
            (0..*offered).for_each(|_| alert.offered());
            (0..*accepted).for_each(|_| alert.accepted());
        }
        assert_eq!(calls.load(Ordering::Relaxed), 0, "not before the last one is dropped");
        drop(alerts);
        assert_eq!(calls.load(Ordering::Relaxed), expected, "{queues:?}");
    }

    #[test]
    fn a_hand_over_is_delivered_when_every_queue_took_every_alert() {
        check(&[(2, 2), (2, 2)], 1);
        // Relabelling dropped the second.
        check(&[(2, 2), (0, 0)], 1);
        check(&[(2, 2), (2, 1)], 0);
        check(&[(1, 0)], 0);
        check(&[(0, 0)], 0);
    }
}
