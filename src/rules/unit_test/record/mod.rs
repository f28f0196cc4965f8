//! Makes a unit test of what an alert did on a server: which series to ask for ([`plan`]),
//! and, when they are there, the smallest test in which the alert does the same
//! ([`Plan::record`]).
//!
//! Samples are put on a grid (`fixture`), the rules run over them (`replay`), series without
//! which nothing changes are left out (`shrink`), and what is left is written in promtool's
//! format (`write`). Asking the server, and files, are the caller's.

mod fixture;
mod notation;
mod plan;
mod replay;
mod shrink;
mod write;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::model::duration::format_duration;
use crate::model::{Labels, TimestampMs};
use fixture::Fixture;
pub use plan::{Plan, Wanted, alert_names, plan};
use replay::{Moment, Rig};

/// Why nothing can be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    #[error("no rule is an alert called {0:?}")]
    NoSuchAlert(String),
    #[error("the alert reads too many selectors, or some without a name: {0}")]
    ReadsEverything(String),
    #[error(
        "how far back the alert looks is computed, not written down; say with --before how much \
         is needed before --from"
    )]
    Computed,
    #[error(
        "with what is needed before it, the time has {ticks} evaluations; at most {most} are \
         recorded: choose a shorter one"
    )]
    TooLong { ticks: i64, most: i64 },
    #[error("the rules cannot be run over the samples:\n{0}")]
    Run(String),
}

/// One series as the server has it.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    pub labels: Labels,
    /// In time order, each time once.
    pub samples: Vec<(TimestampMs, f64)>,
    /// Whether the server shows the series at each evaluation, from the start of the plan;
    /// it does not after a staleness marker.
    pub visible: Vec<bool>,
    /// Samples that are native histograms.
    pub histograms: usize,
}

/// What surrounds the rules on the server.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub external_labels: Labels,
    pub external_url: String,
    /// Names of the rule files as the test is to name them.
    pub rule_files: Vec<String>,
    /// Comment lines at the head of the test.
    pub head: Vec<String>,
}

/// A unit test, and what came of making it.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// In promtool's format.
    pub text: String,
    /// For a person: what could not be carried over, what is odd.
    pub notes: Vec<String>,
    /// Series at first, and those that were needed.
    pub series: (usize, usize),
    /// Runs of the rules it took.
    pub runs: usize,
    /// Evaluations at which alerts fire, by their labels without the name.
    pub fired: BTreeMap<Labels, Vec<TimestampMs>>,
}

/// How much work to put into it, and whom to tell how far it is.
pub struct Effort<'a> {
    /// Most runs of the rules to find out which series are needed.
    pub runs_max: usize,
    /// Called after each run.
    pub ran: &'a dyn Fn(),
}

/// Sample intervals that are tried: this part of the evaluation interval.
const PARTS: &[i64] = &[1, 2, 3, 4, 6, 12];

impl Plan {
    /// Makes the test.
    pub async fn record(
        &self,
        fetched: &[Fetched],
        surroundings: &Surroundings,
        effort: &Effort<'_>,
    ) -> Result<Recording, RecordError> {
        let mut notes = self.notes.clone();
        let rig = Rig::new(self, surroundings);
        let exact = rig.run(&fixture::exact(self, fetched)).await.map_err(RecordError::Run)?;
        (effort.ran)();
        let mut runs = 1;
        let mut chosen: Option<(Fixture, Vec<Moment>)> = None;
        let whole =
            |part: &&i64| self.interval_ms % **part == 0 && self.interval_ms / **part >= 1000;
        for part in PARTS.iter().filter(whole) {
            let fixture = Fixture::new(self, fetched, *part);
            let moments = rig.run(&fixture.samples()).await.map_err(RecordError::Run)?;
            (effort.ran)();
            runs += 1;
            let same = replay::same_alerts(&exact, &moments);
            if same || chosen.is_none() {
                chosen = Some((fixture, moments));
            }
            if same {
                break;
            }
        }
        let Some((mut fixture, moments)) = chosen else {
            return Err(RecordError::Run("no interval divides the evaluations".to_owned()));
        };
        if !replay::same_alerts(&exact, &moments) {
            notes.push(format!(
                "with samples on a grid of {} the alert does not fire at the same evaluations as \
                 with the server's own; the test has what it does on the grid",
                format_duration(fixture.interval_ms)
            ));
        }
        notes.extend(fixture.losses(self, fetched));
        let series = fixture.series.len();
        if moments.iter().all(|m| m.firing.is_empty() && m.pending.is_empty()) {
            let note = match series {
                0 => {
                    "the server has no samples of what the alert reads, so that it is neither \
                     pending nor firing and the test says little: look at the times, and at how \
                     long the server keeps samples"
                }
                _ => {
                    "the alert is neither pending nor firing in this time; every series is kept, \
                     as none can be told to matter"
                }
            };
            notes.push(note.to_owned());
        } else {
            let kept = shrink::shrink(&fixture, &rig, &moments, effort, &mut runs).await;
            if runs >= effort.runs_max {
                notes.push(format!("after {runs} runs no more series were tried to be left out"));
            }
            fixture.keep(&kept);
        }
        let cases = write::cases(self, &moments, &mut notes);
        let needed = fixture.series.len();
        let text = write::test(self, &fixture, &cases, &rig, surroundings);
        let fired = replay::fired(&moments);
        Ok(Recording { text, notes, series: (series, needed), runs, fired })
    }
}
