//! What is printed while a command runs, and what is kept of a run's samples.
#![allow(clippy::unwrap_used)]

mod program;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use program::runs::{STEPS, arguments, interrupted, whole_run};
use program::{bupo, fail, lines, succeed, text};
use serde_json::Value;

/// Responses of a step with the settings of `runs`.
const PER_STEP: usize = 16;

#[test]
fn rollouts_are_kept_and_read_by_replay_and_analyze() {
    let folder = tempfile::tempdir().unwrap();
    let run = whole_run(&folder, &["rollout.keep=all"]);
    let kept = run.join("rollouts.jsonl");
    let rows = lines(&kept);
    assert_eq!(rows.len(), STEPS * PER_STEP);
    for (index, row) in rows.iter().enumerate() {
        assert_eq!((&row["step"], &row["group"]), (&(index / PER_STEP + 1).into(), &(index / 4).into()), "{row}");
        let tokens = |key: &str| row[key].as_array().unwrap().len();
        assert!(tokens("prompt_tokens") > 0 && tokens("response_tokens") <= 12, "{row}");
        assert!(row["prompt"].as_str().unwrap().ends_with('=') && row["response"].is_string(), "{row}");
    }
    let mean = |step: usize| {
        let rewards = rows.iter().filter(|row| row["step"] == step).map(|row| row["reward"].as_f64().unwrap());
        rewards.sum::<f64>() / PER_STEP as f64
    };
    for line in lines(&run.join("metrics.jsonl")) {
        let step = line["step"].as_u64().unwrap() as usize;
        assert!((mean(step) - line["reward"].as_f64().unwrap()).abs() < 1e-9, "{line}");
    }

    let (replayed, analyzed) = (folder.path().join("replayed"), folder.path().join("analyzed"));
    succeed(&["replay", "--rollouts", text(&kept), "--out", text(&replayed)]);
    assert!(lines(&replayed.join("updates.jsonl"))[0]["grad_norm"].as_f64().unwrap() > 0.0);
    let shown = succeed(&["analyze", "--completions", text(&kept), "--limit", "20", "--out", text(&analyzed)]);
    assert!(shown.contains("20 given responses; 172 more responses skipped"), "{shown}");

    // Lines of repeated steps are written once.
    let resumed = interrupted(&run, &folder, 5);
    succeed(&["train", "--resume", text(&resumed)]);
    assert_eq!(fs::read(resumed.join("rollouts.jsonl")).unwrap(), fs::read(&kept).unwrap());
    let forked = folder.path().join("forked");
    let fork = ["train", "--fork", text(&run), "--from-step", "11", "--out", text(&forked)];
    succeed(&[&fork[..], &["--set", "rollout.keep=3"]].concat());
    let steps: Vec<u64> =
        lines(&forked.join("rollouts.jsonl")).iter().map(|row| row["step"].as_u64().unwrap()).collect();
    let expected = (1..=11).flat_map(|step| [step; PER_STEP]).chain([12; 3]);
    assert_eq!(steps, expected.collect::<Vec<u64>>());
}

/// A run of two steps, one of each phase.
fn short<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = arguments(out, &["phases.0.steps=1", "phases.1.steps=1"]);
    args.extend(more);
    args
}

#[test]
fn the_first_rollouts_or_none_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (first, none) = (folder.path().join("first"), folder.path().join("none"));
    assert!(succeed(&short(&first, &["--set", "rollout.keep=5"])).contains("first/rollouts.jsonl"));
    let rows = lines(&first.join("rollouts.jsonl"));
    let groups: Vec<(u64, u64)> =
        rows.iter().map(|row| (row["step"].as_u64().unwrap(), row["group"].as_u64().unwrap())).collect();
    assert_eq!(groups, [(1, 0), (1, 0), (1, 0), (1, 0), (1, 1), (2, 4), (2, 4), (2, 4), (2, 4), (2, 5)]);
    assert!(!succeed(&short(&none, &[])).contains("rollouts"));
    assert!(!none.join("rollouts.jsonl").exists());
    let message = fail(&["train", "--set", "rollout.keep=0"]);
    assert!(message.contains("it is 0; set it to \"none\" or to at least 1"), "{message}");
    // What is kept may change when a run goes on.
    let more = ["--set", "phases.1.steps=2", "--set", "rollout.keep=1"];
    succeed(&[&["train", "--resume", text(&none)], &more[..]].concat());
    assert_eq!(lines(&none.join("rollouts.jsonl")).len(), 1);
}

