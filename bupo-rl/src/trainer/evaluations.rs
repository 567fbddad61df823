//! Evaluations before, during and after training, and measurements of the internal policies.

use std::sync::atomic::{AtomicUsize, Ordering};

use bupo_analysis::Boundary;
use bupo_core::{Norm, PolicySite};
use bupo_eval::{Benchmark, BenchmarkResult, Completion, Evaluation, Group, Question, Sampler, Sampling};
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::Trainer;
use super::probe::Probe;
use super::progress::Progress;
use super::state::Evaluated;
use crate::RlError;
use crate::agree::Agree;
use crate::config::BenchmarkSampling;
use crate::phases::{InitialPolicy, find_boundary, first_responses};
use crate::random::{Purpose, stream_seed};
use crate::rollout::{Samplers, share};

/// Completions kept per evaluation or step.
const COMPLETIONS_KEPT: usize = 4;

/// A line of `completions.jsonl` in a run's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptCompletion {
    /// The step after which it was sampled; 0 before training.
    pub step: usize,
    /// Whether its problem is a held-out one.
    pub held_out: bool,
    /// Prompt, response and score.
    #[serde(flatten)]
    pub completion: Completion,
}

/// `boundary.json` in a run's folder: the layer chosen for the phases with `layer = "auto"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AutoLayer {
    /// Why this layer.
    pub reason: String,
    /// The share of bootstrap resamples that give the same layer, as a sentence.
    pub certainty: String,
    /// The boundary layer with its numbers.
    #[serde(flatten)]
    pub boundary: Boundary,
}

/// A line of `evaluations.jsonl` in a run's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationLine {
    /// The step after which it was evaluated; 0 before training.
    pub step: usize,
    /// The unweighted mean over benchmarks.
    #[serde(flatten)]
    pub mean: Evaluation,
    /// Each benchmark.
    pub benchmarks: Vec<BenchmarkResult>,
}

