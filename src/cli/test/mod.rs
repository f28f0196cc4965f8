//! `watchfire test`: rules against given series, PromQL against scripts, and templates
//! against recorded expansions.

mod coverage;
mod files;
mod promql;
mod record;
mod rules;
mod templates;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{FeatureFlags, fail};

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Write the outcome of rule tests to this file, as JUnit's XML.
    #[arg(long, value_name = "FILE", global = true)]
    junit: Option<PathBuf>,
    #[command(subcommand)]
    command: TestCommand,
}

#[derive(Debug, Subcommand)]
enum TestCommand {
    /// Run unit tests of rules, in promtool's format.
    ///
    /// Series are given, rules run over them, and the alerts and samples that come out are
    /// compared with those expected.
    ///
    /// A test file names the rule files it is about, relative to itself:
    ///
    ///   rule_files: [rules.yml]
    ///   evaluation_interval: 1m
    ///   tests:
    ///   - input_series: [{series: 'up{job="api"}', values: '1x5 0x10'}]   # 1 six times, 0 eleven
    ///     alert_rule_test: [{eval_time: 12m, alertname: Down, exp_alerts: [{exp_labels: {job: api}}]}]
    ///     promql_expr_test: [{expr: 'sum(up)', eval_time: 2m, exp_samples: [{labels: '{}', value: 1}]}]
    ///
    /// Ends with 1 when a test failed or could not run, and with 3 when --mutate found mistakes
    /// that no test notices.
    #[command(verbatim_doc_comment)]
    Rules(rules::RulesArgs),
    /// Run `.test` scripts of PromQL, in the notation of Prometheus' promqltest.
    ///
    /// Everything experimental in the language is on and a query may hold 10,000 samples,
    /// as the scripts of Prometheus expect; --enable-feature adds type-and-unit-labels.
    /// Every instant query also runs with its selectors pinned at other times, and as the
    /// middle of a range query.
    Promql(promql::PromqlArgs),
    /// Make a unit test of what an alert did on a server: the fewest series with which it
    /// does the same.
    ///
    /// The samples the alert reads are fetched, back to what windows, offsets, the lookback
    /// and `for` need, and put on the grid of the evaluations. Series without which the
    /// same alerts fire with the same texts are left out. The test is run before it is
    /// written; what could not be carried over is said on standard error.
    Record(Box<record::RecordArgs>),
    /// Run cases of templates: JSON files with texts and what they expand to.
    ///
    /// A file is {"common": {...}, "cases": [...]}. Each case has a template and either
    /// output or error; it may have html, options (as ["missingkey=error"]), data (what
    /// `.` is) and query_result (what every query gives). common holds template_name,
    /// external_url and now_ms.
    Templates(templates::TemplatesArgs),
}

/// Runs `watchfire test ...`.
pub(crate) fn run(args: &TestArgs, features: &FeatureFlags) -> ExitCode {
    match &args.command {
        TestCommand::Rules(rules) => rules::run(rules, args.junit.as_deref(), features),
        _ if args.junit.is_some() => fail(&"--junit is for `test rules`"),
        TestCommand::Promql(args) => promql::run(args, features),
        TestCommand::Record(args) => record::run(args, features),
        TestCommand::Templates(args) => templates::run(args),
    }
}
