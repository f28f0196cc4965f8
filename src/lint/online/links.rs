//! Links in annotations, which must lead somewhere: asked of whoever they point to, where a
//! policy says so.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::diagnostics::Severity;
use crate::lint::context::{Findings, RuleCx, finding};
use crate::lint::settings::LinkPolicy;

/// A link to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it is looked for.
    pub url: String,
    pub headers: BTreeMap<String, String>,
}

/// A link of a rule and the policy about it.
pub(in crate::lint) struct Found<'a> {
    pub url: String,
    at: Range<usize>,
    policy: &'a LinkPolicy,
}

impl Found<'_> {
    pub(in crate::lint) fn link(&self) -> Link {
        Link { url: self.url.clone(), headers: self.policy.headers.clone() }
    }
}

/// The links of a rule's annotations that a policy is about. What a template makes of a text
/// is not known, so those with one are left out.
pub(in crate::lint) fn links<'a>(cx: &RuleCx<'a>) -> Vec<Found<'a>> {
    let policies: Vec<&LinkPolicy> = cx.policies().flat_map(|policy| &policy.link).collect();
    let mut found = Vec::new();
    if policies.is_empty() {
        return found;
    }
    for (_, node) in cx.written.map("annotations") {
        let Some(text) = node.scalar() else { continue };
        for range in urls(text) {
            let written = &text[range.clone()];
            let Some(policy) = policies.iter().find(|p| p.url.matches(written)) else { continue };
            let url = match &policy.uri {
                Some(uri) => policy.url.expand(uri, written),
                None => written.to_owned(),
            };
            found.push(Found { url, at: cx.file().inside(&node, range), policy });
        }
    }
    found
}

/// Where links stand in a text.
fn urls(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("http").map(|at| from + at) {
        let rest = &text[at..];
        let stops = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | '|');
        let length = rest.find(stops).unwrap_or(rest.len());
        let word = rest[..length].trim_end_matches(['.', ',', ';', ':', ')', ']', '!', '?']);
        let is_link = word.starts_with("http://") || word.starts_with("https://");
        // A template ends somewhere behind; what it leaves is not a link of its own.
        if is_link && !word.contains("{{") && !word.contains("}}") {
            found.push(at..at + word.len());
        }
        from = at + length.max("http".len());
    }
    found
}

/// `rule/link`
pub(in crate::lint) fn link(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(observed) = &cx.group.project.observed else { return };
    for found in links(cx) {
        let Some(answer) = observed.links.get(&found.url) else { continue };
        let problem = match answer {
            Ok(200) => continue,
            Ok(status) => format!("the link is answered with HTTP status {status}"),
            Err(error) => format!("the link leads nowhere: {error}"),
        };
        let mut problem = finding(problem).at(found.at);
        problem.notes.extend(found.policy.comment.clone());
        let severity = found.policy.severity.map_or(Severity::Bug, |s| s.severity());
        out.rule_as(cx, Some(severity), None, problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_in_texts() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<&str> = urls(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("https://a.b/c", &["https://a.b/c"]);
        check("see https://a.b/c, or (http://d).", &["https://a.b/c", "http://d"]);
        check("https://a.b/{{ $labels.job }}/x", &[]);
        check("httpd is down; http is not; https:/x", &[]);
        check("<https://a?b=c#d> 'http://é/'", &["https://a?b=c#d", "http://é/"]);
    }
}
