//! The progress and outcome of a training run.

use std::collections::HashSet;
use std::time::Instant;

use bupo_analysis::Boundary;
use bupo_core::PolicySite;
use bupo_eval::{BenchmarkResult, Evaluation};
use bupo_models::ComputeDtype;
use bupo_rl::{Outcome, Phase, Progress, ROLLOUTS, RunHeader, StepMetrics, WarningKind};
use bupo_runs::Damaged;

use super::bar::StepBar;
use crate::backend::{DeviceChoice, device_name, memory};
use crate::embedded::EMBEDDED_NAME;
use crate::verbosity::{Verbosity, verbosity};

/// The output of `bupo train`.
pub struct TrainScreen {
    device: DeviceChoice,
    dtype: ComputeDtype,
    /// Printed once the run is checked, so that an error stays the only line.
    warning: Option<String>,
    started: Instant,
    steps: usize,
    bar: Option<StepBar>,
    warned: HashSet<WarningKind>,
}

impl TrainScreen {
    pub fn new(device: DeviceChoice, dtype: ComputeDtype, warning: Option<String>) -> Self {
        Self { device, dtype, warning, started: Instant::now(), steps: 0, bar: None, warned: HashSet::new() }
    }

    /// Prints the evaluations before and after training, and the paths of the run's files.
    pub fn outcome(&mut self, outcome: &Outcome) {
        self.bar = None;
        let Some(after) = &outcome.after else {
            let folder = outcome.folder.display();
            return outln!("stopped after step {}; resume with: bupo train --resume {folder}", outcome.steps);
        };
        let before = &outcome.before;
        let majority = before.maj_at_k.zip(after.maj_at_k);
        let majority = majority.map(|(before, now)| (format!("maj@{}", after.samples), before, now));
        outln!();
        outln!("{}", held_out(after, &outcome.after_by_benchmark));
        outln!("{:<16} {:>8} {:>8} {:>8}", "", "before", "after", "change");
        let of_k = [
            (format!("Avg@{}", after.samples), before.avg_at_k, after.avg_at_k),
            (format!("Pass@{}", after.samples), before.pass_at_k, after.pass_at_k),
        ];
        let of_responses = [
            ("response length".to_string(), before.response_length, after.response_length),
            ("truncated".to_string(), before.truncated, after.truncated),
        ];
        for (name, before, after) in of_k.into_iter().chain(majority).chain(of_responses) {
            outln!("{name:<16} {before:>8.3} {after:>8.3} {:>+8.3}", after - before);
        }
        by_benchmark(outcome);
        outln!();
        outln!("took {:.0} s", self.started.elapsed().as_secs_f64());
        let folder = outcome.folder.display();
        outln!("settings     {folder}/config.toml");
        outln!("metrics      {folder}/metrics.jsonl");
        outln!("completions  {folder}/completions.jsonl");
        if outcome.folder.join(ROLLOUTS).exists() {
            outln!("rollouts     {folder}/{ROLLOUTS}");
        }
        outln!("evaluations  {folder}/evaluation.json");
        outln!("model        {}{}", outcome.model.display(), saved(outcome));
        if let Some(step) = outcome.best_step.filter(|step| *step > 0) {
            outln!("best         {folder}/checkpoints/step-{step:06}/model, by the intermediate evaluations");
        }
    }

    /// Prints a line of progress; nothing with --quiet.
    fn line(&self, line: &str) {
        if verbosity() != Verbosity::Quiet {
            self.result(line);
        }
    }

    /// Prints a line in any case.
    fn result(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.result(line),
            None => outln!("{line}"),
        }
    }
}

