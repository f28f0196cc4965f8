//! The windows of one series at every step of a grid, as positions in its samples.
//!
//! Series scraped together share their times, and then their windows too: a table is laid
//! out once and used for every series that follows with the same times.

use std::ops::Range;

use crate::model::TimestampMs;

/// Steps of a chunk: those of one word of presence bits.
pub const CHUNK_STEPS: usize = 64;

/// What a column kernel sees: for each step the samples `from..to` of a series. Both
/// bounds never fall from step to step.
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a> {
    pub ts: &'a [TimestampMs],
    pub from: &'a [u32],
    pub to: &'a [u32],
    /// Closed upper ends.
    pub end_ms: &'a [TimestampMs],
    /// Length of every window, its start open.
    pub range_ms: i64,
    /// Per chunk of steps: no window is empty, and both bounds rise by one from step to
    /// step, so that the first samples of the windows are a slice and the last ones too.
    pub rising: &'a [bool],
}

impl Windows<'_> {
    /// The steps in stretches as long as can be, and whether the windows of each rise: then
    /// its first samples are one slice and its last ones another.
    pub fn stretches(&self) -> Vec<(Range<usize>, bool)> {
        let mut all: Vec<(Range<usize>, bool)> = vec![];
        let goes_on = |bounds: &[u32], step: usize| bounds[step - 1] + 1 == bounds[step];
        for (chunk, rising) in self.rising.iter().enumerate() {
            let begin = chunk * CHUNK_STEPS;
            let end = (begin + CHUNK_STEPS).min(self.from.len());
            match all.last_mut() {
                Some((steps, before))
                    if before == rising
                        && (!rising || goes_on(self.from, begin) && goes_on(self.to, begin)) =>
                {
                    steps.end = end;
                }
                _ => all.push((begin..end, *rising)),
            }
        }
        all
    }

    /// Writes the last value of each window; anything for an empty one. `vs` are the values
    /// at the times of the windows, at least one.
    pub fn newest(&self, vs: &[f64], out: &mut [f64]) {
        for (chunk, out) in out.chunks_mut(CHUNK_STEPS).enumerate() {
            let base = chunk * CHUNK_STEPS;
            let to = &self.to[base..base + out.len()];
            if self.rising[chunk] {
                let last = to[0] as usize - 1;
                out.copy_from_slice(&vs[last..last + out.len()]);
                continue;
            }
            for (out, to) in out.iter_mut().zip(to) {
                *out = vs[to.saturating_sub(1) as usize];
            }
        }
    }
}

/// Windows, and the times they were laid out for.
#[derive(Debug)]
pub struct WindowTable {
    end_ms: Vec<TimestampMs>,
    range_ms: i64,
    ts: Vec<TimestampMs>,
    from: Vec<u32>,
    to: Vec<u32>,
    rising: Vec<bool>,
}

impl WindowTable {
    /// Windows `(end - range, end]`; the ends never fall. Empty until it is laid out.
    pub fn new(end_ms: Vec<TimestampMs>, range_ms: i64) -> Self {
        let steps = end_ms.len();
        let chunks = steps.div_ceil(CHUNK_STEPS);
        Self {
            end_ms,
            range_ms,
            ts: vec![],
            from: vec![0; steps],
            to: vec![0; steps],
            rising: vec![false; chunks],
        }
    }

    /// Lays the windows out over samples at these times, at most `u32::MAX`. False when
    /// they lie as before.
    pub fn lay(&mut self, ts: &[TimestampMs]) -> bool {
        if self.ts == ts {
            return false;
        }
        self.ts.clear();
        self.ts.extend_from_slice(ts);
        let Some(first_end) = self.end_ms.first() else { return true };
        let mut from = ts.partition_point(|ts| *ts <= first_end.saturating_sub(self.range_ms));
        let mut to = from + ts[from..].partition_point(|ts| ts <= first_end);
        for (step, end) in self.end_ms.iter().enumerate() {
            let start = end.saturating_sub(self.range_ms);
            while to < ts.len() && ts[to] <= *end {
                to += 1;
            }
            while from < to && ts[from] <= start {
                from += 1;
            }
            (self.from[step], self.to[step]) = (from as u32, to as u32);
        }
        let rises = |bounds: &[u32]| {
            let steps = bounds.iter().zip(&bounds[1..]);
            steps.fold(true, |rises, (a, b)| rises & (a.wrapping_add(1) == *b))
        };
        let bounds = self.from.chunks(CHUNK_STEPS).zip(self.to.chunks(CHUNK_STEPS));
        for (rising, (from, to)) in self.rising.iter_mut().zip(bounds) {
            *rising = from[0] < to[0] && rises(from) && rises(to);
        }
        true
    }

