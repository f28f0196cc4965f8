//! Spans and counts seen as pairs of bucket index and count, and back.

use super::Span;

/// Index and count of every bucket that is spelled out, ascending. Counts missing at the
/// end (a malformed histogram) end the iteration.
pub(super) fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> Indexed<'a> {
    Indexed { spans, counts, index: 0, left: 0 }
}

#[derive(Clone)]
pub(super) struct Indexed<'a> {
    spans: &'a [Span],
    counts: &'a [f64],
    index: i32,
    left: u32,
}

impl Iterator for Indexed<'_> {
    type Item = (i32, f64);

    fn next(&mut self) -> Option<(i32, f64)> {
        while self.left == 0 {
            let (span, rest) = self.spans.split_first()?;
            self.index = self.index.wrapping_add(span.offset);
            self.left = span.length;
            self.spans = rest;
        }
        let (count, rest) = self.counts.split_first()?;
        let item = (self.index, *count);
        self.counts = rest;
        self.left -= 1;
        self.index = self.index.wrapping_add(1);
        Some(item)
    }
}

/// The index a bucket has after the schema was lowered by `by`.
pub(super) fn coarser(index: i32, by: i32) -> i32 {
    (index.wrapping_sub(1) >> by.clamp(0, 31)).wrapping_add(1)
}

/// Spans of all buckets that either has.
pub fn merged_spans(a: &[Span], b: &[Span]) -> Vec<Span> {
    let (mut a, mut b) = (indices(a).peekable(), indices(b).peekable());
    let mut builder = Builder::default();
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => *x.min(y),
            (Some(x), None) | (None, Some(x)) => *x,
            (None, None) => return builder.finish().0,
        };
        a.next_if_eq(&next);
        b.next_if_eq(&next);
        builder.push(next, 0.0);
    }
}

/// Counts laid out by `to`, which has every bucket of `from`; the others become zero.
pub fn respan(from: &[Span], counts: &[f64], to: &[Span]) -> Vec<f64> {
    let mut known = indexed(from, counts).peekable();
    indices(to).map(|i| known.next_if(|(j, _)| *j == i).map_or(0.0, |(_, count)| count)).collect()
}

/// Index of every bucket.
fn indices(spans: &[Span]) -> impl Iterator<Item = i32> {
    let starts = spans.iter().scan(0i32, |next, span| {
        let start = next.wrapping_add(span.offset);
        *next = start.wrapping_add(span.length as i32);
        Some((start, span.length))
    });
    starts.flat_map(|(start, length)| (0..length).map(move |i| start.wrapping_add(i as i32)))
}

/// Builds spans from ascending indices.
#[derive(Default)]
pub(super) struct Builder {
    spans: Vec<Span>,
    counts: Vec<f64>,
    /// Index after the last bucket.
    next: i32,
}

impl Builder {
    /// Appends a bucket; its index lies beyond the last one.
    pub(super) fn push(&mut self, index: i32, count: f64) {
        match self.spans.last_mut() {
            Some(span) if index == self.next => span.length += 1,
            _ => {
                self.spans.push(Span { offset: index.wrapping_sub(self.next), length: 1 });
            }
        }
        self.counts.push(count);
        self.next = index.wrapping_add(1);
    }

    /// Appends a bucket, or adds to the last one when the index is the same.
    pub(super) fn add(&mut self, index: i32, count: f64) {
        match self.counts.last_mut() {
            Some(last) if index.wrapping_add(1) == self.next => *last += count,
            _ => self.push(index, count),
        }
    }

    /// As `push`, spelling out up to `empty_max` empty buckets before it.
    pub(super) fn push_filling(&mut self, index: i32, count: f64, empty_max: usize) {
        if !self.counts.is_empty() {
            let gap = i64::from(index) - i64::from(self.next);
            if gap > 0 && usize::try_from(gap).is_ok_and(|gap| gap <= empty_max) {
                for empty in self.next..index {
                    self.push(empty, 0.0);
                }
            }
        }
        self.push(index, count);
    }

    pub(super) fn finish(self) -> (Vec<Span>, Vec<f64>) {
        (self.spans, self.counts)
    }
}
