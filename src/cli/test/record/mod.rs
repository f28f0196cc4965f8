//! `watchfire test record`: what an alert did on a server, as a unit test.

mod fetch;
mod source;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use clap::Args;

use crate::cli::client::{ApiClient, ClientArgs};
use crate::cli::progress::Progress;
use crate::cli::{FeatureFlags, fail, query, say, small_runtime};
use crate::diagnostics::nearest::nearest;
use crate::model::Labels;
use crate::model::duration::{format_duration, parse_duration};
use crate::rules::unit_test::record::{
    Effort, Plan, RecordError, Recording, Surroundings, Wanted, alert_names, plan,
};
use crate::rules::unit_test::{UnitTestOptions, run_unit_tests};

/// Time allowed for one answer.
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// The server that has the samples.
    #[arg(long, value_name = "URL")]
    server: String,
    /// The alert. Rules of the same name are recorded together.
    #[arg(long, value_name = "NAME")]
    alert: String,
    /// Files or folders with the rule, and with the recording rules it reads: what those
    /// record is computed in the test, from its own inputs. Left out: the server's rules,
    /// which are written beside --out.
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Start of the time the test is about: RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// End of the time.
    #[arg(long, value_name = "TIME")]
    to: String,
    /// Where to write the test. Left out: standard output.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Interval of groups that name none. Left out: what the server's configuration says,
    /// or 1m.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    evaluation_interval: Option<i64>,
    /// How much to fetch before --from. Left out: what windows, offsets, the lookback and
    /// `for` need.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    before: Option<i64>,
    /// Most series that are fetched.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    max_series: usize,
    /// Most runs of the rules to find out which series are needed.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    max_runs: usize,
    /// Read the keys of vmalert, Thanos and Mimir in rule files.
    #[arg(long)]
    dialects: bool,
    #[command(flatten)]
    client: ClientArgs,
}

fn duration(text: &str) -> Result<i64, String> {
    let ms = parse_duration(text).map_err(|e| e.to_string())?;
    if ms > 0 { Ok(ms) } else { Err("must be above 0".to_owned()) }
}

/// Runs `watchfire test record`: 1 when nothing could be recorded. What could not be carried
/// over goes to standard error.
pub(super) fn run(args: &RecordArgs, features: &FeatureFlags) -> ExitCode {
    let made = small_runtime()
        .map_err(|e| e.to_string())
        .and_then(|runtime| runtime.block_on(record(args, features)));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn record(args: &RecordArgs, features: &FeatureFlags) -> Result<(), String> {
    let (from_ms, to_ms) = (time(&args.from, "--from")?, time(&args.to, "--to")?);
    if from_ms >= to_ms {
        return Err("--from is not before --to".to_owned());
    }
    let client = ApiClient::new(&args.client, &args.server, TIMEOUT).await?;
    let about = fetch::about(&client).await;
    let default_interval_ms =
        args.evaluation_interval.or(about.evaluation_interval_ms).unwrap_or(60_000);
    let rules = source::load(args, features, &client).await?;
    let wanted = Wanted {
        alert: args.alert.clone(),
        from_ms,
        to_ms,
        default_interval_ms,
        before_ms: args.before,
    };
    let plan = plan(&rules.groups, &wanted).map_err(|error| match error {
        RecordError::NoSuchAlert(_) => match nearest(&args.alert, alert_names(&rules.groups)) {
            Some(like) => format!("{error}; did you mean {like:?}?"),
            None => format!("{error} {}", rules.from),
        },
        error => error.to_string(),
    })?;
    let fetched = fetch::series(&client, &plan, args.max_series).await?;
    let progress = Progress::new("shrinking", 2 * fetched.len());
    let ran = || progress.step();
    let effort = Effort { runs_max: args.max_runs, ran: &ran };
    let files = rules.files(args.out.as_deref(), &plan)?;
    let surroundings = Surroundings {
        external_labels: about.external_labels,
        external_url: about.external_url,
        rule_files: files.named,
        head: head(args, &plan, from_ms, to_ms),
    };
    let recording = plan.record(&fetched, &surroundings, &effort).await;
    let recording = recording.map_err(|e| e.to_string())?;
    drop(progress);
    verify(&recording, &files.written, &files.read, args, features).await?;
    for (path, text) in &files.written {
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    match &args.out {
        Some(out) => {
            std::fs::write(out, &recording.text).map_err(|e| format!("{}: {e}", out.display()))?;
        }
        None => say(&recording.text.trim_end()),
    }
    tell(&recording, &plan, fetch::fired(&client, &args.alert, &plan).await);
    Ok(())
}

fn time(text: &str, flag: &str) -> Result<i64, String> {
    let seconds = query::seconds(text).map_err(|e| format!("{flag}: {e}"))?;
    Ok((seconds * 1000.0).round() as i64)
}

fn shown(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms);
    time.map_or_else(|| ms.to_string(), |t| t.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn head(args: &RecordArgs, plan: &Plan, from_ms: i64, to_ms: i64) -> Vec<String> {
    vec![
        format!("What {} did from {} to {},", args.alert, shown(from_ms), shown(to_ms)),
        "recorded with `watchfire test record`. It starts at".to_owned(),
        format!("{}, so that windows and `for` are filled.", shown(plan.start_ms)),
    ]
}

/// Runs the test as it is going to be run, before anybody sees it.
async fn verify(
    recording: &Recording,
    written: &[(PathBuf, String)],
    read: &[PathBuf],
    args: &RecordArgs,
    features: &FeatureFlags,
) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("watchfire-record-{}", std::process::id()));
    let outcome = async {
        std::fs::create_dir_all(&folder)?;
        let mut rules: Vec<PathBuf> = Vec::new();
        for path in read {
            rules.push(std::fs::canonicalize(path)?);
        }
        for (i, (_, text)) in written.iter().enumerate() {
            let path = folder.join(format!("rules-{i}.yml"));
            std::fs::write(&path, text)?;
            rules.push(path);
        }
        let test = folder.join("test.yml");
        std::fs::write(&test, with_rule_files(&recording.text, &rules))?;
        let options = UnitTestOptions {
            dialects: args.dialects,
            parser: features.parser(),
            delayed_name_removal: features.delayed_name_removal(),
            ..UnitTestOptions::default()
        };
        Ok::<_, std::io::Error>(run_unit_tests(&[test], &options).await)
    }
    .await;
    let _ = std::fs::remove_dir_all(&folder);
    let reports = outcome.map_err(|e| format!("the test could not be run: {e}"))?;
    let errors: Vec<&String> = reports.iter().flat_map(|report| report.all_errors()).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let errors: Vec<&str> = errors.iter().map(|e| e.as_str()).collect();
    Err(format!("the recorded test does not pass, so it is not written:\n{}", errors.join("\n")))
}

/// The test with other names of its rule files.
fn with_rule_files(text: &str, rules: &[PathBuf]) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        if inside && line.starts_with("- ") {
            continue;
        }
        inside = line == "rule_files:";
        out += &format!("{line}\n");
        if inside {
            for path in rules {
                let path = glob::Pattern::escape(&path.display().to_string());
                out += &format!("- '{}'\n", path.replace('\'', "''"));
            }
        }
    }
    out
}

