//! What several bound plans have in common.
//!
//! Nodes get a class: two of the same class yield the same series with the same samples,
//! wherever they stand, because they do the same to inputs of the same classes on the same
//! grid, and selectors read the same request at the same times. Where a node stands in its
//! query's text is no part of its class, so what points into the text must be put right by
//! who reads another's result. Classes are found by comparing what nodes are in full,
//! never by a hash alone.
//!
//! What is found names nodes by where they stand and times by numbers, so that it serves
//! the same plans again at another time, once its times are [moved](Commons::move_by).

use std::fmt::Write;
use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::bind::{StatsScope, Within};
use super::node::{Node, RangeSource, Select};
use super::{Binding, Plan};
use crate::model::StepGrid;

/// A plan on its grid, one of several.
#[derive(Clone, Copy)]
pub(crate) struct Member<'p> {
    pub plan: &'p Plan,
    pub binding: &'p Binding,
    /// For each request of the binding, its number among those of all members.
    pub requests: &'p [u32],
}

/// The way from the root of a plan to a node: which child, again and again.
pub(crate) type Path = SmallVec<[u16; 8]>;

/// Something more than one reader needs.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// One of the nodes of the class, and the member it belongs to.
    pub path: Path,
    pub member: usize,
    pub grid: StepGrid,
    /// How many times it is read, by members and by other common nodes.
    pub readers: u32,
    /// 0 when it reads no other common node, else one more than those it reads.
    pub depth: u32,
}

/// Numbers by address of a node.
pub(crate) type ByNode = HashMap<usize, u32, FxBuildHasher>;

/// What the members have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commons {
    pub all: Vec<Common>,
    /// The number of what a node has in common with others; holds while the plans live.
    pub by_node: Arc<ByNode>,
    /// For each request, how many selectors that are not the same read it.
    pub selectors: Vec<u32>,
}

impl Commons {
    /// Makes the times later by so much, as those of the bindings were made.
    pub(crate) fn move_by(&mut self, ms: i64) {
        self.all.iter_mut().for_each(|common| common.grid.start_ms += ms);
    }
}

/// The node at the end of a path.
pub(crate) fn node_at<'p>(root: &'p Node, path: &[u16]) -> &'p Node {
    path.iter().fold(root, |node, child| node.children()[usize::from(*child)])
}

/// A node's place in memory: what tells the nodes of living plans apart.
pub(crate) fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

