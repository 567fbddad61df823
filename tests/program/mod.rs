//! Runs the program.
#![allow(dead_code)] // Each test file uses a part of it.

pub mod rows;
pub mod runs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference").join(name)
}

/// Commands that tests run without `--device`.
const NO_DEVICE: [&str; 7] = ["grade", "data", "config", "report", "runs", "devices", "doctor"];

/// Runs the program on the device in `BUPO_TEST_DEVICE`, by default the CPU.
pub fn bupo(args: &[&str]) -> Output {
    bupo_on(&device(), args)
}

pub fn bupo_on(device: &str, args: &[&str]) -> Output {
    let device: &[&str] = if NO_DEVICE.contains(&args[0]) { &[] } else { &["--device", device] };
    Command::new(env!("CARGO_BIN_EXE_bupo")).args(args).args(device).output().unwrap()
}

pub fn device() -> String {
    std::env::var("BUPO_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}

pub fn succeed(args: &[&str]) -> String {
    let output = bupo(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The error of a command, which must be one line.
pub fn fail(args: &[&str]) -> String {
    let output = bupo(args);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{args:?} succeeded");
    assert!(message.starts_with("error: ") && message.trim().lines().count() == 1, "{args:?}: {message}");
    message
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks that a page needs no network access, and returns it.
pub fn check_page(path: &Path) -> String {
    let page = fs::read_to_string(path).unwrap();
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    // References within the page begin with #.
    let page_alone = page.replace("url(#", "");
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page_alone.contains(outside), "{outside}");
    }
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    page
}
