//! What is odd about the metrics of a target: names, units, types, help texts. The
//! findings and their texts are those of Prometheus' `promlint`. Knows families, not
//! how bytes came here.

use std::collections::{BTreeMap, HashSet};

use super::parse::{Entry, LabelPairs, ParseError, text};
use crate::model::metadata::MetricType;
use crate::model::{Labels, METRIC_NAME};

/// One finding about one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricProblem {
    pub family: String,
    pub text: String,
}

/// How many series a family has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cardinality {
    pub family: String,
    pub series: usize,
}

/// The metrics of a body in the Prometheus text format, by family.
#[derive(Clone, Debug, Default)]
pub struct MetricFamilies {
    by_name: BTreeMap<String, Family>,
}

#[derive(Clone, Debug, Default)]
struct Family {
    kind: MetricType,
    has_help: bool,
    /// Label sets without those that tell the parts of one histogram or summary apart.
    metrics: Vec<Labels>,
    /// The histograms and summaries among them, to know one again by its parts.
    composed: HashSet<Labels>,
    /// Series, sums and counts of histograms and summaries included.
    series: usize,
}

impl MetricFamilies {
    /// Reads a whole body. Every line must end with a line break, and no label may stand
    /// twice in one series.
    pub fn read(input: &[u8]) -> Result<Self, ParseError> {
        if input.last().is_some_and(|last| *last != b'\n') {
            let line = input.iter().filter(|b| **b == b'\n').count() + 1;
            return Err(ParseError { line, text: "unexpected end of input stream".to_owned() });
        }
        let mut families = Self::default();
        let mut pairs = LabelPairs::default();
        for entry in text(input) {
            match entry? {
                Entry::Help { family, .. } => families.family(&family).has_help = true,
                Entry::Type { family, kind } => families.family(&family).kind = kind,
                Entry::Series(series) => {
                    series.labels(&mut pairs)?;
                    if let Some(name) = pairs.duplicate() {
                        let metric = pairs.iter().find(|(n, _)| *n == METRIC_NAME);
                        let metric = metric.map_or("", |(_, value)| value);
                        return Err(ParseError {
                            line: series.line(),
                            text: format!("duplicate label name {name:?} for metric {metric:?}"),
                        });
                    }
                    families.add(&pairs.build());
                }
                Entry::Unit { .. } | Entry::Comment => {}
            }
        }
        // A family that was only described has nothing to look at.
        families.by_name.retain(|_, family| !family.metrics.is_empty());
        Ok(families)
    }

    fn family(&mut self, name: &str) -> &mut Family {
        self.by_name.entry(name.to_owned()).or_default()
    }

    fn kind(&self, name: &str) -> Option<MetricType> {
        self.by_name.get(name).map(|family| family.kind)
    }

    fn add(&mut self, labels: &Labels) {
        let name = labels.get(METRIC_NAME).unwrap_or_default();
        let (family, part) = self.family_of(name);
        let part_label = match part {
            Part::Metric => "",
            Part::OfHistogram => "le",
            Part::OfSummary => "quantile",
        };
        let pairs = labels.iter().filter(|(n, _)| *n != METRIC_NAME && *n != part_label);
        let metric = Labels::from_sorted_pairs(pairs);
        let family = self.by_name.entry(family.to_owned()).or_default();
        family.series += 1;
        if part == Part::Metric || family.composed.insert(metric.clone()) {
            family.metrics.push(metric);
        }
    }

