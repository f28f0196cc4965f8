//! What the head holds, for operators.

use crate::model::TimestampMs;
use crate::storage::tsdb::index::PostingsStats;

use super::Head;

/// Answer of `Tsdb::stats`: what `status/tsdb` shows, and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TsdbStats {
    pub series: usize,
    pub chunks: usize,
    /// Time of the oldest and newest sample; `i64::MAX` and `i64::MIN` when there is none.
    pub min_time_ms: TimestampMs,
    pub max_time_ms: TimestampMs,
    /// Approximate bytes of series with their samples.
    pub series_bytes: usize,
    /// Approximate bytes of the label index.
    pub index_bytes: usize,
    /// Bytes of the write-ahead log on disk.
    pub wal_bytes: u64,
    /// The biggest entries of the index.
    pub postings: PostingsStats,
}

impl Head {
    /// Counts; walks all series.
    pub(crate) fn stats(&self, limit: usize) -> TsdbStats {
        let (mut chunks, mut series_bytes) = (0, 0);
        self.series.for_each(|s| {
            let (count, bytes) = s.size();
            chunks += count;
            series_bytes += bytes;
        });
        let postings = self.series.postings();
        let (min_time_ms, max_time_ms) = self.bounds();
        TsdbStats {
            series: self.series.len(),
            chunks,
            min_time_ms,
            max_time_ms,
            series_bytes,
            index_bytes: postings.size_bytes(),
            wal_bytes: 0,
            postings: postings.stats(limit),
        }
    }
}
