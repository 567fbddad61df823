//! Prompts, sampled and graded responses, Avg@K, Pass@K and maj@K: what evaluation, analysis and training share.

mod answers;
mod benchmark;
mod compare;
mod error;
mod lengths;
mod majority;
mod metrics;
mod problem_files;
mod prompt;
mod question;
mod recorded;
mod sampler;

pub use answers::{AnswerCounts, extract_answers};
pub use benchmark::{
    Benchmark, BenchmarkCompletion, BenchmarkResult, COMPLETIONS, EvaluationFolder, TEMPLATE_DATE, grade_again,
    recorded_template_date, run_benchmarks,
};
pub use compare::{Comparison, PairedDifference, compare};
pub use error::EvalError;
pub use lengths::LengthQuantiles;
pub use metrics::{Evaluation, ResponseOutcome, mean_and_std, pass_at_k};
pub use problem_files::{PromptOptions, read_questions};
pub use prompt::{ChatChoice, Overlong, Prepared, PromptRenderer, has_chat_template};
pub use question::{GradingInput, Question, grade_all};
pub use recorded::{RecordedResponses, read_responses};
pub use sampler::{Completion, Group, Sampler, Sampling, ScoredResponse};
