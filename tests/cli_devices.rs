//! Devices by the program from outside: what there is, what there is not, and the same numbers on all of them.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod program;

use program::{succeed, text};

#[test]
fn devices_are_listed_with_what_is_missing_and_why() {
    let listed = succeed(&["devices"]);
    for expected in ["cpu      ", "ndarray  ", "wgpu", "cuda", "f32", "auto is "] {
        assert!(listed.contains(expected), "{expected}: {listed}");
    }
    for line in listed.lines().filter(|line| line.contains("not usable")) {
        assert!(line.contains("install"), "{line}");
    }
}

/// Every device that is there computes log-probs, entropies, divergences, samples, gradients and updates as the CPU does. Where
/// `BUPO_EXPECT` names devices, they must be there.
#[test]
fn every_device_gives_the_same_numbers() {
    let said = succeed(&["doctor"]);
    println!("{said}");
    assert!(said.contains("every device that is there computes right"), "{said}");
    let agreeing = said.lines().filter(|line| line.contains("f32: its numbers are cpu's")).count();
    let usable = said.lines().filter(|line| line.contains("; f32")).count();
    assert!(agreeing >= 2 && agreeing == usable, "{said}");
    for expected in std::env::var("BUPO_EXPECT").unwrap_or_default().split_whitespace() {
        let line = said.lines().find(|line| line.starts_with(expected)).unwrap_or_default();
        assert!(!line.is_empty() && !line.contains("not usable"), "{expected}: {said}");
    }
}

#[test]
fn a_device_that_is_not_there_is_named_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (device, expected) in [("wgpu:99", "wgpu"), ("cuda:99", "CUDA"), ("tpu", "tpu"), ("cpu:1", "cpu:1")] {
        let output = program::bupo_on(device, &["train", "--out", text(&out)]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.to_lowercase().contains(&expected.to_lowercase()), "{device}: {said}");
        assert!(!said.contains("panicked") && !out.exists(), "{device}: {said}");
    }
}

#[test]
fn batches_are_cut_to_the_memory_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let train = |name: &str, limit: &str| {
        let out = folder.path().join(name);
        let few = ["phases.0.steps=1", "phases.1.steps=0", "evaluation.problems=2", "rollout.prompts=16"];
        let mut args = vec!["train", "--out", text(&out), "--memory-limit", limit];
        args.extend(few.iter().flat_map(|setting| ["--set", setting]));
        let output = program::bupo(&args);
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said, std::fs::read_to_string(out.join("config.toml")).unwrap_or_default())
    };
    let (fits, said, settings) = train("roomy", "8GiB");
    assert!(fits && !said.contains("to fit the memory") && settings.contains("batch = 2048"), "{said}{settings}");
    let (fits, said, settings) = train("tight", "60MB");
    assert!(fits && said.contains("rollout.batch 2048 -> "), "{said}");
    assert!(settings.contains("recompute = true") && !settings.contains("batch = 2048"), "{settings}");
    let (fits, said, settings) = train("none", "1MB");
    assert!(!fits && said.contains("--memory-limit") && settings.is_empty(), "{said}");
    let (fits, said, _) = train("wrong", "lots");
    assert!(!fits && said.contains("12GiB"), "{said}");
}
