//! The tables and texts of training runs.

use std::collections::BTreeSet;

use bupo_core::PolicySite;
use bupo_eval::{BenchmarkResult, Evaluation};
use bupo_rl::{GuardAction, StepMetrics, WarningKind};
use toml::Value as Setting;

use super::Run;
use crate::page::{Part, Table};

const MISSING: &str = "\u{2013}";

pub(super) fn subtitle(runs: &[Run]) -> String {
    let model =
        |run: &Run| run.settings.get("model").and_then(Setting::as_str).unwrap_or("the embedded model").to_string();
    let models: BTreeSet<String> = runs.iter().map(model).collect();
    format!("Trained from {}.", models.into_iter().collect::<Vec<_>>().join(", "))
}

pub(super) fn outcome_text(runs: &[Run]) -> String {
    let text = |run: &Run| {
        let auto_layer = run.auto_layer.as_ref().map(|auto_layer| {
            let layer = auto_layer.boundary.layer;
            let layer = layer.map_or("the full policy, because there is no exploration stage".into(), |layer| {
                format!("layer {layer}")
            });
            format!(
                " `layer = \"auto\"` chose {layer} from the first step's responses: {} ({}).",
                auto_layer.reason, auto_layer.certainty
            )
        });
        let state = match &run.evaluation {
            Some(_) => "finished".to_string(),
            None => format!("not finished, {} steps recorded", run.metrics.len()),
        };
        let auto_layer = auto_layer.unwrap_or_default();
        format!("{}: {state}.{auto_layer}{}{}", run.name, guard(run), warnings(run))
    };
    runs.iter().map(text).collect::<Vec<_>>().join("\n\n")
}

/// The actions of the phase guard.
fn guard(run: &Run) -> String {
    let acted = |metrics: &StepMetrics| {
        let (done, reason) = match metrics.guard.as_ref()? {
            GuardAction::Warned { reason } => ("would have ended the phase (it only warns)".to_string(), reason),
            GuardAction::Switched { reason } => ("ended the phase".to_string(), reason),
            GuardAction::RolledBack { to_step, reason } => {
                (format!("ended the phase and rolled its updates back to step {to_step}"), reason)
            }
        };
        Some(format!(" After step {} the phase guard {done}: {reason}.", metrics.step))
    };
    run.metrics.iter().filter_map(acted).collect()
}

/// The first warning of each kind, with the number of steps that have one.
fn warnings(run: &Run) -> String {
    let mut kinds: Vec<(WarningKind, String, usize)> = Vec::new();
    for metrics in &run.metrics {
        for warning in &metrics.warnings {
            match kinds.iter_mut().find(|(kind, ..)| *kind == warning.kind) {
                Some((.., steps)) => *steps += 1,
                None => kinds.push((warning.kind, format!("at step {}, {}", metrics.step, warning.text), 1)),
            }
        }
    }
    let counted = |(_, first, steps): (WarningKind, String, usize)| match steps {
        1 => format!(" Warning {first}."),
        _ => format!(" Warning in {steps} steps, first {first}."),
    };
    kinds.into_iter().map(counted).collect()
}

/// A table with one column per run.
fn by_run(runs: &[Run], caption: &str, rows: &[(String, Vec<String>)]) -> Table {
    Table {
        caption: caption.into(),
        header: std::iter::once(String::new()).chain(runs.iter().map(|run| run.name.clone())).collect(),
        rows: rows.iter().map(|(name, cells)| [vec![name.clone()], cells.clone()].concat()).collect(),
    }
}

pub(super) fn outcome(runs: &[Run]) -> Table {
    let row = |name: &str, value: &dyn Fn(&Run) -> Option<String>| {
        (name.to_string(), runs.iter().map(|run| value(run).unwrap_or_else(|| MISSING.into())).collect())
    };
    let text = |run: &Run, name: &str| run.settings.get(name).map(plain);
    let minutes = |run: &Run, seconds: fn(&StepMetrics) -> f64| -> Option<String> {
        Some(format!("{:.1}", run.metrics.iter().map(seconds).sum::<f64>() / 60.0))
    };
    let skipped = |run: &Run| run.metrics.iter().map(|metrics| metrics.update.skipped_updates).sum::<usize>();
    let rows = [
        row("algorithm", &|run| text(run, "algorithm")),
        row("loss", &|run| text(run, "loss")),
        row("seed", &|run| text(run, "seed")),
        row("phases", &|run| Some(phases(run))),
        row("steps", &|run| Some(run.metrics.len().to_string())),
        row("rollout minutes", &|run| minutes(run, |metrics| metrics.timing.seconds_rollout)),
        row("update minutes", &|run| minutes(run, |metrics| metrics.timing.seconds_update)),
        row("skipped updates", &|run| Some(skipped(run).to_string())),
    ];
    by_run(runs, "Run", &rows)
}

/// The phases with their steps, as they were run.
fn phases(run: &Run) -> String {
    let mut phases: Vec<(PolicySite, usize)> = Vec::new();
    for metrics in &run.metrics {
        match phases.last_mut() {
            Some((last, steps)) if *last == metrics.site => *steps += 1,
            _ => phases.push((metrics.site, 1)),
        }
    }
    let phases: Vec<String> = phases.into_iter().map(|(site, steps)| format!("{site} for {steps}")).collect();
    phases.join(", then ")
}

