//! Functions that look at labels: rewriting, joining, sorting by them.

use std::cmp::Ordering;

use super::families::MAP;
use super::*;
use crate::model::value::ValueType::{InstantVector, String};

const LABELS: FunctionSpec =
    FunctionSpec { labels: LabelEffect::Own, histograms: HistogramPolicy::Accept, ..MAP };

pub(super) static ROWS: &[FunctionSpec] = &[
    FunctionSpec {
        name: "label_replace",
        args: &[InstantVector, String, String, String, String],
        kernel: Kernel::Operator(Operator::LabelReplace),
        doc: "`label_replace(v, dst, replacement, src, regex)` matches the regular expression \
              against the whole value of label `src`. Where it matches, label `dst` becomes the \
              replacement, in which `$1` or `${name}` stand for groups; an empty replacement \
              removes the label. Series that do not match pass unchanged. It may write \
              `__name__`.",
        example: "label_replace(up, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
        ..LABELS
    },
    FunctionSpec {
        name: "label_join",
        args: &[InstantVector, String, String, String],
        arity: Arity::Variadic { min: 3, max: None },
        kernel: Kernel::Operator(Operator::LabelJoin),
        doc: "`label_join(v, dst, separator, src_1, src_2, ...)` sets label `dst` to the values of \
              the source labels, joined by the separator. Absent labels count as empty.",
        example: "label_join(up, \"target\", \"/\", \"job\", \"instance\")",
        ..LABELS
    },
    FunctionSpec {
        name: "sort",
        labels: LabelEffect::Keep,
        kernel: Kernel::Operator(Operator::Sort { descending: false }),
        doc: "The series of an instant query in ascending order of their values, NaN last. Range \
              queries always order by labels, so there it does nothing but warn. Histograms are \
              dropped.",
        example: "sort(node_filesystem_avail_bytes)",
        ..MAP
    },
    FunctionSpec {
        name: "sort_desc",
        labels: LabelEffect::Keep,
        kernel: Kernel::Operator(Operator::Sort { descending: true }),
        doc: "The series of an instant query in descending order of their values, NaN last. Range \
              queries always order by labels, so there it does nothing but warn. Histograms are \
              dropped.",
        example: "sort_desc(sum by (job) (rate(http_requests_total[5m])))",
        ..MAP
    },
    FunctionSpec {
        name: "sort_by_label",
        args: &[InstantVector, String],
        arity: Arity::Variadic { min: 1, max: None },
        labels: LabelEffect::Keep,
        stability: Stability::Experimental,
        kernel: Kernel::Operator(Operator::SortByLabel { descending: false }),
        doc: "The series of an instant query in ascending order of the given labels, numbers in \
              them compared as numbers (`disk2` before `disk10`); ties are ordered by all labels. \
              Range queries always order by labels, so there it does nothing but warn.",
        example: "sort_by_label(up, \"instance\")",
        ..LABELS
    },
    FunctionSpec {
        name: "sort_by_label_desc",
        args: &[InstantVector, String],
        arity: Arity::Variadic { min: 1, max: None },
        labels: LabelEffect::Keep,
        stability: Stability::Experimental,
        kernel: Kernel::Operator(Operator::SortByLabel { descending: true }),
        doc: "The series of an instant query in descending order of the given labels, numbers in \
              them compared as numbers; ties are ordered by all labels. Range queries always \
              order by labels, so there it does nothing but warn.",
        example: "sort_by_label_desc(up, \"instance\")",
        ..LABELS
    },
    FunctionSpec {
        name: "info",
        args: &[InstantVector, InstantVector],
        arity: Arity::Optional(1),
        stability: Stability::Experimental,
        kernel: Kernel::Operator(Operator::Info),
        doc: "Adds to every series the labels of the info series (`target_info` unless the second \
              argument names others) with the same `instance` and `job`. The second argument, a \
              bare selector in braces, restricts which labels are added and which info series \
              count; a series without a match is dropped when a matcher there demands a value.",
        example: "info(rate(http_requests_total[5m]), {k8s_cluster_name=~\".+\"})",
        ..LABELS
    },
];

/// Order of label values in which runs of digits compare as numbers. Texts that differ
/// only in leading zeros are equal.
pub fn natural_cmp(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (chunk_a, rest_a) = next_chunk(a);
        let (chunk_b, rest_b) = next_chunk(b);
        if chunk_a.is_empty() || chunk_b.is_empty() {
            return chunk_a.len().cmp(&chunk_b.len());
        }
        let order = match (chunk_a.parse::<u64>(), chunk_b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => chunk_a.cmp(chunk_b),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// The leading run of digits or of anything else.
fn next_chunk(text: &str) -> (&str, &str) {
    let Some(first) = text.bytes().next() else { return ("", "") };
    let digits = first.is_ascii_digit();
    let end = text.bytes().position(|b| b.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_text_compare_as_numbers() {
        for (a, b, expected) in [
            ("disk2", "disk10", Ordering::Less),
            ("disk10", "disk10", Ordering::Equal),
            ("4:1", "4:12", Ordering::Less),
            ("4:1", "10:1", Ordering::Less),
            ("a", "a1", Ordering::Less),
            ("", "a", Ordering::Less),
            ("1", "a", Ordering::Less),
            ("b1", "a2", Ordering::Greater),
            ("99999999999999999999", "1", Ordering::Greater),
            ("ä10", "ä9", Ordering::Greater),
        ] {
            assert_eq!(natural_cmp(a, b), expected, "{a:?} {b:?}");
            assert_eq!(natural_cmp(b, a), expected.reverse(), "{b:?} {a:?}");
        }
    }
}
