//! The training loop: rollouts, rewards, old log-probs, advantages, updates, phase by phase.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use bupo_analysis::Boundary;
use bupo_core::{Norm, PolicySite, TokenStats};
use bupo_models::{Decoder, LoadedModel, ModelFiles, SaveOptions, Sequence, TextTokenizer, load_model};
use bupo_runs::{CheckpointStore, Damaged, RunLock, Status};
use burn::tensor::backend::Backend;
use serde::Serialize;
use serde_json::json;

use crate::RlError;
use crate::advantage::mean_and_std;
use crate::batch::{PolicySpec, response_stats};
use crate::config::TrainConfig;
use crate::evaluate::{Completion, Evaluation, Group, Sampler, Sampling};
use crate::optimizer::DecoderOptimizer;
use crate::probe::{Probe, find_boundary};
use crate::questions::{ArithmeticQuestions, FileQuestions, Questions};
use crate::random::{Purpose, stream_seed};
use crate::resume::{self, Place};
use crate::rollout::{Rollout, advantages, rollout};
use crate::run_folder::RunFolder;
use crate::schedule::Phase;
use crate::update::{LossSpec, Sample, UpdateStats, update};

/// Completions are kept of the first step and of every one of this many.
const COMPLETIONS_EVERY: usize = 10;
/// How many are kept each time.
const COMPLETIONS_KEPT: usize = 4;

/// What a run tells while it goes on.
pub trait Progress {
    /// The model is loaded and everything is checked.
    fn ready(&mut self, plan: &Plan<'_>);
    /// An evaluation is about to start.
    fn evaluating(&mut self, when: &str);
    /// An evaluation is done.
    fn evaluated(&mut self, when: &str, evaluation: &Evaluation);
    /// The layer of the phases that leave it open was found.
    fn boundary(&mut self, boundary: &Boundary);
    /// Checkpoints were damaged, and an older one is gone on from.
    fn passed_over(&mut self, damaged: &[Damaged]);
    /// Updates were left out because their gradient was not finite.
    fn skipped(&mut self, step: usize, updates: usize);
    /// A phase begins.
    fn phase(&mut self, number: usize, phase: &Phase);
    /// A step is done.
    fn step(&mut self, metrics: &StepMetrics);
}

/// What a run is about to do.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The resolved settings.
    pub config: &'a TrainConfig,
    /// Steps of all phases.
    pub steps: usize,
    /// Layers of the model.
    pub num_layers: usize,
    /// Parameters of the model.
    pub num_params: usize,
    /// The questions, in a line.
    pub questions: String,
    /// The run folder.
    pub folder: &'a Path,
    /// Steps that are done already.
    pub done: usize,
}

/// Where a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At the beginning, in a new folder.
    New,
    /// After the newest complete checkpoint in the folder; at the beginning where there is none.
    Resume,
    /// In a new folder, after a checkpoint of another run: of this step, or the newest complete one.
    Fork {
        /// The other run's folder.
        from: PathBuf,
        /// After which step.
        step: Option<usize>,
    },
}

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Before training.
    pub before: Evaluation,
    /// After training; nothing where the run was stopped.
    pub after: Option<Evaluation>,
    /// Steps done.
    pub steps: usize,
    /// The step after which an evaluation found the highest Avg@K, where there were evaluations in between.
    pub best_step: Option<usize>,
    /// The run folder.
    #[serde(skip)]
    pub folder: PathBuf,
    /// The trained model within it.
    #[serde(skip)]
    pub model: PathBuf,
}

