//! The table of an analysis: one line per layer, the stages and the boundary layer.

use bupo_analysis::{Analysis, Slice, Statistic};
use bupo_core::PolicySite;

/// Width of an entropy bar.
const BAR: usize = 16;
/// Width of each side of an entropy change bar.
const SIDE: usize = 6;

pub fn print_analysis(analysis: &Analysis) {
    let info = &analysis.info;
    outln!();
    let score = analysis.mean_score.map_or(String::new(), |score| format!(", mean score {score:.3}"));
    outln!(
        "{}: {} responses, {} tokens{score}; norm {}, entropies in nats, ln V = {:.2}",
        info.model,
        analysis.responses,
        analysis.tokens,
        info.norm,
        (info.vocab_size as f64).ln()
    );
    print_layers(analysis);
    match (&analysis.boundary, &analysis.convergence) {
        (Some(boundary), Some(convergence)) => {
            let stages = boundary.stages.named().into_iter();
            let range = |first, last| if first == last { format!("{first}") } else { format!("{first}-{last}") };
            let stages: Vec<String> =
                stages.map(|(name, first, last)| format!("{name} {}", range(first, last))).collect();
            outln!("stages: {} (tolerance {:.3} nats)", stages.join(", "), boundary.tolerance);
            outln!("boundary layer: {}", boundary.layer.map_or("none".into(), |layer| layer.to_string()));
            outln!("  {}", boundary.reason());
            outln!("  {}", boundary.certainty());
            outln!("{}", convergence.describe());
            outln!("\nphases for a training settings file:\n\n{}", boundary.phases());
        }
        _ => {
            let (measured, all) = (layers(analysis), info.num_layers);
            outln!("only the first {measured} of {all} layers were measured, so there are no stages");
        }
    }
}

fn layers(analysis: &Analysis) -> usize {
    analysis.by_layer(PolicySite::Layer, Statistic::Entropy, Slice::All).len()
}

fn print_layers(analysis: &Analysis) {
    let value = |site, statistic| analysis.row(site, statistic, Slice::All).map(|row| row.estimate.mean);
    let max_entropy = (analysis.info.vocab_size as f64).ln();
    let change = |site: fn(usize) -> PolicySite, layer: usize| value(site(layer), Statistic::EntropyChange);
    let max_change = (1..=layers(analysis))
        .flat_map(|layer| [change(PolicySite::Ffn, layer), change(PolicySite::Attn, layer)])
        .flatten()
        .fold(0.0, |max: f64, change| max.max(change.abs()));
    let bar_title = "layer entropy";
    outln!(
        "{:>5}  {bar_title:<24}  {:<20}  {:<20}  {:>11}  {:>9}",
        "layer",
        "feed-forward change",
        "attention change",
        "KL(l||full)",
        "agreement"
    );
    for layer in 1..=layers(analysis) {
        let entropy = value(PolicySite::Layer(layer), Statistic::Entropy).unwrap_or(f64::NAN);
        let signed =
            |site| change(site, layer).map_or(String::new(), |c| format!("{c:>+6.2} {}", diverging(c / max_change)));
        let optional = |statistic, digits: usize| {
            value(PolicySite::Layer(layer), statistic).map_or("-".into(), |value| format!("{value:.digits$}"))
        };
        outln!(
            "{layer:>5}  {entropy:>6.2} {:<BAR$}   {:<20}  {:<20}  {:>11}  {:>9}",
            bar(entropy / max_entropy, BAR),
            signed(PolicySite::Ffn),
            signed(PolicySite::Attn),
            optional(Statistic::Kl, 3),
            optional(Statistic::Agreement, 2),
        );
    }
}

/// A bar with a resolution of 1/8 cell.
fn bar(share: f64, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}"];
    let eighths = (share.clamp(0.0, 1.0) * (cells * 8) as f64).round() as usize;
    format!("{}{}", "\u{2588}".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// A bar to the right of the middle for positive values, to its left for negative values.
fn diverging(share: f64) -> String {
    let cells = (share.abs().clamp(0.0, 1.0) * SIDE as f64).round() as usize;
    let (left, right) = if share < 0.0 { (cells, 0) } else { (0, cells) };
    format!(
        "{}{}\u{2502}{}{}",
        " ".repeat(SIDE - left),
        "\u{2588}".repeat(left),
        "\u{2588}".repeat(right),
        " ".repeat(SIDE - right)
    )
}
