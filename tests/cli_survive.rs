//! Runs that are stopped, killed, or out of disk space lose nothing that was complete.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod program;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use program::runs::{STEPS, arguments, assert_same_run, spawn, wait_for, whole_run};
use program::{fail, succeed, text};
use serde_json::Value;

#[test]
fn ctrl_c_finishes_the_step_and_prints_how_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &[]);
    for name in ["-INT", "-TERM"] {
        let run = folder.path().join(format!("stopped{name}"));
        let mut child = spawn(&arguments(&run, &[]));
        wait_for(&run.join("checkpoints/step-000001/manifest.json"));
        // The run folder is locked.
        assert!(fail(&["train", "--resume", text(&run)]).contains(&child.id().to_string()));
        signal(&child, name);
        let mut said = String::new();
        let status = child.wait().unwrap();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(status.success(), "{said}");
        if !said.contains("model        ") {
            assert!(said.contains("--resume"), "{said}");
            assert!(succeed(&["runs", text(folder.path())]).contains("stopped"));
            succeed(&["train", "--resume", text(&run)]);
        }
        assert_same_run(&whole, &run, "stopped");
    }
}

#[test]
fn a_run_killed_12_times_has_the_same_results() {
    survives(12);
}

#[test]
#[ignore = "takes minutes"]
fn a_run_killed_200_times_has_the_same_results() {
    survives(200);
}

/// Kills and resumes runs at random times. Complete checkpoints and log lines must stay, and finished runs must have the same files as
/// an uninterrupted run.
fn survives(kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let whole = whole_run(&folder, &[]);
    let once = started.elapsed();
    let (mut finished, mut run, mut complete) = (0, folder.path().join("killed-0"), 0);
    let mut kill = 0;
    while kill < kills {
        let mut child = if run.join("config.toml").exists() {
            spawn(&["train", "--resume", text(&run)])
        } else {
            fs::remove_dir_all(&run).ok();
            spawn(&arguments(&run, &[]))
        };
        std::thread::sleep(random_moment(once));
        // The run may have finished.
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{}", stderr_of(&mut child));
            assert_same_run(&whole, &run, &format!("run {finished}, after {kill} kills"));
            fs::remove_dir_all(&run).unwrap();
            finished += 1;
            run = folder.path().join(format!("killed-{finished}"));
            complete = 0;
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kill += 1;
        let now = last_complete(&run);
        assert!(now >= complete, "{complete} steps were complete, {now} are left after kill {kill}");
        complete = now;
        for line in complete_lines(&run.join("metrics.jsonl")) {
            serde_json::from_str::<Value>(&line).unwrap();
        }
    }
    if run.join("config.toml").exists() {
        succeed(&["train", "--resume", text(&run)]);
        assert_same_run(&whole, &run, &format!("at last, after {kill} kills"));
    }
    println!("{kills} kills, {finished} runs came to their end in between");
}

#[test]
fn a_second_ctrl_c_stops_at_once_and_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Steps that are long enough to be interrupted twice.
    let slow = ["rollout.prompts=64", "update.mini_batch_prompts=64", "rollout.group_size=32"];
    let mut child = spawn(&arguments(&run, &slow));
    wait_for(&run.join("checkpoints/step-000001/manifest.json"));
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(20));
    signal(&child, "-INT");
    let status = child.wait().unwrap();
    assert!(!status.success(), "{}", stderr_of(&mut child));
    assert!(last_complete(&run) >= 1);
    let listed = succeed(&["runs", text(folder.path())]);
    assert!(listed.contains("interrupted"), "{listed}");
}

/// A small tmpfs, if the test is allowed to mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn make(megabytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: no small disk can be made here");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0.path()).status().unwrap();
    }
}

#[test]
fn a_run_on_a_full_disk_is_resumed_with_more_space() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole_run(&folder, &[]);
    let Some(disk) = SmallDisk::make(100) else { return };
    let (run, ballast) = (disk.0.path().join("run"), disk.0.path().join("ballast"));
    fs::write(&ballast, vec![0; 20 << 20]).unwrap();
    let message = program::runs::fail_last_line(&arguments(&run, &[]));
    println!("{message}");
    assert!(message.contains("No space left on device") && message.contains(text(&run)), "{message}");
    let complete = last_complete(&run);
    assert!((1..STEPS).contains(&complete), "{complete}");
    // Without more space, the disk is full again.
    let message = program::runs::fail_last_line(&["train", "--resume", text(&run)]);
    assert!(message.contains("No space left on device"), "{message}");
    assert_eq!(last_complete(&run), complete);
    fs::remove_file(ballast).unwrap();
    for step in 1..complete {
        fs::remove_dir_all(run.join(format!("checkpoints/step-{step:06}"))).unwrap();
    }
    succeed(&["train", "--resume", text(&run), "--set", "checkpoint.keep_last=1"]);
    assert_same_run(&whole, &run, "after the disk was full");
}

