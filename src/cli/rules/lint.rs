//! `watchfire rules lint`, and what `check rules` shows in its way.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{files, online};
use crate::cli::client::ClientArgs;
use crate::cli::{FeatureFlags, check, fail, say, small_runtime};
use crate::diagnostics::{self, Look, Report, Severity};
use crate::lint::online::Observed;
use crate::lint::{self, Input, Options, Settings, mistakes, page, registry};
use crate::model::Clock;
use crate::model::duration::parse_duration;
use crate::rules::config::{LoadOptions, read_text};
use crate::telemetry::clock::SystemClock;

#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Rule files and PrometheusRule manifests, folders of them (*.yml, *.yaml, *.rules) or
    /// patterns; standard input when none is named, or for `-`.
    files: Vec<PathBuf>,
    /// Comma-separated checks: ids, what stands before their slash, all, none; with `-` in
    /// front to leave a check out.
    #[arg(long, value_name = "CHECKS", allow_hyphen_values = true, default_value = "default")]
    lint: String,
    /// Policies, severities and intervals, in YAML (docs/lint.md).
    #[arg(long = "lint.config", value_name = "FILE")]
    lint_config: Option<PathBuf>,
    /// End with 3 when something is at least as grave.
    #[arg(long, value_enum, value_name = "GRADE", default_value = "bug")]
    fail_on: Grade,
    /// Show what is at least as grave.
    #[arg(long, value_enum, value_name = "GRADE", default_value = "warning")]
    min_severity: Grade,
    /// How to show it.
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    output: Output,
    /// Interval of groups that name none: global.evaluation_interval.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    evaluation_interval: Option<i64>,
    /// How often targets are scraped: global.scrape_interval.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    scrape_interval: Option<i64>,
    /// Read the keys of vmalert, Thanos and Mimir as `watchfire serve` does.
    #[arg(long)]
    dialects: bool,
    /// Ask a server that speaks Prometheus' API as well: which series there are, what type
    /// metrics have, how often alerts would have fired, what rules cost.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// How far back to ask.
    #[arg(long = "server.range", value_name = "DURATION", default_value = "1d", value_parser = duration)]
    server_range: i64,
    /// How long to wait for one answer.
    #[arg(long = "server.timeout", value_name = "DURATION", default_value = "1m", value_parser = duration)]
    server_timeout: i64,
    /// Most requests made to the server.
    #[arg(long = "server.max-requests", value_name = "N", default_value_t = 10_000)]
    server_max_requests: usize,
    #[command(flatten)]
    client: ClientArgs,
    /// List the checks instead.
    #[arg(long, exclusive = true)]
    list: bool,
    /// Explain a check instead: what it finds, with examples.
    #[arg(long, value_name = "CHECK", exclusive = true)]
    explain: Option<String>,
    /// Print docs/lint.md.
    #[arg(long, exclusive = true, hide = true)]
    page: bool,
    /// Print docs/diagnostics.md.
    #[arg(long, exclusive = true, hide = true)]
    mistakes: bool,
}

/// A severity one can ask for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Grade {
    Info,
    Warning,
    Bug,
    Error,
}

impl Grade {
    fn severity(self) -> Severity {
        match self {
            Self::Info => Severity::Info,
            Self::Warning => Severity::Warning,
            Self::Bug => Severity::Bug,
            Self::Error => Severity::Fatal,
        }
    }
}

/// Forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Output {
    /// For a person, with excerpts of the files.
    Text,
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// Workflow commands of GitHub Actions.
    Github,
    Junit,
}

fn duration(text: &str) -> Result<i64, String> {
    let ms = parse_duration(text).map_err(|e| e.to_string())?;
    if ms > 0 { Ok(ms) } else { Err("must be above 0".to_owned()) }
}

/// Runs `watchfire rules lint`.
pub(in crate::cli) fn run(args: &LintArgs, features: &FeatureFlags) -> ExitCode {
    if args.page {
        say(&page::page().trim_end());
        return ExitCode::SUCCESS;
    }
    if args.mistakes {
        say(&mistakes::page().trim_end());
        return ExitCode::SUCCESS;
    }
    if args.list {
        for check in registry::CHECKS {
            let off = if check.by_default { "" } else { " (off by default)" };
            say(&format_args!("{:<24} {:<8} {}{off}", check.id, check.severity, check.summary));
        }
        return ExitCode::SUCCESS;
    }
    if let Some(id) = &args.explain {
        return match registry::CHECKS.iter().find(|check| check.id == id) {
            Some(check) => {
                say(&page::explain(check).trim_end());
                ExitCode::SUCCESS
            }
            None => {
                fail(&format!("there is no check {id:?}; `watchfire rules lint --list` has all"))
            }
        };
    }
    let settings = match settings(args) {
        Ok(settings) => settings,
        Err(error) => return fail(&error),
    };
    let load = LoadOptions {
        parser: features.parser(),
        dialects: args.dialects,
        ..LoadOptions::default()
    };
    match online_report(args, load, settings) {
        Ok(mut report) => {
            let least = args.min_severity.severity().min(args.fail_on.severity());
            report.diagnostics.retain(|d| d.severity >= least);
            show(&report, args.output, args.fail_on.severity())
        }
        Err(error) => fail(&error),
    }
}

