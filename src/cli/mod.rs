//! The command line: what a person or a service manager starts. Wires the rooms
//! together; knows no PromQL and no formats of its own.

mod check;
mod client;
mod complete;
mod debug;
mod eval;
mod features;
mod file_kind;
mod flags;
mod format;
mod help;
mod junit;
mod memory;
mod progress;
mod promql;
mod promtool;
mod push;
mod query;
mod rules;
mod serve;
mod sidecar;
mod test;
mod tsdb;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use features::FeatureFlags;

/// Evaluates PromQL rules beside Prometheus, Thanos, Mimir or VictoriaMetrics, or on its own.
///
/// Called as `promtool`, or as `watchfire promtool ...`, it takes promtool's command lines.
#[derive(Debug, Parser)]
#[command(name = "watchfire", version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    features: FeatureFlags,
    /// Promtool asks for this before some commands; here nothing else needs it.
    #[arg(long, hide = true, global = true)]
    experimental: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Scrape, store, evaluate rules, notify Alertmanagers and answer queries.
    ///
    /// Without --config.file it watches itself: it scrapes its own metrics every 15 s,
    /// evaluates the rules that ship with it and keeps data under ./watchfire-data.
    Serve(Box<flags::ServeFlags>),
    /// Evaluate rules beside a server that has the samples, and notify Alertmanagers.
    ///
    /// Samples are read from Prometheus, Thanos, Mimir or VictoriaMetrics, results are written
    /// back by remote write, and what alerts do is remembered here. Flags are enough; those
    /// of `serve` for HTTP, rules, queries and logs are the same.
    Sidecar(Box<sidecar::SidecarArgs>),
    /// Check files without running anything.
    #[command(subcommand)]
    Check(check::CheckCommand),
    /// Ask a server that speaks Prometheus' HTTP API.
    Query(query::QueryArgs),
    /// Send metrics to a server.
    #[command(subcommand)]
    Push(push::PushCommand),
    /// Gather what a server tells about itself in one archive.
    #[command(subcommand)]
    Debug(debug::DebugCommand),
    /// Evaluate an expression over a file of samples, without a server.
    Eval(eval::EvalArgs),
    /// Run unit tests of rules, or scripts that test PromQL itself.
    Test(test::TestArgs),
    /// Look into rules: what is likely to be wrong, what reads what, what a change means.
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// The same as `rules lint`.
    Lint(Box<rules::LintArgs>),
    /// Parse, format or rewrite an expression; list functions.
    #[command(subcommand)]
    Promql(promql::PromqlCommand),
    /// Look into data directories and make blocks.
    #[command(subcommand)]
    Tsdb(tsdb::TsdbCommand),
    /// Print a script with which a shell completes the commands and flags.
    Completion(complete::CompletionArgs),
    /// Print the manual, in the form `man` reads.
    Man(complete::ManArgs),
}

/// The commands that are shown.
fn commands() -> clap::Command {
    Cli::command().mut_subcommand("sidecar", sidecar::command)
}

/// The commands as they are parsed.
fn parser() -> clap::Command {
    commands().mut_subcommand("serve", |serve| serve.args(flags::unserved_args()))
}

/// With all that help says.
fn described(command: clap::Command) -> clap::Command {
    let mut command = help::described(command, "");
    // Spreads global flags over the commands, so that all of them are listed.
    command.build();
    command
}

/// The commands that are shown, with all that help says.
fn command() -> clap::Command {
    described(commands())
}

/// Parses a command line. What only help shows, and the commands that are not called, are
/// made only when something is to be told: they take longer and more memory than most
/// commands.
fn parse(args: Vec<std::ffi::OsString>) -> Result<(clap::ArgMatches, Cli), clap::Error> {
    let matches = match parser().try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(_) => described(parser()).try_get_matches_from(args)?,
    };
    let cli = Cli::from_arg_matches(&matches)?;
    Ok((matches, cli))
}

/// Runs the command line given to the process. Exit codes: 0 fine, 1 failure, 2 a command
/// line that cannot be understood (1 as `promtool`), 3 a lint finding where lint findings
/// are fatal.
pub fn run() -> ExitCode {
    memory::take_small_pages();
    let (args, is_promtool) = promtool::strip(std::env::args_os().collect());
    let (matches, cli) = match parse(args) {
        Ok(parsed) => parsed,
        Err(error) if is_promtool => return promtool::usage_error(&error),
        Err(error) => error.exit(),
    };
    if is_promtool && matches!(cli.command, Command::Promql(_)) && !cli.experimental {
        return promtool::ask_for_experimental();
    }
    if !matches!(cli.command, Command::Serve(_) | Command::Sidecar(_)) {
        cli.features.warn_of_unknown();
    }
    match cli.command {
        Command::Serve(flags) => {
            let matches = matches.subcommand_matches("serve").expect("BUG: serve was parsed");
            let command = described(parser());
            let serve = command.find_subcommand("serve").expect("BUG: serve is a command");
            let given = serve::Given {
                flags: &flags,
                features: &cli.features,
                effective: flags::effective(serve, matches),
                unserved: flags::unserved_given(matches),
                backend: serve::Backend::Embedded,
                made: None,
            };
            serve::run(given)
        }
        Command::Sidecar(args) => {
            let matches = matches.subcommand_matches("sidecar").expect("BUG: it was parsed");
            let command = described(parser());
            let sidecar = command.find_subcommand("sidecar").expect("BUG: it is a command");
            let effective = flags::effective(sidecar, matches);
            sidecar::run(*args, &cli.features, effective)
        }
        Command::Check(command) => check::run(&command, &cli.features),
        Command::Query(args) => query::run(&args),
        Command::Push(command) => push::run(&command),
        Command::Debug(command) => debug::run(&command),
        Command::Eval(args) => eval::run(&args, &cli.features),
        Command::Test(args) => test::run(&args, &cli.features),
        Command::Rules(command) => rules::run(&command, &cli.features),
        Command::Lint(args) => rules::lint(&args, &cli.features),
        Command::Promql(command) => promql::run(&command, &cli.features),
        Command::Tsdb(command) => tsdb::run(&command, &cli.features),
        Command::Completion(args) => complete::completion(&args, command()),
        Command::Man(args) => complete::man(&args, command()),
    }
}

/// A runtime for commands that do one thing and end.
fn small_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Prints lines to standard output. Whoever reads them may stop reading (`| head`): what
/// is left then goes nowhere.
fn say(text: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints `error: WHAT` for a person and gives the exit code of a failure.
fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(1)
}