#[test]
fn quiet_prints_results_and_warnings_and_verbose_more() {
    let folder = tempfile::tempdir().unwrap();
    let shown = |name: &str, more: &[&str]| -> (String, String) {
        let out = folder.path().join(name);
        // No response ends within one token, so that every step warns.
        let output = bupo(&short(&out, &[&["--set", "rollout.max_new_tokens=1"], more].concat()));
        assert!(output.status.success());
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let warning = "all responses were truncated";
    let (normal, _) = shown("normal", &[]);
    for expected in ["training ", "evaluating before", "step    1/2", "kl ", "Avg@2", "metrics.jsonl"] {
        assert!(normal.contains(expected), "{expected}: {normal}");
    }
    assert_eq!(normal.matches(warning).count(), 1, "{normal}");
    let (quiet, errors) = shown("quiet", &["--quiet"]);
    for absent in ["training the embedded", "evaluating", "step    1/2", "phase 1"] {
        assert!(!quiet.contains(absent), "{absent}: {quiet}");
    }
    assert!(quiet.contains("Avg@2") && quiet.contains("metrics.jsonl"), "{quiet}");
    assert_eq!((quiet.matches(warning).count(), errors.as_str()), (1, ""), "{quiet}");
    let (verbose, _) = shown("verbose", &["--verbose"]);
    assert_eq!(verbose.matches(warning).count(), 2, "{verbose}");
    assert!(verbose.contains("  sampling ") && verbose.contains("clipped below 0.0000, above"), "{verbose}");
    // They are options of all commands, in either place, and exclude each other.
    assert!(!succeed(&["generate", "--prompt", "1+1=", "--quiet"]).is_empty());
    let both = String::from_utf8(bupo(&["generate", "--quiet", "--prompt", "1+1=", "--verbose"]).stderr).unwrap();
    assert!(both.contains("cannot be used with"), "{both}");
}

/// What a command prints in a terminal; nothing if there is no program that makes one.
#[cfg(target_os = "linux")]
fn in_terminal(args: &[&str]) -> Option<String> {
    let command = args.iter().fold(env!("CARGO_BIN_EXE_bupo").to_string(), |line, arg| format!("{line} '{arg}'"));
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &format!("stty cols 120 2>&1; {command} --device cpu"), "/dev/null"]);
    let output = script.env("TERM", "xterm").env("NO_COLOR", "1").output().ok()?;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    Some(shown)
}

/// The states of the bar, `done/all` with what is beside it.
#[cfg(target_os = "linux")]
fn bars(shown: &str) -> BTreeSet<String> {
    let bars =
        shown.split(['\r', '\n']).filter_map(|line| line.split_once("] ")?.1.rsplit_once(['\u{2588}', '\u{2591}']));
    bars.map(|(_, state)| state.split('\u{1b}').next().unwrap_or_default().trim().to_string()).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_shows_the_time_left_from_the_second_step_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = whole_run(&folder, &[]);
    let resumed = interrupted(&run, &folder, 9);
    let Some(shown) = in_terminal(&["train", "--resume", text(&resumed)]) else { return };
    let states = bars(&shown);
    let state = |done: usize| states.iter().find(|state| state.starts_with(&format!("{done}/12"))).cloned();
    // The steps before are in the bar, but say nothing about the time that is left.
    assert_eq!(state(9).as_deref(), Some("9/12"), "{states:?}");
    for done in [10, 11] {
        assert!(
            states.iter().any(|state| state.starts_with(&format!("{done}/12  00:0")) && state.ends_with("left")),
            "{states:?}"
        );
    }
    // NO_COLOR is set.
    assert!(!shown.contains("\u{1b}[3"), "{shown:?}");
    let quiet = in_terminal(&["train", "--resume", text(&interrupted(&run, &folder, 10)), "--quiet"]).unwrap();
    assert!(bars(&quiet).is_empty() && !quiet.contains("step "), "{quiet:?}");
}

