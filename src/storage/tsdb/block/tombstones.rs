//! What was deleted of a block: intervals per series, in the file `tombstones`.
//!
//! ```text
//! magic 0x0130BA30, version 1, { series uvarint, min varint, max varint }*, CRC32C of those
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::model::TimestampMs;
use crate::storage::StorageError;
use crate::storage::tsdb::disk::{Disk, sync_dir};
use crate::storage::tsdb::encoding::{Cursor, Put};
use crate::storage::tsdb::intervals::Intervals;

use super::output::Output;

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;
const FILE: &str = "tombstones";

/// Deleted intervals by series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tombstones {
    by_series: BTreeMap<u64, Intervals>,
}

impl Tombstones {
    /// Reads the file of a block; none means nothing was deleted.
    pub(super) fn read(block: &Path) -> Result<Self, StorageError> {
        let path = block.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(StorageError::io(format!("read {}", path.display()), &e)),
        };
        let corrupt = |offset: usize, why: String| StorageError::Corrupt {
            what: path.display().to_string(),
            offset: offset as u64,
            why,
        };
        let Some((header, rest)) = bytes.split_first_chunk::<5>() else {
            return Err(corrupt(0, "it ends too early".to_owned()));
        };
        let Some((content, crc)) = rest.split_last_chunk::<4>() else {
            return Err(corrupt(5, "it ends too early".to_owned()));
        };
        let mut expected = MAGIC.to_be_bytes().to_vec();
        expected.push(VERSION);
        if header[..] != expected {
            return Err(corrupt(0, format!("it begins with {header:02x?}, not {expected:02x?}")));
        }
        if crc32c::crc32c(content) != u32::from_be_bytes(*crc) {
            return Err(corrupt(5, "its checksum is not as it was written".to_owned()));
        }
        let mut all = Self::default();
        let mut cursor = Cursor::new(content);
        while !cursor.is_empty() {
            let at = 5 + content.len() - cursor.remaining();
            let mut stone = || Ok((cursor.uvarint()?, cursor.varint()?, cursor.varint()?));
            let (series, min, max) =
                stone().map_err(|e: crate::storage::tsdb::encoding::DecodeError| {
                    corrupt(at, e.to_string())
                })?;
            all.add(series, min, max);
        }
        Ok(all)
    }

    /// When the file of a block was last written; nothing without one.
    pub(super) fn written(block: &Path) -> Option<std::time::SystemTime> {
        fs::metadata(block.join(FILE)).and_then(|m| m.modified()).ok()
    }

    /// Puts the file into a block's directory, durably and in one step.
    pub(super) fn write(&self, disk: &dyn Disk, block: &Path) -> Result<(), StorageError> {
        let (path, temporary) = (block.join(FILE), block.join("tombstones.tmp"));
        if temporary.exists() {
            fs::remove_file(&temporary)
                .map_err(|e| StorageError::io(format!("remove {}", temporary.display()), &e))?;
        }
        let mut out = Output::create(disk, &temporary)?;
        out.write(&MAGIC.to_be_bytes())?;
        out.write(&[VERSION])?;
        let mut content = Vec::new();
        for (series, intervals) in &self.by_series {
            for (min, max) in intervals.iter() {
                content.put_uvarint(*series);
                content.put_varint(min);
                content.put_varint(max);
            }
        }
        out.write(&content)?;
        out.write(&crc32c::crc32c(&content).to_be_bytes())?;
        out.finish()?;
        disk.rename(&temporary, &path)
            .map_err(|e| StorageError::io(format!("write {}", path.display()), &e))?;
        sync_dir(disk, block)
    }

    /// Deletes a closed interval of a series.
    pub(super) fn add(&mut self, series: u64, min_ms: TimestampMs, max_ms: TimestampMs) {
        self.by_series.entry(series).or_default().add(min_ms, max_ms);
    }

    /// What is deleted of a series.
    pub(super) fn get(&self, series: u64) -> Option<&Intervals> {
        self.by_series.get(&series)
    }

    /// Intervals of all series.
    pub(super) fn count(&self) -> u64 {
        self.by_series.values().map(|i| i.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tsdb::disk::FileSystem;

    #[test]
    fn tombstones_round_trip_and_every_flipped_byte_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Tombstones::read(dir.path()), Ok(Tombstones::default()));
        let mut stones = Tombstones::default();
        stones.add(7, -5, 10);
        stones.add(7, 11, 20);
        stones.add(300, i64::MIN, i64::MAX);
        assert_eq!(stones.count(), 2, "adjacent intervals are one");
        stones.write(&FileSystem, dir.path()).unwrap();
        stones.write(&FileSystem, dir.path()).unwrap();
        assert_eq!(Tombstones::read(dir.path()), Ok(stones));
        let file = dir.path().join(FILE);
        let whole = fs::read(&file).unwrap();
        for i in 0..whole.len() {
            let mut broken = whole.clone();
            broken[i] ^= 0x10;
            fs::write(&file, broken).unwrap();
            let error = Tombstones::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("tombstones is corrupt at byte"), "{error}");
        }
    }
}
