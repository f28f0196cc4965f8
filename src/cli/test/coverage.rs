//! What `test rules --coverage` prints: a text for people, lcov's format for the tools that
//! read it, a page that stands alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::ValueEnum;

use crate::cli::junit::escaped;
use crate::rules::unit_test::{RuleCoverage, totals};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CoverageFormat {
    /// A line for each rule, and one for each thing the tests leave out.
    Text,
    /// For genhtml, codecov and editors.
    Lcov,
    /// A page that stands alone.
    Html,
}

/// The share that is covered in percent; all of nothing.
pub(super) fn percent(covered: usize, all: usize) -> f64 {
    if all == 0 { 100.0 } else { covered as f64 * 100.0 / all as f64 }
}

pub(super) fn render(rules: &[RuleCoverage], format: CoverageFormat) -> String {
    match format {
        CoverageFormat::Text => text(rules),
        CoverageFormat::Lcov => lcov(rules),
        CoverageFormat::Html => html(rules),
    }
}

fn text(rules: &[RuleCoverage]) -> String {
    let mut out = String::new();
    for rule in rules {
        let (covered, all) = (rule.covered(), rule.facets.len());
        let RuleCoverage { file, line, group, rule: name, .. } = rule;
        let _ = writeln!(out, "{covered:>3} of {all:<3} {file}:{line}: {name} ({group})");
        for facet in rule.facets.iter().filter(|facet| !facet.covered) {
            let _ = writeln!(out, "           not covered: {}", facet.what);
        }
    }
    let (covered, all) = totals(rules);
    let _ = write!(out, "coverage: {covered} of {all}, {:.1} %", percent(covered, all));
    out
}

fn by_file(rules: &[RuleCoverage]) -> BTreeMap<&str, Vec<&RuleCoverage>> {
    let mut files: BTreeMap<&str, Vec<&RuleCoverage>> = BTreeMap::new();
    for rule in rules {
        files.entry(&rule.file).or_default().push(rule);
    }
    files
}

/// A rule is a function; it is hit when anything about it is. Its other facets are branches.
fn lcov(rules: &[RuleCoverage]) -> String {
    let mut out = String::new();
    for (file, rules) in by_file(rules) {
        let _ = writeln!(out, "TN:\nSF:{file}");
        let hit = |rule: &RuleCoverage| u8::from(rule.covered() > 0);
        for rule in &rules {
            let _ = writeln!(out, "FN:{},{}", rule.line, rule.rule);
        }
        for rule in &rules {
            let _ = writeln!(out, "FNDA:{},{}", hit(rule), rule.rule);
        }
        let functions: u32 = rules.iter().map(|rule| u32::from(hit(rule))).sum();
        let _ = writeln!(out, "FNF:{}\nFNH:{functions}", rules.len());
        let (mut found, mut taken) = (0, 0);
        for rule in &rules {
            for (i, facet) in rule.facets.iter().enumerate() {
                let _ = writeln!(out, "BRDA:{},0,{i},{}", rule.line, u8::from(facet.covered));
                found += 1;
                taken += u32::from(facet.covered);
            }
        }
        let _ = writeln!(out, "BRF:{found}\nBRH:{taken}");
        let mut lines: BTreeMap<usize, u8> = BTreeMap::new();
        for rule in &rules {
            *lines.entry(rule.line).or_default() |= hit(rule);
        }
        for (line, hit) in &lines {
            let _ = writeln!(out, "DA:{line},{hit}");
        }
        let hits: u32 = lines.values().map(|hit| u32::from(*hit)).sum();
        let _ = writeln!(out, "LF:{}\nLH:{hits}\nend_of_record", lines.len());
    }
    out.truncate(out.trim_end().len());
    out
}

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2em .6em;border-bottom:1px solid #8884}\
.yes{color:#18794e}.no{color:#cd2b31}meter{width:8em}summary{cursor:pointer}code{font-size:90%}\
@media(prefers-color-scheme:dark){body{background:#111;color:#eee}.yes{color:#4cc38a}.no{color:#ff6369}}";

fn html(rules: &[RuleCoverage]) -> String {
    let (covered, all) = totals(rules);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Coverage of rule tests</title>\
         <style>{STYLE}</style></head><body>\n<h1>Coverage of rule tests</h1>\n\
         <p>{covered} of {all}, {:.1} %</p>\n",
        percent(covered, all)
    );
    for (file, rules) in by_file(rules) {
        let _ = writeln!(out, "<h2>{}</h2>", escaped(file));
        for rule in rules {
            let (covered, all) = (rule.covered(), rule.facets.len());
            let _ = writeln!(
                out,
                "<details{}><summary><meter value=\"{covered}\" max=\"{all}\"></meter> {covered} of {all} \
                 <b>{}</b> ({}, line {})</summary>\n<table>",
                if covered < all { " open" } else { "" },
                escaped(&rule.rule),
                escaped(&rule.group),
                rule.line
            );
            for facet in &rule.facets {
                let (class, word) =
                    if facet.covered { ("yes", "covered") } else { ("no", "not covered") };
                let what = escaped(&facet.what);
                let _ = writeln!(
                    out,
                    "<tr><td class=\"{class}\">{word}</td><td><code>{what}</code></td></tr>"
                );
            }
            out.push_str("</table></details>\n");
        }
    }
    out.push_str("</body></html>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::unit_test::Facet;

    #[test]
    fn the_same_is_told_in_every_format() {
        let facet =
            |what: &str, covered| Facet { what: what.to_owned(), is_branch: false, covered };
        let rule = |line, name: &str, facets| RuleCoverage {
            file: "r.yml".to_owned(),
            line,
            group: "g".to_owned(),
            rule: name.to_owned(),
            facets,
        };
        let rules = [
            rule(3, "A", vec![facet("it fires", true), facet("`<` holds", false)]),
            rule(9, "b", vec![facet("it gives series", false)]),
        ];
        assert_eq!(
            render(&rules, CoverageFormat::Text),
            "  1 of 2   r.yml:3: A (g)\n           not covered: `<` holds\n  0 of 1   r.yml:9: b (g)\n           not covered: it gives series\ncoverage: 1 of 3, 33.3 %"
        );
        assert_eq!(
            render(&rules, CoverageFormat::Lcov),
            "TN:\nSF:r.yml\nFN:3,A\nFN:9,b\nFNDA:1,A\nFNDA:0,b\nFNF:2\nFNH:1\nBRDA:3,0,0,1\nBRDA:3,0,1,0\nBRDA:9,0,0,0\nBRF:3\nBRH:1\nDA:3,1\nDA:9,0\nLF:2\nLH:1\nend_of_record"
        );
        let page = render(&rules, CoverageFormat::Html);
        assert!(page.contains("<td class=\"no\">not covered</td><td><code>`&lt;` holds</code>"));
        assert_eq!(percent(0, 0), 100.0);
    }
}
