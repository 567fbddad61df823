//! `bupo pretrain`

use std::path::Path;

use bupo_models::SaveDtype;
use bupo_rl::{Arithmetic, PretrainConfig, pretrain};
use burn::tensor::backend::Backend;

use crate::args::PretrainArgs;
use crate::backend::{Job, run_on};
use crate::error::{CliError, at_least_one};
use crate::screen::StepBar;

/// Steps between printed lines.
const LINE_EVERY: usize = 50;

pub fn run(args: &PretrainArgs) -> Result<(), CliError> {
    at_least_one(&[
        ("--steps", Some(args.steps)),
        ("--batch", Some(args.batch)),
        ("--max-number", Some(args.max_number as usize)),
    ])?;
    let refuse = |what: String| Err(CliError::Message(what));
    if args.max_terms < 2 {
        return refuse(format!("--max-terms is {}; it must be at least 2", args.max_terms));
    }
    if !(0.0..=1.0).contains(&args.slip_rate) {
        return refuse(format!("--slip-rate is {}; it must be from 0 to 1", args.slip_rate));
    }
    if !(args.lr > 0.0 && args.lr <= 1.0) {
        return refuse(format!("--lr is {}; it must be above 0 and at most 1", args.lr));
    }
    let config = PretrainConfig {
        seed: args.seed,
        steps: args.steps,
        batch: args.batch,
        learning_rate: args.lr,
        hidden_size: args.hidden,
        num_layers: args.layers,
        slip_rate: args.slip_rate,
        dtype: SaveDtype::Bf16,
    };
    let task = Arithmetic { max_terms: args.max_terms, max_number: args.max_number };
    let bar = StepBar::new("steps", args.steps);
    run_on(args.device.device, Pretrain { config, task, out: &args.out, bar: &bar })?;
    drop(bar);
    outln!("wrote the model to {}", args.out.display());
    Ok(())
}

struct Pretrain<'a> {
    config: PretrainConfig,
    task: Arithmetic,
    out: &'a Path,
    bar: &'a StepBar,
}

impl Job for Pretrain<'_> {
    type Output = ();

    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let steps = self.config.steps;
        pretrain::<B>(&self.config, &self.task, self.out, device, |step, loss| {
            self.bar.step();
            if step == 1 || step % LINE_EVERY == 0 {
                self.bar.line(&format!("step {step:>5}/{steps}  loss {loss:.4}"));
            }
        })?;
        Ok(())
    }
}
