//! The table of a sweep.

use bupo_rl::{MeanOverSeeds, SweepEntry, SweepResult};

/// Prints one line per variant, the gain beside the measures before training.
pub fn print_sweep(result: &SweepResult) {
    let seeds = result.seeds.len();
    outln!();
    outln!(
        "gain: Avg@{} on held-out problems after {} steps minus before; ± is Student's 95% interval over {seeds} seed{}",
        result.samples,
        result.steps,
        if seeds == 1 { ", of which one has none" } else { "s" }
    );
    outln!(
        "reward: mean of the last quarter of the steps minus that of the first; share: of the gain of the full policy"
    );
    outln!("the other columns are measured before training, on the responses of the first step");
    let boundary = result.boundary.as_ref().and_then(|boundary| boundary.layer);
    let width = result.entries.iter().map(|entry| entry.variant.to_string().len() + 2).max().unwrap_or(0).max(8);
    outln!(
        "{:<width$} {:>16} {:>16} {:>7} {:>11} {:>10} {:>9} {:>10}",
        "",
        "gain",
        "reward",
        "share",
        "KL(l||full)",
        "grad cos",
        "FFN dH",
        "influence"
    );
    for entry in &result.entries {
        let mark = if entry.layer.is_some() && entry.layer == boundary { " *" } else { "" };
        let SweepEntry { gain, reward_change, contribution, measured, .. } = entry;
        let of = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
        outln!(
            "{:<width$} {:>16} {:>16} {:>7} {:>11} {:>10} {:>9} {:>10}",
            format!("{}{mark}", entry.variant),
            over_seeds(Some(gain)),
            over_seeds(reward_change.as_ref()),
            of(*contribution),
            of(measured.as_ref().and_then(|measured| measured.kl_to_full)),
            of(measured.as_ref().and_then(|measured| measured.gradient_cosine)),
            measured
                .as_ref()
                .and_then(|measured| measured.entropy_change)
                .map_or("-".into(), |change| format!("{change:+.3}")),
            of(measured.as_ref().and_then(|measured| measured.block_influence)),
        );
    }
    let correlations: Vec<String> =
        result.rank_correlations.iter().filter_map(|(name, value)| Some(format!("{name} {:+.2}", (*value)?))).collect();
    if !correlations.is_empty() {
        outln!("rank correlation with the gain over the layers: {}", correlations.join(", "));
    }
    if let Some(boundary) = &result.boundary {
        let layer = boundary.layer.map_or("none".into(), |layer| format!("layer {layer} (*)"));
        outln!("boundary layer of the entropy: {layer}: {}", boundary.reason());
        outln!("  {}", boundary.certainty());
    }
}

fn over_seeds(value: Option<&MeanOverSeeds>) -> String {
    match value {
        None => "-".into(),
        Some(MeanOverSeeds { mean, half_width: None }) => format!("{mean:+.3}"),
        Some(MeanOverSeeds { mean, half_width: Some(half_width) }) => format!("{mean:+.3} ±{half_width:.3}"),
    }
}
