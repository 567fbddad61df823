//! A checkpoint store with complete, damaged and unfinished checkpoints.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bupo_runs::{Checkpoint, CheckpointStore, Damage, RunsError};
use serde_json::json;
use tempfile::TempDir;

struct Run {
    folder: TempDir,
    store: CheckpointStore,
}

impl Run {
    fn with(steps: &[usize]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = Self { store: CheckpointStore::new(folder.path()), folder };
        for step in steps {
            run.write(*step, "weights");
        }
        run
    }

    fn write(&self, step: usize, weights: &str) -> Checkpoint {
        let pending = self.store.begin(step).unwrap();
        fs::write(pending.path().join("weights.bin"), weights).unwrap();
        fs::create_dir_all(pending.path().join("optimizer/first")).unwrap();
        fs::write(pending.path().join("optimizer/first/moments.bin"), "moments").unwrap();
        fs::write(pending.path().join("optimizer/empty"), "").unwrap();
        pending.commit("0.1.0", json!({ "phase": 2, "temperature": 0.1 + 0.2 })).unwrap()
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("checkpoints")
    }

    fn path(&self, step: usize) -> PathBuf {
        self.root().join(format!("step-{step:06}"))
    }

    fn damage(&self, step: usize) -> Damage {
        let damaged = self.store.verify(step).unwrap_err();
        let message = damaged.to_string();
        assert_eq!(damaged.path, self.path(step));
        assert!(message.starts_with(&format!("checkpoint {} is damaged: ", self.path(step).display())), "{message}");
        assert!(!message.contains('\n'), "{message}");
        damaged.reason
    }

    fn newest(&self) -> (Option<usize>, usize) {
        let newest = self.store.newest().unwrap();
        (newest.checkpoint.map(|checkpoint| checkpoint.manifest.step), newest.skipped_damaged.len())
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

fn edit(path: &Path, edit: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, edit(text)).unwrap();
}

#[test]
fn a_new_run_has_no_checkpoints() {
    let run = Run::with(&[]);
    assert!(run.store.list().unwrap().is_empty());
    assert_eq!(run.newest(), (None, 0));
    assert!(run.store.prune(1, None, &[]).unwrap().is_empty());
    run.store.clean().unwrap();
    assert!(!run.root().exists());
    assert!(matches!(run.store.remove(3), Err(RunsError::Io { .. })));
}

#[test]
fn a_committed_checkpoint_is_read_back() {
    let run = Run::with(&[]);
    let committed = run.write(12, "weights");
    assert_eq!(committed.path, run.path(12));
    assert_eq!(run.store.verify(12).unwrap(), committed);
    assert_eq!(run.store.newest().unwrap().checkpoint.unwrap(), committed);
    let manifest = committed.manifest;
    assert_eq!((manifest.step, manifest.program.as_str()), (12, "0.1.0"));
    assert_eq!(manifest.meta["temperature"].as_f64(), Some(0.1 + 0.2));
    let files: Vec<_> = manifest.files.iter().map(|file| (file.path.as_str(), file.bytes)).collect();
    assert_eq!(files, [("optimizer/empty", 0), ("optimizer/first/moments.bin", 7), ("weights.bin", 7)]);
    // `printf weights | sha256sum`.
    let weights = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c";
    assert_eq!(manifest.files[2].sha256, weights);
    assert_eq!(fs::read_to_string(run.path(12).join("weights.bin")).unwrap(), "weights");
}

#[test]
fn only_checkpoints_are_listed_newest_first() {
    let run = Run::with(&[2, 1_234_567, 10]);
    for other in ["step-12", "step-0000012", "step-+00012", "step-00001x", "best", ".hidden"] {
        fs::create_dir(run.root().join(other)).unwrap();
    }
    assert_eq!(run.store.list().unwrap(), [1_234_567, 10, 2]);
}

#[test]
fn every_kind_of_damage_is_reported() {
    let manifest = |run: &Run| run.path(1).join("manifest.json");
    let check = |harm: &dyn Fn(&Run), expected: Damage, message: &str| {
        let run = Run::with(&[1]);
        harm(&run);
        let damage = run.damage(1);
        assert_eq!(damage, expected);
        assert_eq!(damage.to_string(), message);
    };
    check(&|run| fs::remove_dir_all(run.path(1)).unwrap(), Damage::MissingFolder, "there is no such folder");
    check(&|run| fs::remove_file(manifest(run)).unwrap(), Damage::MissingManifest, "it has no manifest.json");
    check(
        &|run| edit(&manifest(run), |text| text.replace("\"format\": 1", "\"format\": 2")),
        Damage::Format { found: "2".into(), expected: 1 },
        "its manifest.json has format 2, and this program reads format 1",
    );
    check(
        &|run| fs::write(manifest(run), "{\"format\": \"new\"}").unwrap(),
        Damage::Format { found: "\"new\"".into(), expected: 1 },
        "its manifest.json has format \"new\", and this program reads format 1",
    );
    check(
        &|run| fs::write(manifest(run), "{}").unwrap(),
        Damage::InvalidManifest("it has no format".into()),
        "its manifest.json is invalid: it has no format",
    );
    check(
        &|run| edit(&manifest(run), |text| text.replace("\"weights.bin\"", "\"../../weights.bin\"")),
        Damage::InvalidManifest("../../weights.bin is not a path inside the checkpoint".into()),
        "its manifest.json is invalid: ../../weights.bin is not a path inside the checkpoint",
    );
    check(
        &|run| edit(&manifest(run), |text| text.replace("\"step\": 1", "\"step\": 2")),
        Damage::WrongStep(2),
        "its manifest.json belongs to step 2",
    );
    check(
        &|run| fs::remove_file(run.path(1).join("optimizer/first/moments.bin")).unwrap(),
        Damage::MissingFile("optimizer/first/moments.bin".into()),
        "optimizer/first/moments.bin is missing",
    );
    check(
        &|run| fs::remove_dir_all(run.path(1).join("optimizer")).unwrap(),
        Damage::MissingFile("optimizer/empty".into()),
        "optimizer/empty is missing",
    );
    check(
        &|run| {
            fs::remove_file(run.path(1).join("weights.bin")).unwrap();
            fs::create_dir(run.path(1).join("weights.bin")).unwrap();
        },
        Damage::MissingFile("weights.bin".into()),
        "weights.bin is missing",
    );
    for (text, found) in [("weight", 6), ("weights!", 8), ("", 0)] {
        check(
            &|run| fs::write(run.path(1).join("weights.bin"), text).unwrap(),
            Damage::Size { file: "weights.bin".into(), expected: 7, found },
            &format!("weights.bin has {found} bytes where 7 were written"),
        );
    }
    check(
        &|run| fs::write(run.path(1).join("weights.bin"), "weightz").unwrap(),
        Damage::Checksum("weights.bin".into()),
        "the checksum of weights.bin differs from that in manifest.json",
    );
}

#[test]
fn a_manifest_truncated_anywhere_is_damage() {
    let run = Run::with(&[1]);
    let path = run.path(1).join("manifest.json");
    let complete = fs::read(&path).unwrap();
    // Without its last byte, a line end, the manifest is still complete.
    for length in 0..complete.len() - 1 {
        fs::write(&path, &complete[..length]).unwrap();
        assert_eq!(run.damage(1), Damage::TruncatedManifest, "{length} bytes");
    }
    assert_eq!(run.damage(1).to_string(), "its manifest.json ends early");
    fs::write(&path, vec![0; complete.len()]).unwrap();
    assert!(matches!(run.damage(1), Damage::InvalidManifest(_)));
}

#[test]
fn any_flipped_bit_of_a_file_is_found() {
    let run = Run::with(&[1]);
    let path = run.path(1).join("optimizer/first/moments.bin");
    let complete = fs::read(&path).unwrap();
    for bit in 0..complete.len() * 8 {
        let mut changed = complete.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, changed).unwrap();
        assert_eq!(run.damage(1), Damage::Checksum("optimizer/first/moments.bin".into()));
    }
}

