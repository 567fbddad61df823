//! Evaluations before, between and after, and what is seen from inside meanwhile.

use bupo_analysis::Boundary;
use bupo_core::{Norm, PolicySite};
use burn::tensor::backend::Backend;
use serde::Serialize;

use super::{Progress, Trainer};
use crate::RlError;
use crate::evaluate::{Completion, Evaluation, Group, Sampler, Sampling};
use crate::probe::{Probe, find_boundary};
use crate::random::{Purpose, stream_seed};
use crate::watch::{Origin, watched};

/// How many completions are kept each time.
const COMPLETIONS_KEPT: usize = 4;

#[derive(Serialize)]
struct KeptCompletion<'a> {
    step: usize,
    held_out: bool,
    #[serde(flatten)]
    completion: &'a Completion,
}

/// `boundary.json`.
#[derive(Serialize)]
struct Settled<'a> {
    reason: String,
    certainty: String,
    #[serde(flatten)]
    boundary: &'a Boundary,
}

impl<B: Backend> Trainer<B> {
    /// Whether evaluations have not become better for as long as the settings allow.
    pub(super) fn gave_up(&self) -> bool {
        let patience = self.config.evaluation.patience;
        patience > 0 && self.at.without_gain >= patience
    }

    pub(super) fn evaluate_between(&mut self, step: usize, progress: &mut dyn Progress) -> Result<(), RlError> {
        let when = format!("step {step}");
        progress.evaluating(&when);
        let evaluation = self.evaluate(step)?;
        progress.evaluated(&when, &evaluation);
        self.note(step, evaluation);
        Ok(())
    }

    /// Remembers an evaluation, and whether it is the best.
    pub(super) fn note(&mut self, step: usize, evaluation: Evaluation) {
        if self.at.best.is_none_or(|(_, best)| evaluation.avg_at_k > best) {
            self.at.best = Some((step, evaluation.avg_at_k));
            self.at.without_gain = 0;
        } else {
            self.at.without_gain += 1;
        }
        self.at.newest = Some((step, evaluation));
    }

    /// The same problems and random numbers before and after.
    pub(super) fn evaluate(&mut self, step: usize) -> Result<Evaluation, RlError> {
        let settings = self.config.evaluation.clone();
        let sampling = Sampling {
            site: PolicySite::Full,
            norm: Norm::None,
            samples: settings.samples,
            temperature: settings.temperature,
            max_new_tokens: self.config.rollout.max_new_tokens,
            batch: self.config.rollout.batch,
            seed: stream_seed(self.config.seed, Purpose::Evaluation, 0),
        };
        let sampler = Sampler::new(&self.model, &self.tokenizer);
        let questions = self.questions.held_out()?;
        let groups = sampler.sample(&questions, 0, &sampling, |answered| self.questions.grade(answered))?;
        self.keep_completions(&groups, step, true)?;
        if step == 0 {
            let (sequences, _) = watched(&groups);
            let at_once = self.config.update.max_tokens_per_batch;
            self.at.origin = Some(Origin::new(&self.model.decoder, sequences, settings.temperature, at_once)?);
            self.at.probe = Some(Probe::new(&groups, self.config.probe.prompts));
            self.probe(step)?;
        }
        let outcomes: Vec<Vec<_>> =
            groups.iter().map(|group| group.responses.iter().map(|response| response.outcome()).collect()).collect();
        let evaluation = Evaluation::of(&outcomes);
        self.run.evaluated(step, evaluation.avg_at_k, evaluation.pass_at_k)?;
        Ok(evaluation)
    }

    /// Keeps the first responses to some questions.
    pub(super) fn keep_completions(&mut self, groups: &[Group], step: usize, held_out: bool) -> Result<(), RlError> {
        for completion in groups.iter().filter_map(|group| group.completion(0)).take(COMPLETIONS_KEPT) {
            self.run.completion(&KeptCompletion { step, held_out, completion: &completion })?;
        }
        Ok(())
    }

    /// Measures the internal policies where it is time to.
    pub(super) fn probe(&mut self, step: usize) -> Result<(), RlError> {
        let every = self.config.probe.every;
        let Some(probe) = self.at.probe.as_ref().filter(|_| every > 0 && step.is_multiple_of(every)) else {
            return Ok(());
        };
        let line = probe.measure(&self.model.decoder, step)?;
        self.run.probe(&line)
    }

    /// Finds the layer of the phases that leave it open, by the first step's responses: the boundary layer, or the full policy
    /// where no layer explores.
    pub(super) fn settle(&mut self, groups: &[Group], progress: &mut dyn Progress) -> Result<(), RlError> {
        let Some(boundary) = find_boundary(&self.model.decoder, groups)? else { return Ok(()) };
        self.at.schedule.settle(boundary.layer.map_or(PolicySite::Full, PolicySite::Layer));
        let (reason, certainty) = (boundary.reason(), boundary.certainty());
        self.run.boundary(&Settled { reason, certainty, boundary: &boundary })?;
        progress.boundary(&boundary);
        Ok(())
    }
}
