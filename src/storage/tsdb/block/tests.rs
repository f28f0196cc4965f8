//! A small block written and read back, whole and broken.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::model::MatchOp;
use crate::storage::tsdb::chunk::Encoding;
use crate::storage::tsdb::chunk::xor::XorAppender;
use crate::storage::tsdb::compact::Stop;
use crate::storage::tsdb::disk::FileSystem;
use crate::storage::tsdb::elsewhere::Elsewhere;
use crate::storage::{LabelRequest, SelectHints, SelectRequest};
use crate::vector::RawSamples;

pub(in crate::storage::tsdb) type Samples = BTreeMap<Labels, Vec<(i64, f64)>>;

fn files() -> Arc<dyn Disk> {
    Arc::new(FileSystem)
}

fn xor(samples: &[(i64, f64)]) -> Box<[u8]> {
    let mut chunk = XorAppender::default();
    samples.iter().for_each(|(ts, v)| chunk.push(*ts, *v));
    chunk.finish()
}

/// Writes a block of chunks of up to three samples.
pub(in crate::storage::tsdb) fn write(parent: &Path, samples: &Samples) -> PathBuf {
    let symbols: std::collections::BTreeSet<&str> =
        samples.keys().flat_map(|l| l.iter().flat_map(|(n, v)| [n, v])).collect();
    let times = || samples.values().flatten().map(|(ts, _)| *ts);
    let (min, max) = (times().min().unwrap(), times().max().unwrap() + 1);
    let meta = BlockMeta::new(Ulid::new(max), min, max);
    let mut writer =
        BlockWriter::create(&files(), parent, meta, symbols.into_iter().map(Ok)).unwrap();
    for (labels, samples) in samples {
        let chunks: Vec<_> =
            samples.chunks(3).map(|c| (c[0].0, c[c.len() - 1].0, xor(c))).collect();
        let chunks = chunks.iter().map(|(min_ms, max_ms, bytes)| NewChunk {
            min_ms: *min_ms,
            max_ms: *max_ms,
            chunk: RawChunk { encoding: Encoding::Xor as u8, bytes },
        });
        writer.add(labels, chunks).unwrap();
    }
    let meta = writer.finish(&Stop::default()).unwrap().unwrap();
    assert_eq!(meta.stats.num_samples, samples.values().map(|s| s.len() as u64).sum::<u64>());
    parent.join(meta.ulid.to_string())
}

fn read(
    block: &Arc<Block>,
    matchers: &[Matcher],
    from: i64,
    to: i64,
) -> Result<Samples, StorageError> {
    let request = SelectRequest {
        matchers: matchers.to_vec(),
        from_ms: from,
        to_ms: to,
        hints: SelectHints::default(),
    };
    // `breathe` may rest: drive it to its end.
    let here = Elsewhere::default();
    let found = futures_util::FutureExt::boxed(block.select(&request, &here));
    let found = drive(found)?;
    let mut all = Samples::new();
    for series in found {
        let mut raw = RawSamples::default();
        series.read_into(from, to, &mut raw)?;
        if !raw.ts.is_empty() {
            all.insert(series.labels().clone(), raw.ts.into_iter().zip(raw.vs).collect());
        }
    }
    Ok(all)
}

fn drive<T>(mut future: futures_util::future::BoxFuture<'_, T>) -> T {
    loop {
        if let Some(done) = (&mut future).now_or_never() {
            return done;
        }
    }
}

fn sample_block() -> Samples {
    let mut samples = Samples::new();
    for i in 0..100 {
        let labels = Labels::from_pairs([
            ("__name__", if i % 2 == 0 { "up" } else { "down" }),
            ("i", &format!("{i}")),
            ("mod", &format!("{}", i % 7)),
        ]);
        samples.insert(labels, (0..8).map(|n| (n * 1000 + i, (n * i) as f64)).collect());
    }
    samples.insert(Labels::from_pairs([("alone", "é")]), vec![(5_000, f64::MAX)]);
    samples
}

