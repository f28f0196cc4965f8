//! The embedded store: appending to known series, selecting, reading, replaying.
//!
//! `cargo bench --bench storage`. Figures are per batch; divide by the series to compare.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use watchfire::model::{Labels, MatchOp, Matcher};
use watchfire::storage::tsdb::{Tsdb, TsdbOptions, measure};
use watchfire::storage::{SelectHints, SelectRequest, SeriesRef, Sink, Source};
use watchfire::telemetry::clock::SystemClock;
use watchfire::vector::RawSamples;

const SERIES: usize = 100_000;

fn labels() -> Vec<Labels> {
    (0..SERIES)
        .map(|i| {
            Labels::from_pairs([
                ("__name__", "http_requests_total"),
                ("instance", &format!("10.0.{}.{}:9100", i / 256 % 256, i % 256)),
                ("job", "api-server"),
                ("method", ["GET", "PUT", "POST", "HEAD"][i % 4]),
                ("path", &format!("/api/v1/resource/{}", i / 1000)),
                ("status", ["200", "404", "500"][i % 3]),
            ])
        })
        .collect()
}

fn open(dir: &std::path::Path) -> Arc<Tsdb> {
    Tsdb::open(dir, TsdbOptions::default(), Arc::new(SystemClock::default())).expect("a store")
}

