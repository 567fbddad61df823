//! Scorers written as shell scripts.
#![allow(dead_code)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bupo_grade::{CommandScorer, GradedItem, Item, TimeLimits};
use tempfile::TempDir;

/// A loop over the lines of standard input, with the item's answer as `$answer` and its id as `$id`.
pub fn each_line(body: &str) -> String {
    let answer = "answer=${line#*'\"answer\":\"'}; answer=${answer%%'\"'*}";
    format!("while read -r line; do {answer}; id=${{line#*'\"id\":'}}; id=${{id%%,*}}\n{body}\ndone\n")
}

/// Writes the answer as the score, with the item's id.
pub const NUMBERED: &str = "echo \"{\\\"id\\\": $id, \\\"score\\\": $answer, \\\"extracted\\\": \\\"x$answer\\\"}\"";
/// Writes the answer as the score, without an id.
pub const PLAIN: &str = "echo \"{\\\"score\\\": $answer, \\\"extracted\\\": \\\"x$answer\\\", \\\"more\\\": [1]}\"";

/// A shell script, run by `sh` so that it need not be executable.
pub struct Script {
    pub folder: TempDir,
    pub command: String,
}

impl Script {
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scorer.sh");
        fs::write(&path, text).unwrap();
        let command = format!("sh {} {}", path.display(), folder.path().display());
        Self { folder, command }
    }

    /// The scorer, with a time for each answer that no healthy script needs.
    pub fn scorer(&self) -> CommandScorer {
        CommandScorer::new(&self.command, TimeLimits::default()).unwrap()
    }

    /// The scorer of a script that is known to hang.
    pub fn impatient(&self) -> CommandScorer {
        let limits = TimeLimits { start: Duration::from_millis(1500), answer: Duration::from_millis(1000) };
        CommandScorer::new(&self.command, limits).unwrap()
    }

    /// The lines of a file the script wrote in its folder, `$1`.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let path: PathBuf = self.folder.path().join(name);
        fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

pub fn item(answer: &str) -> Item<'_> {
    Item { response: "r", answer, data_source: "s", prompt: None }
}

pub fn scores(items: &[GradedItem]) -> Vec<f64> {
    items.iter().map(|item| item.graded.score).collect()
}
