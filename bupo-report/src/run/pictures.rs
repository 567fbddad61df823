//! The charts of training runs.

use bupo_analysis::Statistic;
use bupo_chart::{Chart, ColourScale, HeatMap, LineChart, Mark, Point, Series, YScale};
use bupo_core::PolicySite;
use bupo_rl::{ProbeLine, StepMetrics};
use serde_json::json;

use super::Run;
use crate::page::Picture;
use crate::response_picture::rounded;

pub(super) fn learning(runs: &[Run]) -> Vec<Picture> {
    let share = |picture: Picture| line(picture, |chart| chart.y_range = Some((0.0, 1.0)));
    vec![
        curve(
            runs,
            "reward",
            |m| Some(m.rollout.reward),
            "Reward",
            "mean reward",
            "Mean reward of the responses sampled in each step.",
        ),
        curve(
            runs,
            "response-length",
            |m| Some(m.rollout.response_length),
            "Response length",
            "tokens",
            "Mean length of the responses.",
        ),
        share(curve(
            runs,
            "truncated",
            |m| Some(m.rollout.truncated),
            "Truncated responses",
            "share",
            "Fraction of responses truncated at the length limit.",
        )),
        curve(
            runs,
            "entropy",
            |m| m.update.entropy,
            "Entropy of the trained policy",
            "nats",
            "Mean over the response tokens, before the step's updates. The trained policy depends on the phase.",
        ),
        share(curve(
            runs,
            "frac-reward-zero-std",
            |m| Some(m.rollout.frac_reward_zero_std),
            "Groups without reward variance",
            "share",
            "Fraction of groups whose responses all have the same reward. Their advantages are 0.",
        )),
        curve(
            runs,
            "tokens-per-second",
            |m| Some(m.timing.tokens_per_second),
            "Speed",
            "tokens / s",
            "Prompt and response tokens per second of the step.",
        ),
    ]
}

pub(super) fn updates(runs: &[Run]) -> Vec<Picture> {
    let gradient = curve(
        runs,
        "grad-norm",
        |m| m.update.grad_norm,
        "Gradient norm",
        "global norm",
        "Mean over the step's updates, before clipping.",
    );
    let mut pictures = vec![
        line(gradient, |chart| chart.y_scale = YScale::Log),
        line(
            curve(
                runs,
                "clip-ratio",
                |m| m.update.clip_ratio,
                "Clip fraction",
                "share of tokens",
                "Fraction of tokens whose importance ratio was clipped.",
            ),
            |chart| chart.y_range = Some((0.0, most(chart))),
        ),
        curve(
            runs,
            "kl",
            |m| m.update.policy_kl,
            "KL to the sampling policy",
            "nats",
            "Mean of old minus new log-probs over the step's updates (k1 estimator).",
        ),
        curve(
            runs,
            "extreme-ratio",
            |m| m.update.extreme_ratio,
            "Most extreme importance ratio",
            "ratio",
            "The ratio that is furthest from 1, over the step's updates.",
        ),
    ];
    if runs.iter().flat_map(|run| &run.metrics).any(|metrics| metrics.update.ref_kl.is_some()) {
        pictures.push(curve(
            runs,
            "ref-kl",
            |m| m.update.ref_kl,
            "KL to the reference policy",
            "nats",
            "Estimated divergence from the model before training.",
        ));
    }
    if runs.iter().flat_map(|run| &run.metrics).any(|metrics| metrics.critic.is_some()) {
        pictures.push(curve(
            runs,
            "explained-variance",
            |m| m.critic.as_ref()?.explained_variance,
            "Explained variance of the critic",
            "share",
            "One less the variance of returns less values over that of returns, before the step.",
        ));
    }
    pictures
}