/// One line of `metrics.jsonl`. Means are over the step's responses or response tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepMetrics {
    /// From 1.
    pub step: usize,
    /// The phase's number, from 1.
    pub phase: usize,
    /// The policy trained.
    pub site: PolicySite,
    /// Mean reward.
    pub reward: f64,
    /// Mean over groups of the rewards' standard deviation.
    pub reward_std: f64,
    /// Share of groups whose rewards are all equal, which teach nothing.
    pub frac_reward_zero_std: f64,
    /// Responses sampled; with dynamic sampling, more than are learnt from.
    pub responses: usize,
    /// Groups learnt from.
    pub groups: usize,
    /// Responses so far that a scorer failed to grade, which are worth nothing.
    pub grading_failures: usize,
    /// Mean entropy in nats of the trained policy at the response tokens, before the step.
    pub entropy: f64,
    /// Mean of `logp_old - logp` over the step's updates.
    pub kl: f64,
    /// Mean of the estimated KL to the frozen reference, where the loss has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_kl: Option<f64>,
    /// Mean loss of the updates.
    pub loss: f64,
    /// Mean global norm of the updates' gradients before clipping.
    pub grad_norm: f64,
    /// Share of tokens whose ratio was clipped.
    pub clip_ratio: f64,
    /// Share of tokens bounded by the dual clip.
    pub dual_clip_ratio: f64,
    /// The importance ratio furthest from 1 in the first update, which is 1 exactly.
    pub first_ratio: f64,
    /// The importance ratio furthest from 1 in any update.
    pub extreme_ratio: f64,
    /// Mean response length in tokens.
    pub response_length: f64,
    /// Share of responses cut by the length limit.
    pub truncated: f64,
    /// Share of responses that ended with their first token.
    pub empty: f64,
    /// The full policy's perplexity on the responses it has just sampled.
    pub perplexity: f64,
    /// Updates left out because their gradient was not finite.
    pub skipped_updates: usize,
    /// AdamW's step size.
    pub learning_rate: f64,
    /// Prompt and response tokens of the step over its seconds.
    pub tokens_per_second: f64,
    /// Seconds spent generating.
    pub seconds_rollout: f64,
    /// Seconds spent on old log-probs and updates.
    pub seconds_update: f64,
}

/// Trains a model by its settings and leaves a run folder: settings, metrics, completions, evaluations, checkpoints, the model.
/// Once `stop` is true, the step that is being made is finished and kept, and the run ends.
///
/// On one machine's CPU a run that goes on from a checkpoint is, bit for bit, the run that never stopped, but for the seconds in
/// its metrics.
///
/// # Errors
/// Before work starts: if the model cannot be loaded, a site is outside it, the folder is taken or cannot be written, or there is
/// no checkpoint to go on from that is whole. Later: if the policy's logits are no longer finite, too many updates in a row were
/// left out, or something cannot be written; the newest checkpoint is in place then.
pub fn train<B: Backend>(
    config: &TrainConfig,
    files: &ModelFiles,
    folder: &Path,
    start: &Start,
    stop: &AtomicBool,
    device: &B::Device,
    progress: &mut dyn Progress,
) -> Result<Outcome, RlError> {
    let mut trainer = Trainer::<B>::new(config, files, folder, start, device, progress)?;
    progress.ready(&trainer.plan());
    let outcome = trainer.run(stop, progress);
    // A checkpoint that is being written is finished in any case.
    let written = trainer.written();
    let outcome = outcome.and_then(|outcome| written.map(|()| outcome));
    trainer.run.end(match &outcome {
        Ok(Outcome { after: Some(_), .. }) => Status::Finished,
        Ok(_) => Status::Stopped,
        Err(error) => Status::Failed { reason: error.to_string() },
    });
    outcome
}

struct Trainer<'a, B: Backend> {
    config: &'a TrainConfig,
    model: LoadedModel<B>,
    tokenizer: TextTokenizer,
    questions: Box<dyn Questions>,
    /// Where the run is.
    at: Place,
    /// Responses that scorers failed to grade, in earlier processes.
    failures_before: usize,
    /// The checkpoint that is being written.
    writing: Option<JoinHandle<Result<(), RlError>>>,
    optimizer: DecoderOptimizer<B>,
    /// The model before training, where the loss measures the distance to it. What training has not touched is shared
    /// with the model, not copied: while a layer's policy is trained, all that is above it.
    reference: Option<Decoder<B>>,
    run: RunFolder,
}

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

