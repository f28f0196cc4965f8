//! Which pages the process takes its memory in. Large ones (2 MiB where the system allows
//! them) make queries over much data up to a third faster, but a program that needs few
//! megabytes is charged for much that it never touches, and waits until it is cleared.

use std::time::Duration;

use crate::telemetry::process::resident_bytes;

/// Resident memory from which large pages cost little beside what is there.
const LARGE_BYTES: f64 = (96 << 20) as f64;
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Has all memory that is touched from now on come in small pages.
pub(super) fn take_small_pages() {
    small_pages(true);
}

/// Lets memory come in large pages once there is much of it. What is touched by then stays
/// as it is until the kernel joins it.
pub(super) async fn take_large_pages_when_large() {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        if resident_bytes().is_none_or(|bytes| bytes >= LARGE_BYTES) {
            small_pages(false);
            return;
        }
    }
}

fn small_pages(on: bool) {
    // Where the system has no such choice, nothing is lost.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(on);
    #[cfg(not(target_os = "linux"))]
    let _ = on;
}