/// Finds what is evaluated more than once, `requests` being the number of all requests.
pub(crate) fn commons(members: &[Member<'_>], requests: usize) -> Commons {
    let mut search = Search { selectors: vec![0; requests], ..Search::default() };
    for (number, member) in members.iter().enumerate() {
        let kinds = kinds(&member.plan.root);
        let path = Path::new();
        let mut walk = Walk { search: &mut search, member: *member, number, kinds: &kinds, path };
        let root = walk.node(&member.plan.root, member.binding.grid);
        search.classes[root as usize].readers += 1;
    }
    search.finish()
}

#[derive(Default)]
struct Search {
    numbers: HashMap<Box<[u8]>, u32, FxBuildHasher>,
    classes: Vec<Class>,
    nodes: Vec<(usize, u32)>,
    selectors: Vec<u32>,
    key: Vec<u8>,
}

struct Class {
    path: Path,
    worth_it: bool,
    member: usize,
    grid: StepGrid,
    readers: u32,
    inputs: SmallVec<[u32; 4]>,
}

/// The walk through one member.
struct Walk<'s, 'p> {
    search: &'s mut Search,
    member: Member<'p>,
    number: usize,
    /// Kinds of the nodes not yet visited.
    kinds: &'s [Box<str>],
    /// To the node being visited.
    path: Path,
}

impl<'p> Walk<'_, 'p> {
    fn node(&mut self, node: &'p Node, grid: StepGrid) -> u32 {
        let (kind, rest) = self.kinds.split_first().expect("BUG: every node has a kind");
        self.kinds = rest;
        let binding = self.member.binding;
        let inputs: SmallVec<[u32; 4]> = binding
            .inputs(node, grid)
            .into_iter()
            .enumerate()
            .map(|(child, (input, grid))| {
                self.path.push(child as u16);
                let class = self.node(input, grid);
                self.path.pop();
                class
            })
            .collect();
        let mut key = std::mem::take(&mut self.search.key);
        key.clear();
        // A kind holds no zero byte and says how many numbers follow.
        key.extend_from_slice(kind.as_bytes());
        key.push(0);
        let mut number = |n: i64| key.extend_from_slice(&n.to_le_bytes());
        [grid.start_ms, grid.step_ms, i64::from(grid.len)].into_iter().for_each(&mut number);
        for select in node.own_selects() {
            let bound = binding.selects[select.id];
            number(i64::from(self.member.requests[bound.request]));
            // A time that is not pinned is none that `@` can name.
            number(bound.at_ms.map_or(0, |_| 1));
            number(bound.at_ms.unwrap_or(0));
            [bound.offset_ms, bound.range_ms, bound.from_ms, bound.to_ms]
                .into_iter()
                .for_each(&mut number);
            scopes(binding, bound.scope, &mut number);
        }
        if let Some(RangeSource::Subquery(sub)) = node.range_source() {
            let bound = binding.subqueries[sub.id];
            number(bound.at_ms.map_or(0, |_| 1));
            number(bound.at_ms.unwrap_or(0));
            [bound.offset_ms, bound.range_ms].into_iter().for_each(&mut number);
            scopes(binding, bound.scope, &mut number);
        }
        inputs.iter().for_each(|input| number(i64::from(*input)));
        let class = self.class(&key, node, grid, inputs);
        self.search.key = key;
        self.search.nodes.push((address(node), class));
        class
    }

    fn class(
        &mut self,
        key: &[u8],
        node: &'p Node,
        grid: StepGrid,
        inputs: SmallVec<[u32; 4]>,
    ) -> u32 {
        let search = &mut *self.search;
        if let Some(class) = search.numbers.get(key) {
            return *class;
        }
        for input in &inputs {
            search.classes[*input as usize].readers += 1;
        }
        for select in node.own_selects() {
            let request = self.member.binding.selects[select.id].request;
            search.selectors[self.member.requests[request] as usize] += 1;
        }
        let class = search.classes.len() as u32;
        search.numbers.insert(key.into(), class);
        let (path, worth_it) = (self.path.clone(), is_worth_it(node));
        let member = self.number;
        search.classes.push(Class { path, worth_it, member, grid, readers: 0, inputs });
        class
    }
}

/// What decides how the samples of a selector are counted.
fn scopes(binding: &Binding, mut scope: usize, number: &mut impl FnMut(i64)) {
    loop {
        let StatsScope { grid, parent, within } = binding.scopes[scope];
        let within = match within {
            Within::Query => 0,
            Within::Once => 1,
            Within::Subquery { bare: false } => 2,
            Within::Subquery { bare: true } => 3,
        };
        [within, grid.start_ms, grid.step_ms, i64::from(grid.len)]
            .into_iter()
            .for_each(&mut *number);
        if within == 0 {
            return;
        }
        scope = parent;
    }
}

impl Search {
    /// Inputs have lower numbers than what reads them, so one pass settles everything.
    fn finish(self) -> Commons {
        let mut commons = Commons { selectors: self.selectors, ..Commons::default() };
        let mut by_node = ByNode::default();
        let mut number_of: Vec<Option<u32>> = Vec::with_capacity(self.classes.len());
        // Of each class, how deep what is common reaches at it and below.
        let mut height: Vec<u32> = Vec::with_capacity(self.classes.len());
        for class in self.classes {
            let below = class.inputs.iter().map(|i| height[*i as usize]).max().unwrap_or(0);
            let common = class.readers > 1 && class.worth_it;
            height.push(below + u32::from(common));
            number_of.push(common.then(|| {
                let Class { path, member, grid, readers, .. } = class;
                commons.all.push(Common { path, member, grid, readers, depth: below });
                commons.all.len() as u32 - 1
            }));
        }
        for (address, class) in self.nodes {
            if let Some(number) = number_of[class as usize] {
                by_node.insert(address, number);
            }
        }
        commons.by_node = Arc::new(by_node);
        commons
    }
}

/// True for nodes that yield series and cost more than handing a copy out.
fn is_worth_it(node: &Node) -> bool {
    match node {
        Node::VectorOf(_)
        | Node::Nothing(_)
        | Node::StepInvariant(_)
        | Node::RangeResult(_)
        | Node::Text(_) => false,
        node => !node.is_scalar(),
    }
}

