//! Moving chunks of samples that came out of order into files, and back at a start.
//!
//! The log of those samples names them before anything else does. Once they are full chunks
//! that everybody sees, the chunks go into a file, and a marker into the log: from here back,
//! a file has what you named of this series. So the marker comes at a moment when nothing of
//! the series is only collected, under the commit's lock. A start reads the log, and at a
//! marker puts the file's chunk in the place of the samples it holds. A chunk without a
//! marker is not taken: a crash came in between, and the log has its samples, or the log was
//! removed since and a block has them. A marker without its chunk, because the file is
//! damaged or a power cut took its end, changes nothing.

use std::sync::Arc;

use crate::model::TimestampMs;
use crate::storage::StorageError;
use crate::storage::tsdb::chunk::Chunk;
use crate::storage::tsdb::wal::record::{Place, encode_markers};

use super::chunk_files::ChunkFiles;
use super::replay::Replayer;
use super::series::MemSeries;
use super::{Committer, Head};

/// Series looked at before others may commit.
const PER_COMMIT: usize = 1024;

impl Head {
    /// Moves what is full of some series. Nothing is lost where that fails: the log has it,
    /// and the next full chunk takes it along.
    pub(super) fn map_late<'a>(
        &self,
        committer: &mut Committer,
        series: impl Iterator<Item = &'a Arc<MemSeries>>,
    ) {
        let Some(wbl) = &mut committer.wbl else { return };
        let visible = self.isolation.oldest_visible();
        let (mut batch, mut owners): (Vec<(u64, Arc<Chunk>)>, Vec<_>) = Default::default();
        for series in series {
            let Some((held, new)) = series.complete_late(visible) else { continue };
            self.metrics.head_chunks.inc_by(new as i64);
            self.metrics.head_chunks_created.inc_by(new as u64);
            for chunk in held {
                batch.push((series.id, chunk));
                owners.push(series);
            }
        }
        // Who has them now is about to write very many: commits do not wait for that.
        let Some(mut files) = self.chunk_files.try_lock() else { return };
        let usable = |files: &&mut ChunkFiles| !batch.is_empty() && files.has_room(&batch);
        let Some(files) = files.as_mut().filter(usable) else { return };
        let moved = files.write_late(&batch).and_then(|written| {
            let mut markers: Vec<(u64, Place)> = Vec::with_capacity(batch.len());
            for ((series, (id, held)), (chunk, place)) in owners.iter().zip(&batch).zip(written) {
                series.replace_late(held, chunk);
                self.metrics.mmap_chunks.inc();
                markers.push((*id, place));
            }
            let mut record = Vec::new();
            encode_markers(&markers, &mut record);
            wbl.log(&[&record])
        });
        if let Err(error) = moved {
            tracing::warn!(
                %error,
                "chunks of samples that came out of order stay in memory, or are read from the log at the next start"
            );
        }
    }

    /// Moves what is full of all series: much may have come at once, and nothing since.
    pub(super) fn write_late_chunks(&self) -> Result<(), StorageError> {
        if !self.has_late(TimestampMs::MIN, TimestampMs::MAX) {
            return Ok(());
        }
        for some in self.late_series().chunks(PER_COMMIT) {
            let mut committer = self.commit.lock();
            self.map_late(&mut committer, some.iter());
        }
        Ok(())
    }
}

impl Replayer {
    /// Takes the chunks of files that the log says have what it named until here.
    pub(super) fn take_late_chunks(&mut self, head: &Head, markers: &[(u64, Place)]) {
        for (id, place) in markers {
            let Some((owner, chunk)) = self.late_mapped.get(place) else { continue };
            if owner != id {
                continue;
            }
            let Some(series) = self.series.get_mut(id) else {
                self.found.unknown_refs += 1;
                continue;
            };
            if series.is_gone() {
                *series = head.series_of(&series.labels, Some(*id)).0;
            }
            // One that cannot be read is as good as none: the log has it.
            if let Ok(more) = series.attach_late(chunk) {
                self.chunks = self.chunks.saturating_add_signed(more as i64);
                head.widen_late(chunk.min_ms, chunk.max_ms);
            }
            self.late_mapped.remove(place);
        }
    }
}
