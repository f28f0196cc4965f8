//! Reading the samples of one series. A long interval is read piece by piece, so that a look
//! at the interrupt and the judgement of the budget never wait for months of samples.

use super::cx::{CHECK_EVERY, Cx, Hold, Result};
use super::select::histogram_samples;
use crate::model::TimestampMs;
use crate::storage::RawSeries;
use crate::vector::RawSamples;

/// An interval that is read in one go: with a sample each second that is some 86,000.
pub(crate) const AT_ONCE_MS: i64 = 86_400_000;

/// Reads the closed interval into `raw`, which is cleared first; `hold` is raised to what is
/// there.
pub(crate) fn read(
    cx: &Cx,
    series: &dyn RawSeries,
    (from_ms, to_ms): (TimestampMs, TimestampMs),
    raw: &mut RawSamples,
    hold: &mut Hold<'_>,
) -> Result<()> {
    raw.clear();
    let (mut from_ms, mut length_ms, mut weight) = (from_ms, AT_ONCE_MS, 0);
    loop {
        let until_ms = to_ms.min(from_ms.saturating_add(length_ms - 1));
        let (floats, hist) = (raw.ts.len(), raw.hist.len());
        series.read_into(from_ms, until_ms, raw)?;
        let new = raw.hist.get(hist..).unwrap_or_default();
        let new = new.iter().map(|(_, h)| histogram_samples(h) as usize).sum::<usize>();
        let new = new + raw.ts.len().saturating_sub(floats);
        weight += new;
        hold.grow_to(weight)?;
        if until_ms >= to_ms {
            return Ok(());
        }
        cx.check()?;
        length_ms = next_length_ms(length_ms, new);
        from_ms = until_ms + 1;
    }
}

/// How long the next piece is after one that held so many samples: about as many as may be
/// worked on between two looks, and not much longer than the last one, because samples may
/// lie closer together further on.
fn next_length_ms(length_ms: i64, samples: usize) -> i64 {
    let wanted = i128::from(length_ms) * CHECK_EVERY as i128 / samples.max(1) as i128;
    let longest = i128::from(length_ms) * 4;
    i64::try_from(wanted.clamp(1_000, longest)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_the_density_of_samples() {
        let day = AT_ONCE_MS;
        assert_eq!(next_length_ms(day, CHECK_EVERY), day);
        assert_eq!(next_length_ms(day, CHECK_EVERY * 2), day / 2);
        assert_eq!(next_length_ms(day, 0), day * 4);
        assert_eq!(next_length_ms(1_000, CHECK_EVERY * 9), 1_000);
        assert_eq!(next_length_ms(i64::MAX, 0), i64::MAX);
    }
}
