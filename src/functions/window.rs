//! Walks over the samples of a window, floats and histograms in one time order.

use crate::model::{FloatHistogram, TimestampMs};
use crate::vector::Window;

/// A sample of either kind, borrowed.
#[derive(Clone, Copy, Debug)]
pub(super) enum PointValue<'a> {
    Float(f64),
    Histogram(&'a FloatHistogram),
}

/// A sample with its times; the start timestamp is 0 when it is not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point<'a> {
    pub(super) ts: TimestampMs,
    pub(super) start_ts: TimestampMs,
    pub(super) value: PointValue<'a>,
}

fn float_at<'a>(w: &Window<'a>, i: usize) -> Point<'a> {
    let start_ts = w.start_ts.get(i).copied().unwrap_or(0);
    Point { ts: w.ts[i], start_ts, value: PointValue::Float(w.vs[i]) }
}

fn histogram_at<'a>(w: &Window<'a>, i: usize) -> Point<'a> {
    let start_ts = w.hist_start_ts.get(i).copied().unwrap_or(0);
    let (ts, h) = &w.hist[i];
    Point { ts: *ts, start_ts, value: PointValue::Histogram(h) }
}

/// All samples in time order; of two at one time the histogram comes first.
pub(super) fn merged<'a>(w: &Window<'a>) -> impl Iterator<Item = Point<'a>> + use<'a> {
    let w = *w;
    let (mut f, mut h) = (0, 0);
    std::iter::from_fn(move || {
        let float_next = match (w.ts.get(f), w.hist.get(h)) {
            (None, None) => return None,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(ts), Some(hist)) => *ts < hist.0,
        };
        if float_next {
            f += 1;
            Some(float_at(&w, f - 1))
        } else {
            h += 1;
            Some(histogram_at(&w, h - 1))
        }
    })
}

/// The two newest samples, older first.
pub(super) fn last_two<'a>(w: &Window<'a>) -> Option<(Point<'a>, Point<'a>)> {
    let (mut f, mut h) = (w.ts.len(), w.hist.len());
    let mut newest = || {
        let float = match (f.checked_sub(1), h.checked_sub(1)) {
            (None, None) => return None,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(i), Some(j)) => w.ts[i] >= w.hist[j].0,
        };
        if float {
            f -= 1;
            Some(float_at(w, f))
        } else {
            h -= 1;
            Some(histogram_at(w, h))
        }
    };
    let last = newest()?;
    Some((newest()?, last))
}
