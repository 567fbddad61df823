//! `bupo pretrain`

use bupo_models::SaveDtype;
use bupo_rl::{Arithmetic, PretrainConfig, pretrain};
use burn::tensor::backend::Backend;

use crate::args::PretrainArgs;
use crate::backend::{Job, run_on};
use crate::error::CliError;
use crate::screen::StepBar;

/// A line is printed of the first step and of every one of this many.
const LINE_EVERY: usize = 50;

pub fn run(args: PretrainArgs) -> Result<(), CliError> {
    if args.steps == 0 || args.batch == 0 || args.max_terms < 2 || args.max_number == 0 {
        return Err(CliError::Message(
            "--steps, --batch and --max-number must be at least 1, and --max-terms at least 2".into(),
        ));
    }
    if !((0.0..=1.0).contains(&args.slips) && args.lr > 0.0 && args.lr <= 1.0) {
        return Err(CliError::Message("--slips must be from 0 to 1, and --lr above 0 and at most 1".into()));
    }
    run_on(args.device.device, Pretrain(args))
}

struct Pretrain(PretrainArgs);

impl Job for Pretrain {
    fn run<B: Backend>(self, device: &B::Device) -> Result<(), CliError> {
        let Self(args) = self;
        let config = PretrainConfig {
            seed: args.seed,
            steps: args.steps,
            batch: args.batch,
            learning_rate: args.lr,
            hidden_size: args.hidden,
            num_layers: args.layers,
            slip_rate: args.slips,
            dtype: SaveDtype::Bf16,
        };
        let task = Arithmetic { max_terms: args.max_terms, max_number: args.max_number };
        let bar = StepBar::new(args.steps);
        pretrain::<B>(&config, &task, &args.out, device, |step, loss| {
            bar.step();
            if step == 1 || step % LINE_EVERY == 0 {
                bar.line(&format!("step {step:>5}/{}  loss {loss:.4}", args.steps));
            }
        })?;
        bar.finish();
        outln!("wrote the model to {}", args.out.display());
        Ok(())
    }
}
