//! What is done about damage in the log: what is sound behind it is read, too, and written
//! anew in its place, so that the log is whole again for whoever opens it next. The segment
//! as it was found is set aside, unless all that is wrong is that a crash cut it off.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use crate::storage::StorageError;
use crate::storage::tsdb::wal::append_to_segment;
use crate::storage::tsdb::wal::reader::{Damage, SegmentReader};
use crate::storage::tsdb::wal::segment::Segment;

use super::Head;
use super::replay::Replayer;

/// Damage in a segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    pub file: PathBuf,
    /// Where the first byte is that makes no sense.
    pub offset: u64,
    pub reason: String,
    /// Sound records behind it, which were kept.
    pub kept_records: usize,
    /// Where the file is as it was found; `None` when it was only cut off.
    pub set_aside: Option<PathBuf>,
}

impl Head {
    /// Reads a segment whole. Damage is passed over, and repaired in a directory of ours.
    pub(super) fn replay_segment(
        &self,
        source: &Segment,
        reader: &mut SegmentReader,
        replayer: &mut Replayer,
        is_last: bool,
    ) -> Result<(), StorageError> {
        if let Some(orphans) = &mut replayer.orphans {
            orphans.reading(&source.path);
        }
        let Some((offset, damage)) = replayer.read_segment(self, reader)? else { return Ok(()) };
        if self.options.read_only {
            // The last segment may be growing just now.
            if !is_last {
                self.tell_passed_over(source, offset, &damage);
                while reader.resync()? && replayer.read_segment(self, reader)?.is_some() {}
            }
            return Ok(());
        }
        self.metrics.wal_corruptions.inc();
        replayer.kept = Some(Vec::new());
        while reader.resync()? && replayer.read_segment(self, reader)?.is_some() {}
        let kept = replayer.kept.take().unwrap_or_default();
        let set_aside = repair(source, offset, &damage, &kept)?;
        tracing::error!(
            segment = %source.path.display(),
            offset,
            reason = %damage,
            kept_records = kept.len(),
            set_aside = set_aside.as_ref().map(|path| path.display().to_string()),
            "the write-ahead log is damaged; what is sound behind the damage was kept"
        );
        self.damage.lock().push(LogDamage {
            file: source.path.clone(),
            offset,
            reason: damage.to_string(),
            kept_records: kept.len(),
            set_aside,
        });
        Ok(())
    }
}

/// Cuts a segment where it is damaged, and appends what was sound behind that.
fn repair(
    source: &Segment,
    offset: u64,
    damage: &Damage,
    kept: &[Vec<u8>],
) -> Result<Option<PathBuf>, StorageError> {
    let failed = |what: &str, e: &std::io::Error| {
        StorageError::io(format!("{what} damaged WAL segment {}", source.path.display()), e)
    };
    let torn = kept.is_empty() && *damage == Damage::CutOff;
    let mut set_aside = None;
    if !torn {
        let path = source.path.with_extension("corrupt");
        fs::copy(&source.path, &path).map_err(|e| failed("set aside", &e))?;
        set_aside = Some(path);
    }
    let cut = OpenOptions::new().write(true).open(&source.path).and_then(|f| f.set_len(offset));
    cut.map_err(|e| failed("cut", &e))?;
    if !kept.is_empty() {
        append_to_segment(&source.path, offset, kept).map_err(|e| failed("rewrite", &e))?;
    }
    Ok(set_aside)
}
