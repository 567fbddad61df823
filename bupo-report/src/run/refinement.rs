//! The charts of the similarity of the layers' states before and after training.

use bupo_analysis::Statistic;
use bupo_core::PolicySite;

use super::Run;
use super::pictures::{before_and_after, line};
use crate::page::Picture;

/// Of each run whose probe measured it at least twice.
pub(super) fn pictures(runs: &[Run]) -> Vec<Picture> {
    let charts = [
        (
            Statistic::CkaToLast,
            "cka-to-last",
            "CKA to the last layer",
            "linear CKA",
            "Of the states after each layer and the last.",
        ),
        (
            Statistic::CosineToLast,
            "cosine-to-last",
            "cosine to the last layer",
            "cosine",
            "Of the states after each layer and the last, the mean over tokens.",
        ),
        (
            Statistic::CkaToBase,
            "cka-to-base",
            "CKA to before training",
            "linear CKA",
            "Of the states after each layer and those of the same layer before training.",
        ),
        (
            Statistic::CosineToBase,
            "cosine-to-base",
            "cosine to before training",
            "cosine",
            "Of the states after each layer and those of the same layer before training, the mean over tokens.",
        ),
    ];
    let mut pictures = Vec::new();
    for (statistic, file, title, y_label, caption) in charts {
        for (index, run) in runs.iter().enumerate() {
            let probed =
                run.probe.iter().filter(|line| line.means.get(&statistic).is_some_and(|means| !means.is_empty()));
            if probed.count() < 2 {
                continue;
            }
            let (name, title) = (format!("internal-{file}-{}", index + 1), format!("{}: {title}", run.name));
            let picture = before_and_after(run, statistic, PolicySite::Layer, name, title, y_label, caption);
            // Similarities to before training are close to 1.
            let has_zero = matches!(statistic, Statistic::CkaToLast | Statistic::CosineToLast);
            pictures.push(line(picture, |chart| chart.zero_line = has_zero));
        }
    }
    pictures
}