/// Effect of internal-policy training on the full policy; empty if no internal policy was trained.
pub(super) fn divergence(runs: &[Run]) -> Vec<Picture> {
    if !runs.iter().flat_map(|run| &run.metrics).any(|metrics| metrics.policy.drift.is_some()) {
        return Vec::new();
    }
    vec![
        curve(
            runs,
            "perplexity",
            |m| Some(m.rollout.perplexity),
            "Perplexity of the full policy",
            "perplexity",
            "Of the step's responses, which the full policy sampled.",
        ),
        curve(
            runs,
            "drift",
            |m| m.policy.drift,
            "Drift of the full policy",
            "nats / token",
            "Mean decrease of its log-probs of responses sampled before training: an estimate of KL(before || now).",
        ),
        curve(
            runs,
            "kl-to-full",
            |m| m.policy.kl_to_full,
            "KL(trained || full)",
            "nats / token",
            "Divergence of the trained policy from the full policy, on the step's responses.",
        ),
    ]
}

/// Entropy and divergence by layer over steps, and the feed-forwards' entropy change and cosine before and after training.
pub(super) fn internal_policies(runs: &[Run]) -> Vec<Picture> {
    let runs: Vec<&Run> = runs.iter().filter(|run| run.probe.len() > 1).collect();
    let mut pictures = Vec::new();
    for (statistic, file, title, label, caption) in [
        (
            Statistic::Entropy,
            "internal-entropy",
            "entropy by layer over steps",
            "entropy (nats)",
            "Entropy of each layer's policy. Dark rows have low entropy.",
        ),
        (
            Statistic::Kl,
            "internal-kl",
            "KL(layer || full) by layer over steps",
            "nats",
            "Divergence of each layer's policy from the full policy of the same step.",
        ),
    ] {
        pictures.extend(runs.iter().enumerate().map(|(index, run)| {
            heat(run, statistic, format!("{file}-{}", index + 1), format!("{}: {title}", run.name), label, caption)
        }));
    }
    pictures.extend(runs.iter().enumerate().map(|(index, run)| feed_forward(run, index + 1)));
    pictures.extend(runs.iter().enumerate().map(|(index, run)| similarity(run, index + 1)));
    pictures
}

/// Changes a line chart.
pub(super) fn line(mut picture: Picture, change: impl FnOnce(&mut LineChart)) -> Picture {
    if let Chart::Line(chart) = &mut picture.chart {
        change(chart);
    }
    picture
}

/// The end of an axis from 0 that holds all shares of a chart: 1 if all are 0.
fn most(chart: &LineChart) -> f64 {
    let most = chart.series.iter().flat_map(|series| &series.points).map(|point| point.y).fold(0.0, f64::max);
    if most > 0.0 { (most * 1.05).min(1.0) } else { 1.0 }
}

/// The first and the last step of all runs.
fn steps(runs: &[Run]) -> Option<(f64, f64)> {
    let steps = || runs.iter().flat_map(|run| &run.metrics).map(|metrics| metrics.step as f64);
    steps().reduce(f64::min).zip(steps().reduce(f64::max))
}

/// A metric over steps, with one line per run.
fn curve(
    runs: &[Run],
    name: &str,
    metric: fn(&StepMetrics) -> Option<f64>,
    title: &str,
    y_label: &str,
    caption: &str,
) -> Picture {
    let points = |run: &Run| {
        let point = |metrics| {
            let y = metric(metrics).filter(|y| y.is_finite())?;
            Some(Point { x: metrics.step as f64, y, interval: None })
        };
        run.metrics.iter().filter_map(point).collect()
    };
    let chart = LineChart {
        title: title.into(),
        x_label: "step".into(),
        y_label: y_label.into(),
        series: runs.iter().map(|run| Series { name: run.name.clone(), points: points(run) }).collect(),
        marks: phase_marks(runs),
        x_range: steps(runs),
        ..LineChart::default()
    };
    Picture::new(name.to_string(), chart, caption)
}

/// The starts of phases. Runs with the same phases share marks.
fn phase_marks(runs: &[Run]) -> Vec<Mark> {
    let mut marks: Vec<Mark> = Vec::new();
    for run in runs {
        for pair in run.metrics.windows(2) {
            if pair[0].phase != pair[1].phase {
                let mark = Mark { x: pair[1].step as f64 - 0.5, label: pair[1].site.to_string() };
                if !marks.contains(&mark) {
                    marks.push(mark);
                }
            }
        }
    }
    marks
}

