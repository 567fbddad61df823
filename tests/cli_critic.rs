//! PPO with a critic by the program: runs, resumed runs, forks, plans and refusals.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::Path;

use program::runs::{STEPS, arguments, assert_same_run, interrupted, newest_checkpoint, timeless, whole_run};
use program::{fail, succeed, text};
use serde_json::Value;

const FILE: &str = "critic.safetensors";

fn numbers(run: &Path, key: &str) -> Vec<Option<f64>> {
    timeless(run, "metrics.jsonl").iter().map(|line| line[key].as_f64()).collect()
}

fn critic(run: &Path) -> Vec<u8> {
    fs::read(newest_checkpoint(run).join(FILE)).unwrap()
}

/// With steps of the critic alone, rewards of tokens, several epochs, and a phase on a layer below the critic.
#[test]
fn a_run_with_a_critic_is_repeated_and_resumed_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        "loss=ppo",
        "critic.warmup_steps=2",
        "critic.gae_lambda=0.95",
        "critic.gamma=0.99",
        "update.epochs=2",
        "objective.reward_kl.coefficient=0.01",
    ];
    let whole = whole_run(&folder, &settings);
    let (losses, values) = (numbers(&whole, "loss"), numbers(&whole, "value_loss"));
    assert!(losses[..2].iter().all(Option::is_none) && losses[2..].iter().all(Option::is_some), "{losses:?}");
    assert!(values.iter().flatten().filter(|loss| **loss > 0.0).count() == STEPS, "{values:?}");
    for key in ["value_mean", "value_clip_ratio", "value_grad_norm", "explained_variance"] {
        assert!(numbers(&whole, key)[STEPS / 2..].iter().all(Option::is_some), "{key}");
    }
    // Before the first update every value is 0, and the model is left alone by steps of the critic.
    assert_eq!((numbers(&whole, "value_mean")[0], numbers(&whole, "explained_variance")[0]), (Some(0.0), Some(0.0)));
    let warned = timeless(&whole, "metrics.jsonl").iter().any(|line| line.to_string().contains("no update was made"));
    assert!(!warned, "steps of the critic are not meant to update the policy");
    let weights =
        |step: usize| fs::read(whole.join(format!("checkpoints/step-{step:06}/model/model.safetensors"))).unwrap();
    assert!(weights(1) == weights(2) && weights(2) != weights(3));

    let again = folder.path().join("again");
    succeed(&arguments(&again, &settings));
    assert_same_run(&whole, &again, "the same seed");
    assert!(critic(&whole) == critic(&again));
    for step in [1, 2, 4, 6, 9] {
        let run = interrupted(&whole, &folder, step);
        succeed(&["train", "--resume", text(&run)]);
        assert_same_run(&whole, &run, &format!("after step {step}"));
        assert!(critic(&whole) == critic(&run), "after step {step}");
        fs::remove_dir_all(run).unwrap();
    }
    let page = fs::read_to_string(whole.join("report.html")).unwrap();
    assert!(page.contains("Explained variance of the critic"));
}

/// A critic whose loss trains the model too; a fork of a run without one, and one at another site, which begin anew.
#[test]
fn a_critic_of_a_layer_trains_the_model_and_forks_begin_as_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["loss=ppo", "critic.site=layer:2", "critic.detached=false", "critic.value_coefficient=0.5"];
    let whole = whole_run(&folder, &settings);
    let run = interrupted(&whole, &folder, 7);
    succeed(&["train", "--resume", text(&run)]);
    assert_same_run(&whole, &run, "after step 7");
    assert!(critic(&whole) == critic(&run));
    let detached = folder.path().join("detached");
    succeed(&arguments(&detached, &["loss=ppo", "critic.site=layer:2"]));
    // The first update has the same values; the model differs from then on.
    assert_eq!(numbers(&whole, "value_mean")[0], numbers(&detached, "value_mean")[0]);
    assert_ne!(numbers(&whole, "value_loss")[1], numbers(&detached, "value_loss")[1]);

    let fork = |name: &str, from: &Path, pairs: &[&str]| {
        let out = folder.path().join(name);
        let mut args = vec!["train", "--fork", text(from), "--from-step", "6", "--out", text(&out)];
        args.extend(pairs.iter().flat_map(|pair| ["--set", pair]));
        succeed(&args);
        numbers(&out, "value_mean")[6]
    };
    assert_eq!(fork("same", &whole, &["critic.clip_value=0.2"]), numbers(&whole, "value_mean")[6]);
    assert_eq!(fork("other", &whole, &["critic.site=layer:1"]), Some(0.0));
    let without = folder.path().join("without");
    succeed(&arguments(&without, &[]));
    assert!(!newest_checkpoint(&without).join(FILE).exists());
    assert_eq!(fork("added", &without, &["loss=ppo", "objective.advantage=gae"]), Some(0.0));
}

