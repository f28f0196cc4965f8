//! `meta.json`: what a block is, without opening it. Members this program does not know,
//! such as Thanos', are kept when the file is rewritten.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ulid::Ulid;
use crate::model::TimestampMs;
use crate::storage::StorageError;
use crate::storage::tsdb::disk::{Disk, sync_dir};

/// The only version there is.
const VERSION: u64 = 1;

pub(crate) const META_FILE: &str = "meta.json";

/// What a block is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    pub ulid: Ulid,
    /// First time covered, inclusive.
    pub min_time: TimestampMs,
    /// First time not covered any more.
    pub max_time: TimestampMs,
    #[serde(default)]
    pub stats: BlockStats,
    #[serde(default)]
    pub compaction: BlockCompaction,
    pub version: u64,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// How much a block holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Where a block comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockCompaction {
    /// 1 for a block cut from the head, one more than the highest of its parents otherwise.
    pub level: u32,
    /// The blocks of level 1 it is made of, itself when it is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Ulid>,
    /// The blocks it replaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<BlockDesc>,
    /// Compaction found nothing in it that is to be kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deletable: bool,
    /// Compacting it failed and is not tried again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// A block named by another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockDesc {
    pub ulid: Ulid,
    pub min_time: TimestampMs,
    pub max_time: TimestampMs,
}

/// The hint of a block whose samples came out of order.
const FROM_OUT_OF_ORDER: &str = "from-out-of-order";

impl BlockCompaction {
    /// True for a block of samples that came out of order: the head holds more of its
    /// interval.
    pub fn from_out_of_order(&self) -> bool {
        self.hints.iter().any(|hint| hint == FROM_OUT_OF_ORDER)
    }

    /// When it came to be, compared with others: of two values of one time, that of the
    /// lesser block counts. What came in order is before what did not, and then what was
    /// there first, which a compacted block takes from the oldest of its sources.
    pub(crate) fn age(&self, ulid: Ulid) -> (bool, Ulid) {
        (self.from_out_of_order(), self.sources.iter().min().copied().unwrap_or(ulid))
    }

    /// Notes that it is one.
    pub(crate) fn set_from_out_of_order(&mut self) {
        if !self.from_out_of_order() {
            self.hints.push(FROM_OUT_OF_ORDER.to_owned());
        }
    }
}

impl BlockMeta {
    /// A new block of an interval, open at its end.
    pub(crate) fn new(ulid: Ulid, min_time: TimestampMs, max_time: TimestampMs) -> Self {
        Self { ulid, min_time, max_time, version: VERSION, ..Self::default() }
    }

    /// See `BlockCompaction::age`.
    pub(crate) fn age(&self) -> (bool, Ulid) {
        self.compaction.age(self.ulid)
    }

    /// How others name it.
    pub(crate) fn desc(&self) -> BlockDesc {
        BlockDesc { ulid: self.ulid, min_time: self.min_time, max_time: self.max_time }
    }

    /// Reads the file of a block's directory.
    pub(crate) fn read(block: &Path) -> Result<Self, StorageError> {
        let path = block.join(META_FILE);
        let text = fs::read(&path)
            .map_err(|e| StorageError::io(format!("read {}", path.display()), &e))?;
        let corrupt = |why: String| StorageError::Corrupt {
            what: path.display().to_string(),
            offset: 0,
            why,
        };
        let meta: Self = serde_json::from_slice(&text).map_err(|e| corrupt(e.to_string()))?;
        if meta.version != VERSION {
            return Err(corrupt(format!("unexpected meta file version {}", meta.version)));
        }
        if meta.min_time > meta.max_time {
            return Err(corrupt(format!(
                "it begins at {} and ends before, at {}",
                meta.min_time, meta.max_time
            )));
        }
        Ok(meta)
    }

    /// Puts the file into a block's directory, durably and in one step. Returns its size.
    pub(crate) fn write(&self, disk: &dyn Disk, block: &Path) -> Result<u64, StorageError> {
        let (path, temporary) = (block.join(META_FILE), block.join("meta.json.tmp"));
        let failed = |e: &std::io::Error| StorageError::io(format!("write {}", path.display()), e);
        let mut text = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, format);
        self.serialize(&mut serializer).map_err(|e| failed(&e.into()))?;
        if temporary.exists() {
            fs::remove_file(&temporary).map_err(|e| failed(&e))?;
        }
        let written = disk.create(&temporary).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync()?;
            disk.rename(&temporary, &path)
        });
        written.map_err(|e| failed(&e))?;
        sync_dir(disk, block)?;
        Ok(text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tsdb::disk::FileSystem;

    #[test]
    fn what_prometheus_and_thanos_write_is_read_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"ulid":"01ARZ3NDEKTSV4RRFFQ69G5FAV","minTime":1,"maxTime":9,
            "stats":{"numSamples":5,"numSeries":2,"numChunks":3},
            "compaction":{"level":1,"sources":["01ARZ3NDEKTSV4RRFFQ69G5FAV"]},
            "version":1,"thanos":{"labels":{"a":"b"}}}"#;
        fs::write(dir.path().join(META_FILE), text).unwrap();
        let mut meta = BlockMeta::read(dir.path()).unwrap();
        assert_eq!((meta.min_time, meta.max_time, meta.stats.num_samples), (1, 9, 5));
        meta.compaction.failed = true;
        meta.write(&FileSystem, dir.path()).unwrap();
        assert_eq!(BlockMeta::read(dir.path()).unwrap(), meta);
        let written = fs::read_to_string(dir.path().join(META_FILE)).unwrap();
        assert!(
            written.contains("\"thanos\"") && written.contains("\"failed\": true"),
            "{written}"
        );
    }

    #[test]
    fn a_bad_file_is_told_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let known = r#""ulid":"01ARZ3NDEKTSV4RRFFQ69G5FAV""#;
        for (text, why) in [
            ("{".to_owned(), "EOF"),
            (format!(r#"{{{known},"minTime":1,"maxTime":9,"version":2}}"#), "version 2"),
            (format!(r#"{{{known},"minTime":9,"maxTime":1,"version":1}}"#), "ends before"),
            (r#"{"ulid":"x","minTime":1,"maxTime":9,"version":1}"#.to_owned(), "not a ULID"),
        ] {
            fs::write(dir.path().join(META_FILE), text).unwrap();
            let error = BlockMeta::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("meta.json") && error.contains(why), "{error}");
        }
    }
}