/// The number of layers of the probed model.
fn layers(run: &Run) -> usize {
    let Some(line) = run.probe.first() else { return 0 };
    let sites = line.means.get(&Statistic::Entropy).into_iter().flat_map(|means| means.keys());
    let numbers = sites.filter_map(|site| site.parse::<PolicySite>().ok()?.layer());
    numbers.max().unwrap_or(0)
}

fn mean(line: &ProbeLine, statistic: Statistic, site: PolicySite) -> f64 {
    line.means.get(&statistic).and_then(|means| means.get(&site.to_string())).copied().unwrap_or(f64::NAN)
}

fn heat(run: &Run, statistic: Statistic, name: String, title: String, label: &str, caption: &str) -> Picture {
    let sites: Vec<PolicySite> = (1..=layers(run)).map(PolicySite::Layer).collect();
    let values: Vec<Vec<f64>> =
        sites.iter().map(|site| run.probe.iter().map(|line| mean(line, statistic, *site)).collect()).collect();
    let rows: Vec<String> = sites.iter().map(ToString::to_string).collect();
    let columns: Vec<String> = run.probe.iter().map(|line| line.step.to_string()).collect();
    let cells = json!({
        "columns": columns.iter().map(|step| format!("step {step}")).collect::<Vec<_>>(),
        "rows": rows,
        "value": label,
        "values": rounded(&values),
    });
    let chart = HeatMap {
        title,
        x_label: "step".into(),
        y_label: "policy".into(),
        value_label: label.into(),
        columns,
        rows,
        values,
        range: None,
        scale: ColourScale::Sequential,
    };
    Picture { cells: Some(cells), ..Picture::new(name, chart, caption) }
}

/// The feed-forwards' entropy change before and after training.
fn feed_forward(run: &Run, number: usize) -> Picture {
    before_and_after(
        run,
        Statistic::EntropyChange,
        PolicySite::Ffn,
        format!("internal-change-{number}"),
        format!("{}: feed-forward entropy change", run.name),
        "entropy change (nats)",
        "Positive where the feed-forward increases the entropy.",
    )
}

/// The feed-forwards' cosine similarity with the stream, before and after training.
fn similarity(run: &Run, number: usize) -> Picture {
    before_and_after(
        run,
        Statistic::Cosine,
        PolicySite::Ffn,
        format!("internal-cosine-{number}"),
        format!("{}: feed-forward cosine similarity", run.name),
        "cosine",
        "Cosine similarity of the feed-forward's output and the state it is added to.",
    )
}

pub(super) fn before_and_after(
    run: &Run,
    statistic: Statistic,
    site: fn(usize) -> PolicySite,
    name: String,
    title: String,
    y_label: &str,
    caption: &str,
) -> Picture {
    let line = |line: &ProbeLine| Series {
        name: format!("step {}", line.step),
        points: (1..=layers(run))
            .map(|layer| Point { x: layer as f64, y: mean(line, statistic, site(layer)), interval: None })
            .filter(|point| point.y.is_finite())
            .collect(),
    };
    // The first, the middle and the last probe.
    let (middle, last) = (run.probe.len() / 2, run.probe.len() - 1);
    let shown = if middle == last { vec![0, last] } else { vec![0, middle, last] };
    let chart = LineChart {
        title,
        x_label: "layer".into(),
        y_label: y_label.into(),
        series: shown.into_iter().map(|index| line(&run.probe[index])).collect(),
        zero_line: true,
        ..LineChart::default()
    };
    Picture::new(name, chart, caption)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_of_shares_starts_at_0_and_ends_at_1_at_most() {
        let chart = |shares: &[f64]| {
            let points = shares.iter().map(|y| Point { x: 1.0, y: *y, interval: None }).collect();
            LineChart { series: vec![Series { name: String::new(), points }], ..LineChart::default() }
        };
        assert_eq!(most(&chart(&[0.0, 0.0])), 1.0);
        assert_eq!(most(&chart(&[0.0, 0.2])), 0.2 * 1.05);
        assert_eq!(most(&chart(&[1.0])), 1.0);
    }
}