    /// The windows as laid out last.
    pub fn windows(&self) -> Windows<'_> {
        Windows {
            ts: &self.ts,
            from: &self.from,
            to: &self.to,
            end_ms: &self.end_ms,
            range_ms: self.range_ms,
            rising: &self.rising,
        }
    }

    /// Writes presence bits: the windows with at least `samples_min` samples.
    pub fn mark_present(&self, samples_min: u32, words: &mut Vec<u64>) {
        words.clear();
        let bounds = self.from.chunks(CHUNK_STEPS).zip(self.to.chunks(CHUNK_STEPS));
        words.extend(bounds.map(|(from, to)| {
            let held = from.iter().zip(to).map(|(from, to)| to - from >= samples_min);
            held.enumerate().fold(0, |word, (i, held)| word | u64::from(held) << i)
        }));
    }

    /// Per step, the samples of its window and how many of them no earlier one held.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut seen = 0;
        self.from.iter().zip(&self.to).map(move |(from, to)| {
            let new = to.saturating_sub(seen.max(*from));
            seen = *to;
            (u64::from(to - from), u64::from(new))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_open_at_the_start_and_remember_their_times() {
        let mut table = WindowTable::new(vec![10, 20, 30, 45], 20);
        let check = |table: &mut WindowTable, ts: &[i64], changed, expected: &[&[i64]]| {
            assert_eq!(table.lay(ts), changed, "{ts:?}");
            let w = table.windows();
            let got: Vec<&[i64]> =
                w.from.iter().zip(w.to).map(|(f, t)| &ts[*f as usize..*t as usize]).collect();
            assert_eq!(got, expected);
            let mut words = vec![];
            table.mark_present(2, &mut words);
            let present: u64 =
                expected.iter().enumerate().map(|(i, w)| u64::from(w.len() >= 2) << i).sum();
            assert_eq!(words, [present]);
            let held: u64 = expected.iter().map(|w| w.len() as u64).sum();
            assert_eq!(table.counts().map(|(held, _)| held).sum::<u64>(), held);
        };
        check(&mut table, &[], false, &[&[], &[], &[], &[]]);
        check(&mut table, &[0, 10, 20, 30], true, &[&[0, 10], &[10, 20], &[20, 30], &[30]]);
        check(&mut table, &[0, 10, 20, 30], false, &[&[0, 10], &[10, 20], &[20, 30], &[30]]);
        check(&mut table, &[-10, 11, 25, 46], true, &[&[], &[11], &[11, 25], &[]]);
        let new: Vec<u64> = table.counts().map(|(_, new)| new).collect();
        assert_eq!(new, [0, 1, 1, 0]);
    }

    #[test]
    fn regular_windows_rise() {
        let ts: Vec<i64> = (0..100).map(|i| i * 10).collect();
        let mut table = WindowTable::new((0..70).map(|i| 105 + i * 10).collect(), 50);
        table.lay(&ts);
        assert_eq!(table.windows().rising, [true, true]);
        assert_eq!(table.windows().stretches(), [(0..70, true)]);
        table.lay(&ts[..20]);
        assert_eq!(table.windows().rising, [false, false]);
        assert_eq!(table.windows().stretches(), [(0..70, false)]);
        // A sample is missing between the windows of two chunks.
        let gap: Vec<i64> = ts.iter().copied().filter(|ts| *ts != 105 - 50 + 64 * 10 - 5).collect();
        table.lay(&gap);
        let w = table.windows();
        for (steps, rising) in w.stretches() {
            let rises = |bounds: &[u32]| bounds.windows(2).all(|b| b[0] + 1 == b[1]);
            assert!(!rising || rises(&w.from[steps.clone()]) && rises(&w.to[steps]));
        }
    }
}
