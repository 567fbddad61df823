//! Progress bars.

use bupo_models::pretrained::hub::FetchProgress;
use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar with printed lines above it. Without a terminal, only the lines are printed.
pub struct StepBar(ProgressBar);

impl StepBar {
    pub fn new(steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        // The template is valid; an invalid one would leave the default style.
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

/// The progress bar of downloads from the Hub.
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
