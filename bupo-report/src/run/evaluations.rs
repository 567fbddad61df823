//! Charts of evaluations over steps.

use bupo_chart::{Chart, LineChart, Point, Series};
use bupo_eval::Evaluation;

use super::Run;
use crate::page::Picture;

/// Takes a number from an evaluation.
type Metric = fn(&Evaluation) -> Option<f64>;

/// Avg@K, Pass@K and maj@K over steps, with a line for each run and each of its benchmarks; empty without evaluations
/// during training.
pub(super) fn pictures(runs: &[Run]) -> Vec<Picture> {
    if runs.iter().all(|run| run.evaluations.len() < 3) {
        return Vec::new();
    }
    let charts: [(&str, &str, Metric); 3] = [
        ("evaluation-avg", "Avg@K", |evaluation| Some(evaluation.avg_at_k)),
        ("evaluation-pass", "Pass@K", |evaluation| Some(evaluation.pass_at_k)),
        ("evaluation-maj", "maj@K", |evaluation| evaluation.maj_at_k),
    ];
    let picture = |(name, label, of): (&str, &str, Metric)| {
        let series: Vec<Series> = runs.iter().flat_map(|run| series(run, runs.len() > 1, of)).collect();
        let chart = LineChart {
            title: format!("{label} on held-out problems"),
            x_label: "step".into(),
            y_label: label.into(),
            series,
            ..LineChart::default()
        };
        Picture::new(name, chart, "A line for each benchmark, and for the mean of several.")
    };
    charts.into_iter().map(picture).filter(has_points).collect()
}

fn has_points(picture: &Picture) -> bool {
    let Chart::Line(chart) = &picture.chart else { return false };
    chart.series.iter().any(|series| !series.points.is_empty())
}

/// The lines of a run: each of its benchmarks, and their mean if there are several.
fn series(run: &Run, names_run: bool, of: Metric) -> Vec<Series> {
    let names = run
        .evaluations
        .last()
        .map_or(Vec::new(), |line| line.benchmarks.iter().map(|result| result.benchmark.clone()).collect());
    let named = |name: &str| match names_run {
        true => format!("{}: {name}", run.name),
        false => name.to_string(),
    };
    let point =
        |step: usize, evaluation: &Evaluation| Some(Point { x: step as f64, y: of(evaluation)?, interval: None });
    let mut all: Vec<Series> = Vec::new();
    if names.len() > 1 {
        let points = run.evaluations.iter().filter_map(|line| point(line.step, &line.mean)).collect();
        all.push(Series { name: named("mean"), points });
    }
    for name in &names {
        let points = run.evaluations.iter().filter_map(|line| {
            let result = line.benchmarks.iter().find(|result| result.benchmark == *name)?;
            point(line.step, &result.evaluation)
        });
        all.push(Series { name: named(name), points: points.collect() });
    }
    all
}
