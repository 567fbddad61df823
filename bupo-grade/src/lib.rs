//! Grades a model's answer to a problem whose answer is known.
//!
//! - [`strict`]: the reference implementation's string rule, for parity with published results.
//! - [`equivalent`]: mathematical equivalence, by exact and ball arithmetic.
//! - [`exact`] and [`numeric`]: the same characters, the same number.
//! - [`CommandScorer`]: an external program.
//!
//! [`Rewards`] chooses or mixes them by the source of a problem, and a [`Grader`] grades many responses at once.
//! [`right_answer`] takes the answer out of a right answer that holds a whole solution.

mod boxed;
mod braces;
mod command;
mod equivalent;
mod error;
mod exact;
mod expression;
mod grader;
mod item;
mod labels;
mod numeric;
mod parallel;
mod remarks;
mod rules;
mod solution;
mod strict;

pub use command::{CommandScorer, TimeLimits};
pub use equivalent::equivalent;
pub use error::GradeError;
pub use exact::exact;
pub use grader::{Failures, Grader};
pub use item::{Graded, GradedItem, Item};
pub use numeric::numeric;
pub use rules::{Reward, Rewards, Rule, WeightedRule};
pub use solution::{AnswerMark, RightAnswer, right_answer};
pub use strict::strict;
