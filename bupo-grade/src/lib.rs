//! Grades a model's answer to a problem whose answer is known.
//!
//! - [`strict`]: the reference implementation's string rule, for parity with published results.
//! - [`equivalent`]: mathematical equivalence, decided by exact arithmetic and enclosures, never by rounding luck.
//! - [`exact`] and [`numeric`]: the same characters, the same number.
//! - [`CommandScorer`]: whatever a program of one's own says.
//!
//! [`Rewards`] chooses or mixes them by the source of a problem, and a [`Grader`] grades many responses at once.

use serde::Serialize;

mod boxed;
mod command;
mod equivalent;
mod error;
mod exact;
mod grader;
mod item;
mod numeric;
mod parallel;
mod rules;
mod strict;

pub use command::{CommandScorer, TimeLimits};
pub use equivalent::equivalent;
pub use error::GradeError;
pub use exact::exact;
pub use grader::{Failures, Grader};
pub use item::{GradedItem, Item};
pub use numeric::numeric;
pub use rules::{Reward, Rewards, Rule, WeightedRule};
pub use strict::strict;

/// What a rule says of one response.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Graded {
    /// 1.0 when the answer is right, else 0.0; from scorers and mixes of rules, any number.
    pub score: f64,
    /// What was taken for the answer in the response; `None` when nothing was found.
    pub extracted: Option<String>,
}

impl Graded {
    fn new(same: bool, extracted: Option<&str>) -> Self {
        Self { score: f64::from(u8::from(same)), extracted: extracted.map(str::to_owned) }
    }
}