impl<B: Backend> Trainer<'_, B> {
    /// Whether `evaluation.patience` evaluations in a row brought no higher Avg@K.
    pub(super) fn early_stopped(&self) -> bool {
        self.state.early_stopped(self.config.evaluation.patience)
    }

    pub(super) fn evaluate_during(&mut self, step: usize, progress: &mut dyn Progress) -> Result<(), RlError> {
        let when = format!("step {step}");
        progress.evaluating(&when);
        let evaluation = self.evaluate(step, progress)?;
        progress.evaluated(&when, &evaluation.mean);
        self.record_evaluation(step, evaluation);
        Ok(())
    }

    /// Records an evaluation and whether it is the best so far.
    pub(super) fn record_evaluation(&mut self, step: usize, evaluation: Evaluated) {
        if self.state.best.is_none_or(|(_, best)| evaluation.mean.avg_at_k > best) {
            self.state.best = Some((step, evaluation.mean.avg_at_k));
            self.state.without_gain = 0;
        } else {
            self.state.without_gain += 1;
        }
        self.state.newest = Some((step, evaluation));
    }

    /// Evaluates on the same problems with the same random numbers each time.
    pub(super) fn evaluate(&mut self, step: usize, progress: &dyn Progress) -> Result<Evaluated, RlError> {
        let processes = self.processes;
        processes.place("an evaluation");
        processes.agreed_first(|| self.hand_over())?;
        let benchmarks = self.questions.held_out()?;
        let parts = self.sampled_alike(&benchmarks);
        let first_samples_all = self.config.rollout.has_servers();
        let own = |(questions, sampling): &(Vec<Question>, Sampling)| {
            share(questions.len(), first_samples_all, processes).len() * sampling.samples
        };
        let all = parts.iter().map(own).sum();
        let done = AtomicUsize::new(0);
        let report = |sampled| progress.sampled(done.fetch_add(sampled, Ordering::Relaxed) + sampled, all);
        let mut groups = Vec::new();
        for (questions, sampling) in &parts {
            let sampled = {
                let engine = self.engine();
                let own =
                    Sampler::new(engine.as_ref(), &self.tokenizer, &self.model.eos_token_ids).with_report(&report);
                Samplers { own, processes, first_samples_all }
                    .sample(questions, sampling, |answered| self.questions.grade(answered))?
            };
            self.keep_completions(&sampled, step, true)?;
            groups.extend(sampled);
        }
        // Those sampled in one way.
        let first = parts.first().map_or(0, |(questions, _)| questions.len());
        processes.agreed_first(|| self.check_evaluation(&groups[..first]))?;
        if self.state.initial_policy.is_none() && processes.is_first() {
            let (sequences, _) = first_responses(&groups);
            let at_once = self.config.update.max_tokens_per_batch;
            let temperature = self.config.evaluation.temperature;
            self.state.initial_policy = Some(InitialPolicy::new(&self.model.decoder, sequences, temperature, at_once)?);
            let mut probe = Probe::new(&groups, self.config.probe.prompts);
            if self.config.probe.every > 0 {
                probe.keep_states(&self.model.decoder, self.run.path())?;
            }
            self.state.probe = Some(probe);
            self.probe(step)?;
        }
        let mut outcomes = groups.iter().map(Group::outcomes);
        let benchmarks: Vec<BenchmarkResult> = benchmarks
            .into_iter()
            .map(|benchmark| {
                let outcomes: Vec<Vec<_>> = outcomes.by_ref().take(benchmark.questions.len()).collect();
                BenchmarkResult { benchmark: benchmark.name, evaluation: Evaluation::of(&outcomes) }
            })
            .collect();
        let each: Vec<Evaluation> = benchmarks.iter().map(|result| result.evaluation.clone()).collect();
        let mean = Evaluation::mean(&each);
        if benchmarks.len() > 1 {
            benchmarks.iter().for_each(|result| progress.evaluated_benchmark(result));
        }
        self.run.evaluated(&EvaluationLine { step, mean: mean.clone(), benchmarks: benchmarks.clone() })?;
        Ok(Evaluated { mean, benchmarks })
    }

    /// The questions that are sampled in the same way, with that way: all of them, or those of each of `evaluation.benchmarks`, whose
    /// random numbers do not depend on the other benchmarks.
    fn sampled_alike(&self, benchmarks: &[Benchmark]) -> Vec<(Vec<Question>, Sampling)> {
        let evaluation = &self.config.evaluation;
        let all = || vec![benchmarks.iter().flat_map(|benchmark| &benchmark.questions).cloned().collect()];
        let questions: Vec<Vec<Question>> = match evaluation.benchmarks[..] {
            [] => all(),
            _ => benchmarks.iter().map(|benchmark| benchmark.questions.clone()).collect(),
        };
        let samplings = evaluation.samplings(self.config.rollout.max_new_tokens).into_iter().enumerate();
        let sampling = |(index, of): (usize, BenchmarkSampling)| Sampling {
            site: PolicySite::Full,
            norm: Norm::None,
            samples: of.samples,
            temperature: of.temperature,
            params: of.params,
            max_new_tokens: of.max_new_tokens,
            batch: self.config.rollout.batch,
            seed: stream_seed(self.config.seed, Purpose::Evaluation, index),
        };
        questions.into_iter().zip(samplings.map(sampling)).collect()
    }

    /// Logs the first response to each of the first questions.
    pub(super) fn keep_completions(&mut self, groups: &[Group], step: usize, held_out: bool) -> Result<(), RlError> {
        for completion in groups.iter().filter_map(|group| group.completion(0)).take(COMPLETIONS_KEPT) {
            self.run.completion(&KeptCompletion { step, held_out, completion })?;
        }
        Ok(())
    }

    /// Measures the internal policies if `step` is a multiple of `probe.every`.
    pub(super) fn probe(&mut self, step: usize) -> Result<(), RlError> {
        let every = self.config.probe.every;
        let is_due = every > 0 && step.is_multiple_of(every) && self.processes.is_first();
        let Some(probe) = self.state.probe.as_ref().filter(|_| is_due) else {
            return Ok(());
        };
        let line = probe.measure(&self.model.decoder, step)?;
        self.run.probe(&line)
    }

    /// Sets the layer of phases with `layer = "auto"` from the first step's responses: the boundary layer, or the full policy if
    /// there is none.
    pub(super) fn resolve_auto_layer(&mut self, groups: &[Group], progress: &mut dyn Progress) -> Result<(), RlError> {
        let found = self.processes.agreed_first(|| find_boundary(&self.model.decoder, groups))?;
        let Some(boundary) = found else { return Ok(()) };
        self.state.schedule.resolve_auto_layer(boundary.layer.map_or(PolicySite::Full, PolicySite::Layer));
        let (reason, certainty) = (boundary.reason(), boundary.certainty());
        self.run.boundary(&AutoLayer { reason, certainty, boundary: boundary.clone() })?;
        progress.boundary(&boundary);
        Ok(())
    }
}