impl<'a, B: Backend> Trainer<'a, B> {
    fn new(
        config: &'a TrainConfig,
        files: &ModelFiles,
        folder: &Path,
        start: &Start,
        device: &B::Device,
        progress: &mut dyn Progress,
    ) -> Result<Self, RlError> {
        // Nobody else may write while it is looked what is there.
        let lock = if *start == Start::Resume { Some(RunLock::acquire(folder)?) } else { None };
        let num_layers = bupo_models::checkpoint::load_config(files)?.num_hidden_layers;
        let schedule = config.schedule(num_layers)?;
        let tokenizer = TextTokenizer::load(files)?;
        let questions: Box<dyn Questions> = if config.data.train.is_empty() {
            Box::new(ArithmeticQuestions {
                task: config.task.task(),
                tokenizer: tokenizer.clone(),
                seed: config.seed,
                per_draw: config.rollout.prompts,
                held_out: config.evaluation.problems,
            })
        } else {
            Box::new(FileQuestions::new(config, files)?)
        };
        let model = load_model::<B>(files, device)?;
        if model.eos_token_ids.is_empty() {
            return Err(RlError::Config(
                "the model names no end-of-sequence token, so no response would ever end; \
                 give eos_token_id in its generation_config.json"
                    .into(),
            ));
        }
        let reference = config.objective.needs_reference().then(|| model.decoder.clone());
        let mut at = Place {
            step: 0,
            draws: 0,
            grading_failures: 0,
            skipped_in_row: 0,
            schedule,
            before: None,
            newest: None,
            best: None,
            without_gain: 0,
            probe: None,
            optimizer_steps: Default::default(),
        };
        let mut optimizer = DecoderOptimizer::new(config.optimizer);
        let mut model = model;
        let found = match start {
            Start::New => None,
            Start::Resume => {
                let store = CheckpointStore::new(folder);
                store.clean()?;
                newest(&store, folder, progress)?
            }
            Start::Fork { from, step } => Some(match step {
                Some(step) => CheckpointStore::new(from).verify(*step).map_err(bupo_runs::RunsError::from)?,
                None => newest(&CheckpointStore::new(from), from, progress)?.ok_or_else(|| RlError::NoData {
                    path: from.clone(),
                    reason: "there is no checkpoint to start from".into(),
                })?,
            }),
        };
        if let Some(checkpoint) = &found {
            let (path, wrong) =
                (&checkpoint.path, |reason: String| RlError::NoData { path: checkpoint.path.clone(), reason });
            let place: Place = serde_json::from_value(checkpoint.manifest.meta.clone())
                .map_err(|error| wrong(format!("the checkpoint is not of this program: {error}")))?;
            let saved = bupo_models::checkpoint::load_config(&ModelFiles::folder(&path.join("model"))?)?;
            if saved != model.config {
                return Err(wrong(
                    "the checkpoint is of another model; give the one that the run was started with".into(),
                ));
            }
            model.decoder = resume::read_model(path, device)?;
            optimizer.restore(resume::read_moments(path, &place.optimizer_steps, device)?);
            let mut schedule = at.schedule;
            schedule.settle_as(&place.schedule);
            at = Place { schedule, ..place };
            if at.schedule.steps() < at.step {
                return Err(RlError::Config(format!(
                    "the phases have {} steps and {} are done; give more",
                    at.schedule.steps(),
                    at.step
                )));
            }
        }
        let (toml, steps) = (config.to_toml()?, at.schedule.steps());
        let run = match (start, lock) {
            (Start::Resume, Some(lock)) => {
                RunFolder::resume(folder, lock, &toml, found.as_ref().map(|_| at.step), steps)?
            }
            (Start::Fork { from, .. }, _) => RunFolder::fork(folder, from, &toml, at.step, steps)?,
            _ => RunFolder::create(folder, &toml, steps)?,
        };
        let failures_before = at.grading_failures;
        Ok(Self { config, model, tokenizer, questions, at, failures_before, writing: None, optimizer, reference, run })
    }

