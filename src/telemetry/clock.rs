//! Clocks: the system's, and one that tests move by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::model::{Clock, TimestampMs};

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

fn system_now_ms() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Clock for SystemClock {
    fn now_ms(&self) -> TimestampMs {
        system_now_ms()
    }

    fn sleep_until(&self, at_ms: TimestampMs) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            // The wall clock may be set while we sleep: look again, at least every minute.
            loop {
                let left = at_ms.saturating_sub(system_now_ms());
                if left <= 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(left.clamp(1, 60_000) as u64)).await;
            }
        })
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until it is moved. For tests and simulations.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<TimestampMs>,
    origin_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now_ms`.
    pub fn new(now_ms: TimestampMs) -> Self {
        Self { now: watch::Sender::new(now_ms), origin_ms: AtomicI64::new(now_ms) }
    }

    /// Moves to a time and wakes who waits for it.
    pub fn set_ms(&self, now_ms: TimestampMs) {
        self.now.send_replace(now_ms);
    }

    /// Moves forward.
    pub fn advance_ms(&self, by_ms: i64) {
        self.now.send_modify(|now| *now += by_ms);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> TimestampMs {
        *self.now.borrow()
    }

    fn sleep_until(&self, at_ms: TimestampMs) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // The clock being gone means nobody can reach the time any more.
            if now.wait_for(|now| *now >= at_ms).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    fn monotonic_ns(&self) -> u64 {
        let elapsed_ms = self.now_ms() - self.origin_ms.load(Ordering::Relaxed);
        u64::try_from(elapsed_ms).unwrap_or(0) * 1_000_000
    }
}