#[test]
fn what_was_written_is_read_by_matchers_and_times() {
    let dir = tempfile::tempdir().unwrap();
    let samples = sample_block();
    let block = Arc::new(Block::open(&write(dir.path(), &samples)).unwrap());
    assert_eq!(read(&block, &[], i64::MIN, i64::MAX), Ok(samples.clone()));
    for (op, name, value) in [
        (MatchOp::Equal, "__name__", "up"),
        (MatchOp::NotEqual, "i", "7"),
        (MatchOp::Regex, "i", "1.*"),
        (MatchOp::Regex, "i", "3|50|none"),
        (MatchOp::NotRegex, "mod", "[123]"),
        (MatchOp::Equal, "alone", ""),
        (MatchOp::Equal, "nope", "x"),
        (MatchOp::Equal, "i", "zzz"),
    ] {
        let matchers = [Matcher::new(op, name, value).unwrap(), Matcher::equal("x", "")];
        let expected = samples.iter().filter(|(l, _)| matchers.iter().all(|m| m.matches_labels(l)));
        let expected = expected.map(|(l, s)| {
            let inside = s.iter().copied().filter(|(ts, _)| (2_010..=5_000).contains(ts));
            (l.clone(), inside.collect::<Vec<_>>())
        });
        let expected: Samples = expected.filter(|(_, s)| !s.is_empty()).collect();
        assert_eq!(read(&block, &matchers, 2_010, 5_000), Ok(expected), "{name} {value}");
    }
    assert_eq!(block.meta().stats.num_series, 101);
    assert!(block.size_bytes() > 4_000);
}

#[test]
fn names_and_values_come_from_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let block = Arc::new(Block::open(&write(dir.path(), &sample_block())).unwrap());
    let here = Elsewhere::default();
    let mut request = LabelRequest { from_ms: 0, to_ms: 10, ..Default::default() };
    let names = |request: &LabelRequest| {
        drive(block.label_names(request, &here).boxed()).unwrap().into_iter().collect::<Vec<_>>()
    };
    let values = |name: &str, request: &LabelRequest| {
        drive(block.label_values(name, request, &here).boxed())
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&request), ["__name__", "alone", "i", "mod"]);
    assert_eq!(values("mod", &request), ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(values("i", &request).len(), 100);
    request.matcher_sets = vec![
        vec![Matcher::new(MatchOp::Regex, "i", "1|3").unwrap()],
        vec![Matcher::equal("i", "5")],
    ];
    assert_eq!(names(&request), ["__name__", "i", "mod"]);
    assert_eq!(values("mod", &request), ["1", "3", "5"]);
    assert_eq!(values("i", &request), ["1", "3", "5"]);
    assert_eq!(values("__name__", &request), ["down"]);
}

#[test]
fn deleted_samples_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let samples = sample_block();
    let path = write(dir.path(), &samples);
    let block = Block::open(&path).unwrap();
    assert_eq!(block.delete(&FileSystem, &[Matcher::equal("i", "none")], 0, 9_000), Ok(false));
    assert_eq!(block.delete(&FileSystem, &[Matcher::equal("i", "3")], 1_500, 3_003), Ok(true));
    assert_eq!(
        block.delete(&FileSystem, &[Matcher::equal("i", "4")], i64::MIN, i64::MAX),
        Ok(true)
    );
    let block = Arc::new(Block::open(&path).unwrap());
    let found = read(&block, &[], i64::MIN, i64::MAX).unwrap();
    // The second call knew nothing of the first: whoever deletes opens the block again.
    assert_eq!((found.len(), block.meta().stats.num_tombstones), (100, 1));
    assert_eq!(block.delete(&FileSystem, &[Matcher::equal("i", "3")], 1_500, 3_003), Ok(true));
    let block = Arc::new(Block::open(&path).unwrap());
    let found = read(&block, &[Matcher::equal("i", "3")], i64::MIN, i64::MAX).unwrap();
    let times: Vec<i64> = found.values().flatten().map(|(ts, _)| *ts).collect();
    assert_eq!(times, [3, 1_003, 4_003, 5_003, 6_003, 7_003]);
}

