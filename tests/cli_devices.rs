//! Device selection, agreement of devices, memory limits and compute dtypes.
#![allow(clippy::unwrap_used)]

mod program;

use program::{succeed, text};

#[test]
fn devices_are_listed_and_missing_ones_have_a_reason() {
    let listed = succeed(&["devices"]);
    for expected in ["cpu      ", "ndarray  ", "wgpu", "cuda", "f32", "auto is "] {
        assert!(listed.contains(expected), "{expected}: {listed}");
    }
    for line in listed.lines().filter(|line| line.contains("not usable")) {
        assert!(line.contains("install"), "{line}");
    }
}

/// What `doctor` says. The fewest kernels are tried: on software Vulkan one takes seconds to compile.
fn doctor(kernels: &str) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bupo"))
        .arg("doctor")
        .envs([("CUBECL_AUTOTUNE_LEVEL", "minimal"), ("BUPO_KERNELS", kernels)])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// All available devices compute the same log-probs, entropies, divergences, samples, gradients and updates as the CPU. Devices in
/// `BUPO_EXPECT` must be available.
#[test]
fn every_device_gives_the_same_numbers() {
    let said = doctor("off");
    println!("{said}");
    assert!(said.contains("all available devices compute the same results"), "{said}");
    let agreeing = said.lines().filter(|line| line.contains("f32: largest difference from cpu")).count();
    let usable = said.lines().filter(|line| line.contains("; f32")).count();
    assert!(agreeing >= 2 && agreeing == usable, "{said}");
    for expected in std::env::var("BUPO_EXPECT").unwrap_or_default().split_whitespace() {
        let line = said.lines().find(|line| line.starts_with(expected)).unwrap_or_default();
        assert!(!line.is_empty() && !line.contains("not usable"), "{expected}: {said}");
    }
}

/// So do the kernels of GPUs, in training and one by one.
#[test]
fn kernels_of_gpus_give_the_same_numbers() {
    let said = doctor("on");
    println!("{said}");
    assert!(said.contains("all available devices compute the same results"), "{said}");
    let gpus = said.lines().filter(|line| line.starts_with("wgpu") || line.starts_with("cuda"));
    let usable = gpus.filter(|line| !line.contains("not usable")).count();
    let compared =
        said.lines().filter(|line| line.contains("f32: ") && line.contains("from their compositions")).count();
    assert_eq!(compared, usable, "{said}");
}

#[test]
fn a_missing_device_is_an_error_before_training() {
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
fn batches_are_reduced_to_the_memory_limit() {
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
    // A resumed run keeps its batches unless a limit is given.
    let roomy = folder.path().join("roomy");
    for (more, steps, cut) in [(&[][..], "2", false), (&["--memory-limit", "120MB"], "3", true)] {
        let steps = format!("phases.0.steps={steps}");
        let said = succeed(&[&["train", "--resume", text(&roomy), "--set", &steps], more].concat());
        assert_eq!(said.contains("to fit the memory: rollout.batch 2048 -> "), cut, "{said}");
        let settings = std::fs::read_to_string(roomy.join("config.toml")).unwrap();
        assert_eq!(!settings.contains("batch = 2048"), cut, "{settings}");
    }
    let (fits, said, settings) = train("tight", "120MB");
    assert!(fits && said.contains("rollout.batch 2048 -> "), "{said}");
    assert!(settings.contains("recompute = true") && !settings.contains("batch = 2048"), "{settings}");
    let (fits, said, settings) = train("none", "1MB");
    assert!(!fits && said.contains("--memory-limit") && settings.is_empty(), "{said}");
    let (fits, said, _) = train("wrong", "lots");
    assert!(!fits && said.contains("12GiB"), "{said}");
}

#[test]
fn the_compute_dtype_is_resolved_recorded_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let said = |output: std::process::Output| {
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    };
    let train = |device: &str, name: &str, dtype: &str| {
        let out = folder.path().join(name);
        let few = ["phases.0.steps=1", "phases.1.steps=1", "evaluation.problems=2", "rollout.prompts=16"];
        let mut args = vec!["train", "--out", text(&out), "--dtype", dtype];
        args.extend(few.iter().flat_map(|setting| ["--set", setting]));
        let (succeeded, said) = said(program::bupo_on(device, &args));
        (succeeded, said, std::fs::read_to_string(out.join("config.toml")).unwrap_or_default())
    };
    // The CPU backend does not accelerate bf16.
    let (succeeded, said_auto, settings) = train("cpu", "auto", "auto");
    assert!(succeeded && said_auto.contains("on cpu, f32") && settings.contains("dtype = \"f32\""), "{said_auto}");
    let (succeeded, said_bf16, settings) = train("cpu", "bf16", "bf16");
    assert!(succeeded && said_bf16.contains("on cpu, bf16") && settings.contains("dtype = \"bf16\""), "{said_bf16}");
    // A resumed run keeps its dtype.
    let run = folder.path().join("bf16");
    let (succeeded, resumed) =
        said(program::bupo_on("cpu", &["train", "--resume", text(&run), "--set", "phases.1.steps=2"]));
    assert!(succeeded && resumed.contains("on cpu, bf16"), "{resumed}");
    for (args, expected) in [
        (["--resume", text(&run), "--dtype", "f32"], "--dtype"),
        (["--resume", text(&run), "--set", "dtype=\"f32\""], "--fork"),
    ] {
        let (succeeded, said) = said(program::bupo_on("cpu", &[&["train"][..], &args].concat()));
        assert!(!succeeded && said.contains(expected), "{said}");
    }

    for (device, dtype, expected) in
        [("cpu", "f16", "range is too small"), ("cpu", "int4", "auto, f32 or bf16"), ("ndarray", "bf16", "f32 or auto")]
    {
        let (succeeded, said, settings) = train(device, "wrong", dtype);
        assert!(!succeeded && said.contains(expected) && settings.is_empty(), "{device} {dtype}: {said}");
    }
}

