//! `watchfire check metrics`: findings of promlint, and which metric has how many series.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{say, stdin_text};
use crate::cli::fail;
use crate::scrape::lint::{Cardinality, MetricFamilies};

#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Print how many series each metric has.
    #[arg(long)]
    extended: bool,
    /// Whether to look for problems.
    #[arg(long, value_enum, default_value_t = Lint::All)]
    lint: Lint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lint {
    All,
    None,
}

/// Runs `watchfire check metrics`: 3 when something is odd, 1 when it cannot be read.
pub(super) fn run(args: &MetricsArgs) -> ExitCode {
    if args.lint == Lint::None && !args.extended {
        return fail(&"there is nothing to do: --lint=none was given without --extended");
    }
    let families = stdin_text().and_then(|text| {
        let read = MetricFamilies::read(text.as_bytes());
        read.map_err(|e| format!("text format parsing error in {e}"))
    });
    let families = match families {
        Ok(families) => families,
        Err(error) => {
            eprintln!("error while linting: {error}");
            return ExitCode::from(1);
        }
    };
    let problems = if args.lint == Lint::All { families.problems() } else { Vec::new() };
    for problem in &problems {
        eprintln!("{} {}", problem.family, problem.text);
    }
    if !problems.is_empty() {
        return ExitCode::from(3);
    }
    if args.extended {
        show_cardinalities(&families.cardinalities());
    }
    ExitCode::SUCCESS
}

fn show_cardinalities(all: &[Cardinality]) {
    let total: usize = all.iter().map(|c| c.series).sum();
    let share = |series: usize| format!("{:.2}%", series as f64 * 100.0 / total as f64);
    let row = |c: &Cardinality| [c.family.clone(), c.series.to_string(), share(c.series)];
    let header = ["Metric", "Cardinality", "Percentage"].map(str::to_owned);
    let mut rows = vec![header];
    rows.extend(all.iter().map(row));
    rows.push(["Total".to_owned(), total.to_string(), "100%".to_owned()]);
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max();
        longest.unwrap_or(0) + 4
    };
    let widths = [width(0), width(1), width(2)];
    for [a, b, c] in &rows {
        say(&format_args!("{a:0$}{b:1$}{c:2$}", widths[0], widths[1], widths[2]));
    }
}
