//! The tables and texts of training runs.

use std::collections::BTreeSet;

use serde_json::Value;
use toml::Value as Setting;

use super::{Run, number};
use crate::page::{Part, Table};

const NOTHING: &str = "\u{2013}";
/// Problems whose completions are shown of each run.
const SHOWN: usize = 4;
/// Letters of a completion that are shown.
const LONGEST: usize = 800;

pub(super) fn subtitle(runs: &[Run]) -> String {
    let model = |run: &Run| {
        run.settings.get("model").and_then(Setting::as_str).unwrap_or("the model inside the program").to_string()
    };
    let models: BTreeSet<String> = runs.iter().map(model).collect();
    format!("Trained from {}.", models.into_iter().collect::<Vec<_>>().join(", "))
}

pub(super) fn outcome_text(runs: &[Run]) -> String {
    let text = |run: &Run| {
        let boundary = run.boundary.as_ref().map(|boundary| {
            let layer = boundary.get("layer").and_then(Value::as_u64);
            let layer =
                layer.map_or("the full policy, since no layer explores".into(), |layer| format!("layer {layer}"));
            let said = |name: &str| boundary.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
            format!(
                " Its first phase left the layer open; by the first step's responses it was settled on {layer}: {} ({}).",
                said("reason"),
                said("certainty")
            )
        });
        let state = match &run.evaluation {
            Some(_) => "finished".to_string(),
            None => format!("not finished: {} steps of it are here", run.metrics.len()),
        };
        let boundary = boundary.unwrap_or_default();
        format!("{}: {state}.{boundary}{}{}", run.name, guard(run), warnings(run))
    };
    runs.iter().map(text).collect::<Vec<_>>().join("\n\n")
}

/// What the phase guard did.
fn guard(run: &Run) -> String {
    let acted = |line: &Value| {
        let (action, step) = (line.get("guard")?, number(line, "step")?);
        let said = |name: &str| action.get(name).and_then(Value::as_str).unwrap_or_default();
        let done = match (said("action"), number(action, "to_step")) {
            ("warned", _) => "would have ended the phase".to_string(),
            (_, Some(to)) => format!("ended the phase and took back its updates after step {to}"),
            _ => "ended the phase".to_string(),
        };
        Some(format!(" After step {step} the phase guard {done}: {}.", said("reason")))
    };
    run.metrics.iter().filter_map(acted).collect()
}

/// The first warning of each kind, and in how many steps there were such.
fn warnings(run: &Run) -> String {
    let mut kinds: Vec<(&str, String, usize)> = Vec::new();
    for line in &run.metrics {
        for warning in line.get("warnings").and_then(Value::as_array).into_iter().flatten() {
            let said = |name: &str| warning.get(name).and_then(Value::as_str).unwrap_or_default();
            match kinds.iter_mut().find(|(kind, ..)| *kind == said("kind")) {
                Some((.., steps)) => *steps += 1,
                None => {
                    let step = number(line, "step").unwrap_or(f64::NAN);
                    kinds.push((said("kind"), format!("at step {step}, {}", said("text")), 1));
                }
            }
        }
    }
    kinds.into_iter().map(|(_, first, steps)| format!(" Warned of in {steps} steps: {first}.")).collect()
}

/// A column a run.
fn by_run(runs: &[Run], caption: &str, rows: &[(String, Vec<String>)]) -> Table {
    Table {
        caption: caption.into(),
        header: std::iter::once(String::new()).chain(runs.iter().map(|run| run.name.clone())).collect(),
        rows: rows.iter().map(|(name, cells)| [vec![name.clone()], cells.clone()].concat()).collect(),
    }
}

pub(super) fn outcome(runs: &[Run]) -> Table {
    let row = |name: &str, value: &dyn Fn(&Run) -> Option<String>| {
        (name.to_string(), runs.iter().map(|run| value(run).unwrap_or_else(|| NOTHING.into())).collect())
    };
    let text = |run: &Run, name: &str| run.settings.get(name).map(plain);
    let sum = |run: &Run, name: &str| -> f64 { run.metrics.iter().filter_map(|line| number(line, name)).sum() };
    let rows = [
        row("algorithm", &|run| text(run, "algorithm")),
        row("loss", &|run| text(run, "loss")),
        row("seed", &|run| text(run, "seed")),
        row("phases", &|run| Some(phases(run))),
        row("steps", &|run| Some(run.metrics.len().to_string())),
        row("minutes generating", &|run| Some(format!("{:.1}", sum(run, "seconds_rollout") / 60.0))),
        row("minutes updating", &|run| Some(format!("{:.1}", sum(run, "seconds_update") / 60.0))),
        row("updates skipped", &|run| Some(format!("{}", sum(run, "skipped_updates")))),
    ];
    by_run(runs, "What was run", &rows)
}