    fn plan(&self) -> Plan<'_> {
        Plan {
            config: self.config,
            steps: self.at.schedule.steps(),
            num_layers: self.model.config.num_hidden_layers,
            num_params: burn::module::Module::num_params(&self.model.decoder),
            questions: self.questions.describe(),
            folder: self.run.path(),
            done: self.at.step,
        }
    }

    fn run(&mut self, stop: &AtomicBool, progress: &mut dyn Progress) -> Result<Outcome, RlError> {
        if self.at.before.is_none() {
            progress.evaluating("before");
            let before = self.evaluate(0)?;
            progress.evaluated("before", &before);
            self.at.best = Some((0, before.avg_at_k));
            self.at.before = Some(before);
        }
        let every = self.config.evaluation.every;
        while self.at.step < self.at.schedule.steps() && !self.gave_up() {
            if stop.load(Ordering::Relaxed) {
                return self.stopped();
            }
            let step = self.at.step + 1;
            let metrics = self.step(step, progress)?;
            self.at.step = step;
            progress.step(&metrics);
            self.probe(step)?;
            if every > 0 && step.is_multiple_of(every) && step < self.at.schedule.steps() {
                self.evaluate_between(step, progress)?;
            }
            let checkpoints = self.config.checkpoint.every;
            let kept = checkpoints > 0 && step.is_multiple_of(checkpoints);
            // What an evaluation may find the best is there to be kept.
            if (kept || every > 0 && step.is_multiple_of(every)) && step < self.at.schedule.steps() {
                self.checkpoint()?;
            }
        }
        let last = self.at.step;
        let after = match self.at.newest.take() {
            Some((step, evaluation)) if step == last => evaluation,
            _ => {
                progress.evaluating("after");
                self.evaluate(last)?
            }
        };
        progress.evaluated("after", &after);
        self.note(last, after.clone());
        self.checkpoint()?;
        self.written()?;
        let options = SaveOptions { dtype: self.config.save_dtype, ..SaveOptions::default() };
        let model = self.run.model(&self.model, options)?;
        let outcome = self.outcome(Some(after), model);
        self.run.evaluations(&outcome)?;
        Ok(outcome)
    }

    fn stopped(&mut self) -> Result<Outcome, RlError> {
        self.checkpoint()?;
        self.written()?;
        Ok(self.outcome(None, self.run.path().join("model")))
    }

    fn outcome(&self, after: Option<Evaluation>, model: PathBuf) -> Outcome {
        Outcome {
            before: self.at.before.clone().unwrap_or_else(|| Evaluation::of(&[])),
            after,
            steps: self.at.step,
            best_step: self.at.best.map(|(step, _)| step).filter(|_| self.config.evaluation.every > 0),
            folder: self.run.path().to_path_buf(),
            model,
        }
    }

    /// Whether evaluations have not become better for as long as the settings allow.
    fn gave_up(&self) -> bool {
        let patience = self.config.evaluation.patience;
        patience > 0 && self.at.without_gain >= patience
    }

    fn evaluate_between(&mut self, step: usize, progress: &mut dyn Progress) -> Result<(), RlError> {
        let when = format!("step {step}");
        progress.evaluating(&when);
        let evaluation = self.evaluate(step)?;
        progress.evaluated(&when, &evaluation);
        self.note(step, evaluation);
        Ok(())
    }

    /// Remembers an evaluation, and whether it is the best.
    fn note(&mut self, step: usize, evaluation: Evaluation) {
        if self.at.best.is_none_or(|(_, best)| evaluation.avg_at_k > best) {
            self.at.best = Some((step, evaluation.avg_at_k));
            self.at.without_gain = 0;
        } else {
            self.at.without_gain += 1;
        }
        self.at.newest = Some((step, evaluation));
    }

    /// Begins to write a checkpoint. Weights and moments are shared with it, not copied, until training changes them.
    fn checkpoint(&mut self) -> Result<(), RlError> {
        self.written()?;
        self.run.sync()?;
        self.at.grading_failures = self.grading_failures();
        self.at.optimizer_steps = self.optimizer.moments().iter().map(|(id, moments)| (*id, moments.steps)).collect();
        let meta =
            serde_json::to_value(&self.at).map_err(|error| RlError::io("write", self.run.path())(error.into()))?;
        let (store, keep, step) = (self.run.checkpoints(), self.config.checkpoint.clone(), self.at.step);
        let best: Vec<usize> = self.at.best.iter().map(|(step, _)| *step).collect();
        let (decoder, companions) = (self.model.decoder.clone(), self.model.companions.clone());
        let moments = self.optimizer.moments().clone();
        self.writing = Some(std::thread::spawn(move || {
            let pending = store.begin(step)?;
            resume::write(&pending, &decoder, &companions, &moments)?;
            pending.commit(env!("CARGO_PKG_VERSION"), meta)?;
            store.prune(keep.keep_last, (keep.keep_every > 0).then_some(keep.keep_every), &best)?;
            Ok(())
        }));
        Ok(())
    }

    /// Waits for the checkpoint that is being written.
    fn written(&mut self) -> Result<(), RlError> {
        match self.writing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }

    fn grading_failures(&self) -> usize {
        self.failures_before + self.questions.failures().count
    }

    /// The same problems and random numbers before and after.
    fn evaluate(&mut self, step: usize) -> Result<Evaluation, RlError> {
        let settings = &self.config.evaluation;
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
        if step == 0 && self.config.probe.every > 0 {
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
    fn keep_completions(&mut self, groups: &[Group], step: usize, held_out: bool) -> Result<(), RlError> {
        for completion in groups.iter().filter_map(|group| group.completion(0)).take(COMPLETIONS_KEPT) {
            self.run.completion(&KeptCompletion { step, held_out, completion: &completion })?;
        }
        Ok(())
    }

    /// Measures the internal policies where it is time to.
    fn probe(&mut self, step: usize) -> Result<(), RlError> {
        let Some(probe) = self.at.probe.as_ref().filter(|_| step.is_multiple_of(self.config.probe.every)) else {
            return Ok(());
        };
        let line = probe.measure(&self.model.decoder, step)?;
        self.run.probe(&line)
    }

    /// Finds the layer of the phases that leave it open, by the first step's responses: the boundary layer, or the full policy
    /// where no layer explores.
    fn settle(&mut self, groups: &[Group], progress: &mut dyn Progress) -> Result<(), RlError> {
        let Some(boundary) = find_boundary(&self.model.decoder, groups)? else { return Ok(()) };
        self.at.schedule.settle(boundary.layer.map_or(PolicySite::Full, PolicySite::Layer));
        let (reason, certainty) = (boundary.reason(), boundary.certainty());
        self.run.boundary(&Settled { reason, certainty, boundary: &boundary })?;
        progress.boundary(&boundary);
        Ok(())
    }

    fn step(&mut self, step: usize, progress: &mut dyn Progress) -> Result<StepMetrics, RlError> {
        let started = Instant::now();
        let sampler = Sampler::new(&self.model, &self.tokenizer);
        let settings = &self.config.rollout;
        let Rollout { groups, summary } =
            rollout(&sampler, self.questions.as_ref(), settings, self.config.seed, &mut self.at.draws)?;
        if step == 1 || step.is_multiple_of(COMPLETIONS_EVERY) {
            self.keep_completions(&groups, step, false)?;
        }
        let seconds_rollout = started.elapsed().as_secs_f64();

        if self.at.schedule.is_open() {
            self.settle(&groups, progress)?;
        }
        let (number, phase) = self.at.schedule.at(step);
        if step == 1 || number != self.at.schedule.at(step - 1).0 {
            progress.phase(number, &phase);
        }
        let settings = &self.config.rollout;
        let loss = LossSpec {
            policy: PolicySpec { site: phase.site, norm: phase.norm, temperature: settings.temperature },
            objective: self.config.objective,
            norm_length: Some(settings.max_new_tokens),
            max_tokens_per_batch: self.config.update.max_tokens_per_batch,
            recompute: self.config.update.recompute,
        };
        // Old log-probs of all mini-batches come before the first update, at the site this step trains.
        let advantages = advantages(&groups, self.config.objective.advantage, settings);
        let per_update = self.config.update.mini_batch_prompts;
        let mini_batches: Vec<MiniBatch> = groups
            .chunks(per_update)
            .zip(advantages.chunks(per_update))
            .enumerate()
            // The first update finds the policy as it was before the step: its own log-probs are the old ones.
            .map(|(index, (groups, advantages))| self.mini_batch(groups, advantages, &loss, index > 0))
            .collect::<Result<_, _>>()?;
        let factor = self.config.learning_rate_schedule.factor(step, self.at.schedule.steps());
        let learning_rate = self.config.optimizer.learning_rate * factor;
        self.optimizer.set_learning_rate(learning_rate);
        let mut updates: Vec<UpdateStats> = Vec::with_capacity(mini_batches.len());
        for (index, batch) in mini_batches.iter().enumerate() {
            let stats = update(&mut self.model.decoder, &mut self.optimizer, &batch.samples, &loss)?;
            updates.push(stats);
            self.guard(step, index + 1, &stats, batch)?;
        }
        let skipped_updates = updates.iter().filter(|update| update.skipped).count();
        if skipped_updates > 0 {
            progress.skipped(step, skipped_updates);
        }

        let seconds = started.elapsed().as_secs_f64();
        let mean = |value: fn(&UpdateStats) -> f64| mean_and_std(&updates.iter().map(value).collect::<Vec<_>>()).0;
        let first = updates.first().map_or((0.0, 0), |update| (update.entropy, update.tokens));
        let entropy_sum = first.0 * first.1 as f64 + mini_batches.iter().map(|batch| batch.entropy_sum).sum::<f64>();
        let tokens: usize = updates.iter().map(|update| update.tokens).sum();
        let metrics = StepMetrics {
            step,
            phase: number,
            site: phase.site,
            reward: summary.reward,
            reward_std: summary.reward_std,
            frac_reward_zero_std: summary.frac_reward_zero_std,
            responses: summary.responses,
            groups: groups.len(),
            grading_failures: self.grading_failures(),
            entropy: entropy_sum / tokens.max(1) as f64,
            kl: mean(|update| update.kl),
            ref_kl: self.reference.is_some().then(|| mean(|update| update.ref_kl)),
            loss: mean(|update| update.loss),
            grad_norm: mean(|update| update.grad_norm),
            clip_ratio: mean(|update| update.clip_ratio),
            dual_clip_ratio: mean(|update| update.dual_clip_ratio),
            first_ratio: updates.first().map_or(1.0, |update| update.extreme_ratio),
            extreme_ratio: updates.iter().map(|update| update.extreme_ratio).fold(1.0, |extreme, ratio| {
                if (ratio - 1.0).abs() > (extreme - 1.0_f64).abs() { ratio } else { extreme }
            }),
            response_length: summary.response_length,
            truncated: summary.truncated,
            empty: summary.empty,
            perplexity: summary.perplexity,
            skipped_updates,
            learning_rate,
            tokens_per_second: summary.tokens as f64 / seconds,
            seconds_rollout,
            seconds_update: seconds - seconds_rollout,
        };
        self.run.metrics(step, &metrics)?;
        self.run.state.step = step;
        self.run.state.phase = Some(number.to_string());
        self.run.state.site = Some(phase.site.to_string());
        self.run.state.last_reward = Some(metrics.reward);
        self.run.save_state()?;
        Ok(metrics)
    }

    /// Keeps what an update that was left out was made of, and ends the run where too many were.
    fn guard(&mut self, step: usize, number: usize, stats: &UpdateStats, batch: &MiniBatch) -> Result<(), RlError> {
        if !stats.skipped {
            self.at.skipped_in_row = 0;
            return Ok(());
        }
        self.at.skipped_in_row += 1;
        let samples: Vec<_> = batch
            .samples
            .iter()
            .map(|sample| {
                json!({"sequence": sample.sequence, "advantage": sample.advantage, "old_log_probs": sample.old_log_probs})
            })
            .collect();
        // What is not a number is null in JSON.
        let what = json!({"loss": stats.loss, "grad_norm": stats.grad_norm, "samples": samples});
        self.run.skipped(step, number, &what)?;
        if self.at.skipped_in_row > self.config.guard.max_skipped {
            return Err(RlError::Diverged {
                updates: self.at.skipped_in_row,
                step,
                folder: self.run.path().join("skipped"),
            });
        }
        Ok(())
    }

    fn mini_batch(
        &self,
        groups: &[Group],
        advantages: &[Vec<f64>],
        loss: &LossSpec,
        needs_old: bool,
    ) -> Result<MiniBatch, RlError> {
        let mut scored: Vec<(Sequence, f64)> = groups
            .iter()
            .zip(advantages)
            .flat_map(|(group, advantages)| {
                let sequence =
                    |tokens: &Vec<u32>| Sequence { prompt: group.question.tokens.clone(), response: tokens.clone() };
                group.responses.iter().map(move |response| sequence(&response.tokens)).zip(advantages.iter().copied())
            })
            .collect();
        // Like lengths beside one another need little padding; the update is the same in any order.
        scored.sort_by_key(|(sequence, _)| sequence.len());
        let (sequences, advantages): (Vec<_>, Vec<_>) = scored.into_iter().unzip();
        let stats_of = |decoder| response_stats(decoder, &sequences, &loss.policy, loss.max_tokens_per_batch);
        let old = if needs_old { Some(stats_of(&self.model.decoder)?) } else { None };
        let reference = self.reference.as_ref().map(stats_of).transpose()?;
        let entropies = old.iter().flatten().flat_map(|stats| stats.entropy.iter().copied().map(f64::from));
        let entropy_sum = entropies.sum();
        let log_probs =
            |stats: Option<Vec<TokenStats>>| stats.map(|stats| stats.into_iter().map(|stats| stats.log_probs));
        let (mut old, mut reference) = (log_probs(old), log_probs(reference));
        let samples = sequences
            .into_iter()
            .zip(advantages)
            .map(|(sequence, advantage)| Sample {
                sequence,
                advantage,
                old_log_probs: old.as_mut().and_then(Iterator::next),
                ref_log_probs: reference.as_mut().and_then(Iterator::next),
            })
            .collect();
        Ok(MiniBatch { samples, entropy_sum })
    }
}

/// The responses of one update, ready for it.
struct MiniBatch {
    samples: Vec<Sample>,
    /// The trained policy's entropies at the response tokens, added up; 0 for the first update, which finds them itself.
    entropy_sum: f64,
}

/// The newest checkpoint that is whole; damaged newer ones are told of.
fn newest(
    store: &CheckpointStore,
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<Option<bupo_runs::Checkpoint>, RlError> {
    if !folder.join("config.toml").is_file() {
        return Err(RlError::NoData { path: folder.to_path_buf(), reason: "it is not a run's folder".into() });
    }
    let newest = store.newest()?;
    if !newest.passed_over.is_empty() {
        progress.passed_over(&newest.passed_over);
    }
    Ok(newest.checkpoint)
}