#[test]
fn every_command_computes_in_bf16() {
    let folder = tempfile::tempdir().unwrap();
    let succeed = |args: &[&str]| {
        let output = program::bupo_on("cpu", args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let out = |name: &str| text(&folder.path().join(name)).to_string();
    let tokens = out("tokens.json");
    std::fs::write(&tokens, "[[5, 6, 7, 8]]").unwrap();
    let rollouts = out("rollouts.jsonl");
    let line = |response: &str, reward: f64| {
        format!(r#"{{"group": 0, "prompt": [5, 6], "response": {response}, "reward": {reward}}}"#)
    };
    std::fs::write(&rollouts, [line("[7, 8]", 1.0), line("[9]", 0.0)].join("\n")).unwrap();
    let entropy_in = |dtype: &str| {
        let path = out(&format!("{dtype}.json"));
        succeed(&["lens", "1+2=", "--json", &path, "--dtype", dtype]);
        let said: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        said["positions"][0]["sites"][5]["entropy"].as_f64().unwrap()
    };
    let (f32, bf16) = (entropy_in("f32"), entropy_in("bf16"));
    // The embedded model's weights are in bf16 already.
    assert!((f32 - bf16).abs() < 1e-6, "{f32} and {bf16}");
    for args in [
        vec!["trace", "--tokens", &tokens, "--out", &out("trace.safetensors")],
        vec!["generate", "--prompt", "1+2=", "--max-new-tokens", "4"],
        vec!["analyze", "--samples", "1", "--limit", "2", "--max-new-tokens", "8", "--out", &out("analysis")],
        vec!["replay", "--rollouts", &rollouts, "--out", &out("replayed")],
        vec!["bench", "--batch", "2", "--seq", "8", "--runs", "1"],
        vec!["bench", "--mode", "rollout", "--batch", "2", "--seq", "8", "--new", "4", "--runs", "1"],
    ] {
        let said = succeed(&[&args[..], &["--dtype", "bf16"]].concat());
        assert!(args[0] != "bench" || said.contains("bf16 on "), "{said}");
    }
}

/// `doctor` and `bench` say what multiplies in bf16, and its numbers agree with those in f32.
#[test]
fn products_in_bf16_name_their_unit() {
    let run = |units: &str, args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bupo"))
            .args(args)
            .env("BUPO_VECTOR_UNITS", units)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let small = ["bench", "--device", "cpu", "--batch", "2", "--seq", "8", "--runs", "1", "--json"];
    let bench = |units: &str, dtype: &str| -> serde_json::Value {
        serde_json::from_str(&run(units, &[&small[..], &["--dtype", dtype]].concat())).unwrap()
    };
    let narrow = bench("avx2", "bf16");
    assert_eq!((&narrow["dtype"], &narrow["product_dtype"]), (&"bf16".into(), &"f32".into()), "{narrow}");
    assert!(narrow["product_unit"].is_null() && narrow["processor"].is_string(), "{narrow}");
    let units = &narrow["vector_units"];
    if !units.as_array().unwrap().contains(&"avx512_bf16".into()) {
        return;
    }
    let wide = bench("avx512bf16", "bf16");
    assert_eq!((&wide["product_dtype"], &wide["product_unit"]), (&"bf16".into(), &"avx512_bf16".into()), "{wide}");
    let wide = bench("avx512bf16", "f32");
    assert!(wide["product_dtype"] == "f32" && wide["product_unit"].is_null(), "{wide}");
    let said = run("avx512bf16", &["doctor"]);
    assert!(said.contains("bf16: matrix product in bf16 on avx512_bf16"), "{said}");
    assert!(said.contains("all available devices compute the same results"), "{said}");
}