#[test]
fn newest_skips_and_reports_damaged_checkpoints() {
    let run = Run::with(&[1, 2, 3, 4]);
    fs::remove_file(run.path(4).join("manifest.json")).unwrap();
    fs::write(run.path(3).join("weights.bin"), "weightz").unwrap();
    let newest = run.store.newest().unwrap();
    assert_eq!(newest.checkpoint.unwrap().manifest.step, 2);
    let reasons: Vec<_> = newest.skipped_damaged.into_iter().map(|damaged| (damaged.path, damaged.reason)).collect();
    assert_eq!(
        reasons,
        [(run.path(4), Damage::MissingManifest), (run.path(3), Damage::Checksum("weights.bin".into()))]
    );
    for step in [1, 2] {
        fs::remove_dir_all(run.path(step)).unwrap();
    }
    assert_eq!(run.newest(), (None, 2));
}

#[test]
fn dropping_a_pending_checkpoint_deletes_it() {
    let run = Run::with(&[1]);
    let pending = run.store.begin(2).unwrap();
    fs::create_dir(pending.path().join("folder")).unwrap();
    fs::write(pending.path().join("folder/file"), "bytes").unwrap();
    assert_eq!(run.store.list().unwrap(), [1]);
    assert_eq!(run.names().len(), 2);
    drop(pending);
    assert_eq!(run.names(), ["step-000001"]);
}

#[test]
fn two_pending_checkpoints_of_a_step_are_separate() {
    let run = Run::with(&[]);
    let (one, two) = (run.store.begin(5).unwrap(), run.store.begin(5).unwrap());
    fs::write(one.path().join("file"), "one").unwrap();
    fs::write(two.path().join("file"), "two").unwrap();
    one.commit("0.1.0", json!(1)).unwrap();
    two.commit("0.1.0", json!(2)).unwrap();
    assert_eq!(run.store.verify(5).unwrap().manifest.meta, json!(2));
    assert_eq!(run.names(), ["step-000005"]);
}