/// Commits one sample per series, a thousand series per batch as a scrape does.
fn append_all(tsdb: &Tsdb, labels: &[Labels], refs: &mut [Option<SeriesRef>], ts: i64) {
    for (labels, refs) in labels.chunks(1000).zip(refs.chunks_mut(1000)) {
        let mut appender = tsdb.appender();
        for (i, (labels, hint)) in labels.iter().zip(refs).enumerate() {
            let value = (ts / 15_000 * (i as i64 % 7)) as f64;
            *hint = Some(appender.append(*hint, labels, ts, value).expect("a sample"));
        }
        appender.commit().expect("a commit");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

fn select(tsdb: &Tsdb, matchers: Vec<Matcher>) -> usize {
    let hints = SelectHints::default();
    let request = SelectRequest { matchers, from_ms: 0, to_ms: i64::MAX, hints };
    let set = block_on(tsdb.select(&request)).expect("a set");
    set.series.len()
}

fn read_all(tsdb: &Tsdb) -> usize {
    let hints = SelectHints::default();
    let request = SelectRequest { matchers: Vec::new(), from_ms: 0, to_ms: i64::MAX, hints };
    let set = block_on(tsdb.select(&request)).expect("a set");
    let mut raw = RawSamples::default();
    let mut samples = 0;
    for series in &set.series {
        raw.clear();
        series.read_into(0, i64::MAX, &mut raw).expect("samples");
        samples += raw.len();
    }
    samples
}

fn benches(c: &mut Criterion) {
    let labels = labels();
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open(dir.path());
    let mut refs = vec![None; SERIES];
    let mut ts = 0;
    let mut group = c.benchmark_group("storage");
    group.sample_size(10).throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("create 100k series", |b| {
        b.iter_batched(
            || tempfile::tempdir().expect("a directory"),
            |dir| {
                append_all(&open(dir.path()), &labels, &mut vec![None; SERIES], 0);
                dir
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("append to 100k known series", |b| {
        b.iter(|| {
            ts += 15_000;
            append_all(&tsdb, &labels, &mut refs, ts);
        });
    });
    let held = read_all(&tsdb);
    let stats = tsdb.stats(1);
    println!(
        "{held} samples in memory: {} bytes of series, {} bytes of index, {} bytes of log",
        stats.series_bytes, stats.index_bytes, stats.wal_bytes
    );
    group.bench_function("select 100k series, sorted", |b| {
        b.iter(|| black_box(select(&tsdb, vec![Matcher::equal("job", "api-server")])));
    });
    tsdb.maintain().expect("maintenance");
    group.bench_function("select 100k series, sorted, after maintenance", |b| {
        b.iter(|| black_box(select(&tsdb, vec![Matcher::equal("job", "api-server")])));
    });
    group.bench_function("select one path of 100 and a status by regex", |b| {
        let status = Matcher::new(MatchOp::Regex, "status", "4..").expect("a pattern");
        b.iter(|| {
            let path = Matcher::equal("path", "/api/v1/resource/42");
            black_box(select(&tsdb, vec![path, status.clone()]))
        });
    });
    group.throughput(Throughput::Elements(held as u64));
    group.bench_function("select and decode everything", |b| b.iter(|| black_box(read_all(&tsdb))));
    tsdb.close().expect("a close");
    drop(tsdb);
    group.bench_function("start from the log and finished chunks", |b| {
        b.iter(|| black_box(open(dir.path()).stats(1).series))
    });
    group.bench_function("replay the log", |b| {
        b.iter_batched(
            || std::fs::remove_dir_all(dir.path().join("chunks_head")).expect("no chunks"),
            |()| black_box(open(dir.path()).stats(1).series),
            BatchSize::PerIteration,
        );
    });
    let snapshots = || TsdbOptions { memory_snapshots: true, ..TsdbOptions::default() };
    let reopen = || {
        let clock = Arc::new(SystemClock::default());
        Tsdb::open(dir.path(), snapshots(), clock).expect("a store")
    };
    group.bench_function("start from a snapshot", |b| {
        b.iter_batched(
            || reopen().close().expect("a close"),
            |()| black_box(reopen().stats(1).series),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Samples as exporters have them: a counter that grows, a gauge that wanders.
fn chunk_samples(gauge: bool) -> Vec<(i64, f64)> {
    let value = |i: i64| if gauge { 20.0 + (i * 37 % 101) as f64 * 0.125 } else { (i * 7) as f64 };
    (0..120).map(|i| (1_700_000_000_000 + i * 15_000, value(i))).collect()
}

/// Values of a series, from a source of numbers.
type Values = fn(&mut dyn FnMut(u64) -> u64) -> Vec<f64>;

/// The kind whose timestamps are up to 4 ms late.
const JITTERED: &str = "counter, timestamps not even";

/// What series are like, each chunk another one.
const KINDS: [(&str, Values); 11] = [
    ("stays", |below| vec![below(1_000_000) as f64; 120]),
    ("gauge that stays at times", |below| {
        let mut value = 0.0;
        std::iter::repeat_with(|| {
            value = if below(4) == 0 { below(1000) as f64 } else { value };
            value
        })
        .take(120)
        .collect()
    }),
    ("counter, even steps", |_| (0..120).map(|i| f64::from(i * 7)).collect()),
    ("counter, even steps of its own", |below| {
        let (first, step) = (below(1_000_000), 1 + below(1000));
        (0..120).map(|i| (first + i * step) as f64).collect()
    }),
    // As the benchmark of Prometheus' own iterator has them.
    ("1243535.123 and more, steps of 100", |below| {
        let first = 1_243_535.123 + 12_000.0 * below(10_000) as f64;
        (0..120).map(|i| first + 100.0 * f64::from(i)).collect()
    }),
    ("counter", |below| sums(below(1_000_000), || below(100) as f64)),
    (JITTERED, |below| sums(below(1_000_000), || below(100) as f64)),
    ("counter that stays at times", |below| {
        sums(below(1_000_000), || if below(10) < 6 { 0.0 } else { below(10) as f64 })
    }),
    ("gauge of bytes", |below| sums(1 << 40, || (below(33) as f64 - 16.0) * 4096.0)),
    ("counter of seconds", |below| sums(below(1_000_000), || below(1 << 40) as f64 / 1e12)),
    ("noise", |below| (0..120).map(|_| below(1 << 53) as f64 / (1u64 << 53) as f64).collect()),
];

fn sums(first: u64, mut step: impl FnMut() -> f64) -> Vec<f64> {
    let mut sum = first as f64;
    std::iter::repeat_with(|| {
        sum += step();
        sum
    })
    .take(120)
    .collect()
}

/// The least of many rounds over a thousand chunks, so that neither the processor learns a
/// chunk by heart nor a busy neighbour counts.
fn decode_kinds() {
    let mut state = 88_172_645_463_325_252u64;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 11) % limit
    };
    for (kind, values) in KINDS {
        let chunk = |below: &mut dyn FnMut(u64) -> u64| {
            let stamped = values(below).into_iter().enumerate();
            let at = |(i, value)| {
                let late = if kind == JITTERED { below(5) as i64 } else { 0 };
                (1_700_000_000_000 + i as i64 * 15_000 + late, value)
            };
            measure::encode_floats(&stamped.map(at).collect::<Vec<_>>())
        };
        let chunks: Vec<_> = (0..1000).map(|_| chunk(&mut below)).collect();
        let mut raw = RawSamples::default();
        let mut round = || {
            let start = Instant::now();
            for chunk in &chunks {
                raw.clear();
                assert!(measure::decode_floats(black_box(chunk), &mut raw));
            }
            start.elapsed().as_nanos() as f64 / 120_000.0
        };
        let least = (0..300).map(|_| round()).fold(f64::INFINITY, f64::min);
        let bytes = chunks.iter().map(|chunk| chunk.len()).sum::<usize>() as f64 / 120_000.0;
        println!("decode: {kind}, {bytes:.2} bytes a sample: {least:.2} ns at least");
    }
}

/// Chunks and lists of the index by themselves.
fn parts(c: &mut Criterion) {
    decode_kinds();
    let mut group = c.benchmark_group("parts");
    for (what, gauge) in [("counter", false), ("gauge", true)] {
        let samples = chunk_samples(gauge);
        let chunk = measure::encode_floats(&samples);
        println!("{what}: {:.2} bytes a sample", chunk.len() as f64 / samples.len() as f64);
        group.throughput(Throughput::Elements(samples.len() as u64));
        group.bench_function(format!("encode 120 samples of a {what}"), |b| {
            b.iter(|| black_box(measure::encode_floats(&samples)));
        });
        let mut raw = RawSamples::default();
        group.bench_function(format!("decode 120 samples of a {what}"), |b| {
            b.iter(|| {
                raw.clear();
                assert!(measure::decode_floats(black_box(&chunk), &mut raw));
            });
        });
    }
    let every = |n: u64| (0..1_000_000).filter(|i| i % n == 0).collect::<Vec<u64>>();
    for (a, b) in [(2, 3), (1, 1000), (10, 10_000)] {
        let (a_list, b_list) = (every(a), every(b));
        group.throughput(Throughput::Elements((a_list.len() + b_list.len()) as u64));
        group.bench_function(
            format!("intersect lists of {} and {}", a_list.len(), b_list.len()),
            |bench| {
                bench.iter_batched_ref(
                    || a_list.clone(),
                    |kept| measure::intersect_lists(kept, &b_list),
                    BatchSize::LargeInput,
                );
            },
        );
    }
    group.finish();
}

criterion_group!(storage, parts, benches);
criterion_main!(storage);
