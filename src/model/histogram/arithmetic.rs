//! Adding, subtracting and scaling. One algorithm serves plain and compensated sums:
//! [`HistogramSum`] keeps a compensation beside every number, and the increment it is
//! given decides whether that is used.

use thiserror::Error;

use super::layout::{Builder, coarser, indexed};
use super::{CounterResetHint, FloatHistogram, Span, bound};
use crate::model::sums::kahan_inc;

/// Exponential and custom-bucket histograms cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the histograms have incompatible schemas: exponential and custom buckets")]
pub struct IncompatibleSchemas;

/// What there is to tell about a combination that went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One side said "reset", the other "not reset".
    pub reset_collision: bool,
    /// Custom bounds differed; the result has those both share.
    pub bounds_reconciled: bool,
}

/// `(increment, sum, compensation) -> (sum, compensation)`
type Increment = fn(f64, f64, f64) -> (f64, f64);

fn plus(inc: f64, sum: f64, c: f64) -> (f64, f64) {
    (sum + inc, c)
}

fn minus(inc: f64, sum: f64, c: f64) -> (f64, f64) {
    (sum - inc, c)
}

impl FloatHistogram {
    /// Adds `other`, at the lower of both resolutions.
    pub fn add(&mut self, other: &Self) -> Result<Combined, IncompatibleSchemas> {
        self.combine(other, plus)
    }

    /// Subtracts `other`, at the lower of both resolutions. The counter-reset hint
    /// becomes what `add` would make it; callers set "gauge" where PromQL wants it.
    pub fn sub(&mut self, other: &Self) -> Result<Combined, IncompatibleSchemas> {
        self.combine(other, minus)
    }

    fn combine(&mut self, other: &Self, by: Increment) -> Result<Combined, IncompatibleSchemas> {
        let mut sum = HistogramSum::new(self);
        let combined = sum.combine(other, by)?;
        *self = sum.finish();
        Ok(combined)
    }

    /// Multiplies counts and sum. A negative factor makes a gauge.
    pub fn mul(&mut self, factor: f64) {
        self.map_numbers(|v| v * factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    /// Divides counts and sum. A negative divisor makes a gauge; division by zero
    /// removes the buckets, because infinitely many observations have no place.
    pub fn div(&mut self, divisor: f64) {
        self.map_numbers(|v| v / divisor);
        if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.positive_buckets.clear();
            self.negative_spans.clear();
            self.negative_buckets.clear();
        }
    }

    fn map_numbers(&mut self, f: impl Fn(f64) -> f64) {
        for v in [&mut self.zero_count, &mut self.count, &mut self.sum] {
            *v = f(*v);
        }
        for v in self.positive_buckets.iter_mut().chain(&mut self.negative_buckets) {
            *v = f(*v);
        }
    }
}

/// A number and its compensation.
#[derive(Clone, Copy, Debug, Default)]
struct Term {
    value: f64,
    c: f64,
}

impl Term {
    fn of(value: f64) -> Self {
        Self { value, c: 0.0 }
    }

    fn inc(&mut self, by: Increment, inc: f64) {
        (self.value, self.c) = by(inc, self.value, self.c);
    }

    fn total(self) -> f64 {
        self.value + self.c
    }
}

/// A bucket while summing.
#[derive(Clone, Copy, Debug)]
struct Cell {
    index: i32,
    term: Term,
}

/// A running, compensated sum of histograms.
#[derive(Clone, Debug)]
pub struct HistogramSum {
    hint: CounterResetHint,
    schema: i32,
    custom_values: Vec<f64>,
    zero_threshold: f64,
    zero: Term,
    count: Term,
    sum: Term,
    positive: Vec<Cell>,
    negative: Vec<Cell>,
}

impl HistogramSum {
    /// The sum of one histogram.
    pub fn new(first: &FloatHistogram) -> Self {
        Self {
            hint: first.counter_reset_hint,
            schema: first.schema,
            custom_values: first.custom_values.clone(),
            zero_threshold: first.zero_threshold,
            zero: Term::of(first.zero_count),
            count: Term::of(first.count),
            sum: Term::of(first.sum),
            positive: cells(&first.positive_spans, &first.positive_buckets),
            negative: cells(&first.negative_spans, &first.negative_buckets),
        }
    }

