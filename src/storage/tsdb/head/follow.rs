//! Reading on in a log that another process writes: a running Prometheus' own.
//!
//! The tail is the segment read last, held open, and the offset of the last sound record.
//! Each look reads what was written since, moves on to segments begun since, and shows all
//! of it to readers at once. A record half written is no damage: it is whole at a later
//! look. What cannot be read on is told, so that the caller starts over.

use std::collections::BTreeMap;
use std::path::Path;

use crate::storage::StorageError;
use crate::storage::tsdb::wal::reader::SegmentReader;
use crate::storage::tsdb::wal::segment;

use super::Head;
use super::isolation::CommitId;
use super::replay::Replayer;

/// Where reading goes on.
#[derive(Default)]
pub(crate) struct Tail {
    pub(super) replayer: Replayer,
    /// The segment read last.
    pub(super) reader: Option<SegmentReader>,
    /// The same of the log of samples that came out of order.
    pub(super) late_reader: Option<SegmentReader>,
    /// The last commit with samples of each segment of that log.
    late_commits: BTreeMap<u32, CommitId>,
    /// What was read up to this commit is in that log no more: blocks have it.
    late_gone: Option<CommitId>,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// All that is written was read.
    Level,
    /// The part that was to be read next is not there any more.
    Lost,
    /// Samples of series came that this head does not know.
    UnknownSeries,
}

fn first_segment(dir: &Path) -> Result<Option<u32>, StorageError> {
    if !dir.exists() {
        return Ok(None);
    }
    Ok(segment::list(dir)?.first().map(|s| s.index))
}

impl Head {
    /// Reads what was written since the last look.
    pub(crate) fn follow(&self) -> Result<Followed, StorageError> {
        let mut tail = self.tail.lock();
        let _commit = self.commit.lock();
        let commit = self.isolation.finished() + 1;
        tail.replayer.commit = (commit, self.isolation.oldest_visible());
        let unknown = tail.replayer.unknown_refs();
        let Tail { replayer, reader, late_reader, late_commits, late_gone } = &mut *tail;
        // Of what was read when the directory was opened, as commit 0, too.
        if let Some(reader) = late_reader {
            late_commits.entry(reader.segment()).or_insert(0);
        }
        let followed = self.read_on(&self.wal_dir, replayer, reader).and_then(|followed| {
            // Its owner removes whole segments of this one, also the one read last.
            replayer.late = true;
            let mut late = self.read_on(&self.wbl_dir, replayer, late_reader);
            if let Ok(Followed::Lost) = late {
                // Blocks have what was not read; what there is now was not read either.
                *late_reader = None;
                late = self.read_on(&self.wbl_dir, replayer, late_reader);
            }
            replayer.late = false;
            if late? == Followed::Lost {
                *late_reader = None;
            }
            if let Some(reader) = late_reader {
                late_commits.insert(reader.segment(), commit);
            }
            let first = first_segment(&self.wbl_dir)?;
            while let Some(entry) = late_commits.first_entry()
                && first.is_none_or(|first| *entry.key() < first)
            {
                *late_gone = Some(entry.remove());
            }
            Ok(followed)
        });
        // Also after an error: what was read until then was read once and for all.
        self.isolation.finish(commit);
        let (min_ms, max_ms) = self.bounds();
        self.metrics.head_min_time.set(min_ms);
        self.metrics.head_max_time.set(max_ms);
        match followed? {
            Followed::Level if tail.replayer.unknown_refs() > unknown => {
                Ok(Followed::UnknownSeries)
            }
            followed => Ok(followed),
        }
    }

    fn read_on(
        &self,
        dir: &Path,
        replayer: &mut Replayer,
        tail: &mut Option<SegmentReader>,
    ) -> Result<Followed, StorageError> {
        if !dir.exists() {
            return Ok(if tail.is_some() { Followed::Lost } else { Followed::Level });
        }
        // Listed before it is read: a segment that has a successor is complete by now.
        let segments = segment::list(dir)?;
        loop {
            let mut damage = None;
            if let Some(reader) = tail {
                reader.again()?;
                damage = replayer.read_segment(self, reader)?;
            }
            let current = tail.as_ref().map(SegmentReader::segment);
            let next = match current {
                Some(current) => segments.iter().find(|s| Some(s.index) == current.checked_add(1)),
                None => segments.first(),
            };
            let Some(next) = next else {
                let there = |current| segments.iter().any(|s| s.index == current);
                return Ok(match current {
                    Some(current) if !there(current) => Followed::Lost,
                    _ => Followed::Level,
                });
            };
            let before = current.and_then(|c| segments.iter().find(|s| s.index == c));
            if let (Some((offset, damage)), Some(source)) = (damage, before) {
                self.tell_passed_over(source, offset, &damage);
            }
            match SegmentReader::open(next) {
                Ok(reader) => *tail = Some(reader),
                Err(_) if !next.path.exists() => return Ok(Followed::Lost),
                Err(e) => return Err(e),
            }
        }
    }

    /// What was read of samples out of order up to this commit, the owner has in blocks now.
    pub(crate) fn take_late_gone(&self) -> Option<CommitId> {
        self.tail.lock().late_gone.take()
    }

    /// What belongs to a look but need not be done at each: call it once in a while.
    pub(crate) fn keep_house_read_only(&self) {
        self.rank_if_stale();
    }

    /// To be called after the head was truncated: the tail forgets what is gone, too.
    pub(crate) fn forget_followed(&self) {
        self.tail.lock().replayer.forget_gone();
    }
}