    /// The family a series belongs to: that of its name, or of its name without the
    /// suffix of a histogram or summary that was declared.
    fn family_of<'a>(&self, name: &'a str) -> (&'a str, Part) {
        let own = match self.kind(name) {
            Some(MetricType::Histogram) => Some(Part::OfHistogram),
            Some(MetricType::Summary) => Some(Part::OfSummary),
            Some(_) => Some(Part::Metric),
            None => None,
        };
        if let Some(part) = own {
            return (name, part);
        }
        for suffix in ["_count", "_sum", "_bucket"] {
            let Some(base) = name.strip_suffix(suffix) else { continue };
            match self.kind(base) {
                Some(MetricType::Histogram) => return (base, Part::OfHistogram),
                Some(MetricType::Summary) if suffix != "_bucket" => return (base, Part::OfSummary),
                _ => {}
            }
        }
        (name, Part::Metric)
    }

    /// Everything that is odd, by family and text.
    pub fn problems(&self) -> Vec<MetricProblem> {
        let mut problems = Vec::new();
        for (name, family) in &self.by_name {
            let mut say =
                |text: String| problems.push(MetricProblem { family: name.clone(), text });
            if !family.has_help {
                say("no help text".to_owned());
            }
            lint_unit(name, &mut say);
            lint_type(name, family, &mut say);
            lint_labels(family, &mut say);
            lint_spelling(name, &mut say);
        }
        problems.sort();
        problems
    }

    /// The families by their number of series, the largest first.
    pub fn cardinalities(&self) -> Vec<Cardinality> {
        let of = |(name, family): (&String, &Family)| Cardinality {
            family: name.clone(),
            series: family.series,
        };
        let mut all: Vec<_> = self.by_name.iter().map(of).collect();
        all.sort_by_key(|c| std::cmp::Reverse(c.series));
        all
    }
}

/// What a series is to its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Metric,
    OfHistogram,
    OfSummary,
}

/// Units and the base unit to use instead; base units name themselves.
const UNITS: &[(&str, &str)] = &[
    ("amperes", "amperes"),
    ("bits", "bytes"),
    ("bytes", "bytes"),
    ("calories", "joules"),
    ("celsius", "celsius"),
    ("days", "seconds"),
    ("fahrenheit", "celsius"),
    ("grams", "grams"),
    ("hours", "seconds"),
    ("inches", "meters"),
    ("joules", "joules"),
    ("kelvin", "kelvin"),
    ("kelvins", "kelvin"),
    ("meters", "meters"),
    ("metres", "metres"),
    ("miles", "meters"),
    ("minutes", "seconds"),
    ("ounces", "grams"),
    ("pounds", "grams"),
    ("rankine", "celsius"),
    ("seconds", "seconds"),
    ("volts", "volts"),
    ("weeks", "seconds"),
    ("yards", "meters"),
];

/// The prefixes promlint knows, its spelling of mebi and tebi's neighbours included.
const UNIT_PREFIXES: &[&str] = &[
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega",
    "mibi", "giga", "gibi", "tera", "tebi", "peta", "pebi",
];

const TYPE_WORDS: &[&str] = &["counter", "gauge", "summary", "histogram", "gauge_histogram"];