    /// Adds `other` with Neumaier's compensation.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Combined, IncompatibleSchemas> {
        self.combine(other, kahan_inc)
    }

    /// Multiplies the sum and its compensation.
    pub fn mul(&mut self, factor: f64) {
        self.map_terms(|t| Term { value: t.value * factor, c: t.c * factor });
    }

    /// Divides the sum and its compensation.
    pub fn div(&mut self, divisor: f64) {
        self.map_terms(|t| Term { value: t.value / divisor, c: t.c / divisor });
    }

    /// True when a number has run over to an infinity.
    pub fn has_overflow(&self) -> bool {
        let cells = self.positive.iter().chain(&self.negative).map(|c| c.term);
        [self.zero, self.count, self.sum].into_iter().chain(cells).any(|t| t.value.is_infinite())
    }

    /// The schema of the sum so far.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == super::CUSTOM_BUCKETS_SCHEMA
    }

    /// Adds another sum with its compensation.
    pub fn merge(&mut self, later: &Self) -> Result<Combined, IncompatibleSchemas> {
        let combined = self.add(&later.part(|t| t.value))?;
        let mut compensation = later.part(|t| t.c);
        compensation.counter_reset_hint = self.hint;
        self.add(&compensation)?;
        Ok(combined)
    }

    /// The sum as a histogram, not compacted.
    pub fn finish(self) -> FloatHistogram {
        self.part(Term::total)
    }

    /// A histogram of one part of every number.
    fn part(&self, of: impl Fn(Term) -> f64) -> FloatHistogram {
        let (positive_spans, positive_buckets) = side(&self.positive, &of);
        let (negative_spans, negative_buckets) = side(&self.negative, &of);
        FloatHistogram {
            counter_reset_hint: self.hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: of(self.zero),
            count: of(self.count),
            sum: of(self.sum),
            positive_spans,
            positive_buckets,
            negative_spans,
            negative_buckets,
            custom_values: self.custom_values.clone(),
        }
    }

    fn combine(
        &mut self,
        other: &FloatHistogram,
        by: Increment,
    ) -> Result<Combined, IncompatibleSchemas> {
        if self.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        let reset_collision = self.merge_hint(other.counter_reset_hint);
        let bounds_reconciled = if self.uses_custom_buckets() {
            self.combine_custom(other, by)
        } else {
            self.combine_exponential(other, by);
            false
        };
        self.count.inc(by, other.count);
        self.sum.inc(by, other.sum);
        Ok(Combined { reset_collision, bounds_reconciled })
    }

    /// True on a collision of "reset" and "not reset".
    fn merge_hint(&mut self, other: CounterResetHint) -> bool {
        use CounterResetHint::{Gauge, Unknown};
        match (self.hint, other) {
            (a, b) if a == b => false,
            (Gauge, _) | (_, Gauge) => {
                self.hint = Gauge;
                false
            }
            (Unknown, _) | (_, Unknown) => {
                self.hint = Unknown;
                false
            }
            _ => {
                self.hint = Unknown;
                true
            }
        }
    }

    fn combine_custom(&mut self, other: &FloatHistogram, by: Increment) -> bool {
        let theirs = indexed(&other.positive_spans, &other.positive_buckets);
        if self.custom_values == other.custom_values {
            merge(&mut self.positive, theirs, by);
            return false;
        }
        let shared = intersect(&self.custom_values, &other.custom_values);
        let mut mine: Vec<Cell> = Vec::with_capacity(shared.len() + 1);
        for cell in &self.positive {
            let index = index_in(&shared, cell.index, &self.custom_values);
            match mine.last_mut() {
                Some(last) if last.index == index => {
                    last.term.inc(plus, cell.term.value);
                    last.term.c += cell.term.c;
                }
                _ => mine.push(Cell { index, term: cell.term }),
            }
        }
        let mut mapped = Builder::default();
        for (index, count) in theirs {
            mapped.add(index_in(&shared, index, &other.custom_values), count);
        }
        let (spans, counts) = mapped.finish();
        merge(&mut mine, indexed(&spans, &counts), by);
        self.positive = mine;
        self.custom_values = shared;
        true
    }

    fn combine_exponential(&mut self, other: &FloatHistogram, by: Increment) {
        let other_zero = self.reconcile_zero_buckets(other);
        self.zero.inc(by, other_zero);
        if other.schema < self.schema {
            reduce(&mut self.positive, self.schema - other.schema);
            reduce(&mut self.negative, self.schema - other.schema);
            self.schema = other.schema;
        }
        let threshold = self.zero_threshold;
        let reduce_by = other.schema - self.schema;
        for (mine, spans, counts) in [
            (&mut self.positive, &other.positive_spans, &other.positive_buckets),
            (&mut self.negative, &other.negative_spans, &other.negative_buckets),
        ] {
            // What lies inside the widened zero bucket has been counted there already.
            let outside = indexed(spans, counts).filter(|(index, _)| {
                threshold == other.zero_threshold || bound(*index, other.schema, &[]) > threshold
            });
            if reduce_by == 0 {
                merge(mine, outside, by);
                continue;
            }
            let mut reduced = Builder::default();
            for (index, count) in outside {
                reduced.add(coarser(index, reduce_by), count);
            }
            let (spans, counts) = reduced.finish();
            merge(mine, indexed(&spans, &counts), by);
        }
    }

    /// Widens both zero buckets until they agree. The sum's own is changed; the other's
    /// new count is returned.
    fn reconcile_zero_buckets(&mut self, other: &FloatHistogram) -> f64 {
        let (mut count, mut threshold) = (other.zero_count, other.zero_threshold);
        while threshold != self.zero_threshold {
            if self.zero_threshold > threshold {
                (count, threshold) = other.zero_count_for_threshold(self.zero_threshold);
            }
            if threshold > self.zero_threshold {
                self.widen_zero_bucket(threshold);
            }
            if threshold.is_nan() || self.zero_threshold.is_nan() {
                break;
            }
        }
        count
    }

    fn widen_zero_bucket(&mut self, threshold: f64) {
        let schema = self.schema;
        let mut threshold = threshold;
        // A populated bucket that the threshold would split is swallowed whole.
        loop {
            let split = self.positive.iter().chain(&self.negative).find(|cell| {
                cell.term.value != 0.0
                    && bound(cell.index.wrapping_sub(1), schema, &[]) < threshold
                    && bound(cell.index, schema, &[]) > threshold
            });
            match split {
                Some(cell) => threshold = bound(cell.index, schema, &[]),
                None => break,
            }
        }
        for side in [&mut self.positive, &mut self.negative] {
            let inside = side
                .iter()
                .take_while(|cell| bound(cell.index.wrapping_sub(1), schema, &[]) < threshold)
                .count();
            for cell in side.drain(..inside) {
                self.zero.inc(kahan_inc, cell.term.value);
                self.zero.c += cell.term.c;
            }
        }
        self.zero_threshold = threshold;
    }

    fn map_terms(&mut self, f: impl Fn(Term) -> Term) {
        for t in [&mut self.zero, &mut self.count, &mut self.sum] {
            *t = f(*t);
        }
        for cell in self.positive.iter_mut().chain(&mut self.negative) {
            cell.term = f(cell.term);
        }
    }
}

