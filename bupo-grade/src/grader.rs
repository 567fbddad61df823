//! Grades many responses, each by the reward of its source.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::command::{CommandScorer, TimeLimits};
use crate::equivalent::equivalent;
use crate::error::GradeError;
use crate::exact::exact;
use crate::item::{Graded, GradedItem, Item};
use crate::numeric::numeric;
use crate::parallel;
use crate::rules::{Rewards, Rule};
use crate::strict::strict;

/// Grades by [`Rewards`], on all threads of the machine. Processes of external scorers are kept between calls.
#[derive(Debug)]
pub struct Grader {
    rewards: Rewards,
    /// Each rule that occurs in the rewards, once.
    rules: Vec<(Rule, Runner)>,
    failures: Mutex<Failures>,
}

/// The items that external scorers failed on since a [`Grader`] was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Items, each counted once.
    pub count: usize,
    /// Why the first of them failed.
    pub first: Option<String>,
}

impl Grader {
    /// # Errors
    /// If the rewards do not pass [`Rewards::check`], or a scorer does not start.
    pub fn new(rewards: Rewards) -> Result<Self, GradeError> {
        rewards.check()?;
        let all = [&rewards.rule].into_iter().chain(rewards.by_source.values());
        let mut rules: Vec<Rule> = all.flat_map(|reward| reward.rules()).map(|(rule, _)| rule.clone()).collect();
        rules.sort_unstable();
        rules.dedup();
        let rules = rules.into_iter().map(|rule| Ok((rule.clone(), Runner::new(&rule)?))).collect::<Result<_, _>>()?;
        Ok(Self { rewards, rules, failures: Mutex::default() })
    }

    /// Grades all items, in order. What is extracted is what the reward's first rule extracts; a failure is the first.
    pub fn grade(&self, items: &[Item<'_>]) -> Vec<GradedItem> {
        let rewards: Vec<_> = items.iter().map(|item| self.rewards.of(item.data_source).rules()).collect();
        let mut graded = vec![Vec::new(); items.len()];
        for (rule, runner) in &self.rules {
            let uses = |index: &usize| rewards[*index].iter().any(|(used, _)| *used == rule);
            let indices: Vec<usize> = (0..items.len()).filter(uses).collect();
            let chosen: Vec<Item<'_>> = indices.iter().map(|index| items[*index]).collect();
            for (index, result) in indices.into_iter().zip(runner.run(&chosen)) {
                graded[index].push((rule, result));
            }
        }
        let graded: Vec<_> = rewards.iter().zip(&graded).map(|(rules, graded)| mixed(rules, graded)).collect();

        let mut failures = self.lock();
        for failure in graded.iter().filter_map(|item| item.failure.as_ref()) {
            failures.count += 1;
            failures.first.get_or_insert_with(|| failure.clone());
        }
        graded
    }

    /// The failures of external scorers so far; such an item has a score of 0.
    pub fn failures(&self) -> Failures {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One item's mean over the rules of its reward, by weight.
fn mixed(rules: &[(&Rule, f64)], graded: &[(&Rule, GradedItem)]) -> GradedItem {
    let weighted = rules.iter().filter_map(|(rule, weight)| {
        let (_, item) = graded.iter().find(|(graded, _)| graded == rule)?;
        Some((item, *weight))
    });
    // Summed in the same order, so that a response every rule finds right has exactly 1.
    let total: f64 = rules.iter().map(|(_, weight)| weight).sum();
    let score = weighted.clone().map(|(item, weight)| weight * item.graded.score).sum::<f64>() / total;
    let extracted = weighted.clone().next().and_then(|(item, _)| item.graded.extracted.clone());
    let failure = weighted.clone().find_map(|(item, _)| item.failure.clone());
    GradedItem { graded: Graded { score, extracted }, failure }
}

#[derive(Debug)]
enum Runner {
    Function(fn(&str, &str) -> Graded),
    Command(CommandScorer),
}

/// Fewer items than this are graded before another thread has started.
const MIN_ITEMS_PER_THREAD: usize = 8;

impl Runner {
    fn new(rule: &Rule) -> Result<Self, GradeError> {
        Ok(match rule {
            Rule::Strict => Self::Function(strict),
            Rule::Equivalent => Self::Function(equivalent),
            Rule::Exact => Self::Function(exact),
            Rule::Numeric => Self::Function(numeric),
            Rule::Command(command) => Self::Command(CommandScorer::new(command, TimeLimits::default())?),
        })
    }

    fn run(&self, items: &[Item<'_>]) -> Vec<GradedItem> {
        match self {
            Self::Command(scorer) => scorer.score(items),
            Self::Function(grade) => {
                let threads = parallel::threads().min(items.len().div_ceil(MIN_ITEMS_PER_THREAD));
                parallel::map(&mut vec![(); threads], items.len(), |(), index| {
                    let Item { response, answer, .. } = items[index];
                    GradedItem { graded: grade(response, answer), failure: None }
                })
            }
        }
    }
}
