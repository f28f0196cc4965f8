//! Expressions of the language as Prometheus 2.42 has it, from a seed.
//!
//! Left out, because the two versions differ there by intent: `holt_winters` (renamed),
//! start-edge samples (windows are left-open now; see [`Generator::range`]), selectors
//! without a name on data with several names, numbers as durations.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Metrics with their labels.
const METRICS: &[(&str, &[&str])] = &[
    ("requests_total", &["job", "instance", "code"]),
    ("errors_total", &["job", "instance"]),
    ("up", &["job", "instance"]),
    ("level", &["job", "instance"]),
    ("flaky", &["job", "instance"]),
    ("sometimes", &["job", "instance"]),
    ("latency_seconds_bucket", &["job", "instance", "le"]),
    ("job_info", &["job", "team", "tier"]),
    ("limit", &["job"]),
    ("odd", &["kind"]),
    ("single", &[]),
    ("epoch", &[]),
    ("nothing", &["job"]),
];
const MATCHERS: &[&str] = &[
    "job=\"api\"",
    "job!=\"api\"",
    "job=~\"api|web\"",
    "job!~\"w.*\"",
    "job=~\".+\"",
    "instance=~\"[ab]:.\"",
    "instance!=\"\"",
    "code=\"500\"",
    "code=~\"4..|5..\"",
    "code!~\"2..\"",
    "missing=\"\"",
    "missing!=\"\"",
    "le=\"+Inf\"",
    "job='db'",
    "instance=`a:1`",
    "kind!=\"k2\"",
    "job=~\"(?i:API)\"",
    "__name__=~\"l.*|u.*\"",
];
const LABELS: &[&str] = &["job", "instance", "code", "le", "team", "missing"];
const MATH: &[&str] = &[
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "deg",
    "exp",
    "floor",
    "ln",
    "log10",
    "log2",
    "rad",
    "sgn",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "round",
    "sort",
    "sort_desc",
    "timestamp",
    "absent",
];
const CALENDAR: &[&str] = &[
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "year",
];
const OVER_RANGE: &[&str] = &[
    "rate",
    "increase",
    "irate",
    "delta",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "count_over_time",
    "last_over_time",
    "max_over_time",
    "min_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "absent_over_time",
];
const AGGREGATORS: &[&str] = &["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: &[&str] = &["==", "!=", ">", "<", ">=", "<="];
const NUMBERS: &[&str] = &[
    "0", "1", "2", "3.5", "-1", "+2", "0.5", ".25", "5.", "1e3", "1E-2", "0x1F", "Inf", "+Inf",
    "-inf", "NaN", "nan", "100", "010",
];

pub struct Generator(StdRng);

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Mostly vectors, some scalars, ranges and strings.
    pub fn expression(&mut self) -> String {
        match self.0.random_range(0..40) {
            0 | 1 => self.scalar(2),
            2 => self.matrix(0),
            3 => "\"a string\\t\\u00e4\"".to_owned(),
            n => self.vector(1 + n % 4),
        }
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.random_range(0..of.len())]
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.random_ratio(percent, 100)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    fn named(&mut self) -> String {
        let (name, _) = self.pick(METRICS);
        let mut matchers = Vec::new();
        while self.chance(35) && matchers.len() < 3 {
            matchers.push(self.pick(MATCHERS));
        }
        match (matchers.is_empty(), self.below(8)) {
            (true, 0) => format!("{name}{{}}"),
            (true, 1) => format!("{{__name__=\"{name}\"}}"),
            (true, _) => name.to_owned(),
            (false, 0) => format!("{name} {{ {}, }}", matchers.join(" , ")),
            (false, _) => format!("{name}{{{}}}", matchers.join(",")),
        }
    }

    /// `offset` and `@`, in both orders.
    fn modifiers(&mut self) -> String {
        let offset = ["offset 5m", "offset 30s", "offset -1m", "offset 1m30s", "offset 10m"];
        let at = ["@ 1699999000.5", "@ 1699998500", "@ start()", "@ end()"];
        match self.below(12) {
            0 | 1 => format!(" {}", self.pick(&offset)),
            2 => format!(" {}", self.pick(&at)),
            3 => format!(" {} {}", self.pick(&at), self.pick(&offset)),
            4 => format!(" {} {}", self.pick(&offset), self.pick(&at)),
            _ => String::new(),
        }
    }

    fn selector(&mut self) -> String {
        let selector = self.named() + &self.modifiers();
        if self.chance(10) { format!("({selector})") } else { selector }
    }

    /// A plain range, or a subquery. Ranges of subqueries are no whole seconds and steps
    /// are, so that no inner step lies on the left edge, which 2.42 counts in.
    fn matrix(&mut self, depth: usize) -> String {
        let modifiers = self.modifiers();
        if depth > 0 && self.chance(35) {
            let range = self.pick(&["5m7s123ms", "90s377ms", "11m877ms", "3m123ms"]);
            let step = self.pick(&["", "30s", "17s", "1m", "41s"]);
            return format!("({})[{range}:{step}]{modifiers}", self.vector(depth - 1));
        }
        let range = self.pick(&["1m", "2m", "5m", "10m", "45s", "1m30s", "20m", "3s", "1h"]);
        let matrix = format!("{}[{range}]{modifiers}", self.named());
        if self.chance(10) { format!("({matrix})") } else { matrix }
    }

    /// Where a parameter varies, 2.42 loses the samples of a pinned range from step to step.
    fn unpinned_matrix(&mut self, depth: usize) -> String {
        loop {
            let matrix = self.matrix(depth);
            if !matrix.contains('@') {
                return matrix;
            }
        }
    }

    pub fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(NUMBERS).to_owned();
        }
        match self.below(9) {
            0 => "time()".to_owned(),
            1 => "pi()".to_owned(),
            2 => format!("scalar({})", self.vector(depth - 1)),
            3 => format!("-{}", self.scalar(depth - 1)),
            4 => {
                let op = self.pick(COMPARISONS);
                format!("({} {op} bool {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            5 | 6 => {
                let op = self.pick(ARITHMETIC);
                format!("({} {op} {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            _ => self.pick(NUMBERS).to_owned(),
        }
    }

    pub fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.selector();
        }
        let depth = depth - 1;
        match self.below(20) {
            0 => self.selector(),
            1..=4 => {
                let function = self.pick(OVER_RANGE);
                format!("{function}({})", self.matrix(depth))
            }
            5 => self.parametrised(depth),
            6 | 7 => {
                let function = self.pick(MATH);
                format!("{function}({})", self.vector(depth))
            }
            8 => {
                let function = self.pick(CALENDAR);
                match self.below(3) {
                    0 => format!("{function}()"),
                    1 => format!("{function}(epoch{})", self.modifiers()),
                    _ => format!("{function}({})", self.vector(depth)),
                }
            }
            9 => self.relabelling(depth),
            10..=13 => self.aggregation(depth),
            14..=17 => self.binary(depth),
            18 => format!("-{}", self.grouped(depth)),
            _ => format!("({})", self.vector(depth)),
        }
    }

    fn grouped(&mut self, depth: usize) -> String {
        if depth == 0 { self.selector() } else { format!("({})", self.vector(depth)) }
    }

    /// Functions with scalars beside the vector.
    fn parametrised(&mut self, depth: usize) -> String {
        let (a, b) = (self.scalar(1), self.scalar(1));
        match self.below(9) {
            0 => format!("clamp({}, {a}, {b})", self.vector(depth)),
            1 => format!("clamp_min({}, {a})", self.vector(depth)),
            2 => format!("clamp_max({}, {a})", self.vector(depth)),
            3 => format!("round({}, {a})", self.vector(depth)),
            4 => format!("quantile_over_time({a}, {})", self.unpinned_matrix(depth)),
            5 => format!("predict_linear({}, {a})", self.unpinned_matrix(depth)),
            6 => format!("vector({a})"),
            7 => {
                let (range, grouping) = (self.pick(&["2m", "5m"]), self.grouping());
                format!(
                    "histogram_quantile({a}, sum{grouping} (rate(latency_seconds_bucket[{range}])))"
                )
            }
            _ => {
                let inner =
                    self.pick(&["rate(latency_seconds_bucket[3m])", "latency_seconds_bucket"]);
                let phi = self.pick(&["0.5", "0.9", "0.99", "0", "1", "-1", "2", "NaN"]);
                format!("histogram_quantile({phi}, {inner})")
            }
        }
    }

    fn relabelling(&mut self, depth: usize) -> String {
        let (dst, src) = (self.pick(&["x", "job", "instance"]), self.pick(LABELS));
        if self.chance(50) {
            let regex = self.pick(&["(.*)", "(.).*", "([a-z]+):(\\\\d)", "api|web", ""]);
            let replacement = self.pick(&["$1", "$2-$1", "fixed", "", "${1}s", "$0"]);
            let input = self.vector(depth);
            format!("label_replace({input}, \"{dst}\", \"{replacement}\", \"{src}\", \"{regex}\")")
        } else {
            let (input, separator) = (self.vector(depth), self.pick(&["-", "", "::"]));
            format!("label_join({input}, \"{dst}\", \"{separator}\", \"{src}\", \"job\")")
        }
    }

    fn labels(&mut self) -> String {
        let count = self.below(3);
        (0..count).map(|_| self.pick(LABELS)).collect::<Vec<_>>().join(", ")
    }

    fn grouping(&mut self) -> String {
        match self.below(5) {
            0 => String::new(),
            1 => format!(" without ({})", self.labels()),
            2 => " by (job, le)".to_owned(),
            _ => format!(" by ({})", self.labels()),
        }
    }

    fn aggregation(&mut self, depth: usize) -> String {
        let (grouping, input) = (self.grouping(), self.vector(depth));
        let (op, parameter) = match self.below(12) {
            0 => ("topk", self.pick(&["1", "2", "5", "0", "-1", "2.7"]).to_owned() + ", "),
            1 => ("bottomk", self.pick(&["1", "3", "100", "scalar(single) % 3"]).to_owned() + ", "),
            2 => ("quantile", self.scalar(1) + ", "),
            3 => ("count_values", "\"v\", ".to_owned()),
            _ => (self.pick(AGGREGATORS), String::new()),
        };
        if self.chance(70) {
            format!("{op}{grouping} ({parameter}{input})")
        } else {
            format!("{op}({parameter}{input}){grouping}")
        }
    }

    fn binary(&mut self, depth: usize) -> String {
        let comparison = self.chance(40);
        let op = if comparison { self.pick(COMPARISONS) } else { self.pick(ARITHMETIC) };
        let bool_ = if comparison && self.chance(40) { " bool" } else { "" };
        match self.below(8) {
            0 => format!("{} {op}{bool_} {}", self.grouped(depth), self.scalar(1)),
            1 => format!("{} {op}{bool_} {}", self.scalar(1), self.grouped(depth)),
            2 | 3 => {
                let op = self.pick(&["and", "or", "unless"]);
                let matching = match self.below(3) {
                    0 => String::new(),
                    1 => format!(" on ({})", self.labels()),
                    _ => format!(" ignoring ({})", self.labels()),
                };
                format!("{} {op}{matching} {}", self.grouped(depth), self.grouped(depth))
            }
            4 => {
                let metric = self.pick(&["up", "level", "flaky", "sometimes", "errors_total"]);
                let other = self.pick(&["up", "level", "flaky", "sometimes", "errors_total"]);
                format!("{metric} {op}{bool_} {other}{}", self.modifiers())
            }
            5 => {
                let many =
                    self.pick(&["requests_total", "errors_total", "up", "rate(errors_total[2m])"]);
                let include = self.pick(&["team", "team, tier", "", "missing"]);
                if self.chance(50) {
                    format!("{many} {op}{bool_} on (job) group_left ({include}) job_info")
                } else {
                    format!("job_info {op}{bool_} on (job) group_right ({include}) {many}")
                }
            }
            6 => format!(
                "sum by (job, instance) (requests_total) {op}{bool_} ignoring (instance) group_left limit"
            ),
            _ => {
                let matching = match self.below(3) {
                    0 => format!(" on ({})", self.labels()),
                    1 => format!(" ignoring ({})", self.labels()),
                    _ => " on (job) group_left ()".to_owned(),
                };
                format!("{} {op}{bool_}{matching} {}", self.grouped(depth), self.grouped(depth))
            }
        }
    }
}