impl FloatHistogram {
    /// The zero bucket's count if its threshold were raised to at least `threshold`, and
    /// the threshold that takes: a populated bucket is never split.
    pub(super) fn zero_count_for_threshold(&self, threshold: f64) -> (f64, f64) {
        let mut threshold = threshold;
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold);
        }
        'widen: loop {
            let mut count = self.zero_count;
            for bucket in self.positive_buckets() {
                if bucket.lower >= threshold {
                    break;
                }
                count += bucket.count;
                if bucket.upper > threshold {
                    if bucket.count != 0.0 {
                        threshold = bucket.upper;
                    }
                    break;
                }
            }
            for bucket in self.negative_buckets() {
                if bucket.upper <= -threshold {
                    break;
                }
                count += bucket.count;
                if bucket.lower < -threshold {
                    if bucket.count != 0.0 {
                        threshold = -bucket.lower;
                        continue 'widen;
                    }
                    break;
                }
            }
            return (count, threshold);
        }
    }
}

fn cells(spans: &[Span], counts: &[f64]) -> Vec<Cell> {
    indexed(spans, counts).map(|(index, v)| Cell { index, term: Term::of(v) }).collect()
}

fn side(cells: &[Cell], of: impl Fn(Term) -> f64) -> (Vec<Span>, Vec<f64>) {
    let mut builder = Builder::default();
    for cell in cells {
        builder.push(cell.index, of(cell.term));
    }
    builder.finish()
}

