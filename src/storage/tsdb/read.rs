//! Reading head and blocks as one store. A reader takes its view of the head first and then
//! looks which blocks are shown: nothing leaves the head before all readers see it in a
//! block. Blocks outside the interval are not looked at.
//!
//! Where several have a value of one time, it is decided by where the values come from, so
//! that the same one counts however they move from the head into blocks and from blocks into
//! larger ones: see `Rank`.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::model::{Labels, TimestampMs};
use crate::storage::fanout::merge;
use crate::storage::{
    ExemplarSeries, LabelAnswer, LabelRequest, RawSeries, SelectRequest, SeriesSet, Source,
    StorageError, breathe,
};
use crate::vector::RawSamples;

use super::Tsdb;
use super::block::{BlockMeta, Ulid};
use super::head::Which;

/// Series merged before others have a turn.
const PER_TURN: usize = 4096;

/// Of two values of one time that of the lesser rank counts: what came in order before what
/// came out of order, and then what was there first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Block(Ulid),
    Head,
    /// A block of what came out of order.
    LateBlock(Ulid),
    /// The same of the head.
    Late,
}

impl Rank {
    fn of(meta: &BlockMeta) -> Self {
        match meta.age() {
            (false, oldest) => Self::Block(oldest),
            (true, oldest) => Self::LateBlock(oldest),
        }
    }
}

/// A closed interval of time, and what was found in it.
struct Found {
    rank: Rank,
    from_ms: TimestampMs,
    to_ms: TimestampMs,
    series: Vec<Arc<dyn RawSeries>>,
}

impl Source for Tsdb {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            let view = self.head.view();
            let shown = self.blocks.shown();
            let mut found = Vec::new();
            for block in &shown.blocks {
                if block.overlaps(request.from_ms, request.to_ms) {
                    let (from_ms, to_ms) = (block.meta().min_time, block.meta().max_time - 1);
                    let (rank, series) =
                        (Rank::of(block.meta()), block.select(request, &self.elsewhere).await?);
                    found.push(Found { rank, from_ms, to_ms, series });
                }
            }
            let (head, to_ms) = (&self.head, TimestampMs::MAX);
            let from_ms = shown.head_from_ms;
            // Also what came out of order is read from the head, however old.
            let late_from_ms = from_ms.min(head.late_bounds().0);
            let late_blocks = found.iter().any(|f| matches!(f.rank, Rank::LateBlock(_)));
            if late_blocks && head.has_late(request.from_ms, request.to_ms) {
                // A block stands between the two: it is newer than the one, older than the other.
                let series = head.select(&view, from_ms, Which::InOrder, request).await?;
                found.push(Found { rank: Rank::Head, from_ms, to_ms, series });
                let series = head.select(&view, from_ms, Which::Late, request).await?;
                found.push(Found { rank: Rank::Late, from_ms: late_from_ms, to_ms, series });
            } else {
                let series = head.select(&view, from_ms, Which::All, request).await?;
                found.push(Found { rank: Rank::Head, from_ms: late_from_ms, to_ms, series });
            }
            let limit = if request.hints.limit == 0 { usize::MAX } else { request.hints.limit };
            Ok(SeriesSet { series: join(found, limit).await, warnings: Vec::new() })
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let view = self.head.view();
            let shown = self.blocks.shown();
            let names = self.head.label_names(&view, request).await?;
            let mut more = BTreeSet::new();
            for block in &shown.blocks {
                if block.overlaps(request.from_ms, request.to_ms) {
                    more.extend(block.label_names(request, &self.elsewhere).await?);
                }
            }
            Ok(LabelAnswer { values: with(names, more), warnings: Vec::new() })
        })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let view = self.head.view();
            let shown = self.blocks.shown();
            let values = self.head.label_values(&view, name, request).await?;
            let mut more = BTreeSet::new();
            for block in &shown.blocks {
                if block.overlaps(request.from_ms, request.to_ms) {
                    more.extend(block.label_values(name, request, &self.elsewhere).await?);
                }
            }
            Ok(LabelAnswer { values: with(values, more), warnings: Vec::new() })
        })
    }

    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        Box::pin(async move { Ok(self.head.exemplars().select(request)) })
    }
}

