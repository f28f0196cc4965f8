//! What people mean when they write what is not PromQL: one function for each kind of
//! mistake. A hint looks at an error and adds help when it knows the mistake; the first one
//! that does is heard.

mod brackets;
mod matchers;
mod signs;
mod types;
mod words;

use super::promql::{Case, Explained};

pub(super) type Hint = fn(&Case<'_>, &mut Explained);

pub(super) const HINTS: &[Hint] = &[
    words::unknown_function,
    words::experimental,
    brackets::unclosed_bracket,
    brackets::missing_bracket_before_by,
    brackets::grouping_of_no_aggregation,
    brackets::grouping_without_brackets,
    matchers::matcher_value,
    matchers::matcher_operator,
    matchers::matcher_separator,
    words::words_of_other_languages,
    words::misspelt_keyword,
    signs::comparison_operator,
    signs::foreign_characters,
    signs::percent,
    signs::thousands,
    signs::duration,
    signs::nothing_after_operator,
    types::range_wanted,
    types::range_unwanted,
    types::operand_type,
    types::scalar_comparison,
    types::set_operator,
    types::range_of_expression,
    types::offset_before_range,
    matchers::empty_selector,
    types::argument_count,
    matchers::regular_expression,
    matchers::quotes,
    matchers::on_and_group,
    types::at_modifier,
    brackets::closing_too_many,
    words::two_words,
];