fn reduce(cells: &mut Vec<Cell>, by: i32) {
    let mut out: Vec<Cell> = Vec::with_capacity(cells.len());
    for cell in cells.iter() {
        let index = coarser(cell.index, by);
        match out.last_mut() {
            Some(last) if last.index == index => {
                last.term.inc(kahan_inc, cell.term.value);
                last.term.c += cell.term.c;
            }
            _ => out.push(Cell { index, term: cell.term }),
        }
    }
    *cells = out;
}

/// Adds ascending `theirs` into ascending `mine`.
fn merge(mine: &mut Vec<Cell>, theirs: impl Iterator<Item = (i32, f64)> + Clone, by: Increment) {
    if same_layout(mine, theirs.clone()) {
        for (cell, (_, count)) in mine.iter_mut().zip(theirs) {
            cell.term.inc(by, count);
        }
        return;
    }
    let mut out = Vec::with_capacity(mine.len() + 8);
    let mut rest = mine.iter().copied().peekable();
    for (index, count) in theirs {
        while let Some(cell) = rest.next_if(|cell| cell.index < index) {
            out.push(cell);
        }
        let mut cell =
            rest.next_if(|cell| cell.index == index).unwrap_or(Cell { index, term: Term::of(0.0) });
        cell.term.inc(by, count);
        out.push(cell);
    }
    out.extend(rest);
    *mine = out;
}

fn same_layout(mine: &[Cell], mut theirs: impl Iterator<Item = (i32, f64)>) -> bool {
    mine.iter().all(|cell| theirs.next().is_some_and(|(index, _)| index == cell.index))
        && theirs.next().is_none()
}

/// The bounds both lists have.
pub(super) fn intersect(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut rest = b;
    a.iter()
        .copied()
        .filter(|v| {
            while rest.first().is_some_and(|first| first < v) {
                rest = &rest[1..];
            }
            rest.first() == Some(v)
        })
        .collect()
}