const UNIT_ABBREVIATIONS: &[&str] =
    &["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];

fn lint_unit(name: &str, say: &mut impl FnMut(String)) {
    let base_of = |unit: &str| UNITS.iter().find(|(u, _)| *u == unit).map(|(_, base)| *base);
    let found = name.split('_').find_map(|word| {
        let mut stems = UNIT_PREFIXES.iter().filter_map(|prefix| word.strip_prefix(prefix));
        base_of(word).or_else(|| stems.find_map(base_of)).map(|base| (word, base))
    });
    if let Some((unit, base)) = found
        && unit != base
    {
        say(format!("use base unit {base:?} instead of {unit:?}"));
    }
    let lower = name.to_lowercase();
    for unit in UNIT_ABBREVIATIONS {
        if has_word(&lower, unit) {
            say("metric names should not contain abbreviated units".to_owned());
        }
    }
}

/// True when the words stand in the name, behind something.
fn has_word(name: &str, words: &str) -> bool {
    let mut ends =
        name.match_indices(words).map(|(at, _)| (&name[..at], &name[at + words.len()..]));
    ends.any(|(before, after)| {
        before.ends_with('_') && (after.is_empty() || after.starts_with('_'))
    })
}

fn lint_type(name: &str, family: &Family, say: &mut impl FnMut(String)) {
    use MetricType::{Counter, Histogram, Summary, Unknown};
    let kind = family.kind;
    if kind == Unknown {
        return;
    }
    let total = name.ends_with("_total");
    if kind == Counter && !total {
        say(r#"counter metrics should have "_total" suffix"#.to_owned());
    } else if kind != Counter && total {
        say(r#"non-counter metrics should not have "_total" suffix"#.to_owned());
    }
    if kind != Histogram && name.ends_with("_bucket") {
        say(r#"non-histogram metrics should not have "_bucket" suffix"#.to_owned());
    }
    for suffix in ["_count", "_sum"] {
        if !matches!(kind, Histogram | Summary) && name.ends_with(suffix) {
            say(format!("non-histogram and non-summary metrics should not have {suffix:?} suffix"));
        }
    }
    for (name, _) in family.metrics.iter().flat_map(Labels::iter) {
        if kind != Histogram && name == "le" {
            say(r#"non-histogram metrics should not have "le" label"#.to_owned());
        }
        if kind != Summary && name == "quantile" {
            say(r#"non-summary metrics should not have "quantile" label"#.to_owned());
        }
    }
}

fn lint_labels(family: &Family, say: &mut impl FnMut(String)) {
    for (name, _) in family.metrics.iter().flat_map(Labels::iter) {
        if is_camel_case(name) {
            say("label names should be written in 'snake_case' not 'camelCase'".to_owned());
        }
    }
    let mut seen = HashSet::with_capacity(family.metrics.len());
    for metric in &family.metrics {
        if !seen.insert(metric) {
            say("metric not unique".to_owned());
        }
    }
}

fn lint_spelling(name: &str, say: &mut impl FnMut(String)) {
    let lower = name.to_lowercase();
    for kind in TYPE_WORDS.iter().filter(|kind| has_word(&lower, kind)) {
        say(format!("metric name should not include type '{kind}'"));
    }
    if name.contains(':') {
        say("metric names should not contain ':'".to_owned());
    }
    if is_camel_case(name) {
        say("metric names should be written in 'snake_case' not 'camelCase'".to_owned());
    }
}

fn is_camel_case(name: &str) -> bool {
    name.as_bytes().windows(2).any(|w| w[0].is_ascii_lowercase() && w[1].is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &[&str]) {
        let families = MetricFamilies::read(input.as_bytes()).expect("a body");
        let got: Vec<String> =
            families.problems().iter().map(|p| format!("{} {}", p.family, p.text)).collect();
        assert_eq!(got, expected, "{input}");
    }

    #[test]
    fn what_is_odd_is_said_in_order() {
        check("# HELP a_total x\n# TYPE a_total counter\na_total 1\n", &[]);
        check("a_total{le=\"1\"} 1\n", &["a_total no help text"]);
        check("# HELP s x\n# TYPE s summary\ns{quantile=\"1\"} 1\ns_sum 1\ns_count 1\n", &[]);
        check(
            "# HELP x_ms_s y\n# TYPE x_ms_s gauge\nx_ms_s{aB=\"1\"} 1\nx_ms_s{aB=\"1\"} 2\n",
            &[
                "x_ms_s label names should be written in 'snake_case' not 'camelCase'",
                "x_ms_s label names should be written in 'snake_case' not 'camelCase'",
                "x_ms_s metric names should not contain abbreviated units",
                "x_ms_s metric names should not contain abbreviated units",
                "x_ms_s metric not unique",
            ],
        );
        check(
            "# HELP a_hours b\n# TYPE a_hours gauge\na_hours 1\n",
            &["a_hours use base unit \"seconds\" instead of \"hours\""],
        );
    }

    #[test]
    fn every_line_ends_with_a_line_break() {
        for (input, line) in [("x 1", 1), ("x 1\n# HELP x y", 2)] {
            let error = MetricFamilies::read(input.as_bytes()).expect_err(input);
            assert_eq!(error.to_string(), format!("line {line}: unexpected end of input stream"));
        }
    }

    #[test]
    fn parts_of_a_histogram_are_series_of_one_family() {
        let input = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n# TYPE g gauge\ng 1\n";
        let families = MetricFamilies::read(input.as_bytes()).expect("a body");
        let all: Vec<_> =
            families.cardinalities().into_iter().map(|c| (c.family, c.series)).collect();
        assert_eq!(all, [("h".to_owned(), 4), ("g".to_owned(), 1)]);
    }
}
