//! Holds what a process told of its alerts against what it could know.
//!
//! The judge knows every sample that was written, when it was acknowledged, and which ticks
//! the process evaluated to the end. At a tick, a sample that was acknowledged before is
//! certainly seen; one that was on its way may be. What is asked of the process:
//!
//! - An alert is told to have ended only where its newest sample may have said so, for as
//!   long as the alert is to be kept. A rule that wants several samples in a window may also
//!   end for want of them, but not for want of those that a restart cost: only when the whole
//!   window lies behind the first sample that this life of the process was given.
//! - An alert fires only when no tick within its `for` certainly saw that the condition does
//!   not hold. A sample from before the last tick of the life before is no news, and need not
//!   be believed.
//! - What was active before the process died is active since the same time afterwards, and
//!   nothing fires twice, unless the condition was denied in between.
//! - What certainly fires is told when the process lives on for a while, and so is its end.

use std::collections::BTreeSet;

/// Length of the window of rules that have one, and how many samples they want in it.
pub const WINDOW_MS: i64 = 1000;
const WANTED: usize = 2;
/// Time in which a living process has sent what a tick made due, and has sent again what
/// was refused, on a machine that has more to do.
pub const ENOUGH_MS: i64 = 2000;
/// How far two clocks of one machine may be apart.
const SKEW_MS: i64 = 5;
/// How long after its time a tick may be evaluated while somebody looks.
const LATE_MS: i64 = 2000;

/// An alert of the rules.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    pub for_ms: i64,
    pub keep_ms: i64,
    /// It wants several samples in a window.
    pub window: bool,
}

/// Samples of all conditions, written at once.
#[derive(Clone, Debug)]
pub struct Push {
    pub at_ms: i64,
    pub conditions: Vec<bool>,
    /// When the process said that it has them. It may have them without saying so.
    pub acknowledged_ms: Option<i64>,
}

/// A notification that was taken.
#[derive(Clone, Debug)]
pub struct Told {
    pub at_ms: i64,
    pub alert: String,
    pub instance: usize,
    pub starts_ms: i64,
    pub ends_ms: i64,
}

impl Told {
    pub fn is_resolved(&self) -> bool {
        self.ends_ms <= self.at_ms
    }
}

/// What the API said is active at a time: since when, by alert and instance.
#[derive(Clone, Debug)]
pub struct Look {
    pub at_ms: i64,
    pub life: usize,
    pub active: Vec<(String, usize, i64)>,
}

impl Look {
    fn since(&self, rule: Rule, instance: usize) -> Option<i64> {
        let mut all = self.active.iter();
        all.find(|(name, i, _)| name == rule.name && *i == instance).map(|(_, _, since)| *since)
    }
}

/// One life of the process.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub started_ms: i64,
    /// From here on its notifications are refused, or it is about to die.
    pub deaf_ms: i64,
    /// It is dead.
    pub end_ms: i64,
}

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub pushes: Vec<Push>,
    pub told: Vec<Told>,
    pub looks: Vec<Look>,
    pub lives: Vec<Life>,
    /// The ticks at which the process evaluated every rule.
    pub ticks: BTreeSet<i64>,
}

#[derive(Debug, Default)]
pub struct Verdict {
    pub false_resolves: Vec<String>,
    pub restarted: Vec<String>,
    pub too_early: Vec<String>,
    pub lost_pages: Vec<String>,
    pub lost_ends: Vec<String>,
    /// How much there was to be wrong about.
    pub resolves: usize,
    pub starts: usize,
    pub active_over_a_kill: usize,
    pub pages: usize,
    pub ends: usize,
    pub ticks: usize,
    /// Resolves that a window with too few samples excuses.
    pub excused: usize,
}

impl Verdict {
    /// Everything that went wrong, by what it is.
    pub fn failures(&self) -> [(&'static str, &[String]); 5] {
        [
            ("ended although their condition held", &self.false_resolves),
            ("began anew", &self.restarted),
            ("fired before their time", &self.too_early),
            ("were never told", &self.lost_pages),
            ("were never told to have ended", &self.lost_ends),
        ]
    }
}

/// Judges every alert of every rule about every condition.
pub fn judge(record: &Record, rules: &[Rule]) -> Verdict {
    let mut verdict = Verdict { ticks: record.ticks.len(), ..Verdict::default() };
    let instances = record.pushes.first().map_or(0, |push| push.conditions.len());
    for instance in 0..instances {
        for rule in rules {
            let of = |t: &&Told| t.instance == instance && t.alert == rule.name;
            let told = record.told.iter().filter(of).collect();
            let case = Case { record, rule: *rule, instance, told };
            case.judge_ends(&mut verdict);
            case.judge_beginnings(&mut verdict);
            case.judge_looks(&mut verdict);
            case.judge_pages(&mut verdict);
            case.judge_told_ends(&mut verdict);
        }
    }
    verdict
}

/// What the newest sample says at a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Yes,
    /// With the time of the sample.
    No(i64),
    Maybe,
}

