//! What is asked about: an hour of counters with resets, gauges with odd values, gaps,
//! stale markers and classic histograms, as one remote-write request.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use watchfire::model::TimestampMs;
use watchfire::remote_write::proto;

/// When it ends; the samples lie in the hour before.
pub const END_MS: TimestampMs = 1_700_000_000_000;
const INTERVAL_MS: i64 = 15_000;
const SAMPLES: i64 = 240;
/// The bits of the value that ends a series.
const STALE_MARKER: u64 = 0x7ff0_0000_0000_0002;

/// All series. Every time stands 100 to 400 ms after a whole second, so that no sample
/// lies on the edge of a window asked for at a whole or half second; and all values of
/// counters and gauges are eighths, so that their sums are exact in every order.
pub fn request(seed: u64) -> proto::WriteRequest {
    let mut builder = Builder { rng: StdRng::seed_from_u64(seed), series: Vec::new() };
    for (j, job) in ["api", "web", "db"].into_iter().enumerate() {
        for (i, instance) in ["a:1", "b:2", "c:3"].into_iter().enumerate() {
            let target = [("job", job), ("instance", instance)];
            builder.counters(&target, j + i);
            builder.gauges(&target, j, i);
            if i < 2 {
                builder.histogram(&target);
            }
        }
        // One side of many-to-one joins: a series each job.
        let info = [("job", job), ("team", ["red", "blue", "red"][j]), ("tier", "1")];
        builder.add("job_info", &info, |_, _| Some(1.0));
        builder.add("limit", &[("job", job)], |_, _| Some(50.0 * (j as f64 + 1.0)));
    }
    let odd = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0, 0.0, 1.5, -2.5, 1e300];
    for (kind, value) in odd.into_iter().enumerate() {
        builder.add("odd", &[("kind", &format!("k{kind}"))], |_, _| Some(value));
    }
    builder.add("single", &[], |_, i| Some(i as f64));
    builder.add("epoch", &[], |_, i| Some((END_MS / 1000 - 86_400 * 13 * i) as f64));
    proto::WriteRequest { timeseries: builder.series, metadata: Vec::new() }
}

struct Builder {
    rng: StdRng,
    series: Vec<proto::TimeSeries>,
}

impl Builder {
    /// One series; `None` leaves a gap.
    fn add(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        mut value: impl FnMut(&mut StdRng, i64) -> Option<f64>,
    ) {
        let mut labels: Vec<_> = labels
            .iter()
            .chain([&("__name__", name)])
            .map(|(name, value)| proto::Label { name: (*name).into(), value: (*value).into() })
            .collect();
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        let phase = 1_000 * self.rng.random_range(0..14) + self.rng.random_range(100..400);
        let mut samples = Vec::new();
        for i in 0..SAMPLES {
            if let Some(value) = value(&mut self.rng, i) {
                let timestamp = END_MS - (SAMPLES - i) * INTERVAL_MS + phase;
                samples.push(proto::Sample { value, timestamp });
            }
        }
        self.series.push(proto::TimeSeries { labels, samples, ..proto::TimeSeries::default() });
    }

    fn counters(&mut self, target: &[(&str, &str)], rank: usize) {
        for (s, code) in ["200", "404", "500"].into_iter().enumerate() {
            // They start far from zero: how near zero a rate is extrapolated has changed.
            let mut total = 10_000.0;
            let labels = [target, &[("code", code)]].concat();
            self.add("requests_total", &labels, |rng, i| {
                total += f64::from(rng.random_range(0..80 * (rank as u32 + 1))) / 8.0;
                if rng.random_ratio(1, 90) {
                    total = 5_000.0;
                }
                // A long gap in some, and an end well before the others in one.
                let gap = s == 1 && (60..110).contains(&i);
                let ended = rank == 4 && s == 2 && i > 150;
                (!gap && !ended).then_some(total)
            });
        }
        let mut total = 20_000.0;
        self.add("errors_total", target, |rng, _| {
            total += f64::from(rng.random_range(0..3u32));
            (!rng.random_ratio(1, 12)).then_some(total)
        });
    }

    fn gauges(&mut self, target: &[(&str, &str)], j: usize, i: usize) {
        self.add("up", target, |rng, _| Some(f64::from(u8::from(!rng.random_ratio(1, 10)))));
        let mut level = 100.0 * j as f64 - 50.0;
        self.add("level", target, |rng, _| {
            level += f64::from(rng.random_range(-40..=40)) / 8.0;
            Some(level)
        });
        self.add("flaky", target, |rng, _| match rng.random_range(0..24) {
            0 => Some(f64::NAN),
            1 if i == 0 => Some(f64::INFINITY),
            2 if i == 1 => Some(f64::NEG_INFINITY),
            3..=5 => None,
            _ => Some(f64::from(rng.random_range(-80..=80)) / 8.0),
        });
        // Comes and goes: an end is marked, as a scrape marks it.
        self.add("sometimes", target, |_, step| match (step + 7 * j as i64 + 3 * i as i64) % 40 {
            0..20 => Some((step % 11) as f64),
            20 => Some(f64::from_bits(STALE_MARKER)),
            _ => None,
        });
    }

    fn histogram(&mut self, target: &[(&str, &str)]) {
        let bounds = ["0.1", "0.5", "1", "5", "+Inf"];
        // The same observations must count in all buckets: one seed for every bucket.
        let seed = self.rng.random();
        for (b, le) in bounds.into_iter().enumerate() {
            let mut observed = StdRng::seed_from_u64(seed);
            let mut total = 3_000.0 * (b + 1) as f64;
            let labels = [target, &[("le", le)]].concat();
            self.add("latency_seconds_bucket", &labels, |_, _| {
                let counts: [u32; 5] = std::array::from_fn(|_| observed.random_range(0..9));
                total += f64::from(counts[..=b].iter().sum::<u32>());
                Some(total)
            });
        }
    }
}
