//! Operations on label sets: done once per series; the samples pass unchanged.

use std::sync::Arc;

use super::cx::{Cx, ExecError, Result};
use super::open::open;
use super::operator::{BoxOp, Relabelled, SeriesMeta, SeriesTable};
use crate::model::labels::quote;
use crate::model::{Labels, METRIC_NAME, METRIC_TYPE, METRIC_UNIT, StepGrid};
use crate::plan::Node;
use crate::plan::node::{LabelReplace, NameDrop};

/// The series without their names; `None` when they stay as they are.
struct Dropped(Option<Arc<SeriesTable>>);

/// Drops metric names, or marks the series for the end.
pub(crate) fn drop_names<'a>(
    cx: &'a Cx,
    node: &Node,
    input: BoxOp<'a>,
    how: NameDrop,
) -> Result<BoxOp<'a>> {
    let old = input.series();
    let dropped = cx.of_series(node, &[old], || dropped(cx, old, how))?;
    Ok(match &dropped.0 {
        Some(table) => Box::new(Relabelled::new(table.clone(), input)),
        None => input,
    })
}

fn dropped(cx: &Cx, old: &SeriesTable, how: NameDrop) -> Result<Dropped> {
    let table = match how {
        NameDrop::Mark => SeriesTable {
            series: each_series(cx, old, |s| SeriesMeta {
                labels: s.labels.clone(),
                drop_name: true,
            })?,
            unique: old.unique,
        },
        NameDrop::Marked if old.series.iter().all(|s| !s.drop_name) => return Ok(Dropped(None)),
        NameDrop::Marked => without_names(cx, old, |s| s.drop_name, is_metadata)?,
        NameDrop::Unseen { by } if stay_distinct(old, by) => return Ok(Dropped(None)),
        NameDrop::Metadata | NameDrop::Unseen { .. } => {
            without_names(cx, old, |_| true, is_metadata)?
        }
        NameDrop::Name => without_names(cx, old, |_| true, |name| name == METRIC_NAME.as_bytes())?,
    };
    Ok(Dropped(Some(Arc::new(table))))
}

/// Something new for each series, unless the evaluation is to stop.
fn each_series(
    cx: &Cx,
    table: &SeriesTable,
    mut f: impl FnMut(&SeriesMeta) -> SeriesMeta,
) -> Result<Vec<SeriesMeta>> {
    table.series.iter().map(|s| cx.check().map(|()| f(s))).collect()
}

fn is_metadata(name: &[u8]) -> bool {
    [METRIC_NAME, METRIC_TYPE, METRIC_UNIT].iter().any(|known| known.as_bytes() == name)
}

/// True when distinct series stay so without their metadata labels, because all have the
/// same ones; when `!any`, `__name__` at most.
fn stay_distinct(table: &SeriesTable, any: bool) -> bool {
    let Some(first) = table.series.first() else { return true };
    let expected: Vec<&[u8]> = metadata_pairs(&first.labels).map(|(_, pair)| pair).collect();
    let only_name =
        || metadata_pairs(&first.labels).all(|(name, _)| name == METRIC_NAME.as_bytes());
    table.unique
        && (any || only_name())
        && table.series.iter().all(|s| {
            let mut expected = expected.iter();
            metadata_pairs(&s.labels).all(|(_, pair)| expected.next() == Some(&pair))
                && expected.next().is_none()
        })
}

/// The metadata labels of a set. They stand before all names that come after the last one.
fn metadata_pairs(labels: &Labels) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = labels.encoded_pairs().take_while(|(name, _)| *name <= METRIC_UNIT.as_bytes());
    pairs.filter(|(name, _)| is_metadata(name))
}

/// Takes the labels that `goes` names from the series that `from` selects. Distinct series
/// stay so when all lose the same.
fn without_names(
    cx: &Cx,
    old: &SeriesTable,
    from: impl Fn(&SeriesMeta) -> bool,
    goes: impl Fn(&[u8]) -> bool,
) -> Result<SeriesTable> {
    let lost = |labels: &Labels| -> Vec<u8> {
        let pairs = labels.encoded_pairs().filter(|(name, _)| goes(name));
        pairs.flat_map(|(_, pair)| pair.iter().copied()).collect()
    };
    let first = old.series.first().map(|s| lost(&s.labels)).unwrap_or_default();
    let mut same = old.unique;
    let series = each_series(cx, old, |s| {
        if !from(s) {
            same = false;
            return s.clone();
        }
        let mut left = &*first;
        let labels = s.labels.retain_encoded(|name, pair| {
            let stays = !goes(name);
            if !stays {
                match left.strip_prefix(pair) {
                    Some(rest) => left = rest,
                    None => same = false,
                }
            }
            stays
        });
        same &= left.is_empty();
        SeriesMeta::new(labels)
    })?;
    Ok(SeriesTable { series, unique: same })
}

/// `label_replace`
pub(crate) fn replace<'a>(cx: &'a Cx, node: &'a LabelReplace, grid: StepGrid) -> Result<BoxOp<'a>> {
    let regex = node.regex.as_ref().map_err(|e| ExecError::query(e.clone()))?;
    if !is_label_name(&node.target) {
        return Err(ExecError::query(format!(
            "invalid destination label name in label_replace(): {}",
            node.target
        )));
    }
    let input = open(cx, &node.input, grid)?;
    let series = each_series(cx, input.series(), |s| {
        let source = s.labels.get_or_empty(&node.source);
        let Some(found) = regex.find(source) else { return s.clone() };
        let value = regex.expand(&node.replacement, source, &found);
        with_label(s, &node.target, &value)
    })?;
    Ok(relabelled(input, series))
}

/// `label_join`
pub(crate) fn join<'a>(
    cx: &'a Cx,
    input: &'a Node,
    target: &str,
    separator: &str,
    sources: &[String],
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let invalid = |what: &str, name: &str| {
        ExecError::query(format!("invalid {what} label name in label_join(): {name}"))
    };
    if let Some(name) = sources.iter().find(|name| !is_label_name(name)) {
        return Err(invalid("source", name));
    }
    if !is_label_name(target) {
        return Err(invalid("destination", target));
    }
    let input = open(cx, input, grid)?;
    let series = each_series(cx, input.series(), |s| {
        let values: Vec<&str> = sources.iter().map(|n| s.labels.get_or_empty(n)).collect();
        with_label(s, target, &values.join(separator))
    })?;
    Ok(relabelled(input, series))
}

fn relabelled(input: BoxOp<'_>, series: Vec<SeriesMeta>) -> BoxOp<'_> {
    let table = SeriesTable { series, unique: false };
    Box::new(Relabelled::new(Arc::new(table), input))
}

/// Writing the metric name makes it stay, whatever was to drop it.
fn with_label(series: &SeriesMeta, name: &str, value: &str) -> SeriesMeta {
    let mut builder = series.labels.builder();
    builder.set(name, value);
    let drop_name = series.drop_name && name != METRIC_NAME;
    SeriesMeta { labels: builder.build(), drop_name }
}

/// Any UTF-8 but the empty text. The parser turns bytes that are no UTF-8 (`"\xff"`) into
/// U+FFFD, which therefore stands for what Prometheus refuses.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('\u{FFFD}')
}

/// The error of a label name that cannot be.
pub(crate) fn invalid_label_name(name: &str) -> ExecError {
    ExecError::query(format!("invalid label name {}", quote(name)))
}
