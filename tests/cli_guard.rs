//! The phase guard, and losses, gradients and weights that are not finite.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::Path;

use program::runs::{arguments, assert_same_run, fail_last_line, interrupted, newest_checkpoint, timeless};
use program::{lines, succeed, text};
use serde_json::Value;

/// Settings whose first phase degrades the model: too high a learning rate and too many steps.
const HARMFUL: [&str; 7] = [
    "phases.0.steps=60",
    "phases.1.steps=2",
    "optimizer.learning_rate=1e-2",
    "rollout.prompts=8",
    "update.mini_batch_prompts=4",
    "probe.every=0",
    "checkpoint.keep_last=4",
];

struct Guarded {
    screen: String,
    metrics: Vec<Value>,
    /// The step after which the guard acted, and its action.
    acted: Option<(usize, Value)>,
}

fn guarded(out: &Path, mode: &str) -> Guarded {
    let mode = format!("guard.phase_guard={mode}");
    let screen = succeed(&arguments(out, &[&HARMFUL[..], &[&mode]].concat()));
    let metrics = timeless(out, "metrics.jsonl");
    let mut acted = metrics
        .iter()
        .filter_map(|line| Some((line["step"].as_u64().unwrap() as usize, line.get("guard")?.clone())))
        .collect::<Vec<_>>();
    assert!(acted.len() < 2, "{acted:?}");
    Guarded { screen, acted: acted.pop(), metrics }
}

#[test]
fn a_phase_that_degrades_the_model_is_warned_of_ended_or_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let trained = |run: &Guarded, site: &str| run.metrics.iter().filter(|line| line["site"] == site).count();

    let off = guarded(&path("off"), "off");
    assert_eq!((trained(&off, "layer:3"), trained(&off, "full"), off.acted.is_none()), (60, 2, true));
    assert!(off.metrics.iter().all(|line| line.get("drift").is_none() && line.get("kl_to_full").is_none()));

    // With a warning only, the run is the same as without the guard.
    let warn = guarded(&path("warn"), "warn");
    let (step, action) = warn.acted.clone().unwrap();
    assert_eq!(action["action"], "warned");
    assert!(warn.screen.contains("phase guard: ") && warn.screen.contains(action["reason"].as_str().unwrap()));
    let model = |name: &str| fs::read(path(name).join("model/model.safetensors")).unwrap();
    assert!(model("off") == model("warn"));
    for line in &warn.metrics {
        let of_a_layer = line["site"] == "layer:3";
        assert_eq!((line["drift"].is_f64(), line["kl_to_full"].is_f64()), (of_a_layer, of_a_layer), "{line}");
        // Sampling and training compute the same log-probs.
        assert!(line["sampling_logp_difference_max"].as_f64().unwrap() < 1e-3, "{line}");
    }

    // The phase ends after the step, and the next one keeps its length.
    let switch = guarded(&path("switch"), "switch");
    assert_eq!(
        switch.acted.as_ref().map(|(step, action)| (*step, &action["action"])),
        Some((step, &"switched".into()))
    );
    assert_eq!((trained(&switch, "layer:3"), trained(&switch, "full")), (step, 2));
    assert_eq!(switch.metrics[..step - 1], warn.metrics[..step - 1]);
    let last = step + 2;
    assert!(switch.screen.contains(&format!("step {last:>4}/{last}")), "{}", switch.screen);
    assert!(succeed(&["runs", text(folder.path())]).contains(&format!("{last}/{last}")));

    // The phase's updates since its best checkpoint are rolled back.
    let rollback = guarded(&path("rollback"), "rollback");
    let (_, action) = rollback.acted.clone().unwrap();
    assert_eq!((trained(&rollback, "layer:3"), &action["action"]), (step, &Value::from("rolled_back")));
    let to = action["to_step"].as_u64().unwrap() as usize;
    assert!(to < step, "{action}");
    let weights = |step: usize, file: &str| {
        fs::read(path("rollback").join(format!("checkpoints/step-{step:06}/{file}"))).unwrap()
    };
    assert!(weights(step, "model/model.safetensors") == weights(to, "model/model.safetensors"));
    assert!(weights(step, "optimizer.safetensors") == weights(to, "optimizer.safetensors"));

    // The guard's action is reproducible: a run interrupted before, at or after it has the same results.
    for mode in ["switch", "rollback"] {
        for at in [step - 1, step, step + 1] {
            let run = interrupted(&path(mode), &folder, at);
            succeed(&["train", "--resume", text(&run)]);
            assert_same_run(&path(mode), &run, &format!("{mode}, interrupted after step {at}"));
            fs::remove_dir_all(run).unwrap();
        }
    }

    let report = fs::read_to_string(path("rollback").join("report.html")).unwrap();
    assert!(report.contains(&format!(
        "After step {step} the phase guard ended the phase and rolled its updates back to step {to}"
    )));

    // If the best checkpoint is damaged, the phase ends without a rollback, which is reported.
    let run = interrupted(&path("rollback"), &folder, step - 1);
    fs::write(run.join(format!("checkpoints/step-{to:06}/optimizer.safetensors")), "short").unwrap();
    succeed(&["train", "--resume", text(&run)]);
    let line = &lines(&run.join("metrics.jsonl"))[step - 1];
    assert_eq!(line["guard"]["action"], "switched");
    assert!(line["guard"]["reason"].as_str().unwrap().contains("not rolled back"), "{line}");
}

