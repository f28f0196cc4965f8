//! A rule file as it is written: the nodes of its groups and rules beside what was read
//! from them, for those who show a person where something stands.

use std::sync::Arc;

use super::kubernetes::{self, Kind};
use super::load::{LoadedFile, load_documents};
use super::{GroupSpec, LoadOptions, RuleSpec};
use crate::yaml::{self, Content, Document, Entry, Node};

/// See the module.
#[derive(Debug)]
pub(crate) struct Written {
    pub loaded: LoadedFile,
    /// The keys `groups` and their lists.
    pub lists: Vec<Entry>,
    /// The groups in file order, those that cannot be used as well; none when the file is
    /// no YAML.
    pub groups: Vec<WrittenGroup>,
}

/// A group as written.
#[derive(Debug)]
pub(crate) struct WrittenGroup {
    pub node: Arc<Node>,
    entries: Vec<Entry>,
    /// Index into [`LoadedFile::groups`], when it can be used.
    pub spec: Option<usize>,
    pub rules: Vec<WrittenRule>,
}

/// A rule as written.
#[derive(Debug)]
pub(crate) struct WrittenRule {
    pub node: Arc<Node>,
    entries: Vec<Entry>,
    /// Index into [`GroupSpec::rules`], when it can be used.
    pub spec: Option<usize>,
}

impl WrittenGroup {
    /// The fields, merge keys followed.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries of a field that is a mapping, such as `labels`.
    pub(crate) fn map(&self, name: &str) -> Vec<Entry> {
        map(&self.entries, name)
    }

    /// The key and the value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Entry> {
        find(&self.entries, name)
    }
}

impl WrittenRule {
    /// The fields, merge keys followed.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The key and the value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Entry> {
        find(&self.entries, name)
    }

    /// The entries of a field that is a mapping, such as `labels`.
    pub(crate) fn map(&self, name: &str) -> Vec<Entry> {
        map(&self.entries, name)
    }
}

fn map(entries: &[Entry], name: &str) -> Vec<Entry> {
    let node = find(entries, name).map(|(_, value)| value);
    node.and_then(|n| n.merged(&mut |_| {})).unwrap_or_default()
}

fn find<'a>(entries: &'a [Entry], name: &str) -> Option<&'a Entry> {
    entries.iter().find(|(key, _)| key.scalar() == Some(name))
}

/// Reads a file as [`load_source`](super::load_source) does, and keeps its nodes.
pub(crate) fn read_written(file: &str, source: &str, options: &LoadOptions) -> Written {
    let parsed = yaml::parse(source);
    let loaded = load_documents(file, source, &parsed, options);
    let roots = parsed.as_deref().map(roots).unwrap_or_default().into_iter();
    let lists = roots.filter_map(|root| {
        fields(root).into_iter().find(|(key, _)| key.scalar() == Some("groups"))
    });
    let lists: Vec<Entry> = lists.collect();
    let mut groups: Vec<_> =
        lists.iter().flat_map(|(_, list)| items(list)).map(written_group).collect();
    pair_groups(&mut groups, &loaded.groups);
    Written { loaded, lists, groups }
}

/// The mappings that hold `groups`.
fn roots(documents: &[Document]) -> Vec<&Arc<Node>> {
    let all: Vec<&Arc<Node>> = documents.iter().filter_map(|d| d.root.as_ref()).collect();
    if all.iter().all(|root| kubernetes::kind(root).is_none()) {
        return documents.first().and_then(|d| d.root.as_ref()).into_iter().collect();
    }
    let mut found = Vec::new();
    for root in all {
        match kubernetes::kind(root) {
            None => found.push(root),
            Some(Kind::PrometheusRule) => found.extend(root.get("spec")),
            Some(Kind::List) => {
                let list = root.get("items").map(|n| &n.content);
                let Some(Content::Sequence(list)) = list else { continue };
                let rules =
                    list.iter().filter(|n| kubernetes::kind(n) == Some(Kind::PrometheusRule));
                found.extend(rules.filter_map(|n| n.get("spec")));
            }
            Some(Kind::Other(_)) => {}
        }
    }
    found
}

fn written_group(node: Arc<Node>) -> WrittenGroup {
    let entries = fields(&node);
    let rules = find(&entries, "rules").map(|(_, list)| items(list)).unwrap_or_default();
    let rule = |node: Arc<Node>| WrittenRule { entries: fields(&node), node, spec: None };
    WrittenGroup { entries, spec: None, rules: rules.into_iter().map(rule).collect(), node }
}

fn fields(node: &Node) -> Vec<Entry> {
    node.merged(&mut |_| {}).unwrap_or_default()
}

fn items(node: &Node) -> Vec<Arc<Node>> {
    match &node.content {
        Content::Sequence(items) => items.clone(),
        _ => Vec::new(),
    }
}

/// What can be used is a part of what is written, in the same order.
fn pair_groups(groups: &mut [WrittenGroup], specs: &[GroupSpec]) {
    let mut next = 0;
    for group in groups {
        let at = group.field("name").map_or(group.node.at, |(_, name)| name.at);
        let Some(spec) = specs.get(next).filter(|spec| spec.at == at) else { continue };
        group.spec = Some(next);
        next += 1;
        pair_rules(&mut group.rules, &spec.rules);
    }
}

fn pair_rules(rules: &mut [WrittenRule], specs: &[Arc<RuleSpec>]) {
    let mut next = 0;
    for rule in rules {
        if specs.get(next).is_some_and(|spec| spec.at == rule.node.at) {
            rule.spec = Some(next);
            next += 1;
        }
    }
}
