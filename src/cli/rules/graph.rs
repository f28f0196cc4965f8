//! `watchfire rules graph`: which rule reads what which rule writes, for a person, for
//! Graphviz or for a program.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::files;
use crate::cli::{FeatureFlags, check, fail, say};
use crate::model::duration::{format_duration, parse_duration};
use crate::rules::config::{GroupSpec, LoadOptions, LoadedFile, Problem, load_file, load_source};
use crate::rules::graph::{EdgeKind, RuleGraph, Sees, Ticks};

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// Rule files and PrometheusRule manifests, or folders of them (*.yml, *.yaml, *.rules);
    /// standard input when none is named, or for `-`.
    files: Vec<PathBuf>,
    /// How to show it.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Interval of groups that name none: global.evaluation_interval.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = interval)]
    evaluation_interval: i64,
    /// Show the order in which a server with --rules.align-groups evaluates.
    #[arg(long = "rules.align-groups")]
    align_groups: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One rule a line, below it what it reads.
    Text,
    /// For Graphviz: `watchfire rules graph --format dot FILE | dot -Tsvg`.
    Dot,
    Json,
}

fn interval(text: &str) -> Result<i64, String> {
    let ms = parse_duration(text).map_err(|e| e.to_string())?;
    if ms > 0 { Ok(ms) } else { Err("must be above 0".to_owned()) }
}

/// Runs `watchfire rules graph`. What is wrong with the files, and warnings about the
/// order, go to standard error; files that cannot be used make it end with 1 after the
/// graph of the others.
pub(crate) fn run(args: &GraphArgs, features: &FeatureFlags) -> ExitCode {
    let options =
        LoadOptions { parser: features.parser(), dialects: true, ..LoadOptions::default() };
    let files = match load(&args.files, &options) {
        Ok(files) => files,
        Err(error) => return fail(&error),
    };
    let mut failed = false;
    for problem in files.iter().flat_map(|f| &f.problems) {
        eprintln!("{}: {problem}", problem.severity);
    }
    let mut specs: Vec<&GroupSpec> = Vec::new();
    for file in &files {
        failed |= !file.is_valid();
        specs.extend(file.groups.iter().filter(|_| file.is_valid()));
    }
    let ticks = |spec: &GroupSpec| Ticks {
        interval_ms: spec.interval_ms.unwrap_or(args.evaluation_interval),
        offset_ms: spec.eval_offset_ms.or(args.align_groups.then_some(0)),
    };
    let graph = RuleGraph::new(specs.iter().map(|spec| (*spec, ticks(spec))));
    let problems = graph.problems(&specs);
    let text = match args.format {
        Format::Text => text(&graph, &problems),
        Format::Dot => {
            problems.iter().for_each(|p| eprintln!("{}: {p}", p.severity));
            dot(&graph)
        }
        Format::Json => format!("{:#}\n", document(&graph, &specs, &problems)),
    };
    say(&text.trim_end_matches('\n'));
    ExitCode::from(u8::from(failed))
}

/// All files, each once and sorted by name as the server has them.
fn load(paths: &[PathBuf], options: &LoadOptions) -> Result<Vec<LoadedFile>, String> {
    let named = files::named(paths)?;
    let mut loaded: Vec<LoadedFile> =
        named.files.iter().map(|path| load_file(path, options)).collect();
    if named.stdin {
        loaded.push(load_source("", &check::stdin_text()?, options));
    }
    Ok(loaded)
}

fn file_name(file: &str) -> &str {
    if file.is_empty() { "standard input" } else { file }
}

fn kind(alerting: bool) -> &'static str {
    if alerting { "alert" } else { "record" }
}

fn how(kind: EdgeKind) -> &'static str {
    match kind {
        EdgeKind::Selector => "selector",
        EdgeKind::Declared => "depends_on",
        EdgeKind::Template => "template",
        EdgeKind::Indeterminate => "indeterminate",
    }
}

fn when(sees: Sees) -> &'static str {
    match sees {
        Sees::ThisTick => "this_tick",
        Sees::PreviousTick => "previous_tick",
        Sees::Latest => "latest",
    }
}