/// The texts of both, sorted, each once; so are those of the head already.
fn with(mut head: Vec<String>, mut blocks: BTreeSet<String>) -> Vec<String> {
    blocks.retain(|text| head.binary_search(text).is_err());
    head.extend(blocks);
    head.sort_unstable();
    head
}

type Cursor = (Part<()>, Peekable<std::vec::IntoIter<Arc<dyn RawSeries>>>);

/// The series of sets that are sorted by labels, each label set once, sorted.
async fn join(mut sets: Vec<Found>, limit: usize) -> Vec<Arc<dyn RawSeries>> {
    sets.retain(|set| !set.series.is_empty());
    if let [set] = &mut sets[..] {
        set.series.truncate(limit);
        return std::mem::take(&mut set.series);
    }
    let mut sets: Vec<Cursor> = sets
        .into_iter()
        .map(|Found { rank, from_ms, to_ms, series }| {
            (Part { rank, from_ms, to_ms, series: () }, series.into_iter().peekable())
        })
        .collect();
    let mut joined: Vec<Arc<dyn RawSeries>> = Vec::new();
    while joined.len() < limit {
        if joined.len() % PER_TURN == PER_TURN - 1 {
            breathe().await;
        }
        let heads = sets.iter_mut().filter_map(|(_, set)| set.peek());
        let Some(least) = heads.min_by(|a, b| a.labels().cmp(b.labels())).cloned() else { break };
        let mut parts = Vec::new();
        for (Part { rank, from_ms, to_ms, .. }, set) in &mut sets {
            if let Some(series) = set.next_if(|series| series.labels() == least.labels()) {
                parts.push(Part { rank: *rank, from_ms: *from_ms, to_ms: *to_ms, series });
            }
        }
        joined.push(match parts.len() {
            1 => parts.remove(0).series,
            _ => Arc::new(Joined::new(parts)),
        });
    }
    joined
}

/// What one block, or the head, has of a series.
struct Part<S = Arc<dyn RawSeries>> {
    rank: Rank,
    from_ms: TimestampMs,
    to_ms: TimestampMs,
    series: S,
}

/// One series as several blocks and the head have it.
struct Joined {
    /// Of the newest part: those of the head are the same from one select to the next.
    labels: Labels,
    /// By their beginning when they are apart, else by whose value counts.
    parts: Vec<Part>,
    /// No two have a time in common.
    apart: bool,
}

impl Joined {
    fn new(mut parts: Vec<Part>) -> Self {
        parts.sort_by_key(|part| part.from_ms);
        let apart = parts.windows(2).all(|w| w[0].to_ms < w[1].from_ms);
        let labels = parts[parts.len() - 1].series.labels().clone();
        if !apart {
            parts.sort_by_key(|part| part.rank);
        }
        Self { labels, apart, parts }
    }

    fn overlapping(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> impl DoubleEndedIterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.from_ms <= to_ms && from_ms <= part.to_ms)
    }
}

impl RawSeries for Joined {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        if self.apart {
            for part in self.overlapping(from_ms, to_ms) {
                part.series.read_into(from_ms, to_ms, out)?;
            }
            return Ok(());
        }
        let mut merged = RawSamples::default();
        for part in self.overlapping(from_ms, to_ms) {
            let mut next = RawSamples::default();
            part.series.read_into(from_ms, to_ms, &mut next)?;
            merged = merge(&merged, &next);
        }
        out.append(merged);
        Ok(())
    }

    fn read_newest_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        if !self.apart {
            return self.read_into(from_ms, to_ms, out);
        }
        for part in self.overlapping(from_ms, to_ms).rev() {
            part.series.read_newest_into(from_ms, to_ms, out)?;
            if !out.ts.is_empty() || !out.hist.is_empty() {
                break;
            }
        }
        Ok(())
    }
}