/// One rule's alert about one condition.
struct Case<'a> {
    record: &'a Record,
    rule: Rule,
    instance: usize,
    told: Vec<&'a Told>,
}

impl Case<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.rule.name, self.instance)
    }

    fn holds(&self, push: &Push) -> bool {
        push.conditions[self.instance]
    }

    /// The samples up to a time.
    fn until(&self, at_ms: i64) -> &[Push] {
        let pushes = &self.record.pushes;
        &pushes[..pushes.partition_point(|push| push.at_ms <= at_ms)]
    }

    fn says(&self, tick: i64) -> Says {
        let mut maybe = BTreeSet::new();
        for push in self.until(tick).iter().rev() {
            maybe.insert(self.holds(push));
            if push.acknowledged_ms.is_some_and(|at| at <= tick - SKEW_MS) {
                return match (maybe.len(), self.holds(push)) {
                    (1, true) => Says::Yes,
                    (1, false) => Says::No(push.at_ms),
                    _ => Says::Maybe,
                };
            }
        }
        Says::Maybe
    }

    /// The samples in a span, ends included, that may have said "no".
    fn denied(&self, from_ms: i64, to_ms: i64) -> bool {
        self.until(to_ms).iter().rev().take_while(|p| p.at_ms >= from_ms).any(|p| !self.holds(p))
    }

    /// What may come as news after a tick begins here.
    fn news_after(&self, tick: i64) -> i64 {
        let seen = |push: &&Push| push.acknowledged_ms.is_some_and(|at| at <= tick - SKEW_MS);
        self.until(tick).iter().rev().find(seen).map_or(tick, |push| push.at_ms) + 1
    }

    fn affirmed(&self, from_ms: i64, to_ms: i64) -> bool {
        self.until(to_ms).iter().rev().take_while(|p| p.at_ms >= from_ms).any(|p| self.holds(p))
    }

    fn life(&self, at_ms: i64) -> Option<&Life> {
        self.record.lives.iter().find(|life| (life.started_ms..=life.end_ms).contains(&at_ms))
    }

    fn ticks(&self, after_ms: i64, to_ms: i64) -> impl Iterator<Item = i64> {
        let span = after_ms + 1..=to_ms.max(after_ms + 1);
        self.record.ticks.range(span).copied().filter(move |tick| *tick <= to_ms)
    }

    /// The condition certainly does not hold at a tick, and that is news.
    fn is_denied(&self, tick: i64) -> bool {
        let Says::No(at_ms) = self.says(tick) else { return false };
        let Some(life) = self.life(tick) else { return false };
        self.record.ticks.range(..life.started_ms).next_back().is_none_or(|last| at_ms > *last)
    }

    /// The window before a tick lies behind the first sample of its life.
    fn is_clear(&self, tick: i64) -> bool {
        let Some(life) = self.life(tick) else { return false };
        let pushes = &self.record.pushes;
        let of_life = &pushes[pushes.partition_point(|push| push.at_ms < life.started_ms)..];
        let first = of_life.iter().find(|push| push.acknowledged_ms.is_some());
        first.is_some_and(|push| push.at_ms <= tick - WINDOW_MS)
    }

    /// The window certainly has as many samples as are wanted.
    fn is_full(&self, tick: i64) -> bool {
        let inside = self.until(tick).iter().rev().take_while(|p| p.at_ms > tick - WINDOW_MS);
        let seen = |p: &&Push| p.acknowledged_ms.is_some_and(|at| at <= tick - SKEW_MS);
        inside.filter(seen).count() >= WANTED
    }

    /// The rule may have no result for want of samples, through no fault of the process.
    fn lacks_window(&self, tick: i64) -> bool {
        self.rule.window && !self.is_full(tick) && self.is_clear(tick)
    }

    /// The end of an alert at a tick is what the samples say.
    fn is_released(&self, end: i64) -> bool {
        let before = self.until(end - self.rule.keep_ms);
        let Some(no) = before.iter().rev().find(|push| !self.holds(push)) else { return false };
        self.ticks(no.at_ms, end).chain([end]).all(|tick| self.says(tick) != Says::Yes)
    }

    fn judge_ends(&self, verdict: &mut Verdict) {
        let ended = self.told.iter().filter(|t| t.is_resolved());
        let ended: BTreeSet<(i64, i64)> = ended.map(|t| (t.starts_ms, t.ends_ms)).collect();
        verdict.resolves += ended.len();
        for (start, end) in ended {
            if self.is_released(end) {
                continue;
            }
            if self.lacks_window(end) {
                verdict.excused += 1;
                continue;
            }
            verdict.false_resolves.push(format!("{}: {start}..{end}", self.name()));
        }
    }

    fn judge_beginnings(&self, verdict: &mut Verdict) {
        let starts: BTreeSet<i64> = self.told.iter().map(|t| t.starts_ms).collect();
        let starts: Vec<i64> = starts.into_iter().collect();
        verdict.starts += starts.len();
        for start in &starts {
            let mut ticks = self.ticks(start - self.rule.for_ms, *start).chain([*start]);
            if let Some(tick) = ticks.find(|tick| self.is_denied(*tick)) {
                let text = format!("{}: {start}, denied at {tick}", self.name());
                verdict.too_early.push(text);
            }
        }
        for pair in starts.windows(2) {
            let thin = self.ticks(pair[0], pair[1]).any(|tick| self.lacks_window(tick));
            if !thin && !self.denied(self.news_after(pair[0]), pair[1]) {
                verdict.restarted.push(format!("{} fired twice: {pair:?}", self.name()));
            }
        }
    }

    /// What was active before the process died is active since then afterwards.
    fn judge_looks(&self, verdict: &mut Verdict) {
        for pair in self.record.looks.windows(2) {
            let [before, after] = pair else { continue };
            let Some(since) = before.since(self.rule, self.instance) else { continue };
            let from = before.at_ms - LATE_MS - self.rule.keep_ms;
            // What was last said before that counts as well.
            let last = self.until(from).iter().rev().find(|p| p.acknowledged_ms.is_some());
            let held = last.is_none_or(|push| self.holds(push));
            let thin = self.ticks(from, after.at_ms).any(|tick| self.lacks_window(tick));
            if before.life == after.life || !held || thin || self.denied(from, after.at_ms) {
                continue;
            }
            verdict.active_over_a_kill += 1;
            let now = after.since(self.rule, self.instance);
            if now != Some(since) {
                verdict.restarted.push(format!(
                    "{}: active since {since}, seen at {}, after a kill since {now:?}",
                    self.name(),
                    before.at_ms
                ));
            }
        }
    }

    /// What certainly fires is told, in every life that has time for it.
    fn judge_pages(&self, verdict: &mut Verdict) {
        let Rule { for_ms, .. } = self.rule;
        // Since when every tick has certainly seen the condition.
        let mut since: Option<i64> = None;
        let mut previous = i64::MIN;
        let mut judged = None;
        for tick in self.record.ticks.iter().copied() {
            let yes = self.says(tick) == Says::Yes && !self.denied(previous, tick);
            let firm = yes && (!self.rule.window || self.is_full(tick));
            previous = tick;
            if !firm {
                since = None;
                continue;
            }
            let began = *since.get_or_insert(tick);
            let Some(life) = self.life(tick) else { continue };
            let due = tick - began >= for_ms && tick + ENOUGH_MS <= life.deaf_ms;
            if !due || judged == Some((began, life.started_ms)) {
                continue;
            }
            judged = Some((began, life.started_ms));
            verdict.pages += 1;
            let mut told = self.told.iter().filter(|t| !t.is_resolved());
            if !told.any(|t| (began - LATE_MS..=life.end_ms + LATE_MS).contains(&t.at_ms)) {
                let text = format!("{}: since {began}, due at {tick} in {life:?}", self.name());
                verdict.lost_pages.push(text);
            }
        }
    }

    /// What was told to fire, and certainly does no more, is told to have ended.
    fn judge_told_ends(&self, verdict: &mut Verdict) {
        let fired: BTreeSet<i64> =
            self.told.iter().filter(|t| !t.is_resolved()).map(|t| t.starts_ms).collect();
        for start in fired {
            let (mut since, mut previous, mut doubted) = (None, self.news_after(start), false);
            for tick in self.record.ticks.range(start + 1..).copied() {
                doubted |= self.denied(previous, tick) || self.lacks_window(tick);
                previous = tick;
                if !(self.is_denied(tick) && (!self.rule.window || self.is_clear(tick))) {
                    since = None;
                    // It may have begun anew: then this end is no news any more.
                    if doubted && self.says(tick) == Says::Yes {
                        break;
                    }
                    continue;
                }
                let began = *since.get_or_insert(tick);
                let Some(life) = self.life(tick) else { continue };
                let until = tick + ENOUGH_MS;
                let due = tick - began >= self.rule.keep_ms && until <= life.deaf_ms;
                if due && !self.affirmed(began, until) {
                    verdict.ends += 1;
                    if !self.told.iter().any(|t| t.is_resolved() && t.starts_ms == start) {
                        let text = format!("{}: since {start}, over at {tick}", self.name());
                        verdict.lost_ends.push(text);
                    }
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Rule = Rule { name: "A", for_ms: 0, keep_ms: 0, window: false };
    const WAIT: Rule = Rule { for_ms: 1000, ..PLAIN };
    const KEPT: Rule = Rule { keep_ms: 1000, ..PLAIN };
    const WINDOW: Rule = Rule { window: true, ..PLAIN };

    /// A run of two lives, 0..=5000 and 5500..=12000, ticks and samples every 100 ms where a
    /// process is; samples are acknowledged 10 ms later, ticks lie 50 ms after them.
    /// `yes` says when the condition holds.
    fn history(yes: impl Fn(i64) -> bool) -> Record {
        let lives = [(0, 5000), (5500, 12_000)];
        let mut record = Record::default();
        for (started_ms, end_ms) in lives {
            record.lives.push(Life { started_ms, deaf_ms: end_ms, end_ms });
            for at_ms in (started_ms + 100..end_ms).step_by(100) {
                let acknowledged_ms = Some(at_ms + 10);
                let conditions = vec![yes(at_ms)];
                record.pushes.push(Push { at_ms, conditions, acknowledged_ms });
                record.ticks.insert(at_ms + 50);
            }
        }
        record
    }

    fn told(record: &mut Record, at_ms: i64, starts_ms: i64, ends_ms: i64) {
        let alert = "A".to_owned();
        record.told.push(Told { at_ms, alert, instance: 0, starts_ms, ends_ms });
    }

    fn look(record: &mut Record, at_ms: i64, life: usize, since: Option<i64>) {
        let active = since.map(|since| ("A".to_owned(), 0, since)).into_iter().collect();
        record.looks.push(Look { at_ms, life, active });
    }

    /// What is found, by kind: resolves, restarts, early ones, lost pages, lost ends.
    fn check(record: &Record, rule: Rule, expected: [usize; 5]) {
        let verdict = judge(record, &[rule]);
        let found = verdict.failures().map(|(_, found)| found.len());
        assert_eq!(found, expected, "{verdict:#?}");
    }

    #[test]
    fn a_life_as_it_should_be_is_left_alone() {
        for (rule, delay) in [(PLAIN, 0), (WAIT, 1000), (KEPT, 0), (WINDOW, 100)] {
            let mut record = history(|at| (1000..8000).contains(&at));
            let (start, end) = (1050 + delay, 8050 + rule.keep_ms);
            told(&mut record, start + 5, start, start + 9000);
            told(&mut record, 6000, start, 15_000);
            told(&mut record, end + 5, start, end);
            look(&mut record, 4990, 0, Some(1050));
            look(&mut record, 5600, 1, Some(1050));
            check(&record, rule, [0; 5]);
            let verdict = judge(&record, &[rule]);
            let Verdict { resolves, starts, active_over_a_kill, pages, ends, .. } = verdict;
            assert_eq!((resolves, starts, active_over_a_kill), (1, 1, 1), "{rule:?}");
            assert_eq!((pages, ends), (2, 1), "{rule:?}");
        }
    }

    #[test]
    fn a_false_resolve_is_found() {
        let mut record = history(|at| at >= 1000);
        told(&mut record, 1055, 1050, 9000);
        told(&mut record, 6060, 1050, 6050);
        told(&mut record, 6200, 1050, 15_000);
        for rule in [PLAIN, KEPT, WINDOW] {
            check(&record, rule, [1, 0, 0, 0, 0]);
        }
        // One sample that may have been seen is excuse enough, at that tick and no other.
        let denied = record.pushes.iter_mut().find(|push| push.at_ms == 6000).unwrap();
        (denied.acknowledged_ms, denied.conditions) = (None, vec![false]);
        check(&record, PLAIN, [0; 5]);
        record.told.retain(|told| told.ends_ms != 6050);
        told(&mut record, 6260, 1050, 6250);
        check(&record, PLAIN, [1, 0, 0, 0, 0]);
    }

    #[test]
    fn an_end_before_keep_firing_for_is_found() {
        let mut record = history(|at| (1000..8000).contains(&at));
        told(&mut record, 1055, 1050, 9000);
        told(&mut record, 8860, 1050, 8850);
        check(&record, KEPT, [1, 0, 0, 0, 0]);
        check(&record, PLAIN, [0; 5]);
    }

    #[test]
    fn want_of_samples_excuses_only_what_a_restart_did_not_cost() {
        let mut record = history(|at| at >= 1000);
        told(&mut record, 1055, 1050, 9000);
        // The second life got its first sample at 5600.
        told(&mut record, 5660, 1050, 5650);
        told(&mut record, 5700, 1050, 15_000);
        check(&record, WINDOW, [1, 0, 0, 0, 0]);
        // Nothing came from 8000 to 9500, in a process that lived.
        record.told.clear();
        record.pushes.retain(|push| !(8000..9500).contains(&push.at_ms));
        told(&mut record, 1055, 1050, 9000);
        told(&mut record, 8960, 1050, 8950);
        told(&mut record, 9760, 9750, 15_000);
        check(&record, WINDOW, [0; 5]);
        check(&record, PLAIN, [1, 1, 0, 0, 0]);
        assert_eq!(judge(&record, &[WINDOW]).excused, 1);
    }

    #[test]
    fn firing_before_the_time_is_found() {
        let mut record = history(|at| at >= 6700);
        told(&mut record, 7060, 7050, 15_000);
        check(&record, WAIT, [0, 0, 1, 0, 0]);
        // A denial that is taken back in time counts, just after a start too.
        let mut record = history(|at| (4000..5000).contains(&at) || at >= 5800);
        told(&mut record, 5860, 5850, 15_000);
        check(&record, WAIT, [0, 0, 1, 0, 0]);
        // Unless the process cannot tell that it is news.
        let mut record = history(|at| at >= 4000 && at != 4900);
        let last = record.pushes.iter_mut().find(|push| push.at_ms == 4900).unwrap();
        last.acknowledged_ms = Some(4990);
        record.pushes.retain(|push| !(5000..6200).contains(&push.at_ms));
        told(&mut record, 6310, 6250, 15_000);
        check(&record, Rule { for_ms: 2000, ..PLAIN }, [0; 5]);
    }

    #[test]
    fn a_restart_of_for_is_found() {
        let mut record = history(|at| at >= 1000);
        look(&mut record, 4990, 0, Some(1050));
        look(&mut record, 5600, 1, Some(5550));
        told(&mut record, 6560, 6550, 15_000);
        check(&record, WAIT, [0, 1, 0, 0, 0]);
        look(&mut record, 11_990, 1, None);
        record.looks[1].active.clear();
        check(&record, WAIT, [0, 1, 0, 0, 0]);
        // Fired in both lives, without an end.
        told(&mut record, 4060, 4050, 15_000);
        check(&record, WAIT, [0, 2, 0, 0, 0]);
    }

    #[test]
    fn a_lost_page_is_found_in_each_life_that_had_time() {
        let record = history(|at| at >= 1000);
        check(&record, PLAIN, [0, 0, 0, 2, 0]);
        check(&record, WINDOW, [0, 0, 0, 2, 0]);
        let mut deaf = record.clone();
        deaf.lives[0].deaf_ms = 3000;
        check(&deaf, WAIT, [0, 0, 0, 1, 0]);
        let late = history(|at| at >= 11_000);
        check(&late, PLAIN, [0; 5]);
    }

    #[test]
    fn a_lost_end_is_found() {
        for (rule, last) in [(PLAIN, 8000), (KEPT, 8000), (WINDOW, 8000), (PLAIN, 4800)] {
            let mut record = history(|at| (1000..last).contains(&at));
            told(&mut record, 1055, 1050, 9000);
            told(&mut record, 6000, 1050, 15_000);
            let mut ended = record.clone();
            check(&record, rule, [0, 0, 0, 0, 1]);
            told(&mut ended, 9500, 1050, last + 50 + rule.keep_ms);
            check(&ended, rule, [0; 5]);
        }
    }
}
