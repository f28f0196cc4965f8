//! Label matchers: `=`, `!=`, `=~`, `!~` against the value of one label, where an absent
//! label has the empty value.

use std::fmt;

use super::METRIC_NAME;
use super::labels::{Labels, quote, quote_label_name};
use super::regex::{AnchoredRegex, RegexError};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    /// The PromQL operator.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// One matcher with its compiled regular expression.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub name: Box<str>,
    pub op: MatchOp,
    pub value: Box<str>,
    regex: Option<AnchoredRegex>,
}

impl Matcher {
    /// Builds a matcher; fails when `value` is not a valid RE2 expression.
    pub fn new(op: MatchOp, name: &str, value: &str) -> Result<Self, RegexError> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(AnchoredRegex::new(value)?),
        };
        Ok(Self { name: name.into(), op, value: value.into(), regex })
    }

    /// An equality matcher, which cannot fail.
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None }
    }

    /// True when a label of that value (absent is "") satisfies the matcher.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => *self.value == *value,
            (MatchOp::NotEqual, _) => *self.value != *value,
            (MatchOp::Regex, Some(re)) => re.is_match(value),
            (MatchOp::NotRegex, Some(re)) => !re.is_match(value),
            _ => unreachable!("BUG: a regex matcher always holds its regex"),
        }
    }

    /// True when the matcher accepts series that lack the label.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// True when the set satisfies the matcher.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get_or_empty(&self.name))
    }

    /// The metric this matcher asks for, if it asks for one by name.
    pub fn metric_name(&self) -> Option<&str> {
        (&*self.name == METRIC_NAME && self.op == MatchOp::Equal).then_some(&*self.value)
    }

    /// The compiled expression of a regex matcher.
    pub fn regex(&self) -> Option<&AnchoredRegex> {
        self.regex.as_ref()
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
    }
}

/// `name="value"`, as PromQL prints it.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", quote_label_name(&self.name), self.op.as_str(), quote(&self.value))
    }
}