#[test]
fn a_missing_or_read_only_folder_is_an_error() {
    let message = fail(&arguments(Path::new("/proc/bupo"), &[]));
    assert!(message.contains("/proc/bupo"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    // Enough steps that the run is not over before its folder is gone.
    let more_steps = 100;
    let last_phase = format!("phases.1.steps={more_steps}");
    let mut child = spawn(&arguments(&run, &[&last_phase, "checkpoint.keep_last=2"]));
    wait_for(&run.join("checkpoints/step-000002/manifest.json"));
    fs::rename(&run, folder.path().join("elsewhere")).unwrap();
    let status = child.wait().unwrap();
    let said = stderr_of(&mut child);
    assert!(!status.success() && !said.contains("panicked"), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.starts_with("error: ") && line.contains(text(&run))), "{said}");
    // At its new path, the run is resumed.
    succeed(&["train", "--resume", text(&folder.path().join("elsewhere"))]);
    assert_eq!(
        program::runs::timeless(&folder.path().join("elsewhere"), "metrics.jsonl").len(),
        STEPS / 2 + more_steps
    );
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "takes minutes"]
fn memory_and_open_files_do_not_grow_with_the_steps() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let settings = [
        "phases.0.steps=250",
        "phases.1.steps=250",
        "rollout.prompts=16",
        "update.mini_batch_prompts=8",
        "checkpoint.every=10",
        "checkpoint.keep_last=2",
    ];
    let mut child = spawn(&arguments(&run, &settings));
    // Read the output, so that the program does not block on a full pipe.
    let mut stdout = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
    let proc = Path::new("/proc").join(child.id().to_string());
    let mut seen: Vec<(usize, usize, usize)> = Vec::new();
    while child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(500));
        let steps = complete_lines(&run.join("metrics.jsonl")).len();
        let (Ok(files), Ok(status)) = (fs::read_dir(proc.join("fd")), fs::read_to_string(proc.join("status"))) else {
            continue;
        };
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        if let Some(resident) = resident {
            seen.push((steps, files.count(), resident));
        }
    }
    reading.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success(), "{}", stderr_of(&mut child));
    // The minimum, because a checkpoint that is being written has open files.
    let of = |steps: std::ops::Range<usize>| {
        let within: Vec<_> = seen.iter().filter(|(step, ..)| steps.contains(step)).collect();
        (within.iter().map(|seen| seen.1).min().unwrap(), within.iter().map(|seen| seen.2).max().unwrap())
    };
    let speed = |steps: std::ops::Range<usize>| {
        let lines = program::lines(&run.join("metrics.jsonl"));
        let mut speeds: Vec<f64> =
            lines[steps].iter().map(|line| line["tokens_per_second"].as_f64().unwrap()).collect();
        speeds.sort_by(f64::total_cmp);
        speeds[speeds.len() / 2]
    };
    for (name, first, last) in [("layer", 20..120, 150..250), ("full", 270..370, 400..500)] {
        let ((files, memory), (files_later, memory_later)) = (of(first.clone()), of(last.clone()));
        let (before, after) = (speed(first), speed(last));
        println!(
            "{name}: {files} files, {memory} kB, {before:.0} tokens/s; later {files_later}, {memory_later} kB, {after:.0} tokens/s"
        );
        assert!(files_later <= files && memory_later < memory + memory / 10);
    }
}

/// The step of the newest checkpoint; 0 without checkpoints.
fn last_complete(run: &Path) -> usize {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else { return 0 };
    let complete = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().join("manifest.json").exists());
    let steps = complete.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok());
    steps.max().unwrap_or(0)
}

/// The lines of a file that have a line end.
fn complete_lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let end = text.rfind('\n').map_or(0, |end| end + 1);
    text[..end].lines().map(String::from).collect()
}

fn stderr_of(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// A random time within the duration of a run.
fn random_moment(once: Duration) -> Duration {
    once.mul_f64((RandomState::new().hash_one(0) % 1000) as f64 / 1000.0)
}