#[test]
fn unfinished_blocks_are_no_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let meta = || BlockMeta::new(Ulid::new(1), 0, 1);
    let empty =
        BlockWriter::create(&files(), dir.path(), meta(), std::iter::empty::<Result<&str, _>>());
    assert_eq!(empty.unwrap().finish(&Stop::default()), Ok(None));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays");
    let stopped = Stop::default();
    let mut half =
        BlockWriter::create(&files(), dir.path(), meta(), ["a", "b"].into_iter().map(Ok)).unwrap();
    let bytes = xor(&[(0, 1.0)]);
    let chunk = RawChunk { encoding: Encoding::Xor as u8, bytes: &bytes };
    let chunk = NewChunk { min_ms: 0, max_ms: 0, chunk };
    half.add(&Labels::from_pairs([("a", "b")]), std::iter::once(chunk)).unwrap();
    stopped.set();
    assert_eq!(half.finish(&stopped), Err(StorageError::Closed), "not even the index is written");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays");
    let path = write(dir.path(), &sample_block());
    let id = path.file_name().unwrap().to_str().unwrap().to_owned();
    for suffix in [CREATION_SUFFIX, DELETION_SUFFIX, ".tmp"] {
        fs::create_dir(dir.path().join(format!("{id}{suffix}"))).unwrap();
    }
    fs::create_dir(dir.path().join("wal.tmp")).unwrap();
    remove_unfinished(dir.path()).unwrap();
    assert_eq!(list(dir.path()), Ok(vec![path.clone()]));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    remove(&FileSystem, &path).unwrap();
    assert_eq!(list(dir.path()), Ok(vec![]));
}

/// Everything a reader may ask, or the first error.
fn everything(path: &Path) -> Result<(Samples, usize), StorageError> {
    let block = Arc::new(Block::open(path)?);
    let samples = read(&block, &[], i64::MIN, i64::MAX)?;
    let (mut texts, here) = (0, Elsewhere::default());
    for name in block.index().names().map(str::to_owned).collect::<Vec<_>>() {
        let values = drive(block.label_values(&name, &LabelRequest::default(), &here).boxed())?;
        for value in values {
            texts += read(&block, &[Matcher::equal(&name, &value)], 0, 10)?.len() + value.len();
        }
    }
    Ok((samples, texts))
}

#[test]
fn every_flipped_byte_is_an_error_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let samples: Samples = sample_block().into_iter().skip(80).collect();
    let path = write(dir.path(), &samples);
    let sound = everything(&path).unwrap();
    for file in ["index", "chunks/000001"] {
        let file = path.join(file);
        let whole = fs::read(&file).unwrap();
        let mut seen = 0;
        for i in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[i] ^= flip;
                // A new file, as the map of the old one must not change.
                fs::remove_file(&file).unwrap();
                fs::write(&file, broken).unwrap();
                match everything(&path) {
                    Ok(found) => assert_eq!(found, sound, "{} byte {i} ^ {flip}", file.display()),
                    Err(e) => {
                        seen += 1;
                        assert!(e.to_string().contains("at byte"), "{e}");
                    }
                }
            }
        }
        assert!(seen > whole.len() * 2, "{} of {} seen", seen, whole.len() * 3);
        for cut in 0..whole.len() {
            fs::remove_file(&file).unwrap();
            fs::write(&file, &whole[..cut]).unwrap();
            assert!(everything(&path).is_err(), "{} cut at {cut}", file.display());
        }
        fs::remove_file(&file).unwrap();
        fs::write(&file, &whole).unwrap();
    }
}

fn label_set() -> impl Strategy<Value = Labels> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let value = prop::sample::select(vec!["1", "2", "12", "x\ny", "é"]);
    prop::collection::vec((name, value), 1..4).prop_map(Labels::from_pairs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_block_round_trips(
        all in prop::collection::btree_map(
            label_set(),
            prop::collection::btree_map(-50_000i64..50_000, any::<f64>(), 1..20),
            1..40,
        ),
    ) {
        let samples: Samples =
            all.into_iter().map(|(l, s)| (l, s.into_iter().collect())).collect();
        let dir = tempfile::tempdir().unwrap();
        let block = Arc::new(Block::open(&write(dir.path(), &samples)).unwrap());
        prop_assert_eq!(read(&block, &[], i64::MIN, i64::MAX), Ok(samples));
    }
}