/// The seconds of a step's parts, where tokens were clipped, and the critic.
pub fn parts(metrics: &StepMetrics) -> String {
    let (parts, update) = (&metrics.timing.parts, &metrics.update);
    let seconds = [
        ("sampling", parts.seconds_sampling),
        ("grading", parts.seconds_grading),
        ("hand-over", parts.seconds_hand_over),
        ("old log-probs", parts.seconds_old_log_probs),
        ("gradient steps", parts.seconds_gradient_steps),
    ];
    let seconds = seconds.into_iter().filter_map(|(name, seconds)| Some(format!("{name} {:.2} s", seconds?)));
    let clipped = update.clip_ratio_low.zip(update.clip_ratio_high);
    let clipped = clipped.map(|(low, high)| format!("clipped below {low:.4}, above {high:.4}"));
    let critic = metrics.critic.as_ref().map(|critic| {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        format!("value loss {}, explained variance {}", number(critic.value_loss), number(critic.explained_variance))
    });
    seconds.chain(clipped).chain(critic).collect::<Vec<_>>().join("  ")
}

/// How many problems were evaluated, with how many responses each.
fn held_out(mean: &Evaluation, benchmarks: &[BenchmarkResult]) -> String {
    let most = benchmarks.iter().map(|result| result.evaluation.samples).max().unwrap_or(mean.samples);
    let samples = if most == mean.samples { format!("{most}") } else { format!("{} to {most}", mean.samples) };
    format!("{} held-out problems, {samples} samples each", mean.problems)
}

/// Prints Avg@K before and after training of each of several benchmarks, of which the table above has the mean.
fn by_benchmark(outcome: &Outcome) {
    let (before, after) = (&outcome.before_by_benchmark, &outcome.after_by_benchmark);
    if after.len() < 2 {
        return;
    }
    outln!();
    let name = |after: &BenchmarkResult| {
        let of = &after.evaluation;
        format!("{} ({} problems, Avg@{})", after.benchmark, of.problems, of.samples)
    };
    let width = after.iter().map(|after| name(after).chars().count()).max().unwrap_or(0).max(16);
    outln!("{:<width$} {:>8} {:>8} {:>8}", "by benchmark", "before", "after", "change");
    for after in after {
        let score = |result: &BenchmarkResult| result.evaluation.avg_at_k;
        let before = before.iter().find(|before| before.benchmark == after.benchmark).map(score);
        let name = name(after);
        let (before, change) = match before {
            Some(before) => (format!("{before:.3}"), format!("{:+.3}", score(after) - before)),
            None => ("-".into(), "-".into()),
        };
        outln!("{name:<width$} {before:>8} {:>8.3} {change:>8}", score(after));
    }
}

/// The dtype of a model that was not saved in its own, and the share of changes that rounding set back, in parentheses.
fn saved(outcome: &Outcome) -> String {
    match (outcome.save_dtype, outcome.rounded_away) {
        (Some(_), Some(share)) => {
            format!(" (in f32: its own dtype would set back {:.0}% of the changed weights)", 100.0 * share)
        }
        (None, Some(share)) => format!(" (rounding set back {:.1}% of the changed weights)", 100.0 * share),
        (_, None) => String::new(),
    }
}

impl Progress for TrainScreen {
    fn ready(&mut self, plan: &RunHeader<'_>) {
        if let Some(warning) = &self.warning {
            eprintln!("warning: {warning}");
        }
        let config = plan.config;
        let model = config.model.as_deref().unwrap_or(EMBEDDED_NAME);
        self.line(&format!(
            "training {model}: {} layers, {:.2} M parameters, on {}, {}",
            plan.num_layers,
            plan.num_params as f64 / 1e6,
            device_name(self.device),
            self.dtype
        ));
        self.line(&format!(
            "{} steps of {} prompts x {} responses, seed {}, run folder {}",
            plan.steps,
            config.rollout.prompts,
            config.rollout.group_size,
            config.seed,
            plan.folder.display()
        ));
        self.line(&plan.questions);
        self.steps = plan.steps;
        if plan.done > 0 {
            self.line(&format!("resuming after step {}", plan.done));
        }
        self.bar = Some(StepBar::resumed("steps", plan.steps, plan.done));
    }