/// The states in which some of the steps are done.
#[cfg(target_os = "linux")]
fn in_between(shown: &str, all: usize) -> Vec<usize> {
    let states = bars(shown);
    let done = states.iter().filter_map(|state| state.split_once(&format!("/{all}"))?.0.parse::<usize>().ok());
    done.filter(|done| 0 < *done && *done < all).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn responses_are_counted_within_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (data, eval, analysis) =
        (folder.path().join("sums.jsonl"), folder.path().join("eval"), folder.path().join("analysis"));
    program::rows::arithmetic(&data, 100);
    let sizes = ["--samples", "4", "--batch", "400", "--max-new-tokens", "24", "--rule", "numeric"];
    let args = [&["eval", "--data", text(&data), "--out", text(&eval)], &sizes[..]].concat();
    let Some(shown) = in_terminal(&args) else { return };
    assert!(!in_between(&shown, 400).is_empty(), "{:?}", bars(&shown));
    assert!(bars(&shown).iter().any(|state| state.ends_with("left")), "{:?}", bars(&shown));
    // Half of a response's work is done when it is sampled.
    let args = ["analyze", "--limit", "50", "--batch", "200", "--max-new-tokens", "24", "--out", text(&analysis)];
    let shown = in_terminal(&args).unwrap();
    assert!(in_between(&shown, 200).iter().any(|done| *done < 100), "{:?}", bars(&shown));
    let completions = analysis.join("completions.jsonl");
    let given = ["analyze", "--completions", text(&completions), "--limit", "64"];
    let again = folder.path().join("again");
    let shown = in_terminal(&[&given[..], &["--out", text(&again)]].concat()).unwrap();
    assert!(bars(&shown).iter().all(|state| state.contains("/64")), "{:?}", bars(&shown));
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_counts_the_responses_of_an_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let Some(shown) = in_terminal(&short(&out, &[])) else { return };
    let noted =
        |state: &String| state.starts_with("0/2  ") && state.contains(" of 8 responses of the evaluation sampled");
    assert!(bars(&shown).iter().any(noted), "{:?}", bars(&shown));
    assert!(bars(&shown).iter().any(|state| state.starts_with("1/2  00:0")), "{:?}", bars(&shown));
}

/// A child that is stopped early still says what it has to.
#[cfg(unix)]
#[test]
fn an_evaluation_stopped_by_ctrl_c_says_how_to_go_on() {
    use std::io::Read;

    let folder = tempfile::tempdir().unwrap();
    let (data, out): (PathBuf, PathBuf) = (folder.path().join("sums.jsonl"), folder.path().join("eval"));
    program::rows::arithmetic(&data, 300);
    let args = |out| {
        let sizes = ["--samples", "4", "--max-new-tokens", "24", "--batch", "4", "--rule", "numeric"];
        [&["eval", "--data", text(&data), "--out", out], &sizes[..]].concat()
    };
    let mut child = program::runs::spawn(&args(text(&out)));
    program::runs::wait_for(&out.join("completions.jsonl"));
    while fs::metadata(out.join("completions.jsonl")).unwrap().len() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let (mut said, mut warned) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut warned).unwrap();
    assert!(child.wait().unwrap().success(), "{warned}");
    assert!(warned.contains("stopping: the problems being sampled are finished and saved"), "{warned}");
    let done = lines(&out.join("completions.jsonl"));
    assert!(done.len().is_multiple_of(4) && done.len() < 1200, "{}", done.len());
    let expected =
        format!("stopped after {} of 300 problems; bupo eval ... --out {} resumes it", done.len() / 4, text(&out));
    assert!(said.contains(&expected), "{said}");
    assert!(!out.join("results.json").exists());
    // It goes on with the same responses as an evaluation that was never stopped.
    let again = succeed(&args(text(&out)));
    assert!(again.contains(&format!("{} problems are already done", done.len() / 4)), "{again}");
    let whole = folder.path().join("whole");
    succeed(&args(text(&whole)));
    assert_eq!(lines(&out.join("completions.jsonl")), lines(&whole.join("completions.jsonl")));
}

#[test]
#[ignore = "takes half a minute"]
fn without_a_terminal_a_line_with_the_time_comes_every_half_minute() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut child = program::runs::spawn(&arguments(&run, &["rollout.prompts=16", "phases.1.steps=100000"]));
    std::thread::sleep(std::time::Duration::from_secs(33));
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    let steps: Vec<Value> = lines(&run.join("metrics.jsonl"));
    assert!(line.contains(" of 100006 steps done, ") && line.ends_with(" left\n"), "{line}");
    assert!(line.starts_with("20") && line.lines().count() == 1 && !steps.is_empty(), "{line}");
}