pub(super) fn evaluation(runs: &[Run]) -> Table {
    let row = |label: &str, value: fn(&Evaluation) -> f64| {
        let cell = |run: &Run| {
            let outcome = run.evaluation.as_ref()?;
            let (before, after) = (value(&outcome.before), value(outcome.after.as_ref()?));
            if !(before.is_finite() && after.is_finite()) {
                return None;
            }
            Some(format!("{before:.3} \u{2192} {after:.3} ({:+.3})", after - before))
        };
        (label.to_string(), runs.iter().map(|run| cell(run).unwrap_or_else(|| MISSING.into())).collect())
    };
    let evaluations = || runs.iter().filter_map(|run| run.evaluation.as_ref()?.after.as_ref());
    let samples = evaluations().map(|evaluation| evaluation.samples).next().unwrap_or(0);
    let rows = [
        row(&format!("Avg@{samples}"), |evaluation| evaluation.avg_at_k),
        row("95% CI half-width", |evaluation| evaluation.avg_half_width),
        row(&format!("Pass@{samples}"), |evaluation| evaluation.pass_at_k),
        row(&format!("maj@{samples}"), |evaluation| evaluation.maj_at_k.unwrap_or(f64::NAN)),
        row("response length", |evaluation| evaluation.response_length),
        row("truncated", |evaluation| evaluation.truncated),
    ];
    let rows: Vec<_> = rows.into_iter().chain(by_benchmark(runs)).collect();
    by_run(runs, "On held-out problems, before and after training", &rows)
}

/// Avg@K of each of several benchmarks, of which the other rows have the mean.
fn by_benchmark(runs: &[Run]) -> Vec<(String, Vec<String>)> {
    let several = |run: &&Run| run.evaluation.as_ref().is_some_and(|outcome| outcome.after_by_benchmark.len() > 1);
    let after = runs.iter().filter(several).flat_map(|run| run.evaluation.iter().flat_map(|of| &of.after_by_benchmark));
    let names: BTreeSet<(&str, usize)> =
        after.map(|result| (result.benchmark.as_str(), result.evaluation.samples)).collect();
    let cell = |run: &Run, (name, samples): (&str, usize)| {
        let of = |results: &[BenchmarkResult]| {
            let is_it = |result: &&BenchmarkResult| result.benchmark == name && result.evaluation.samples == samples;
            results.iter().find(is_it).map(|result| result.evaluation.avg_at_k)
        };
        let outcome = run.evaluation.as_ref()?;
        let (before, after) = (of(&outcome.before_by_benchmark)?, of(&outcome.after_by_benchmark)?);
        Some(format!("{before:.3} \u{2192} {after:.3} ({:+.3})", after - before))
    };
    let row = |key: (&str, usize)| {
        let cells = runs.iter().map(|run| cell(run, key).unwrap_or_else(|| MISSING.into()));
        (format!("{}: Avg@{}", key.0, key.1), cells.collect())
    };
    names.into_iter().map(row).collect()
}

pub(super) fn settings(runs: &[Run]) -> Vec<Part> {
    let listing = |run: &Run| Part::Listing {
        name: format!("{}: config.toml", run.name),
        text: run.settings_text.clone(),
        folded: true,
    };
    runs.iter().map(listing).collect()
}

/// Settings that differ between runs.
pub(super) fn differences(runs: &[Run]) -> Table {
    let flat: Vec<Vec<(String, String)>> = runs
        .iter()
        .map(|run| {
            let mut flat = Vec::new();
            flatten("", &Setting::Table(run.settings.clone()), &mut flat);
            flat
        })
        .collect();
    let names: BTreeSet<&String> = flat.iter().flatten().map(|(name, _)| name).collect();
    let value = |settings: &Vec<(String, String)>, name: &str| {
        settings.iter().find(|(other, _)| other == name).map_or(MISSING.to_string(), |(_, value)| value.clone())
    };
    let rows: Vec<(String, Vec<String>)> = names
        .into_iter()
        .map(|name| (name.clone(), flat.iter().map(|settings| value(settings, name)).collect::<Vec<_>>()))
        .filter(|(_, cells)| cells.iter().any(|cell| *cell != cells[0]))
        .collect();
    by_run(runs, if rows.is_empty() { "The runs have the same settings" } else { "Settings" }, &rows)
}

/// Collects settings under their dotted names.
fn flatten(prefix: &str, setting: &Setting, flat: &mut Vec<(String, String)>) {
    let named = |name: &str| if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
    match setting {
        Setting::Table(table) => table.iter().for_each(|(name, setting)| flatten(&named(name), setting, flat)),
        Setting::Array(list) if list.iter().any(Setting::is_table) => {
            list.iter().enumerate().for_each(|(index, setting)| flatten(&named(&index.to_string()), setting, flat));
        }
        other => flat.push((prefix.to_string(), plain(other))),
    }
}

/// A setting's value, strings without quotation marks.
fn plain(setting: &Setting) -> String {
    setting.as_str().map_or_else(|| setting.to_string(), String::from)
}