    fn evaluating(&mut self, when: &str) {
        self.line(&format!("evaluating {when} training ..."));
        self.bar.iter().for_each(StepBar::pause);
    }

    fn sampled(&self, done: usize, all: usize) {
        self.bar.iter().for_each(|bar| bar.note(format!("{done} of {all} responses of the evaluation sampled")));
    }

    fn evaluated(&mut self, when: &str, evaluation: &Evaluation) {
        self.bar.iter().for_each(StepBar::go_on);
        self.line(&format!(
            "{when}: Avg@{k} {:.3}, Pass@{k} {:.3}, mean length {:.1}, truncated {:.3}",
            evaluation.avg_at_k,
            evaluation.pass_at_k,
            evaluation.response_length,
            evaluation.truncated,
            k = evaluation.samples
        ));
    }

    fn evaluated_benchmark(&self, result: &BenchmarkResult) {
        let BenchmarkResult { benchmark, evaluation } = result;
        let majority =
            evaluation.maj_at_k.map_or(String::new(), |majority| format!(", maj@{} {majority:.3}", evaluation.samples));
        self.line(&format!(
            "  {benchmark}: Avg@{k} {:.3}, Pass@{k} {:.3}{majority}",
            evaluation.avg_at_k,
            evaluation.pass_at_k,
            k = evaluation.samples
        ));
    }

    fn boundary(&mut self, boundary: &Boundary) {
        let chosen = boundary.layer.map_or("the full policy".to_string(), |layer| format!("layer {layer}"));
        self.line(&format!("layer = \"auto\": {chosen}: {}", boundary.reason()));
        self.line(&format!("  {}", boundary.certainty()));
    }

    fn skipped_damaged(&mut self, damaged: &[Damaged]) {
        for damaged in damaged {
            eprintln!("warning: {damaged}; the previous checkpoint is used");
        }
    }

    fn phase(&mut self, number: usize, phase: &Phase, steps: usize) {
        // The phase guard can end a phase early, which reduces the number of steps.
        self.steps = steps;
        if let Some(bar) = &self.bar {
            bar.set_steps(steps);
        }
        self.line(&format!(
            "phase {number}: training the policy of {} for {} steps",
            match phase.site {
                PolicySite::Full => "the full model".to_string(),
                site => format!("{site} (norm {})", phase.norm),
            },
            phase.steps
        ));
    }

    fn step(&mut self, metrics: &StepMetrics) {
        let measured = |value: Option<f64>, digits: usize| match value {
            Some(value) => format!("{value:.digits$}"),
            None => "-".into(),
        };
        let update = &metrics.update;
        self.line(&format!(
            "step {:>4}/{}  {:<8} reward {:.3}  entropy {}  kl {}  grad_norm {}  clip {}  length {:.1}  {:.0} tok/s",
            metrics.step,
            self.steps,
            metrics.site.to_string(),
            metrics.rollout.reward,
            measured(update.entropy, 3),
            update.policy_kl.map_or("-".into(), |kl| format!("{kl:+.5}")),
            measured(update.grad_norm, 3),
            measured(update.clip_ratio, 4),
            metrics.rollout.response_length,
            metrics.timing.tokens_per_second,
        ));
        let is_verbose = verbosity() == Verbosity::Verbose;
        if is_verbose {
            self.line(&format!("  {}", parts(metrics)));
        }
        for warning in &metrics.warnings {
            // Unless asked for, only the first warning of each kind is printed; the metrics have all of them.
            if self.warned.insert(warning.kind) || is_verbose {
                self.result(&format!("warning: step {}: {}", metrics.step, warning.text));
            }
        }
        if let Some(action) = &metrics.guard {
            self.result(&format!("phase guard: {action}"));
        }
        self.bar.iter().for_each(StepBar::step);
    }

    fn warning(&mut self, text: &str) {
        self.result(&format!("warning: {text}"));
    }

    fn memory_free(&mut self) -> Option<f64> {
        memory(self.device).map(|memory| memory.free as f64 / memory.total as f64)
    }
}
