//! What `--help` says beyond the flags' own words: the commands in groups, flags under
//! headings, and for every command examples that can be copied. Tests hold the examples
//! against the commands.

use clap::{Arg, Command};

/// All commands by what one wants, in the order they are listed.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run", &["serve", "sidecar"]),
    ("Write rules and configurations", &["check", "lint", "test", "rules", "promql", "eval"]),
    ("Work with a server", &["query", "push", "debug"]),
    ("Work with a data directory", &["tsdb"]),
    ("Set up", &["completion", "man", "help"]),
];

/// By command, what its examples do and their command lines (without the program's name).
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "",
        &[
            ("See it work, on its own metrics", "serve"),
            ("Check rule files, with advice", "check rules --output=text rules/*.yml"),
            ("Ask a server", "query instant http://127.0.0.1:9090 'up == 0'"),
            ("Explain one command", "help test rules"),
        ],
    ),
    (
        "sidecar",
        &[
            (
                "Beside a Prometheus that runs with --web.enable-remote-write-receiver",
                "sidecar --prometheus.url=http://127.0.0.1:9090 --rules='rules/*.yml' --alertmanager=http://127.0.0.1:9093",
            ),
            (
                "Over VictoriaMetrics, the first of two that divide the groups",
                "sidecar --prometheus.type=victoriametrics --prometheus.url=http://vm:8428 --rules=/etc/rules --alertmanager=http://am:9093 --rules.shard=1/2",
            ),
            (
                "Over a tenant of Mimir",
                "sidecar --prometheus.url=http://mimir/prometheus --prometheus.header=X-Scope-OrgID=team --remote-write.url=http://mimir/api/v1/push --rules=https://git.example/rules.yml --alertmanager=http://am:9093",
            ),
        ],
    ),
    (
        "serve",
        &[
            ("Watch itself, in ./watchfire-data", "serve"),
            (
                "Take the place of a Prometheus",
                "serve --config.file=prometheus.yml --web.listen-address=0.0.0.0:9090",
            ),
        ],
    ),
    ("check config", &[("Before a reload", "check config prometheus.yml")]),
    (
        "check rules",
        &[
            ("As promtool says it", "check rules rules/*.yml"),
            ("With excerpts and advice", "check rules --output=text rules/alerts.yml"),
            ("As annotations of a pull request", "check rules --output=github rules/alerts.yml"),
        ],
    ),
    ("check web-config", &[("Before a restart", "check web-config web.yml")]),
    ("check metrics", &[("Series by metric", "check metrics --extended < metrics.txt")]),
    ("check service-discovery", &[("One job", "check service-discovery prometheus.yml node")]),
    ("check healthy", &[("In a probe", "check healthy --url=http://127.0.0.1:9090")]),
    ("check ready", &[("Until it is", "check ready --url=http://127.0.0.1:9090")]),
    (
        "lint",
        &[
            ("Everything below a folder", "lint rules/"),
            ("With a server that knows the series", "lint --server http://127.0.0.1:9090 rules/"),
            ("What a check is about", "lint --explain promql/series"),
        ],
    ),
    (
        "test rules",
        &[
            ("Run tests", "test rules tests/*.yml"),
            (
                "One test, with all series at its end",
                "test rules --run 'disk' --debug tests/disk.yml",
            ),
            ("What the tests leave out", "test rules --coverage --mutate tests/*.yml"),
        ],
    ),
    ("test promql", &[("All scripts of a folder", "test promql promql-testdata")]),
    (
        "test record",
        &[(
            "Of last night",
            "test record --server http://127.0.0.1:9090 --alert DiskFull --rules rules/disk.yml --from 2026-01-01T00:00:00Z --to 2026-01-01T06:00:00Z --out tests/disk-full.yml",
        )],
    ),
    ("test templates", &[("Recorded expansions", "test templates cases.json")]),
    (
        "rules convert",
        &[
            ("For vmalert", "rules convert --to=vmalert rules.yml > vmalert.yml"),
            (
                "As an object of Kubernetes",
                "rules convert --to=prometheusrule --label role=alert-rules rules.yml | kubectl apply -f -",
            ),
            ("Several files", "rules convert --to=mimir --output-dir=out a.yml b.yml"),
        ],
    ),
    (
        "rules fmt",
        &[
            ("In place, everything below a folder", "rules fmt --write rules/"),
            ("In CI", "rules fmt --check rules/"),
        ],
    ),
    ("rules diff", &[("Refuse a change that ends alerts", "rules diff --fail-on=loss old/ new/")]),
    ("rules graph", &[("As a picture", "rules graph --format=dot rules/ | dot -Tsvg > rules.svg")]),
    (
        "rules lint",
        &[
            ("Everything below a folder", "rules lint rules/"),
            ("Only some checks", "rules lint --lint=none,promql/regexp,alerts rules/"),
            ("Fail on warnings too", "rules lint --fail-on=warning rules/"),
        ],
    ),
    (
        "rules template",
        &[(
            "One annotation",
            "rules template '{{ $labels.job }}: {{ $value | humanize }}' --value 1234 --label job=api",
        )],
    ),
    ("promql parse", &[("The tree", "promql parse 'sum by (job) (rate(x_total[5m]))'")]),
    ("promql format", &[("On several lines", "promql format 'sum(rate(a[5m]))/sum(rate(b[5m]))'")]),
    (
        "promql label-matchers set",
        &[("For one cluster", "promql label-matchers set 'up == 0' cluster eu")],
    ),
    (
        "promql label-matchers delete",
        &[("For all clusters", "promql label-matchers delete 'up{cluster=\"eu\"}' cluster")],
    ),
    ("promql functions", &[("All of them", "promql functions")]),
    (
        "eval",
        &[
            ("At the file's newest time", "eval 'rate(x_total[5m])' --data metrics.txt"),
            ("Over what a target shows now", "eval 'sum by (job) (x)' --data - < metrics.txt"),
        ],
    ),
    (
        "query instant",
        &[("Which targets are down", "query instant http://127.0.0.1:9090 'up == 0'")],
    ),
    (
        "query range",
        &[(
            "An hour",
            "query range --start=2026-01-01T00:00:00Z --end=2026-01-01T01:00:00Z --step=1m http://127.0.0.1:9090 up",
        )],
    ),
    (
        "query series",
        &[("Of one job", "query series --match='{job=\"api\"}' http://127.0.0.1:9090")],
    ),
    ("query labels", &[("All jobs", "query labels http://127.0.0.1:9090 job")]),
    (
        "query analyze",
        &[(
            "Buckets nobody needs",
            "query analyze --server=http://127.0.0.1:9090 --type=histogram --match='{__name__=~\"http_.+_bucket\"}'",
        )],
    ),
    (
        "push metrics",
        &[(
            "What a job has left",
            "push metrics http://127.0.0.1:9090 metrics.txt --label job=backup",
        )],
    ),
    ("debug pprof", &[("A slow Prometheus", "debug pprof http://127.0.0.1:9090")]),
    ("debug metrics", &[("Its metrics", "debug metrics http://127.0.0.1:9090")]),
    ("debug all", &[("For a bug report", "debug all http://127.0.0.1:9090")]),
    ("tsdb list", &[("With sizes a person reads", "tsdb list --human-readable data/")]),
    ("tsdb analyze", &[("What fills the newest block", "tsdb analyze data/")]),
    ("tsdb dump", &[("One metric", "tsdb dump --match='up' data/")]),
    ("tsdb dump-openmetrics", &[("To take elsewhere", "tsdb dump-openmetrics data/ > all.om")]),
    ("tsdb verify", &[("After a power cut", "tsdb verify data/")]),
    ("tsdb bench write", &[("How quick this disk is", "tsdb bench write --scrapes=1000")]),
    (
        "tsdb create-blocks-from openmetrics",
        &[("What another system exported", "tsdb create-blocks-from openmetrics all.om data/")],
    ),
    (
        "tsdb create-blocks-from rules",
        &[(
            "A new recording rule, for last year",
            "tsdb create-blocks-from rules --url http://127.0.0.1:9090 --start 2025-01-01T00:00:00Z rules.yml",
        )],
    ),
    (
        "completion",
        &[
            ("bash", "completion bash > /etc/bash_completion.d/watchfire"),
            ("zsh", "completion zsh > \"${fpath[1]}/_watchfire\""),
            ("fish", "completion fish > ~/.config/fish/completions/watchfire.fish"),
        ],
    ),
    (
        "man",
        &[("Read it", "man | man -l -"), ("Install it", "man --out /usr/local/share/man/man1")],
    ),
];

