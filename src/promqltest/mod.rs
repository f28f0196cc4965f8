//! `.test` scripts: the public language of PromQL semantics, run against an engine.
//!
//! A script is a list of commands: `clear`, `load`, `load_with_nhcb` and `eval`. Every
//! `eval` is one case; a failing case does not stop the script. What the runner checks,
//! and which further queries it derives from an instant query (`rerun`), is described in
//! `compare` and `rerun`.
//!
//! [`run_script`] is async because engines are; it spawns nothing and takes no time of
//! its own. A caller without a runtime blocks on it with a current-thread one.

mod compare;
mod eval;
mod expect;
mod load;
mod nhcb;
mod rerun;
mod run;
mod script;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::parser::ParserOptions;
use crate::query::{Engine, EngineOptions};

pub use run::run_script;

/// How scripts are run.
#[derive(Clone, Debug)]
pub struct ScriptOptions {
    /// Evaluates the queries.
    pub engine: Arc<Engine>,
    /// Also run what `rerun` derives from every instant query: the same query at other
    /// times with its selectors pinned, and as a range query around its time.
    pub strict: bool,
}

impl Default for ScriptOptions {
    fn default() -> Self {
        Self { engine: Engine::new(engine_options()), strict: true }
    }
}

/// The engine that scripts expect: everything experimental on, 10,000 samples at most.
pub fn engine_options() -> EngineOptions {
    EngineOptions {
        lookback_ms: 300_000,
        timeout: Duration::from_secs(100),
        max_samples: 10_000,
        parser: ParserOptions::all(),
        delayed_name_removal: true,
        use_start_timestamps: true,
        ..EngineOptions::default()
    }
}

/// How a script fared.
#[derive(Clone, Debug, Default)]
pub struct FileReport {
    /// Name of the script.
    pub name: String,
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed; loads and lines that could not be understood count as cases.
    pub failed: usize,
    /// In script order; one per failed case.
    pub failures: Vec<Failure>,
}

/// Why a case failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Line of the command, from 1.
    pub line: usize,
    /// The command as written.
    pub command: String,
    /// What was expected and what came.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}\n  {}", self.line, self.command, self.message.replace('\n', "\n  "))
    }
}

/// `FILE: 12 passed, 1 failed`, then every failure with its line.
impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} passed, {} failed", self.name, self.passed, self.failed)?;
        for failure in &self.failures {
            write!(f, "\n{}:{failure}", self.name)?;
        }
        Ok(())
    }
}