#[test]
fn a_checkpoint_replaces_another_of_the_same_step() {
    let run = Run::with(&[7]);
    fs::write(run.path(7).join("stray"), "").unwrap();
    run.write(7, "other weights");
    assert_eq!(fs::read_to_string(run.path(7).join("weights.bin")).unwrap(), "other weights");
    assert!(!run.path(7).join("stray").exists());
    run.store.verify(7).unwrap();
    assert_eq!(run.names(), ["step-000007"]);
}

#[test]
fn unsupported_entries_are_refused() {
    let run = Run::with(&[1]);
    let refused = |fill: &dyn Fn(&Path)| {
        let pending = run.store.begin(1).unwrap();
        fill(pending.path());
        let error = pending.commit("0.1.0", json!(null)).unwrap_err();
        assert_eq!(run.names(), ["step-000001"]);
        run.store.verify(1).unwrap();
        error
    };
    let link = refused(&|folder| symlink("/etc/hostname", folder.join("link")).unwrap());
    assert!(
        link.to_string().ends_with("link cannot be part of a checkpoint: it is neither a file nor a folder; remove it")
    );
    let taken = refused(&|folder| fs::write(folder.join("manifest.json"), "mine").unwrap());
    assert!(matches!(taken, RunsError::Io { action: "write", .. }), "{taken}");
    let gone = refused(&|folder| fs::remove_dir_all(folder).unwrap());
    assert!(matches!(gone, RunsError::Io { action: "read", .. }), "{gone}");
}

#[test]
fn a_manifest_in_a_subfolder_is_an_ordinary_file() {
    let run = Run::with(&[]);
    let pending = run.store.begin(1).unwrap();
    fs::create_dir(pending.path().join("inner")).unwrap();
    fs::write(pending.path().join("inner/manifest.json"), "mine").unwrap();
    assert_eq!(pending.commit("0.1.0", json!(null)).unwrap().manifest.files[0].path, "inner/manifest.json");
    run.store.verify(1).unwrap();
}

#[test]
fn prune_keeps_the_newest_every_nth_and_the_given_steps() {
    let run = Run::with(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(run.store.prune(2, Some(4), &[1, 99]).unwrap(), [9, 7, 6, 5, 3, 2]);
    assert_eq!(run.store.list().unwrap(), [11, 10, 8, 4, 1]);
    assert_eq!(run.store.prune(0, Some(0), &[]).unwrap(), [10, 8, 4, 1]);
    assert_eq!(run.names(), ["step-000011"], "the newest is always kept");
}

#[test]
fn prune_does_not_count_damaged_ones() {
    let run = Run::with(&[1, 2, 3, 4, 5]);
    fs::remove_file(run.path(5).join("manifest.json")).unwrap();
    fs::write(run.path(4).join("weights.bin"), "half").unwrap();
    assert_eq!(run.store.prune(2, None, &[]).unwrap(), [5, 4, 1]);
    assert_eq!(run.store.list().unwrap(), [3, 2]);

    let run = Run::with(&[1, 2]);
    for step in [1, 2] {
        fs::write(run.path(step).join("weights.bin"), "half").unwrap();
    }
    assert!(run.store.prune(1, None, &[]).unwrap().is_empty(), "nothing is deleted if all are damaged");
    assert_eq!(run.store.list().unwrap(), [2, 1]);
}

#[test]
fn clean_deletes_folders_of_killed_processes() {
    let run = Run::with(&[1, 2]);
    std::mem::forget(run.store.begin(3).unwrap());
    for left in [".removed-77-0", ".pending-77-0", ".replaced-step-000002"] {
        fs::create_dir_all(run.root().join(left).join("inside")).unwrap();
    }
    fs::write(run.root().join("note.txt"), "mine").unwrap();
    run.store.clean().unwrap();
    assert_eq!(run.names(), ["note.txt", "step-000001", "step-000002"]);
}

#[test]
fn clean_restores_a_checkpoint_that_was_about_to_be_replaced() {
    let run = Run::with(&[1, 2]);
    fs::rename(run.path(2), run.root().join(".replaced-step-000002")).unwrap();
    assert_eq!(run.store.list().unwrap(), [1]);
    run.store.clean().unwrap();
    assert_eq!(run.newest(), (Some(2), 0));
    assert_eq!(run.names(), ["step-000001", "step-000002"]);
}

#[test]
fn a_folder_that_cannot_be_created_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("checkpoints"), "a file").unwrap();
    let store = CheckpointStore::new(folder.path());
    let error = store.begin(1).unwrap_err().to_string();
    assert!(error.starts_with("cannot create ") && !error.contains('\n'), "{error}");
    assert!(store.list().is_err() && store.newest().is_err());
}

#[test]
fn no_run_folder_is_made_in_place_of_one_that_was_moved() {
    let run = Run::with(&[1]);
    let old = run.folder.path().to_path_buf();
    let new = tempfile::tempdir().unwrap();
    fs::rename(&old, new.path().join("run")).unwrap();
    let error = run.store.begin(2).unwrap_err();
    assert!(matches!(error, RunsError::Io { .. }) && error.to_string().contains(old.to_str().unwrap()), "{error}");
    assert!(!old.exists());
}
