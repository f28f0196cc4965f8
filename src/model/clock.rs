//! Where the time comes from. Only `cli` and `telemetry` read the wall clock; every
//! other room is handed a `Clock`, so tests and backtests own the time.

use std::future::Future;
use std::pin::Pin;

use super::TimestampMs;

/// A source of wall time and a way to wait for it.
pub trait Clock: Send + Sync + 'static {
    /// Wall time now.
    fn now_ms(&self) -> TimestampMs;

    /// Completes once `now_ms()` is at least `at_ms`; at once when it already is.
    /// Dropping the future cancels the wait.
    fn sleep_until(&self, at_ms: TimestampMs) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Nanoseconds of a clock that never goes back, for measuring how long something took.
    fn monotonic_ns(&self) -> u64;
}
