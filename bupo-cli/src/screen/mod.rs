//! What a run shows: a progress bar with time left, one line per step, and tables.

pub mod analysis;

use std::collections::HashSet;
use std::time::Instant;

use bupo_analysis::Boundary;
use bupo_core::PolicySite;
use bupo_eval::{BenchmarkResult, Evaluation};
use bupo_models::pretrained::hub::FetchProgress;
use bupo_rl::{Outcome, Phase, Progress, RunHeader, StepMetrics, WarningKind};
use bupo_runs::Damaged;
use console::{Alignment, measure_text_width, pad_str};
use indicatif::{ProgressBar, ProgressStyle};

use crate::backend::{DeviceChoice, memory};

/// Columns of the terminal, 80 where there is none.
pub fn screen_width() -> usize {
    usize::from(console::Term::stdout().size().1)
}

/// Texts in columns under their names. A column is as wide as `width` allows, but never below 12.
pub fn side_by_side(names: &[String], texts: &[String], width: usize) -> String {
    const GAP: &str = "  ";
    const NARROWEST: usize = 12;
    let column = ((width + GAP.len()) / names.len().max(1)).saturating_sub(GAP.len()).max(NARROWEST);
    let mut columns: Vec<Vec<String>> = Vec::new();
    for (name, text) in names.iter().zip(texts) {
        columns.push([name.clone(), "-".repeat(column)].into_iter().chain(wrapped(text, column)).collect());
    }
    let mut out = String::new();
    for line in 0..columns.iter().map(Vec::len).max().unwrap_or(0) {
        let cells = columns.iter().map(|lines| lines.get(line).map_or("", String::as_str));
        let row = cells.map(|cell| pad_str(cell, column, Alignment::Left, None)).collect::<Vec<_>>().join(GAP);
        out.push_str(row.trim_end());
        out.push('\n');
    }
    out
}

/// Lines of at most `width` columns. Control characters, which could move the cursor, show as replacement characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let (mut current, mut used) = (String::new(), 0);
        for c in line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }) {
            let wide = measure_text_width(c.encode_utf8(&mut [0; 4]));
            if used + wide > width {
                lines.push(std::mem::take(&mut current));
                used = 0;
            }
            current.push(c);
            used += wide;
        }
        lines.push(current);
    }
    lines
}

/// A bar on the terminal with lines above it; only the lines where there is no terminal.
pub struct StepBar(ProgressBar);

impl StepBar {
    pub fn new(steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        // Without a style that parses, the bar keeps its own.
        if let Ok(style) = ProgressStyle::with_template("[{elapsed_precise}] {bar:40} {pos}/{len}  {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub fn step(&self) {
        self.advance(1);
    }

    pub fn advance(&self, by: usize) {
        self.0.inc(by as u64);
    }

    pub fn set_steps(&self, steps: usize) {
        self.0.set_length(steps as u64);
    }

    pub fn line(&self, line: &str) {
        self.0.suspend(|| outln!("{line}"));
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// The screen of `bupo train`.
pub struct TrainScreen {
    choice: DeviceChoice,
    /// Its name, and what layers compute in.
    device: String,
    started: Instant,
    steps: usize,
    bar: Option<StepBar>,
    warned: HashSet<WarningKind>,
}

impl TrainScreen {
    pub fn new(choice: DeviceChoice, device: String) -> Self {
        Self { choice, device, started: Instant::now(), steps: 0, bar: None, warned: HashSet::new() }
    }

    /// Before and after, and where everything is.
    pub fn outcome(&self, outcome: &Outcome) {
        let Some(after) = &outcome.after else {
            let folder = outcome.folder.display();
            return outln!("stopped after step {}; go on with: bupo train --resume {folder}", outcome.steps);
        };
        let before = &outcome.before;
        outln!();
        outln!("{} held-out problems, {} samples each", after.problems, after.samples);
        outln!("{:<16} {:>8} {:>8} {:>8}", "", "before", "after", "change");
        for (name, before, after) in [
            (format!("Avg@{}", after.samples), before.avg_at_k, after.avg_at_k),
            (format!("Pass@{}", after.samples), before.pass_at_k, after.pass_at_k),
            ("response length".to_string(), before.response_length, after.response_length),
            ("truncated".to_string(), before.truncated, after.truncated),
        ] {
            outln!("{name:<16} {before:>8.3} {after:>8.3} {:>+8.3}", after - before);
        }
        outln!();
        outln!("took {:.0} s", self.started.elapsed().as_secs_f64());
        let folder = outcome.folder.display();
        outln!("settings     {folder}/config.toml");
        outln!("metrics      {folder}/metrics.jsonl");
        outln!("completions  {folder}/completions.jsonl");
        outln!("evaluations  {folder}/evaluation.json");
        outln!("model        {}", outcome.model.display());
        if let Some(step) = outcome.best_step.filter(|step| *step > 0) {
            outln!("best         {folder}/checkpoints/step-{step:06}/model, by the evaluations in between");
        }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.line(line),
            None => outln!("{line}"),
        }
    }
}

impl Progress for TrainScreen {
    fn ready(&mut self, plan: &RunHeader<'_>) {
        let config = plan.config;
        let model = config.model.as_deref().unwrap_or("the embedded model");
        outln!(
            "training {model}: {} layers, {:.2} M parameters, on {}",
            plan.num_layers,
            plan.num_params as f64 / 1e6,
            self.device
        );
        outln!(
            "{} steps of {} prompts x {} responses, seed {}, into {}",
            plan.steps,
            config.rollout.prompts,
            config.rollout.group_size,
            config.seed,
            plan.folder.display()
        );
        outln!("{}", plan.questions);
        self.steps = plan.steps;
        if plan.done > 0 {
            outln!("going on after step {}", plan.done);
        }
    }

    fn evaluating(&mut self, when: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
        outln!("evaluating {when} training ...");
    }

    fn evaluated(&mut self, when: &str, evaluation: &Evaluation) {
        outln!(
            "{when}: Avg@{k} {:.3}, Pass@{k} {:.3}, mean length {:.1}, truncated {:.3}",
            evaluation.avg_at_k,
            evaluation.pass_at_k,
            evaluation.response_length,
            evaluation.truncated,
            k = evaluation.samples
        );
    }

    fn boundary(&mut self, boundary: &Boundary) {
        let chosen = boundary.layer.map_or("the full policy".to_string(), |layer| format!("layer {layer}"));
        self.line(&format!("layer = \"auto\": {chosen}: {}", boundary.reason()));
        self.line(&format!("  {}", boundary.certainty()));
    }

    fn skipped_damaged(&mut self, damaged: &[Damaged]) {
        for damaged in damaged {
            eprintln!("warning: {damaged}; the one before it is used");
        }
    }

    fn phase(&mut self, number: usize, phase: &Phase, steps: usize) {
        // Fewer than planned where a phase was ended early.
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
        self.line(&format!(
            "step {:>4}/{}  {:<8} reward {:.3}  entropy {:.3}  kl {:+.5}  grad_norm {:.3}  clip {:.4}  length {:.1}  {:.0} tok/s",
            metrics.step,
            self.steps,
            metrics.site.to_string(),
            metrics.rollout.reward,
            metrics.update.entropy,
            metrics.update.kl,
            metrics.update.grad_norm,
            metrics.update.clip_ratio,
            metrics.rollout.response_length,
            metrics.timing.tokens_per_second,
        ));
        for warning in &metrics.warnings {
            // The metrics have each; here the first of a kind says enough.
            if self.warned.insert(warning.kind) {
                self.line(&format!("warning: step {}: {}", metrics.step, warning.text));
            }
        }
        if let Some(action) = &metrics.guard {
            self.line(&format!("phase guard: {action}"));
        }
        // The bar comes back after an evaluation, and begins where a resumed run does.
        let (steps, done) = (self.steps, metrics.step - 1);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = StepBar::new(steps);
            bar.advance(done);
            bar
        });
        bar.step();
    }

