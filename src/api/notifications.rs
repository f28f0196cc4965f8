//! What whoever looks at the server should know right now: that it starts, that it stops,
//! that its configuration is not the one on disk. Kept for those who ask, and passed on to
//! those who stay and listen. Not to be confused with notifications of alerts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;

use crate::model::{Clock, TimestampMs};
use crate::telemetry::Registry;

/// Updates that wait for one subscriber; what comes on top is dropped and counted.
const WAITING_MAX: usize = 10;

/// What there is to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The store is not open yet.
    Starting,
    /// Rules and queues are being brought to an end.
    Stopping,
    /// What runs is not, or not only, what the configuration file says.
    ReloadFailed,
}

impl Notice {
    /// Prometheus' texts: programs compare them.
    pub fn text(self) -> &'static str {
        match self {
            Self::Starting => "Prometheus is starting and replaying the write-ahead log (WAL).",
            Self::Stopping => "Prometheus is shutting down and gracefully stopping all operations.",
            Self::ReloadFailed => "Configuration reload has failed.",
        }
    }
}

/// A notice, and since when it holds or until when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    pub notice: Notice,
    /// When it was raised last.
    pub at_ms: TimestampMs,
    /// False in the one update that says that it is over.
    pub active: bool,
}

/// The notices that hold, and who listens. Clones share them.
#[derive(Clone)]
pub struct Notifications {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    /// `--web.max-notifications-subscribers`
    subscribers_max: usize,
    state: Mutex<State>,
    subscribers: Gauge<i64, AtomicI64>,
    sent: Counter,
    dropped: Counter,
}

#[derive(Default)]
struct State {
    active: Vec<Notification>,
    subscribers: BTreeMap<u64, mpsc::Sender<Notification>>,
    last_id: u64,
    closed: bool,
}

impl Notifications {
    /// No notices and no subscribers, of whom there may be so many.
    pub fn new(subscribers_max: usize, clock: Arc<dyn Clock>, registry: &mut Registry) -> Self {
        let (subscribers, sent, dropped) =
            (Gauge::default(), Counter::default(), Counter::default());
        registry.register(
            "prometheus_api_notification_active_subscribers",
            "The current number of active notification subscribers.",
            Gauge::clone(&subscribers),
        );
        registry.register(
            "prometheus_api_notification_updates_sent",
            "Total number of notification updates sent.",
            Counter::clone(&sent),
        );
        registry.register(
            "prometheus_api_notification_updates_dropped",
            "Total number of notification updates dropped.",
            Counter::clone(&dropped),
        );
        let state = Mutex::default();
        let shared = Shared { clock, subscribers_max, state, subscribers, sent, dropped };
        Self { shared: Arc::new(shared) }
    }

    /// The notice holds from now on. One that held already holds anew.
    pub fn raise(&self, notice: Notice) {
        let at_ms = self.shared.clock.now_ms();
        let raised = Notification { notice, at_ms, active: true };
        let mut state = self.shared.state.lock();
        match state.active.iter_mut().find(|known| known.notice == notice) {
            Some(known) => *known = raised,
            None => state.active.push(raised),
        }
        self.shared.tell(&state, raised);
    }

    /// The notice does not hold any more, if it did.
    pub fn clear(&self, notice: Notice) {
        let mut state = self.shared.state.lock();
        let Some(at) = state.active.iter().position(|known| known.notice == notice) else { return };
        let over = Notification { active: false, ..state.active.remove(at) };
        self.shared.tell(&state, over);
    }

    /// The notices that hold, in the order they came up.
    pub fn active(&self) -> Vec<Notification> {
        self.shared.state.lock().active.clone()
    }

    /// Listens: first to what holds, then to what changes. `None` when enough others do.
    pub fn subscribe(&self) -> Option<Subscription> {
        let mut state = self.shared.state.lock();
        if state.closed || state.subscribers.len() >= self.shared.subscribers_max {
            return None;
        }
        let (sender, updates) = mpsc::channel(WAITING_MAX);
        for notification in &state.active {
            // There are fewer kinds of notices than places.
            let _ = sender.try_send(*notification);
        }
        state.last_id += 1;
        let id = state.last_id;
        state.subscribers.insert(id, sender);
        self.shared.subscribers.set(state.subscribers.len() as i64);
        Some(Subscription { id, updates, shared: self.shared.clone() })
    }

    /// Ends all subscriptions once they have read what waits for them: a server that stops
    /// waits for its answers to end.
    pub fn close(&self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        state.subscribers.clear();
        self.shared.subscribers.set(0);
    }
}

impl Shared {
    fn tell(&self, state: &State, notification: Notification) {
        for subscriber in state.subscribers.values() {
            self.sent.inc();
            if subscriber.try_send(notification).is_err() {
                self.dropped.inc();
            }
        }
    }
}

/// One who listens, until it is dropped.
pub struct Subscription {
    id: u64,
    updates: mpsc::Receiver<Notification>,
    shared: Arc<Shared>,
}

impl Subscription {
    /// The next update; `None` when the server stops.
    pub async fn next(&mut self) -> Option<Notification> {
        self.updates.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.subscribers.remove(&self.id);
        self.shared.subscribers.set(state.subscribers.len() as i64);
    }
}
