//! How many shards a target needs: as many as it takes to send what comes in, and to make up
//! for what is behind.

/// How much the newest look counts.
const WEIGHT: f64 = 0.2;
/// Share of what is behind that is made up for in each second.
const CATCH_UP: f64 = 0.05;
/// Within this of the present number nothing is changed.
const TOLERANCE: f64 = 0.3;

/// An average in which older looks count less and less.
#[derive(Clone, Copy, Debug, Default)]
struct Average(Option<f64>);

impl Average {
    fn add(&mut self, rate: f64) -> f64 {
        let next = match self.0 {
            None => rate,
            Some(last) => last + WEIGHT * (rate - last),
        };
        self.0 = Some(next);
        next
    }
}

/// What happened since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    pub seconds: f64,
    /// Samples that came into the queue.
    pub taken_in: u64,
    /// Samples that were sent.
    pub sent: u64,
    /// Seconds that sending took, over all shards.
    pub sending_seconds: f64,
    /// Samples in the queue now.
    pub pending: u64,
}

/// The rates of a target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    taken_in: Average,
    sent: Average,
    sending: Average,
}

impl Rates {
    /// How many shards are wanted; `None` while nothing can be said.
    pub fn desired(&mut self, look: &Look) -> Option<f64> {
        if look.seconds <= 0.0 {
            return None;
        }
        let taken_in = self.taken_in.add(look.taken_in as f64 / look.seconds);
        let sent = self.sent.add(look.sent as f64 / look.seconds);
        let sending = self.sending.add(look.sending_seconds / look.seconds);
        if sent <= 0.0 {
            return None;
        }
        let seconds_per_sample = sending / sent;
        Some(seconds_per_sample * (taken_in + CATCH_UP * look.pending as f64))
    }
}

/// The number of shards to run when this many are desired.
pub(super) fn shards(now: usize, desired: f64, min: usize, max: usize) -> usize {
    let current = now as f64;
    if desired >= current * (1.0 - TOLERANCE) && desired <= (current * (1.0 + TOLERANCE)).ceil() {
        return now.clamp(min, max);
    }
    (desired.ceil() as usize).clamp(min, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_follow_what_comes_in_and_what_is_behind() {
        // 10 ms for each sample, 300 a second: three shards' work.
        let look =
            Look { seconds: 10.0, taken_in: 3000, sent: 1000, sending_seconds: 10.0, pending: 0 };
        let desired = Rates::default().desired(&look).expect("a number");
        assert!((desired - 3.0).abs() < 1e-9, "{desired}");
        let behind = Look { pending: 6000, ..look };
        let desired = Rates::default().desired(&behind).expect("a number");
        assert!((desired - 6.0).abs() < 1e-9, "{desired}");
        let silent = Look { sent: 0, ..look };
        assert!(Rates::default().desired(&silent).is_none(), "the receiver takes nothing");
    }

    #[test]
    fn the_number_changes_when_it_is_worth_it() {
        for (now, desired, expected) in [
            (1, 0.1, 1),
            (1, 1.9, 1),
            (1, 2.4, 3),
            (10, 12.9, 10),
            (10, 13.5, 14),
            (10, 6.9, 7),
            (10, 1000.0, 50),
            (10, 0.0, 1),
        ] {
            assert_eq!(shards(now, desired, 1, 50), expected, "{now} {desired}");
        }
    }
}
