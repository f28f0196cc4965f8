//! Vector matching: which series of the two sides belong together, decided once per
//! series. The usual case streams; whatever needs a look at all steps goes to `general`.

use std::sync::Arc;

use hashbrown::HashSet;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::elements::Elements;
use super::general::General;
use super::streaming::Streaming;
use crate::exec::cx::{Cx, Pace, Result};
use crate::exec::exchange::{both, collect};
use crate::exec::group::{Groups, KeyLabels};
use crate::exec::open::open;
use crate::exec::operator::{BoxOp, SeriesMeta, SeriesTable};
use crate::model::{Labels, StepGrid, is_metadata_label};
use crate::parser::ast::{Cardinality, VectorMatching};
use crate::plan::node::Join;

/// The series of a group on the "one" side: mostly a single one.
pub(super) type Ones = SmallVec<[u32; 4]>;

/// How matched series become a result, with the sides ordered as "many" and "one": for
/// `group_right` they are swapped, and for one-to-one the left is "many".
#[derive(Clone, Copy)]
pub(super) struct Match<'m, 'a> {
    pub elements: Elements<'a>,
    pub matching: &'a VectorMatching,
    pub key: &'m KeyLabels,
    /// "many" is the right side of the expression.
    pub swapped: bool,
    delayed_names: bool,
}

impl Match<'_, '_> {
    pub(super) fn one_to_one(&self) -> bool {
        self.matching.card == Cardinality::OneToOne
    }

    /// The values missing samples of "many" and "one" are filled with.
    pub(super) fn fills(&self) -> (Option<f64>, Option<f64>) {
        let (left, right) = (self.matching.fill_left, self.matching.fill_right);
        if self.swapped { (right, left) } else { (left, right) }
    }

    /// The series of what a pair gives. `one` is `None` for a series without a partner; a
    /// name of `many` that is to go at the end still is.
    pub(super) fn result(&self, many: &Labels, drops: bool, one: Option<&Labels>) -> SeriesMeta {
        let op = self.elements.op;
        let keeps_name = op.is_comparison() || op.is_trim();
        let mut drops_metadata = !keeps_name;
        let mut drop_name = drops;
        if self.elements.return_bool {
            drop_name |= self.delayed_names;
            drops_metadata = !self.delayed_names;
        }
        let one_to_one = self.one_to_one();
        let keep = |name: &str| {
            if drops_metadata && is_metadata_label(name) {
                return false;
            }
            if !one_to_one {
                return true;
            }
            match (self.matching.on, self.key) {
                (true, key) => key.keeps(name),
                (false, _) => !self.matching.labels.iter().any(|l| l == name),
            }
        };
        let labels = many.retain(keep);
        let labels = match one {
            Some(one) if !self.matching.include.is_empty() => {
                let mut builder = labels.builder();
                for name in &self.matching.include {
                    builder.set(name, one.get_or_empty(name));
                }
                builder.build()
            }
            _ => labels,
        };
        SeriesMeta { labels, drop_name }
    }
}

/// Opens a matched operation.
pub(crate) fn join<'a>(cx: &'a Cx, node: &'a Join, grid: StepGrid) -> Result<BoxOp<'a>> {
    let (lhs, rhs) = both(cx, || open(cx, &node.lhs, grid), || open(cx, &node.rhs, grid));
    let matching = &node.matching;
    let swapped = matching.card == Cardinality::OneToMany;
    let (many, one) = if swapped { (rhs?, lhs?) } else { (lhs?, rhs?) };
    let key = match matching.on {
        true => KeyLabels::only(&matching.labels),
        false => KeyLabels::all_but(&matching.labels),
    };
    let matched = Match {
        elements: Elements { cx, op: node.op, return_bool: node.return_bool, span: &node.span },
        matching,
        key: &key,
        swapped,
        delayed_names: node.delayed_names,
    };
    let (many_series, one_series) = (many.series(), one.series());
    let partners = cx.of_series(node, &[many_series, one_series], || {
        partners(&matched, many_series, one_series)
    })?;
    if let Some(table) = &partners.streamed {
        let first = |g: &u32| partners.ones[*g as usize].first().copied();
        let partner = partners.many_groups.iter().map(first).collect();
        let one = Arc::new(collect(cx, one, grid.len)?);
        let elements = matched.elements;
        return Ok(Box::new(Streaming::new(elements, swapped, many, one, partner, table.clone())));
    }
    let steps = grid.len;
    let (many, one) = both(cx, || collect(cx, many, steps), || collect(cx, one, steps));
    let (groups, ones) = (partners.many_groups.clone(), partners.ones.clone());
    let general = General::new(matched, many?, one?, groups, ones);
    Ok(Box::new(general.run()?))
}

/// Who belongs together.
struct Partners {
    /// Of each series of "many", its group.
    many_groups: Vec<u32>,
    /// Of each group, its series of "one".
    ones: Vec<Ones>,
    streamed: Option<Arc<SeriesTable>>,
}

fn partners(matched: &Match<'_, '_>, many: &SeriesTable, one: &SeriesTable) -> Result<Partners> {
    let cx = matched.elements.cx;
    let mut groups = Groups::new(matched.key.clone());
    let mut number = |table: &SeriesTable| -> Result<Vec<u32>> {
        table.series.iter().map(|s| cx.check().map(|()| groups.number(&s.labels))).collect()
    };
    let (one_groups, many_groups) = (number(one)?, number(many)?);
    let mut ones: Vec<Ones> = vec![Ones::new(); groups.len() as usize];
    let mut pace = Pace::new(cx);
    for (row, group) in one_groups.iter().enumerate() {
        pace.work(1)?;
        ones[*group as usize].push(row as u32);
    }
    let streamed = streamed_table(matched, many, &many_groups, one, &ones)?;
    Ok(Partners { many_groups, ones, streamed })
}

/// The output series when each series of "many" has its own and at most one partner, so
/// that no step can hold a surprise; else `None`.
fn streamed_table(
    matched: &Match<'_, '_>,
    many: &SeriesTable,
    many_groups: &[u32],
    one: &SeriesTable,
    ones: &[Ones],
) -> Result<Option<Arc<SeriesTable>>> {
    if matched.fills() != (None, None) || ones.iter().any(|rows| rows.len() > 1) {
        return Ok(None);
    }
    let mut taken = vec![false; ones.len()];
    let mut series = Vec::with_capacity(many.series.len());
    let mut seen: HashSet<Labels, FxBuildHasher> = HashSet::default();
    for (s, group) in many.series.iter().zip(many_groups) {
        matched.elements.cx.check()?;
        let partner = ones[*group as usize].first();
        let result = matched.result(&s.labels, s.drop_name, partner.map(|row| one.labels(*row)));
        if partner.is_some() {
            let again = std::mem::replace(&mut taken[*group as usize], true);
            if matched.one_to_one() && again || !seen.insert(result.labels.clone()) {
                return Ok(None);
            }
        }
        series.push(result);
    }
    // Series without a partner yield nothing, but their labels may coincide with others'.
    let unique = many_groups.iter().all(|group| !ones[*group as usize].is_empty());
    Ok(Some(Arc::new(SeriesTable { series, unique })))
}