/// Headings of flags by what their names begin with; flags of the last are the same for
/// every command.
const HEADINGS: &[(&str, &str)] = &[
    ("config.", "Configuration"),
    ("web.", "HTTP"),
    ("storage.", "Storage"),
    ("prometheus.", "Server"),
    ("remote-write.", "Server"),
    ("external-label", "Server"),
    ("rules", "Rules and alerts"),
    ("alertmanager", "Rules and alerts"),
    ("state.", "Rules and alerts"),
    ("query.lookback", "Queries"),
    ("query.max", "Queries"),
    ("query.timeout", "Queries"),
    ("log.", "Logging"),
    ("server", "Asking a server"),
    ("http.config.file", "Asking a server"),
    ("header", "Asking a server"),
    ("enable-feature", "Language"),
];

/// Puts everything into a command and what is below it. `path` is the words after the
/// program's name.
pub(crate) fn described(command: Command, path: &str) -> Command {
    let command = command.mut_args(|arg| match heading(&arg) {
        Some(heading) => arg.help_heading(heading),
        None => arg,
    });
    let command = match examples(path) {
        Some(text) => command.after_help(text),
        None => command,
    };
    let overview = path.is_empty().then(|| overview(&command));
    let command = match overview {
        Some(overview) => command.help_template(overview),
        None => command,
    };
    command.mut_subcommands(|sub| {
        let name = sub.get_name();
        let below = if path.is_empty() { name.to_owned() } else { format!("{path} {name}") };
        described(sub, &below)
    })
}