fn text(graph: &RuleGraph, problems: &[Problem]) -> String {
    let mut out = String::new();
    let mut file = None;
    for (index, group) in graph.groups.iter().enumerate() {
        if file != Some(&group.file) {
            file = Some(&group.file);
            let _ = writeln!(out, "{}", file_name(&group.file));
        }
        let every = format_duration(group.ticks.interval_ms);
        let at = group.ticks.offset_ms;
        let at = at.map(|ms| format!(" at {}", signed(ms))).unwrap_or_default();
        let after = graph.ready_after(index);
        let rounds = rounds(&after);
        let _ = writeln!(
            out,
            "  group {}, every {every}{at}: {} rules in {rounds} rounds of queries at most",
            group.name,
            after.len()
        );
        for rule in group.rules.clone() {
            let node = &graph.rules[rule];
            let number = rule - group.rules.start + 1;
            let _ = writeln!(out, "    {number} {} {}", kind(node.alerting), node.name);
            for edge in graph.edges_of(rule) {
                let writer = &graph.rules[edge.writer];
                let place = if writer.group == node.group {
                    (edge.writer - group.rules.start + 1).to_string()
                } else {
                    let other = &graph.groups[writer.group];
                    let number = edge.writer - other.rules.start + 1;
                    format!("{};{};{number}", file_name(&other.file), other.name)
                };
                let sees = match edge.sees {
                    Sees::ThisTick => "",
                    Sees::PreviousTick => ", of the tick before",
                    Sees::Latest => ", the latest",
                };
                let how = match edge.kind {
                    EdgeKind::Selector => "",
                    EdgeKind::Declared => " (depends_on)",
                    EdgeKind::Template => " (template)",
                    EdgeKind::Indeterminate => " (by a selector without a name)",
                };
                let _ = writeln!(out, "        reads {place} {}{sees}{how}", writer.name);
            }
        }
    }
    for problem in problems {
        let _ = writeln!(out, "{}: {problem}", problem.severity);
    }
    out
}

/// `1m`, `-30s`.
fn signed(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}", format_duration(ms.saturating_abs()))
}

/// How many times a group queries when as many rules as can be are queried together.
fn rounds(after: &[usize]) -> usize {
    let (mut rounds, mut asked) = (0, vec![false; after.len()]);
    for rule in 0..after.len() {
        if !asked[rule] {
            rounds += 1;
            (rule..after.len()).filter(|i| after[*i] <= rule).for_each(|i| asked[i] = true);
        }
    }
    rounds
}

fn dot(graph: &RuleGraph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut out = "digraph rules {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for (i, group) in graph.groups.iter().enumerate() {
        let label = quoted(&format!("{}\n{}", file_name(&group.file), group.name));
        let label = label.replace('\n', "\\n");
        let _ = writeln!(out, "  subgraph cluster_{i} {{\n    label={label};");
        for rule in group.rules.clone() {
            let node = &graph.rules[rule];
            let shape = if node.alerting { ", shape=octagon" } else { "" };
            let _ = writeln!(out, "    r{rule} [label={}{shape}];", quoted(&node.name));
        }
        out.push_str("  }\n");
    }
    for edge in graph.edges() {
        let style = match edge.sees {
            Sees::ThisTick => "solid",
            Sees::PreviousTick => "dashed",
            Sees::Latest => "dotted",
        };
        let color = if edge.kind == EdgeKind::Indeterminate { ", color=gray" } else { "" };
        let _ = writeln!(out, "  r{} -> r{} [style={style}{color}];", edge.writer, edge.reader);
    }
    out.push_str("}\n");
    out
}

fn document(graph: &RuleGraph, specs: &[&GroupSpec], problems: &[Problem]) -> Value {
    let groups: Vec<Value> = graph
        .groups
        .iter()
        .zip(specs)
        .enumerate()
        .map(|(i, (group, spec))| {
            let rules = group.rules.clone().zip(&spec.rules).zip(graph.ready_after(i));
            let rules: Vec<Value> = rules
                .map(|((rule, spec), after)| {
                    let node = &graph.rules[rule];
                    json!({
                        "id": rule,
                        "type": kind(node.alerting),
                        "name": node.name,
                        "query": spec.expr.printed,
                        "labels": spec.labels,
                        "line": spec.at.line,
                        "ready_after": after,
                        "reads_from_outside": node.outside,
                    })
                })
                .collect();
            json!({
                "file": group.file,
                "name": group.name,
                "interval_seconds": group.ticks.interval_ms as f64 / 1000.0,
                "offset_seconds": group.ticks.offset_ms.map(|ms| ms as f64 / 1000.0),
                "rules": rules,
            })
        })
        .collect();
    let edges = graph.edges().map(|edge| {
        json!({
            "reader": edge.reader,
            "writer": edge.writer,
            "by": how(edge.kind),
            "sees": when(edge.sees),
        })
    });
    let cycles =
        graph.cycles.iter().map(|c| json!({ "rules": c.rules, "within_group": c.within_group }));
    let problems = problems.iter().map(|p| {
        json!({
            "severity": p.severity.to_string(),
            "location": p.location(),
            "message": p.to_string(),
        })
    });
    json!({
        "groups": groups,
        "edges": edges.collect::<Vec<_>>(),
        "cycles": cycles.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
    })
}
