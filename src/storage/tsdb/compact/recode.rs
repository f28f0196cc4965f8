//! Samples as new chunks: where something of a chunk was deleted, or two overlap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::{FloatHistogram, TimestampMs};
use crate::storage::StorageError;
use crate::storage::tsdb::chunk::histogram::{Follows, HistogramAppender};
use crate::storage::tsdb::chunk::xor::XorAppender;
use crate::storage::tsdb::chunk::{
    Chunk, Encoding, HISTOGRAM_CHUNK_BYTES, HISTOGRAMS_PER_CHUNK_MIN, SAMPLES_PER_CHUNK,
    XOR_CHUNK_BYTES_MAX,
};
use crate::vector::RawSamples;

/// Says that long work is to end. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Fails once it is set.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        if self.is_set() { Err(StorageError::Closed) } else { Ok(()) }
    }
}

#[derive(Debug)]
enum Open {
    Floats(XorAppender),
    Histograms(HistogramAppender),
}

impl Open {
    fn is_full(&self) -> bool {
        match self {
            Self::Floats(x) => {
                x.count() >= SAMPLES_PER_CHUNK || x.bytes().len() > XOR_CHUNK_BYTES_MAX
            }
            Self::Histograms(h) => {
                let (count, bytes) = (h.count(), h.bytes().len());
                bytes >= HISTOGRAM_CHUNK_BYTES && count >= HISTOGRAMS_PER_CHUNK_MIN
                    || count == u16::MAX
            }
        }
    }

    fn finish(self) -> (Encoding, Box<[u8]>) {
        match self {
            Self::Floats(x) => (Encoding::Xor, x.finish()),
            Self::Histograms(h) => (h.encoding(), h.finish()),
        }
    }
}

/// Makes chunks of samples.
#[derive(Debug, Default)]
pub(crate) struct Recoder {
    open: Option<(TimestampMs, TimestampMs, Open)>,
    done: Vec<Chunk>,
}

impl Recoder {
    /// The samples as chunks, in time order.
    pub(crate) fn encode(&mut self, samples: &RawSamples) -> Vec<Chunk> {
        let (mut floats, mut histograms) = (0, 0);
        while floats < samples.ts.len() || histograms < samples.hist.len() {
            let float = samples.ts.get(floats).copied();
            match samples.hist.get(histograms) {
                Some((ts, histogram)) if float.is_none_or(|float| *ts < float) => {
                    self.push_histogram(*ts, histogram);
                    histograms += 1;
                }
                _ => {
                    self.push_float(samples.ts[floats], samples.vs[floats]);
                    floats += 1;
                }
            }
        }
        self.complete();
        std::mem::take(&mut self.done)
    }

    fn push_float(&mut self, ts: TimestampMs, value: f64) {
        if let Some((_, max_ms, open)) = &mut self.open
            && !open.is_full()
            && let Open::Floats(chunk) = open
        {
            chunk.push(ts, value);
            *max_ms = ts;
            return;
        }
        self.complete();
        let mut chunk = XorAppender::default();
        chunk.push(ts, value);
        self.open = Some((ts, ts, Open::Floats(chunk)));
    }

    fn push_histogram(&mut self, ts: TimestampMs, value: &Arc<FloatHistogram>) {
        let (mut follows, mut integer) = (Follows::Unknown, true);
        if let Some((_, max_ms, open)) = &mut self.open {
            let full = open.is_full();
            if let Open::Histograms(chunk) = open {
                let pushed =
                    if full { Err(chunk.followed_by(value)) } else { chunk.push(ts, value) };
                match pushed {
                    Ok(()) => {
                        *max_ms = ts;
                        return;
                    }
                    Err(how) => follows = how,
                }
                integer = chunk.encoding() == Encoding::Histogram;
            }
        }
        self.complete();
        let chunk = HistogramAppender::begin(ts, value, follows, integer);
        self.open = Some((ts, ts, Open::Histograms(chunk)));
    }

    fn complete(&mut self) {
        if let Some((min_ms, max_ms, open)) = self.open.take() {
            let (encoding, bytes) = open.finish();
            self.done.push(Chunk { min_ms, max_ms, encoding, bytes: bytes.into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_both_kinds_come_back_in_order() {
        let mut samples = RawSamples::default();
        for i in 0..1000i64 {
            if i % 400 < 300 {
                samples.push(i * 1000, (i * i) as f64);
            } else {
                let h = FloatHistogram { count: i as f64, ..FloatHistogram::default() };
                samples.hist.push((i * 1000, Arc::new(h)));
            }
        }
        let chunks = Recoder::default().encode(&samples);
        assert!(chunks.is_sorted_by(|a, b| a.max_ms < b.min_ms));
        assert!(chunks.len() >= 9 && chunks.len() < 20, "{}", chunks.len());
        let mut read = RawSamples::default();
        for chunk in &chunks {
            assert!(chunk.min_ms <= chunk.max_ms);
            chunk.read_into(i64::MIN, i64::MAX, &mut read).expect("a sound chunk");
        }
        assert_eq!((&read.ts, &read.vs), (&samples.ts, &samples.vs));
        let counts =
            |raw: &RawSamples| raw.hist.iter().map(|(t, h)| (*t, h.count)).collect::<Vec<_>>();
        assert_eq!(counts(&read), counts(&samples));
        assert!(Recoder::default().encode(&RawSamples::default()).is_empty());
    }
}