#[test]
fn a_plan_says_what_the_critic_is_and_what_it_takes() {
    let check = |pairs: &[&str]| {
        let pairs: Vec<&str> = pairs.iter().flat_map(|pair| ["--set", pair]).collect();
        succeed(&[&["config", "check"], &pairs[..]].concat())
    };
    let without = check(&[]);
    assert!(!without.contains("critic"), "{without}");
    let plan = check(&["loss=ppo", "critic.warmup_steps=3"]);
    let line =
        "critic: a value head on full, the model is a constant in its loss, trained alone in the first 3 steps\n";
    assert!(plan.contains(line), "{plan}");
    let memory = |plan: &str, name: &str| {
        let line = plan.lines().find(|line| line.trim_start().starts_with(name)).map(str::to_string);
        line.unwrap_or_default()
    };
    assert!(memory(&plan, "critic ").contains('B'), "{plan}");
    assert_ne!(memory(&plan, "update "), memory(&without, "update "));
    let whole = check(&["loss=ppo", "critic.detached=false", "critic.site=layer:3"]);
    assert!(whole.contains("a value head on layer:3, its loss trains the model too\n"), "{whole}");
}

#[test]
fn critics_that_cannot_be_are_refused_before_the_run_starts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (pairs, expected) in [
        (&["loss=ppo", "critic.site=layer:7"][..], "outside the model, which has layers 1 to 6"),
        (&["loss=ppo", "critic.detached=false"], "above layer:3 of phase 1"),
        (&["critic.clip_value=0.2"], "[critic] has no effect"),
        (&["loss=ppo", "objective.ratio=sequence"], "set one of the two back"),
    ] {
        let message = fail(&arguments(&out, pairs));
        assert!(message.contains(expected) && message.lines().count() == 1, "{pairs:?}: {message}");
        assert!(!out.exists());
        let pairs: Vec<&str> = pairs.iter().flat_map(|pair| ["--set", pair]).collect();
        let checked = fail(&[&["config", "check"], &pairs[..]].concat());
        assert!(checked.contains(expected), "{checked}");
    }
}

/// The embedded model learns from a critic's advantages.
#[test]
fn ppo_raises_the_reward() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("ppo");
    let settings = [
        "loss=ppo",
        "algorithm=grpo",
        "phases.0.steps=0",
        "phases.1.steps=25",
        "probe.every=0",
        "evaluation.problems=100",
        "optimizer.learning_rate=3e-4",
    ];
    let mut args = vec!["train", "--out", text(&out)];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    succeed(&args);
    let outcome: Value = serde_json::from_slice(&fs::read(out.join("evaluation.json")).unwrap()).unwrap();
    let [before, after] = ["before", "after"].map(|when| outcome[when]["avg_at_k"].as_f64().unwrap());
    assert!(after > before + 0.05, "{before} {after}");
    let numbers = |key: &str| -> Vec<f64> { numbers(&out, key).into_iter().flatten().collect() };
    let mean = |key: &str| numbers(key)[20..].iter().sum::<f64>() / 5.0;
    // The values follow the reward.
    let (value, reward) = (mean("value_mean"), mean("reward"));
    assert!(numbers("value_mean")[0] == 0.0 && (value - reward).abs() < 0.2, "{value} {reward}");
    assert!(mean("value_loss") < 0.75 * numbers("value_loss")[0], "{:?}", numbers("value_loss"));
}