#[test]
fn values_that_are_not_finite_stop_the_run_and_keep_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    for (what, wild, loss_is_finite) in [
        // Rewards whose mean overflows.
        ("rewards", &["rollout.overlong_share=0.9", "rollout.overlong_penalty=1e308"][..], false),
        // A finite loss with a gradient that overflows f32.
        ("gradients", &["objective.entropy_coefficient=1e38"][..], true),
    ] {
        let run = folder.path().join(what);
        let message = fail_last_line(&arguments(&run, wild));
        assert!(message.contains("4 updates in a row"), "{what}: {message}");
        assert!(succeed(&["runs", text(folder.path())]).contains("failed"));
        let kept: Vec<Value> = fs::read_dir(run.join("skipped"))
            .unwrap()
            .map(|file| serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap())
            .collect();
        assert!(kept.len() >= 4, "{what}");
        for kept in &kept {
            assert_eq!(kept["loss"].is_f64(), loss_is_finite, "{what}");
            assert!(kept["grad_norm"].is_null() && kept["samples"][0]["sequence"].is_object(), "{what}");
        }
        let metrics = timeless(&run, "metrics.jsonl");
        let warns =
            |line: &Value| line["warnings"].as_array().unwrap().iter().any(|it| it["kind"] == "skipped_updates");
        assert!(metrics.iter().all(warns), "{metrics:?}");
        // The newest checkpoint has a usable model.
        succeed(&["generate", "--model", text(&newest_checkpoint(&run).join("model")), "--prompt", "1+1="]);
        assert!(fail_last_line(&["train", "--resume", text(&run)]).contains("in a row"));
    }

    // Sampling from a policy whose logits overflow.
    let run = folder.path().join("overflow");
    let message = fail_last_line(&arguments(&run, &["rollout.temperature=1e-40"]));
    assert!(message.contains("finite"), "{message}");
}

#[test]
fn a_nan_weight_is_an_error_before_training() {
    let folder = tempfile::tempdir().unwrap();
    succeed(&arguments(&folder.path().join("good"), &["phases.0.steps=1", "phases.1.steps=0"]));
    let (model, run) = (folder.path().join("good/model"), folder.path().join("run"));
    let weights = model.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len();
    // The last value of the last tensor, NaN in every float format.
    bytes[end - 4..].copy_from_slice(&[0xff; 4]);
    fs::write(&weights, bytes).unwrap();
    let model = format!("model={}", text(&model));
    let message = fail_last_line(&arguments(&run, &[&model]));
    assert!(message.contains("NaN") && message.contains("model.safetensors"), "{message}");
    assert!(!run.exists());
}
