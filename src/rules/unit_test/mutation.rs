//! Which mistakes in rules the tests of a file would not notice.
//!
//! A mistake is noticed when a test fails with it. Of each test only what the mistake can
//! change is run and looked at ([`Affected`]), so that a suite of many rules is judged in
//! seconds; the outcome is that of running all of it.

use std::path::Path;
use std::sync::Arc;

use super::affected::{Affected, Part, bare};
use super::mutate::{self, Mutant};
use super::schema::{self, Test, TestFile};
use super::{FileReport, UnitTestOptions, load_rules, run, selected};
use crate::rules::config::{GroupSpec, RuleSpec};

/// What became of mistakes that were put into rules one at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutation {
    /// Those that made a test fail.
    pub noticed: usize,
    pub survivors: Vec<Survivor>,
}

/// A mistake that no test notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    pub file: String,
    /// Where the rule stands, from 1.
    pub line: usize,
    pub rule: String,
    /// Such as "`>` became `>=`".
    pub what: String,
}

/// The mistakes that can be made in the rules of one test file. Each is judged for itself,
/// in any order and at once with others.
pub struct Mutants {
    file: TestFile,
    options: UnitTestOptions,
    /// Without their rules.
    groups: Vec<GroupSpec>,
    /// All rules, each with its group's place.
    rules: Vec<(usize, Arc<RuleSpec>)>,
    /// Each with the place of the rule it is made in.
    mutants: Vec<(usize, Mutant)>,
    affected: Affected,
}

impl Mutants {
    /// Reads a test file and its rules again. `None` when that cannot be done; tests that
    /// pass say that it can. Nothing is known of tests that fail as it is.
    pub fn load(path: &Path, options: &UnitTestOptions) -> Option<Self> {
        let file = schema::read(&std::fs::read_to_string(path).ok()?).ok()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut report = FileReport::default();
        let groups = load_rules(folder, &file.rule_files, options, &mut report);
        report.errors.is_empty().then(|| Self::new(file, groups, options.clone()))
    }

    fn new(file: TestFile, groups: Vec<GroupSpec>, options: UnitTestOptions) -> Self {
        let all = || groups.iter().flat_map(|group| &group.rules).enumerate();
        let mutants: Vec<(usize, Mutant)> = all()
            .flat_map(|(at, rule)| {
                mutate::mutants(rule, &options.parser).into_iter().map(move |m| (at, m))
            })
            .collect();
        let tests: Vec<&Test> = selected(&file, &options).collect();
        let affected = Affected::new(&tests, &groups, &mutants, &options.parser);
        let rules = groups
            .iter()
            .enumerate()
            .flat_map(|(g, group)| group.rules.iter().map(move |rule| (g, rule.clone())))
            .collect();
        let groups = groups.iter().map(bare).collect();
        Self { file, options, groups, rules, mutants, affected }
    }

    /// How many mistakes there are.
    pub fn len(&self) -> usize {
        self.mutants.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.mutants.is_empty()
    }

    /// The rule that a mistake is made in.
    pub fn rule(&self, mutant: usize) -> &str {
        self.rules[self.mutants[mutant].0].1.name()
    }

    /// Whether a test notices a mistake.
    pub async fn is_noticed(&self, mutant: usize) -> bool {
        let tests: Vec<&Test> = selected(&self.file, &self.options).collect();
        let rule = self.mutants[mutant].0;
        let Some(first) = tests.first() else { return false };
        // What cannot be planned fails in every test, whatever that looks at.
        let (cx, _, _) = run::context(first, &self.file, &self.options);
        if run::plan(first, &self.file, self.with(mutant, &[rule]), &cx).is_err() {
            return true;
        }
        for (test, Part { rules, scope }) in self.affected.parts(rule, mutant) {
            let specs = self.with(mutant, &rules);
            if !run::passes(tests[test], &self.file, specs, &self.options, &scope).await {
                return true;
            }
        }
        false
    }

    /// Some of the rules, in their groups, one of them with a mistake in it.
    fn with(&self, mutant: usize, rules: &[usize]) -> Vec<GroupSpec> {
        let mut groups = self.groups.clone();
        let (wrong, mutant) = &self.mutants[mutant];
        for number in rules {
            let (group, rule) = &self.rules[*number];
            let rule = if number == wrong { &mutant.rule } else { rule };
            groups[*group].rules.push(rule.clone());
        }
        // The intervals of all groups say when there are evaluations.
        groups.retain(|group| self.file.use_group_intervals || !group.rules.is_empty());
        groups
    }

    /// The outcome, when it is known of each mistake whether it was noticed.
    pub fn outcome(&self, noticed: &[bool]) -> Mutation {
        let left = self.mutants.iter().zip(noticed).filter(|(_, noticed)| !**noticed);
        let survivor = |((at, mutant), _): (&(usize, Mutant), &bool)| {
            let (group, rule) = &self.rules[*at];
            Survivor {
                file: self.groups[*group].origin.clone(),
                line: rule.at.line,
                rule: rule.name().to_owned(),
                what: mutant.what.clone(),
            }
        };
        let survivors: Vec<Survivor> = left.map(survivor).collect();
        Mutation { noticed: noticed.len() - survivors.len(), survivors }
    }
}

#[cfg(test)]
#[path = "mutation_tests.rs"]
mod tests;