/// What is to be said about files, with what a server knows where one is named, and where the
/// links lead that a policy is about.
fn online_report(args: &LintArgs, load: LoadOptions, settings: Settings) -> Result<Report, String> {
    let inputs = inputs(&args.files)?;
    let now_ms = SystemClock::default().now_ms();
    let mut options = Options { load, settings, now_ms };
    let questions = lint::online::questions(&inputs, &options);
    if args.server.is_none() && questions.links.is_empty() {
        return Ok(lint::lint(inputs, &options));
    }
    let timeout = Duration::from_millis(args.server_timeout.unsigned_abs());
    let asking = async {
        let mut observed = match &args.server {
            Some(url) => {
                let (client, requests_max) = (&args.client, args.server_max_requests);
                let server = online::Server { url, client, timeout, requests_max };
                let asked = online::ask(&server, &questions, args.server_range, now_ms).await;
                asked.map_err(|e| format!("{url}: {e}"))?
            }
            None => Observed::default(),
        };
        observed.links = online::follow(&questions.links, timeout).await;
        Ok::<_, String>(observed)
    };
    let runtime = small_runtime().map_err(|e| e.to_string())?;
    let observed = runtime.block_on(asking)?;
    if let Some(ms) = observed.scrape_interval_ms {
        options.settings.default_scrape_interval(ms);
    }
    if let Some(ms) = observed.evaluation_interval_ms {
        options.settings.default_evaluation_interval(ms);
    }
    Ok(lint::lint_with(inputs, &options, Some(observed)))
}

fn settings(args: &LintArgs) -> Result<Settings, String> {
    let mut settings = match &args.lint_config {
        Some(path) => {
            let text = read_text(path).map_err(|e| format!("{}: {e}", path.display()))?;
            Settings::from_yaml(&text).map_err(|e| format!("{}: {e}", path.display()))?
        }
        None => Settings::default(),
    };
    settings.choose(args.lint.split(',').map(str::trim)).map_err(|e| format!("--lint: {e}"))?;
    if let Some(ms) = args.evaluation_interval {
        settings.default_evaluation_interval(ms);
    }
    if let Some(ms) = args.scrape_interval {
        settings.default_scrape_interval(ms);
    }
    Ok(settings)
}

fn inputs(paths: &[PathBuf]) -> Result<Vec<Input>, String> {
    let named = files::named(paths)?;
    let file = |path: &PathBuf| Input { name: path.display().to_string(), text: read_text(path) };
    let mut inputs: Vec<Input> = named.files.iter().map(file).collect();
    if named.stdin {
        inputs.push(Input { name: "standard input".to_owned(), text: check::stdin_text() });
    }
    Ok(inputs)
}

/// What is to be said about files.
pub(in crate::cli) fn report(
    paths: &[PathBuf],
    load: LoadOptions,
    settings: Settings,
) -> Result<Report, String> {
    let options = Options { load, settings, now_ms: SystemClock::default().now_ms() };
    Ok(lint::lint(inputs(paths)?, &options))
}

/// Shows a report. Ends with 1 when a file cannot be used, with 3 when something is as
/// grave as `fail_on`.
pub(in crate::cli) fn show(report: &Report, output: Output, fail_on: Severity) -> ExitCode {
    let shown = match output {
        Output::Text => diagnostics::text(report, look()),
        Output::Json => diagnostics::json(report),
        Output::Sarif => diagnostics::sarif(report, &registry::infos(), env!("CARGO_PKG_VERSION")),
        Output::Github => diagnostics::github(report),
        Output::Junit => diagnostics::junit(report, fail_on),
    };
    let shown = shown.trim_end_matches('\n');
    if !shown.is_empty() {
        say(&shown);
    }
    if output == Output::Text {
        if !shown.is_empty() {
            say(&"");
        }
        let files = match report.sources.len() {
            1 => "1 file".to_owned(),
            n => format!("{n} files"),
        };
        match report.counts() {
            counts if counts.is_empty() => say(&format_args!("{files}: nothing found")),
            counts => say(&format_args!("{files}: {counts}")),
        }
    }
    match report.worst() {
        Some(Severity::Fatal) => ExitCode::from(1),
        Some(worst) if worst >= fail_on => ExitCode::from(3),
        _ => ExitCode::SUCCESS,
    }
}

/// Colours on a terminal only, and not where NO_COLOR or TERM say otherwise.
fn look() -> Look {
    let stdout = std::io::stdout();
    let choice = anstream::AutoStream::choice(&stdout);
    let colour = match choice {
        anstream::ColorChoice::Always | anstream::ColorChoice::AlwaysAnsi => true,
        anstream::ColorChoice::Auto => stdout.is_terminal(),
        anstream::ColorChoice::Never => false,
    };
    let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    Look { colour, width: columns.unwrap_or(Look::default().width) }
}