/// The bucket among `shared` bounds into which bucket `index` of `own` bounds falls.
pub(super) fn index_in(shared: &[f64], index: i32, own: &[f64]) -> i32 {
    match usize::try_from(index).ok().and_then(|i| own.get(i)) {
        Some(upper) => shared.partition_point(|v| v < upper) as i32,
        None => shared.len() as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{custom, exponential};
    use super::*;

    #[test]
    fn adding_meets_at_the_coarser_schema() {
        let mut a = exponential(1, 3.0, 1.0, 1, &[1.0, 2.0]);
        let b = exponential(0, 4.0, 2.0, 1, &[4.0]);
        assert_eq!(a.add(&b), Ok(Combined::default()));
        assert_eq!(a, exponential(0, 7.0, 3.0, 1, &[7.0]));
    }

    #[test]
    fn a_wider_zero_bucket_swallows_buckets_of_the_other_side() {
        let mut a = exponential(0, 6.0, 1.0, 0, &[1.0, 2.0, 3.0]);
        let mut b = exponential(0, 4.0, 1.0, 2, &[4.0]);
        (b.zero_threshold, b.zero_count) = (1.5, 0.0);
        a.add(&b).unwrap();
        // 1.5 lies inside the populated bucket (1, 2], so the zero bucket grows to 2.
        assert_eq!((a.zero_threshold, a.zero_count), (2.0, 3.0));
        assert_eq!((a.positive_spans[0].offset, a.positive_buckets), (2, vec![7.0]));
    }

    #[test]
    fn custom_bounds_that_differ_are_intersected() {
        let mut a = custom(&[1.0, 2.0, 3.0], 10.0, 1.0, &[1.0, 2.0, 3.0, 4.0]);
        let b = custom(&[2.0, 4.0], 6.0, 1.0, &[1.0, 2.0, 3.0]);
        assert_eq!(a.sub(&b), Ok(Combined { bounds_reconciled: true, ..Default::default() }));
        assert_eq!((a.custom_values, a.positive_buckets), (vec![2.0], vec![2.0, 2.0]));
        assert_eq!(
            exponential(0, 1.0, 1.0, 0, &[1.0]).add(&b),
            Err(IncompatibleSchemas),
            "no common layout"
        );
    }

    #[test]
    fn compensation_survives_cancellation_in_every_number() {
        let of = |v: f64| exponential(0, v, v, 0, &[v]);
        let mut sum = HistogramSum::new(&of(1.0));
        for v in [1e100, 1.0, -1e100] {
            sum.add(&of(v)).unwrap();
        }
        let h = sum.finish();
        assert_eq!((h.count, h.sum, h.positive_buckets), (2.0, 2.0, vec![2.0]));
    }

    #[test]
    fn hints_merge_and_collide() {
        use CounterResetHint::*;
        for (a, b, expected, collision) in [
            (Reset, Reset, Reset, false),
            (Gauge, Reset, Gauge, false),
            (NotReset, Gauge, Gauge, false),
            (Unknown, NotReset, Unknown, false),
            (Reset, NotReset, Unknown, true),
        ] {
            let mut h = FloatHistogram { counter_reset_hint: a, ..Default::default() };
            let other = FloatHistogram { counter_reset_hint: b, ..Default::default() };
            assert_eq!(h.add(&other).unwrap().reset_collision, collision);
            assert_eq!(h.counter_reset_hint, expected, "{a:?} + {b:?}");
        }
    }

    proptest::proptest! {
        /// Whatever the schemas and layouts, adding what was subtracted gives it back, and
        /// no observation is lost on the way.
        #[test]
        fn sums_keep_every_observation(
            schemas in (-4i32..=8, -4i32..=8),
            offsets in (-20i32..20, -20i32..20),
            a in proptest::collection::vec(0u8..20, 1..12),
            b in proptest::collection::vec(0u8..20, 1..12),
            thresholds in (0usize..3, 0usize..3),
        ) {
            let of = |schema: i32, offset: i32, counts: &[u8], threshold: usize| {
                let counts: Vec<f64> = counts.iter().copied().map(f64::from).collect();
                let mut h = exponential(schema, counts.iter().sum(), 1.0, offset, &counts);
                h.zero_threshold = [0.0, 0.001, 1.0][threshold];
                h
            };
            let (a, b) = (
                of(schemas.0, offsets.0, &a, thresholds.0),
                of(schemas.1, offsets.1, &b, thresholds.1),
            );
            let mut sum = a.clone();
            sum.add(&b).unwrap();
            let inside: f64 = sum.zero_count + sum.positive_buckets.iter().sum::<f64>();
            let boundary = a.zero_threshold == b.zero_threshold;
            proptest::prop_assert_eq!(sum.count, a.count + b.count);
            proptest::prop_assert!(!boundary || inside == sum.count, "{} in {}", inside, sum);
            proptest::prop_assert_eq!(sum.schema, a.schema.min(b.schema));
            sum.sub(&b).unwrap();
            proptest::prop_assert_eq!(sum.count, a.count);
        }
    }
}
