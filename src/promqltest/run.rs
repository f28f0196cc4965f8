//! Running a script, command by command.

use std::sync::Arc;

use super::eval::{Eval, ExpectedValue, When};
use super::script::{self, Command};
use super::{Failure, FileReport, ScriptOptions, compare, rerun};
use crate::model::annotation::Severity;
use crate::model::{TimestampMs, Value};
use crate::query::{QueryError, QueryResult, RunOptions};
use crate::storage::Source;
use crate::storage::memory::MemoryStorage;

/// Runs a script. Never fails itself: what goes wrong is in the report.
pub async fn run_script(name: &str, text: &str, options: &ScriptOptions) -> FileReport {
    let mut report = FileReport { name: name.to_owned(), ..FileReport::default() };
    let storage = MemoryStorage::new();
    let source: Arc<dyn Source> = Arc::new(storage.clone());
    for step in script::parse(text) {
        let (line, text, command) = match step {
            Ok(step) => step,
            Err(failure) => {
                report.failed += 1;
                report.failures.push(failure);
                continue;
            }
        };
        let outcome = match command {
            Command::Clear => {
                storage.clear();
                continue;
            }
            Command::Load(load) => match load.apply(&storage) {
                Ok(()) => continue,
                Err(message) => Err(message),
            },
            Command::Eval(eval) => run_eval(&eval, &source, options).await,
        };
        match outcome {
            Ok(()) => report.passed += 1,
            Err(message) => {
                report.failed += 1;
                report.failures.push(Failure { line, command: text, message });
            }
        }
    }
    report
}

async fn run_eval(
    eval: &Eval,
    source: &Arc<dyn Source>,
    options: &ScriptOptions,
) -> Result<(), String> {
    let When::Instant(at_ms) = eval.when else {
        let result = evaluate(&eval.query, eval.when, source, options).await;
        return check(eval, &eval.query, result);
    };
    run_instant(eval, &eval.query, at_ms, source, options).await?;
    if options.strict {
        for rerun in rerun::pinned(&eval.expr, at_ms) {
            run_instant(eval, &rerun.query, rerun.at_ms, source, options).await.map_err(
                |message| format!("re-run as {} at {} ms: {message}", rerun.query, rerun.at_ms),
            )?;
        }
    }
    Ok(())
}

/// The instant query, and the middle of a range query around it.
async fn run_instant(
    eval: &Eval,
    query: &str,
    at_ms: TimestampMs,
    source: &Arc<dyn Source>,
    options: &ScriptOptions,
) -> Result<(), String> {
    let result = evaluate(query, When::Instant(at_ms), source, options).await;
    let is_scalar = matches!(&result, Ok(QueryResult { value: Value::Scalar { .. }, .. }));
    check(eval, query, result)?;
    let other_type =
        matches!(eval.value, ExpectedValue::String(_) | ExpectedValue::RangeVector(..));
    let skip = !options.strict || eval.expect.fail.is_some() || eval.expect.ordered || other_type;
    let Some(grid) = (!skip).then(|| rerun::around(&eval.expr, at_ms)).flatten() else {
        return Ok(());
    };
    let result = evaluate(query, When::Range(grid), source, options)
        .await
        .map_err(|e| format!("as a range query around {at_ms} ms: {e}"))?;
    let middle = rerun::middle(&result.value, at_ms, is_scalar);
    compare::check(&eval.value, false, eval.when, &middle)
        .map_err(|m| format!("in the middle of a range query around {at_ms} ms: {m}"))
}

async fn evaluate(
    query: &str,
    when: When,
    source: &Arc<dyn Source>,
    options: &ScriptOptions,
) -> Result<QueryResult, QueryError> {
    let prepared = options.engine.prepare(query)?;
    let run = RunOptions::default();
    match when {
        When::Instant(at_ms) => prepared.instant(source, at_ms, &run).await,
        When::Range(grid) => prepared.range(source, grid, &run).await,
    }
}

fn check(eval: &Eval, query: &str, result: Result<QueryResult, QueryError>) -> Result<(), String> {
    let result = match (result, &eval.expect.fail) {
        (Err(error), None) => return Err(format!("error: {error}")),
        (Err(error), Some(wanted)) => {
            let error = error.to_string();
            return if wanted.matches(&error) {
                Ok(())
            } else {
                Err(format!("expected failure {}, got {error:?}", wanted.describe()))
            };
        }
        (Ok(_), Some(wanted)) => {
            return Err(format!("expected failure {}, but it succeeded", wanted.describe()));
        }
        (Ok(result), None) => result,
    };
    let texts = |severity| result.annotations.texts(severity, query);
    eval.expect.warn.check("warning", &texts(Severity::Warning))?;
    eval.expect.info.check("info", &texts(Severity::Info))?;
    compare::check(&eval.value, eval.expect.ordered, eval.when, &result.value)
}