/// What a person should know of a recording.
fn tell(recording: &Recording, plan: &Plan, on_server: Option<usize>) {
    let (all, needed) = recording.series;
    eprintln!("{needed} of {all} series are needed ({} runs)", recording.runs);
    for (labels, times) in &recording.fired {
        let (first, last) = (times.first().copied(), times.last().copied());
        let (Some(first), Some(last)) = (first, last) else { continue };
        eprintln!(
            "fires at {} of {} evaluations, from {} to {}: {}",
            times.len(),
            (plan.end_ms - plan.from_ms) / plan.interval_ms + 1,
            shown(first),
            shown(last),
            alert_labels(labels)
        );
    }
    for note in &recording.notes {
        eprintln!("note: {note}");
    }
    if let Some(count) = on_server
        && count != recording.fired.len()
    {
        eprintln!(
            "note: the server has {count} such alerts as firing in this time, the test {}; it \
             evaluates at other times, and every {}",
            recording.fired.len(),
            format_duration(plan.interval_ms)
        );
    }
}

fn alert_labels(labels: &Labels) -> String {
    labels.to_string()
}

/// Where a path leads from a folder, as far as it can be said without looking.
fn relative(path: &Path, folder: &Path) -> String {
    // The folder of a file that is named without one is the one where we are.
    let named = |path: &Path| {
        if path == Path::new("") { Path::new(".").to_owned() } else { path.to_owned() }
    };
    let full = |path: &Path| std::path::absolute(named(path)).unwrap_or_else(|_| path.to_owned());
    let (path, folder) = (full(path), full(folder));
    let common = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| Path::new(".."));
    let down: PathBuf = path.components().skip(common).collect();
    let mut out: PathBuf = up.collect();
    out.push(down);
    out.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_files_are_named_as_seen_from_the_test() {
        for (path, folder, expected) in [
            ("up.rules.yml", "", "up.rules.yml"),
            ("rules/up.yml", "", "rules/up.yml"),
            ("rules/up.yml", "tests", "../rules/up.yml"),
            ("tests/up.yml", "tests", "up.yml"),
            ("/rules/up.yml", "/tests/deep", "../../rules/up.yml"),
        ] {
            assert_eq!(relative(Path::new(path), Path::new(folder)), expected, "{path} {folder}");
        }
    }
}