    fn memory_free(&mut self) -> Option<f64> {
        memory(self.choice).map(|memory| memory.free as f64 / memory.total as f64)
    }
}

/// One column a benchmark: Avg@n, Pass@K for every K, lengths. With several, their mean too.
pub fn print_results(results: &[BenchmarkResult], rule: &str) {
    let samples = results.iter().map(|result| result.evaluation.samples).min().unwrap_or(0);
    let width = results.iter().map(|result| result.benchmark.len()).max().unwrap_or(0).max(15) + 2;
    let print = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>width$}")).collect();
        outln!("{name:<16}{cells}");
    };
    let several = results.len() > 1;
    // A value with the half width of its interval; the mean over benchmarks, of which there are few, has none.
    let row = |name: &str, value: &dyn Fn(&Evaluation) -> (f64, f64)| {
        let values: Vec<(f64, f64)> = results.iter().map(|result| value(&result.evaluation)).collect();
        let mean = values.iter().map(|(value, _)| value).sum::<f64>() / values.len().max(1) as f64;
        let cells = values.iter().map(|(value, half)| format!("{value:.4} ±{half:.4}"));
        print(name, cells.chain(several.then(|| format!("{mean:.4}"))).collect());
    };
    let plain = |name: &str, value: &dyn Fn(&Evaluation) -> String| {
        let cells = results.iter().map(|result| value(&result.evaluation));
        print(name, cells.chain(several.then(String::new)).collect());
    };
    outln!("graded by {rule}; ± is half a 95% interval over problems");
    let names = results.iter().map(|result| result.benchmark.clone());
    print("", names.chain(several.then(|| "mean".to_string())).collect());
    plain("problems", &|evaluation| evaluation.problems.to_string());
    row(&format!("Avg@{samples}"), &|evaluation| (evaluation.avg_at_k, evaluation.avg_half_width));
    for k in 1..=samples {
        row(&format!("Pass@{k}"), &|evaluation| (evaluation.pass_at[k - 1], evaluation.pass_half_widths[k - 1]));
    }
    plain("mean length", &|evaluation| format!("{:.1}", evaluation.response_length));
    plain("truncated", &|evaluation| format!("{:.4}", evaluation.truncated));
}

/// Bars of files being fetched from the Hub.
#[derive(Default)]
pub struct FetchScreen(Option<ProgressBar>);

impl FetchProgress for FetchScreen {
    fn file(&mut self, name: &str, bytes: u64) {
        let bar = self.0.get_or_insert_with(|| ProgressBar::new(bytes));
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes}  {eta} left") {
            bar.set_style(style);
        }
        bar.set_length(bytes);
        bar.set_position(0);
        bar.set_message(name.to_string());
    }

    fn advance(&mut self, bytes: u64) {
        self.0.iter().for_each(|bar| bar.inc(bytes));
    }

    fn done(&mut self) {
        self.0.take().iter().for_each(ProgressBar::finish_and_clear);
    }
}