/// The phases as they were run: site and steps.
fn phases(run: &Run) -> String {
    let mut phases: Vec<(&str, usize)> = Vec::new();
    for line in &run.metrics {
        let site = line.get("site").and_then(Value::as_str).unwrap_or_default();
        match phases.last_mut() {
            Some((last, steps)) if *last == site => *steps += 1,
            _ => phases.push((site, 1)),
        }
    }
    let phases: Vec<String> = phases.into_iter().map(|(site, steps)| format!("{site} for {steps}")).collect();
    phases.join(", then ")
}

pub(super) fn evaluation(runs: &[Run]) -> Table {
    let value = |run: &Run, when: &str, name: &str| number(run.evaluation.as_ref()?.get(when)?, name);
    let row = |label: &str, name: &str| {
        let cell = |run: &Run| {
            let (before, after) = (value(run, "before", name)?, value(run, "after", name)?);
            Some(format!("{before:.3} \u{2192} {after:.3} ({:+.3})", after - before))
        };
        (label.to_string(), runs.iter().map(|run| cell(run).unwrap_or_else(|| NOTHING.into())).collect())
    };
    let samples = runs.iter().find_map(|run| value(run, "after", "samples")).unwrap_or(0.0);
    let rows = [
        row(&format!("Avg@{samples}"), "avg_at_k"),
        row("half its 95% interval", "avg_half_width"),
        row(&format!("Pass@{samples}"), "pass_at_k"),
        row("response length", "response_length"),
        row("truncated", "truncated"),
    ];
    by_run(runs, "On held-out problems, before and after training", &rows)
}

/// What the model wrote to the same problems before and after.
pub(super) fn completions(runs: &[Run]) -> Vec<Part> {
    let text = |line: &Value, name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
    let held_out = |line: &&Value| line.get("held_out").and_then(Value::as_bool).unwrap_or(false);
    let part = |run: &Run| {
        let lines: Vec<&Value> = run.completions.iter().filter(held_out).collect();
        let at = |first: bool| lines.iter().filter(move |line| (number(line, "step") == Some(0.0)) == first);
        let rows: Vec<Vec<String>> = at(true)
            .take(SHOWN)
            .map(|before| {
                let prompt = text(before, "prompt");
                let said = |line: &Value| {
                    let score = number(line, "score").unwrap_or(f64::NAN);
                    format!("{} [{score}]", shortened(&text(line, "response")))
                };
                let after =
                    at(false).rfind(|line| text(line, "prompt") == prompt).map_or(NOTHING.into(), |line| said(line));
                vec![shortened(&prompt), said(before), after]
            })
            .collect();
        (!rows.is_empty()).then(|| {
            Part::Table(Table {
                caption: format!("{}: response and score", run.name),
                header: ["prompt", "before", "after"].map(String::from).into(),
                rows,
            })
        })
    };
    runs.iter().filter_map(part).collect()
}

/// The beginning and the end of a long text.
fn shortened(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= LONGEST {
        return text.to_string();
    }
    let half = LONGEST / 2;
    let part = |letters: &[char]| letters.iter().collect::<String>();
    format!("{} \u{2026} {}", part(&letters[..half]), part(&letters[letters.len() - half..]))
}

pub(super) fn settings(runs: &[Run]) -> Vec<Part> {
    let listing = |run: &Run| Part::Listing {
        name: format!("{}: config.toml", run.name),
        text: run.settings_text.clone(),
        folded: true,
    };
    runs.iter().map(listing).collect()
}

/// Settings that not all runs share.
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
        settings.iter().find(|(other, _)| other == name).map_or(NOTHING.to_string(), |(_, value)| value.clone())
    };
    let rows: Vec<(String, Vec<String>)> = names
        .into_iter()
        .map(|name| (name.clone(), flat.iter().map(|settings| value(settings, name)).collect::<Vec<_>>()))
        .filter(|(_, cells)| cells.iter().any(|cell| *cell != cells[0]))
        .collect();
    by_run(runs, if rows.is_empty() { "All settings are the same" } else { "Settings" }, &rows)
}

/// Settings by dotted names.
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

/// A setting without quotation marks.
fn plain(setting: &Setting) -> String {
    setting.as_str().map_or_else(|| setting.to_string(), String::from)
}
