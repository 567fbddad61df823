//! Phases whose site is a range of layers.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;

use program::runs::{STEPS, arguments, assert_same_run, interrupted, whole_run};
use program::{fail, succeed, text};

#[test]
fn a_climbing_phase_is_its_phases_written_out_and_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let climbing = whole_run(&folder, &["phases.0.site=layer:2-4"]);
    // The same phases by hand, in a file.
    let config = folder.path().join("phases.toml");
    let phases: String =
        ["layer:2", "layer:3", "layer:4"].map(|site| format!("[[phases]]\nsite = \"{site}\"\nsteps = 2\n")).concat();
    fs::write(&config, format!("{phases}[[phases]]\nsite = \"full\"\nsteps = 6\n")).unwrap();
    let out = folder.path().join("by-hand");
    let mut args = arguments(&out, &[]);
    let steps = args.iter().position(|arg| *arg == "phases.0.steps=6").unwrap();
    args.drain(steps - 1..steps + 3);
    args.extend(["--config", text(&config)]);
    succeed(&args);
    assert_same_run(&climbing, &out, "by hand");
    assert_eq!(fs::read(climbing.join("config.toml")).unwrap(), fs::read(out.join("config.toml")).unwrap());
    let sites: Vec<String> = program::lines(&climbing.join("metrics.jsonl"))
        .iter()
        .map(|line| format!("{} {}", line["phase"], line["site"].as_str().unwrap()))
        .collect();
    assert_eq!(
        (sites.len(), &sites[1], &sites[2], &sites[5], &sites[6]),
        (STEPS, &"1 layer:2".to_string(), &"2 layer:3".to_string(), &"3 layer:4".to_string(), &"4 full".to_string())
    );
    // Stopped in the middle of the climb.
    let run = interrupted(&climbing, &folder, 3);
    succeed(&["train", "--resume", text(&run)]);
    assert_same_run(&climbing, &run, "resumed");
}

#[test]
fn config_check_shows_the_phases_of_a_climb() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("climb.toml");
    let write = |phase: &str| fs::write(&config, format!("seed = 1\n\n[[phases]]\n{phase}\n")).unwrap();
    write("layer = \"2-4\"\nsteps = 7");
    let shown = succeed(&["config", "check", text(&config)]);
    for wanted in [
        "phase 1: layer:2 (norm none), 3 steps",
        "phase 2: layer:3 (norm none), 2 steps",
        "phase 3: layer:4 (norm none), 2 steps",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    write("site = \"layer:2-5\"\nsteps = 3");
    let message = fail(&["config", "check", text(&config)]);
    assert!(message.contains("climb.toml") && message.contains("give it at least 4"), "{message}");
    write("site = \"layer:5-2\"\nsteps = 8");
    let message = fail(&["config", "check", text(&config)]);
    assert!(message.contains("climb.toml line 4") && message.contains("write the lowest layer first"), "{message}");
}
