//! Kernel launches of a decoding step, a training layer and AdamW on the first WGPU device, a software one too, as cubecl's log
//! names them. Without a device nothing is counted.
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;
use std::path::Path;
use std::process::Command;

use program::succeed;

/// Layers of the embedded model.
const LAYERS: usize = 6;
/// Its parameters: eleven of a layer, the embedding, the final norm.
const TENSORS: usize = 11 * LAYERS + 2;

/// The kernels that a command launches, in order; `None` without a device.
fn launched(folder: &Path, args: &[&str], said: &str) -> Option<Vec<String>> {
    let devices = succeed(&["devices"]);
    if !devices.lines().any(|line| line.starts_with("wgpu") && !line.contains("not usable")) {
        println!("no WGPU device: nothing is counted");
        return None;
    }
    let settings = "[profiling]\nlogger = { level = \"minimal\", file = \"launches.log\" }\n";
    fs::write(folder.join("cubecl.toml"), settings).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bupo"))
        .args(args)
        .args(["--device", "wgpu"])
        .env("BUPO_KERNELS", "on")
        .env("CUBECL_AUTOTUNE_LEVEL", "minimal")
        .current_dir(folder)
        .output()
        .unwrap();
    let all = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && all.contains(said), "{all}");
    let log = fs::read_to_string(folder.join("launches.log")).unwrap();
    let name = |line: &str| line.strip_prefix("Executing ")?.split_whitespace().next().map(String::from);
    Some(log.lines().filter_map(name).collect())
}

/// Where a kernel is launched.
fn places(launches: &[String], kernel: &str) -> Vec<usize> {
    launches.iter().enumerate().filter(|(_, name)| *name == kernel).map(|(place, _)| place).collect()
}

#[test]
fn a_decoding_step_has_few_launches() {
    let folder = tempfile::tempdir().unwrap();
    // At this temperature tokens are about equally likely, and the first four of this seed do not end the response.
    let args = ["generate", "--prompt", "7+5=", "--temperature", "40", "--seed", "5", "--max-new-tokens", "4"];
    let Some(launches) = launched(folder.path(), &args, "4 tokens in") else { return };
    let samples = places(&launches, "SampleKernel");
    assert_eq!(samples.len(), 4, "{launches:?}");
    // The steps before have chosen the kernels of products.
    let step = samples[3] - samples[2];
    println!("{step} launches a decoding step");
    assert!(step <= 11 * LAYERS + 10, "{:?}", &launches[samples[2]..samples[3]]);
}

#[test]
fn training_has_few_launches() {
    let folder = tempfile::tempdir().unwrap();
    let line = |reward: f64| {
        format!(
            r#"{{"group": 0, "prompt": [52, 53, 54, 55], "response": [48, 49, 50, 51, 52, 53], "reward": {reward}}}"#
        )
    };
    fs::write(folder.path().join("rollouts.jsonl"), [line(1.0), line(0.0)].join("\n")).unwrap();
    let args = ["replay", "--rollouts", "rollouts.jsonl", "--out", "replayed", "--updates", "2"];
    let Some(launches) = launched(folder.path(), &args, "update 2/2") else { return };

    // Each layer has one softmax forward, which backward computes again, and one backward. The first layer of a pass may choose
    // the kernels of products; here the second is counted, from one layer's softmax to the next one's.
    let (softmaxes, backward) = (places(&launches, "CausalSoftmaxKernel"), places(&launches, "SoftmaxBackwardKernel"));
    assert_eq!((softmaxes.len() % LAYERS, backward.len()), (0, 2 * LAYERS), "{launches:?}");
    let before = softmaxes.iter().filter(|place| **place < backward[0]).count();
    let forward = &launches[softmaxes[before - 3]..softmaxes[before - 2]];
    let backward = &launches[backward[2]..backward[3]];
    println!("{} launches forward and {} backward a layer", forward.len(), backward.len());
    assert!(forward.len() + backward.len() <= 60, "{forward:?} {backward:?}");

    let (squares, steps) = (places(&launches, "SquaresKernel"), places(&launches, "AdamwKernel"));
    assert_eq!((squares.len(), steps.len()), (2 * TENSORS, 2 * TENSORS), "{launches:?}");
    // The first update makes the moments.
    let optimizer = &launches[squares[TENSORS]..=steps[2 * TENSORS - 1]];
    println!("{} launches of AdamW and the gradient's norm for {TENSORS} tensors", optimizer.len());
    assert!(optimizer.len() <= 2 * TENSORS, "{optimizer:?}");
}