fn heading(arg: &Arg) -> Option<&'static str> {
    let long = arg.get_long()?;
    HEADINGS.iter().find(|(start, _)| long.starts_with(start)).map(|(_, heading)| *heading)
}

fn examples(path: &str) -> Option<String> {
    let (_, examples) = EXAMPLES.iter().find(|(command, _)| *command == path)?;
    let mut text = "Examples:".to_owned();
    for (what, line) in *examples {
        text += &format!("\n  # {what}\n  watchfire {line}");
    }
    Some(text)
}

fn line(name: &str, about: Option<String>) -> String {
    // `help` is the parser's own and has no words until it is built.
    let about = about.unwrap_or_else(|| "Say more about a command".to_owned());
    format!("  {name:<11} {}\n", about.lines().next().unwrap_or_default())
}

/// The program's own help, its commands in groups.
fn overview(cli: &Command) -> String {
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (group, names) in GROUPS {
        text += &format!("\n{group}:\n");
        for name in *names {
            let found = cli.get_subcommands().find(|c| c.get_name() == *name);
            text += &line(name, found.and_then(Command::get_about).map(ToString::to_string));
        }
    }
    let grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let others: Vec<&Command> =
        cli.get_subcommands().filter(|c| !c.is_hide_set() && !grouped(c.get_name())).collect();
    if !others.is_empty() {
        text += "\nMore:\n";
    }
    for command in others {
        text += &line(command.get_name(), command.get_about().map(ToString::to_string));
    }
    text + "\nOptions:\n{options}{after-help}"
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Commands that do something themselves, with the words that name them.
    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        let shown = |c: &&Command| !c.is_hide_set() && c.get_name() != "help";
        for sub in command.get_subcommands().filter(shown) {
            let below = format!("{path} {}", sub.get_name()).trim().to_owned();
            if sub.get_subcommands().any(|c| shown(&c)) {
                leaves(sub, &below, found);
            } else {
                found.push(below);
            }
        }
    }

    #[test]
    fn every_command_has_examples_that_can_be_run() {
        let cli = super::super::command();
        let mut commands = Vec::new();
        leaves(&cli, "", &mut commands);
        for path in &commands {
            assert!(examples(path).is_some(), "{path}: no example");
        }
        for (path, examples) in EXAMPLES {
            assert!(path.is_empty() || commands.iter().any(|c| c == path), "no command {path}");
            for (_, line) in *examples {
                let words = split(line);
                let parsed = cli.clone().try_get_matches_from(words);
                let helped = matches!(&parsed, Err(e) if !e.use_stderr());
                assert!(parsed.is_ok() || helped, "watchfire {line}: {:?}", parsed.err());
                assert!(path.is_empty() || line.starts_with(path), "{path}: watchfire {line}");
            }
        }
    }

    /// The words of a command line up to the shell's own signs.
    fn split(line: &str) -> Vec<String> {
        let mut words = vec!["watchfire".to_owned(), String::new()];
        let mut quote = None;
        for c in line.chars() {
            let word = words.last_mut().unwrap();
            match (quote, c) {
                (Some(q), c) if q == c => quote = None,
                (Some(_), c) => word.push(c),
                (None, '\'' | '"') => quote = Some(c),
                (None, '|' | '>' | '<') => break,
                (None, ' ') => words.push(String::new()),
                (None, c) => word.push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn every_command_is_listed_once() {
        let cli = super::super::Cli::command();
        let listed = overview(&cli);
        for command in cli.get_subcommands().filter(|c| !c.is_hide_set()) {
            let line = format!("\n  {:<11} ", command.get_name());
            assert_eq!(listed.matches(&line).count(), 1, "{} in {listed}", command.get_name());
        }
        let named: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        for name in named.iter().filter(|name| **name != "help") {
            assert!(cli.find_subcommand(name).is_some(), "there is no command {name}");
        }
    }

    #[test]
    fn every_flag_says_what_it_is_for() {
        let mut commands = vec![super::super::command()];
        while let Some(command) = commands.pop() {
            let name = command.get_bin_name().unwrap_or_default().to_owned();
            assert!(command.get_about().is_some() || name.ends_with("help"), "{name}: no words");
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{name}: {} has no help", arg.get_id());
            }
            commands.extend(command.get_subcommands().filter(|c| !c.is_hide_set()).cloned());
        }
    }
}
