//! A server whose samples arrive when a test wants: what is kept gives what asking for
//! everything would.

use super::super::RemoteMetrics;
use super::*;
use crate::model::METRIC_NAME;
use crate::storage::SelectHints;

const MINUTE: i64 = 60_000;
const START: i64 = 1_700_000_000_000;

/// `(series, time, when it arrives)`; the value is the time in seconds.
#[derive(Default)]
struct Server(Vec<(&'static str, i64, i64)>);

fn labels(series: &str) -> Labels {
    let (name, job) = series.split_once('/').unwrap();
    Labels::from_pairs([(METRIC_NAME, name), ("job", job)])
}

impl Server {
    /// A series with a sample every 15 seconds, each that much late.
    fn add(&mut self, series: &'static str, minutes: std::ops::Range<i64>, late_ms: i64) {
        let times = (minutes.start * MINUTE..minutes.end * MINUTE).step_by(15_000);
        self.0.extend(times.map(|ts| (series, START + ts, START + ts + late_ms)));
    }

    fn fetch(
        &self,
        matchers: &[Matcher],
        (from_ms, to_ms): (i64, i64),
        now_ms: i64,
    ) -> BTreeMap<&'static str, RawSamples> {
        let mut all: Vec<_> = self.0.iter().filter(|(_, _, at)| *at <= now_ms).collect();
        all.sort();
        let mut found: BTreeMap<&'static str, RawSamples> = BTreeMap::new();
        for (series, ts, _) in all {
            let labels = labels(series);
            let inside = (from_ms..=to_ms).contains(ts);
            if inside && matchers.iter().all(|m| m.matches_labels(&labels)) {
                found.entry(series).or_default().push(*ts, *ts as f64 / 1e3);
            }
        }
        found
    }
}

struct Rig {
    server: Server,
    kept: Kept,
    fetched: usize,
    wanted: usize,
}

fn request(selector: &str, minutes: i64, at_ms: i64) -> SelectRequest {
    let pairs = selector.split(',').map(|pair| pair.split_once('=').unwrap());
    let matchers = pairs.map(|(name, value)| Matcher::equal(name, value)).collect();
    let (from_ms, to_ms) = (at_ms - minutes * MINUTE + 1, at_ms);
    SelectRequest { matchers, from_ms, to_ms, hints: SelectHints::default() }
}

impl Rig {
    fn new(server: Server, samples_max: usize) -> Self {
        Self::keeping(server, Keeping { overlap_ms: MINUTE, whole_ms: 10 * MINUTE, samples_max })
    }

    fn keeping(server: Server, keeping: Keeping) -> Self {
        let metrics = RemoteMetrics::default().server("s", "http://s");
        Self { server, kept: Kept::new(keeping, metrics), fetched: 0, wanted: 0 }
    }

    /// What the requests find at a time, with what is kept and without.
    fn ask(&mut self, requests: &[SelectRequest], now_ms: i64) -> [Vec<String>; 2] {
        let now = Now { ms: now_ms, ns: (now_ms - START).unsigned_abs() * 1_000_000 };
        let plan = loop {
            let mut plan = self.kept.plan(requests, now);
            let mut todo: Vec<usize> = (0..plan.windows.len()).collect();
            let mut outdated = false;
            while let Some(number) = todo.pop() {
                let window = plan.windows[number].clone();
                let Some(from_ms) = window.fetch_from_ms.filter(|_| window.kept) else { continue };
                let found = self.server.fetch(&window.matchers, (from_ms, window.to_ms), now_ms);
                self.fetched += found.values().map(RawSamples::len).sum::<usize>();
                let found =
                    found.into_iter().map(|(s, raw)| (Cow::Borrowed(s.as_bytes()), raw)).collect();
                let read = |text: &[u8]| Ok(labels(std::str::from_utf8(text).unwrap()));
                match self
                    .kept
                    .absorb((plan.generation, plan.round), &[&window], found, read, now)
                    .unwrap()
                {
                    Ok(whole) if whole.is_empty() => {}
                    Ok(_) => {
                        let window = &mut plan.windows[number];
                        window.fetch_from_ms = Some(window.from_ms);
                        window.known_to_ms = None;
                        todo.push(number);
                    }
                    Err(Outdated) => outdated = true,
                }
            }
            if !outdated {
                break plan;
            }
        };
        let (mut ours, mut wanted) = (Vec::new(), Vec::new());
        for (request, number) in requests.iter().zip(&plan.of_request) {
            let interval = (request.from_ms, request.to_ms);
            let whole = self.server.fetch(&request.matchers, interval, now_ms);
            let shown = |labels: &Labels, raw: &RawSamples| format!("{labels} {:?}", raw.ts);
            let mut direct: Vec<_> = whole.iter().map(|(s, raw)| shown(&labels(s), raw)).collect();
            direct.sort();
            let count = whole.values().map(RawSamples::len).sum::<usize>();
            self.wanted += count;
            wanted.extend(direct.clone());
            if !plan.windows[*number].kept {
                self.fetched += count;
                ours.extend(direct);
                continue;
            }
            let mut raw = RawSamples::default();
            for series in self.kept.series(plan.generation, request).ok().unwrap() {
                raw.clear();
                series.read_into(interval.0, interval.1, &mut raw).unwrap();
                ours.push(shown(series.labels(), &raw));
            }
        }
        [ours, wanted]
    }

    fn samples(&self) -> i64 {
        self.kept.metrics.kept.get()
    }
}

#[test]
fn windows_that_move_on_are_whole_though_little_is_fetched() {
    let mut server = Server::default();
    server.add("m/a", -120..60, 1000);
    server.add("m/b", -120..20, 10_000);
    server.add("m/new", 13..60, 0);
    server.add("n/a", -120..60, 0);
    // It was there before, and comes back.
    server.add("n/b", -20..-10, 0);
    server.add("n/b", 30..60, 0);
    let mut rig = Rig::new(server, usize::MAX);
    for tick in 0..80 {
        let at_ms = START + tick * 30_000;
        let mut requests = vec![
            request("__name__=m", 5, at_ms),
            request("__name__=m,job=a", 60, at_ms),
            request("__name__=m,job=a", 10, at_ms),
            request("__name__=n", 30, at_ms),
            request("job=b", 5, at_ms),
            // With an offset that reaches into the window, and one that does not.
            request("__name__=n", 5, at_ms - 4 * MINUTE),
            request("__name__=m", 1, at_ms - 50 * MINUTE),
        ];
        if tick > 50 {
            requests.push(request("__name__=m", 45, at_ms));
        }
        let [ours, wanted] = rig.ask(&requests, at_ms);
        assert_eq!(ours, wanted, "tick {tick}");
        // Asked again in the same tick nothing is fetched.
        let before = rig.fetched;
        let [ours, wanted] = rig.ask(&[request("__name__=m,job=a", 10, at_ms)], at_ms + 20);
        assert_eq!(ours, wanted, "tick {tick} again");
        assert!(tick < 1 || rig.fetched == before, "tick {tick} again");
    }
    assert!(rig.fetched * 4 < rig.wanted, "{} of {}", rig.fetched, rig.wanted);
}

#[test]
fn samples_that_come_late_are_seen_when_the_sender_has_caught_up() {
    let mut server = Server::default();
    server.add("m/a", -20..20, 0);
    server.add("m/b", -20..5, 0);
    // From minute 5 to 9 the sender was cut off; then all came at once.
    let arrives = START + 9 * MINUTE;
    let times = (5 * MINUTE..9 * MINUTE).step_by(15_000);
    server.0.extend(times.map(|ts| ("m/b", START + ts, arrives)));
    server.add("m/b", 9..20, 0);
    let mut rig = Rig::new(server, usize::MAX);
    for tick in 0..40 {
        let at_ms = START + tick * 30_000;
        let [ours, wanted] = rig.ask(&[request("__name__=m", 10, at_ms)], at_ms);
        assert_eq!(ours, wanted, "tick {tick}");
    }
}

#[test]
fn what_was_deleted_is_seen_when_all_is_fetched_anew() {
    // Minutes until then: at once where new samples went too, else as often as is said.
    let check = |deleted: &str, whole_ms: i64, expected: std::ops::RangeInclusive<i64>| {
        let mut server = Server::default();
        server.add("m/on", -60..90, 0);
        server.add("m/off", -60..-10, 0);
        let keeping = Keeping { overlap_ms: MINUTE, whole_ms, samples_max: usize::MAX };
        let mut rig = Rig::keeping(server, keeping);
        let ask = |rig: &mut Rig, minute: i64| {
            let at_ms = START + minute * MINUTE;
            let [ours, wanted] = rig.ask(&[request("__name__=m", 50, at_ms)], at_ms);
            ours == wanted
        };
        assert!((0..5).all(|minute| ask(&mut rig, minute)), "{deleted}");
        let gone_ms = START + 4 * MINUTE;
        rig.server.0.retain(|(series, ts, _)| *series != deleted || *ts > gone_ms);
        let seen = (1..).find(|after| ask(&mut rig, 4 + after)).unwrap();
        assert!(expected.contains(&seen), "{deleted} {whole_ms}: {seen}");
        assert!((5 + seen..20 + seen).all(|minute| ask(&mut rig, minute)));
    };
    check("m/on", 10 * MINUTE, 1..=1);
    check("m/off", 10 * MINUTE, 5..=20);
    check("m/off", 2 * MINUTE, 1..=4);
    check("m/off", 0, 1..=1);
}

#[test]
fn what_nobody_asks_for_again_is_not_kept() {
    let mut server = Server::default();
    server.add("m/a", -60..200, 0);
    let mut rig = Rig::new(server, usize::MAX);
    let mut ask = |minute: i64, selector: &str, back: i64| {
        let at_ms = START + minute * MINUTE;
        let [ours, wanted] = rig.ask(&[request(selector, 5, at_ms - back * MINUTE)], at_ms);
        assert_eq!(ours, wanted, "{selector} at {minute}");
        rig.samples()
    };
    assert_eq!(ask(0, "__name__=m", 0), 0, "once may be the only time");
    assert!(ask(1, "__name__=m", 0) > 0);
    let kept = ask(2, "__name__=m", 0);
    assert!((20..40).contains(&kept), "{kept}");
    // Of the distant past nothing is kept, however often it is asked for.
    for minute in 3..6 {
        assert_eq!(ask(minute, "job=a", 30), kept);
    }
    assert_eq!(ask(30, "job=none", 0), 0, "nobody has asked for ten minutes");
    assert_eq!(ask(31, "__name__=m", 0), 0);
    assert!(ask(32, "__name__=m", 0) > 0);
    assert!(ask(100, "__name__=m", 0) == 0 && ask(110, "__name__=m", 0) > 0);
}

#[test]
fn more_than_may_be_kept_is_fetched_each_time() {
    let mut server = Server::default();
    server.add("m/a", -60..60, 0);
    let mut rig = Rig::new(server, 30);
    for minute in 0..9 {
        let at_ms = START + minute * MINUTE;
        let [ours, wanted] = rig.ask(&[request("__name__=m", 30, at_ms)], at_ms);
        assert_eq!(ours, wanted, "minute {minute}");
        assert_eq!(rig.samples(), 0);
    }
}

#[test]
fn a_selector_that_another_one_holds_is_not_asked_for() {
    let requests = [
        request("__name__=m,job=a", 5, START),
        request("__name__=m", 5, START),
        request("job=b,__name__=m,x=y", 5, START),
        request("__name__=n,job=a", 5, START),
        request("__name__=n,job=b", 5, START),
    ];
    let rig = Rig::new(Server::default(), 0);
    let plan = rig.kept.plan(&requests, Now { ms: START, ns: 0 });
    let all: Vec<usize> = (0..plan.windows.len()).collect();
    let asked = widest(&plan.windows, &all);
    let mut shown: Vec<String> = asked
        .iter()
        .map(|(_, by)| plan.windows[*by].matchers.iter().map(ToString::to_string).collect())
        .collect();
    shown.sort();
    shown.dedup();
    assert_eq!(shown, [r#"__name__="m""#, r#"__name__="n"job="a""#, r#"__name__="n"job="b""#]);
}