/// What each node of a tree is, inputs first to last as [`Node::children`] gives them, a
/// node before its inputs: everything that decides what it does to its inputs, but for
/// times and requests, which only a binding knows, and positions in the text.
fn kinds(root: &Node) -> Vec<Box<str>> {
    let mut out = vec![];
    collect_kinds(root, &mut out);
    out
}

fn collect_kinds(node: &Node, out: &mut Vec<Box<str>>) {
    out.push(kind(node).into());
    node.children().into_iter().for_each(|child| collect_kinds(child, out));
}

/// Texts of the user are quoted, lists carry their lengths: no two kinds read the same.
fn kind(node: &Node) -> String {
    match node {
        Node::Number(v) => format!("number {:x}", v.to_bits()),
        Node::Text(text) => format!("text {text:?}"),
        Node::EvalTime => "time".into(),
        Node::QueryTime(what) => format!("query {what:?}"),
        Node::ScalarCall { function, args } => format!("call {} {}", function.name, args.len()),
        Node::ScalarBinary { op, .. } => format!("scalar {op:?}"),
        Node::ScalarNegate(_) => "scalar negate".into(),
        Node::ScalarOf(_) => "scalar of".into(),
        Node::Select(select) => format!("select {}", selector(select)),
        Node::VectorOf(_) => "vector".into(),
        Node::Map { function, scalars, .. } => format!("map {} {}", function.name, scalars.len()),
        Node::StepTime(_) => "step time".into(),
        Node::Nothing(_) => "nothing".into(),
        Node::Range(call) => {
            let (name, scalars) = (call.function.name, call.scalars.len());
            format!("range {name} {scalars} {}", source(&call.source))
        }
        Node::RangeResult(range) => format!("range result {}", source(range)),
        Node::Negate(_) => "negate".into(),
        Node::VectorScalar(b) => {
            format!("vector scalar {:?} {} {}", b.op, b.scalar_on_left, b.return_bool)
        }
        Node::Join(b) => {
            format!("join {:?} {:?} {} {}", b.op, b.matching, b.return_bool, b.delayed_names)
        }
        Node::SetOp { op, on, labels, .. } => format!("set {op:?} {on} {labels:?}"),
        Node::Aggregate(a) => {
            format!("aggregate {} {} {:?}", a.op.name, a.param.is_some(), a.grouping)
        }
        Node::Choose(c) => format!("choose {} {:?} {:?}", c.op.name, c.selection, c.grouping),
        Node::CountValues { label, grouping, .. } => format!("count_values {label:?} {grouping:?}"),
        Node::Absent { labels, .. } => format!("absent {labels:?}"),
        Node::AbsentOverTime { source: range, labels } => {
            format!("absent_over_time {labels:?} {}", source(range))
        }
        Node::HistogramQuantiles(h) => format!("quantiles {} {:?}", h.quantiles.len(), h.label),
        Node::HistogramFraction { .. } => "fraction".into(),
        Node::LabelReplace(l) => {
            let regex = l.regex.as_ref().map(|regex| regex.as_str());
            format!("replace {:?} {:?} {:?} {regex:?}", l.target, l.replacement, l.source)
        }
        Node::LabelJoin { target, separator, sources, .. } => {
            format!("label_join {target:?} {separator:?} {sources:?}")
        }
        Node::Sort { descending, .. } => format!("sort {descending}"),
        Node::SortByLabel { labels, descending, .. } => format!("sort by {descending} {labels:?}"),
        Node::Info(info) => {
            let mut out = format!("info {}", selector(&info.select));
            for (list, matchers) in [("data", &info.data_matchers), ("names", &info.name_matchers)]
            {
                write!(out, " {list}").expect("BUG: writing to a String cannot fail");
                for m in matchers {
                    write!(out, " {:?} {:?} {:?}", m.name, m.op, m.value)
                        .expect("BUG: writing to a String cannot fail");
                }
            }
            out
        }
        Node::DropName { how, .. } => format!("drop name {how:?}"),
        Node::MergeDuplicates { overlap, .. } => format!("merge {overlap:?}"),
        Node::StepInvariant(_) => "invariant".into(),
    }
}

/// The matchers are those of the request.
fn selector(select: &Select) -> String {
    let Select { emit, stats_only, extension, range, .. } = select;
    format!("{emit:?} {stats_only} {extension:?} {}", range.is_some())
}

fn source(source: &RangeSource) -> String {
    match source {
        RangeSource::Select(select) => format!("of {}", selector(select)),
        RangeSource::Subquery(_) => "of subquery".into(),
    }
}
