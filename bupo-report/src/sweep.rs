//! The report of a sweep.

use bupo_chart::{LineChart, Mark, Point, Series};
use bupo_rl::{MeanOverSeeds, SiteSelectors, SweepEntry, SweepResult, Variant};

use crate::page::{Part, Picture, Report, Section, Table};

/// A number with its interval, if it has one.
type Measured = (f64, Option<(f64, f64)>);
/// Takes a number over seeds from a variant, or a measure from those of a site.
type OverSeeds = fn(&SweepEntry) -> Option<MeanOverSeeds>;
type Measure = fn(&SiteSelectors) -> Option<f64>;

const MISSING: &str = "\u{2013}";

/// The report of a sweep: the gain by layer beside what was measured before training. `settings`: those of its runs, as
/// text.
pub fn sweep_report(name: &str, result: &SweepResult, model: Option<&str>, settings: &str) -> Report {
    let listing = Part::Listing { name: "settings of the runs".into(), text: settings.into(), folded: true };
    Report {
        title: format!("Sweep: {name}"),
        subtitle: format!(
            "Each run trains {} for {} steps from {}.",
            if result.entries.iter().any(|entry| matches!(entry.variant, Variant::Site(_))) {
                "the policy of one site"
            } else {
                "the parameters of one layer"
            },
            result.steps,
            model.unwrap_or("the embedded model")
        ),
        sections: vec![
            Section {
                title: "Gain".into(),
                text: gain_text(result),
                parts: vec![Part::Pictures(gain_pictures(result)), Part::Table(gain_table(result))],
            },
            Section {
                title: "Measures before training".into(),
                text: measures_text(result),
                parts: vec![Part::Pictures(measure_pictures(result)), Part::Table(measures_table(result))],
            },
            Section {
                title: "Runs".into(),
                text: String::new(),
                parts: vec![Part::Table(runs_table(result)), listing],
            },
        ],
    }
}

fn gain_text(result: &SweepResult) -> String {
    let interval = match result.seeds.len() {
        1 => "One seed has no interval.".to_string(),
        seeds => format!("Intervals are Student's 95% intervals over {seeds} seeds."),
    };
    format!(
        "The gain is Avg@{} after training minus before, on the same held-out problems with the same random \
         numbers. {interval} The reward is that of the training responses: the mean of the last quarter of the \
         steps minus that of the first. The share is that of the gain of the full policy with all parameters.",
        result.samples
    )
}

fn measures_text(result: &SweepResult) -> String {
    let boundary = result.boundary.as_ref().map_or(String::new(), |boundary| {
        let layer = boundary.layer.map_or("none".into(), |layer| format!("layer {layer}"));
        format!(" Boundary layer of the entropy: {layer}: {} ({}).", boundary.reason(), boundary.certainty())
    });
    format!(
        "Of the model before training, on the responses that the first step samples with the first seed. The \
         gradient cosine is that of the policy loss of the layer and of the full policy, over the parameters that \
         both depend on. The entropy change is that of the feed-forward, by which the boundary layer is chosen. \
         The block influence is 1 minus the cosine of the states before and after the layer.{boundary}"
    )
}

/// The kinds of variants that have a layer, by name.
fn kind(entry: &SweepEntry) -> &'static str {
    match entry.variant {
        Variant::Site(site) => site.kind(),
        Variant::Layer(_) | Variant::AllLayers => "parameters",
    }
}

/// A value over layers, with one line per kind of variant, and the boundary layer marked.
fn by_layer(
    result: &SweepResult,
    title: &str,
    y_label: &str,
    value: impl Fn(&SweepEntry) -> Option<Measured>,
) -> LineChart {
    let mut series: Vec<Series> = Vec::new();
    let mut entries: Vec<&SweepEntry> = result.entries.iter().collect();
    entries.sort_by_key(|entry| entry.layer);
    for entry in entries {
        let (Some(layer), Some((y, interval))) = (entry.layer, value(entry)) else { continue };
        let point = Point { x: layer as f64, y, interval };
        match series.iter_mut().find(|series| series.name == kind(entry)) {
            Some(series) => series.points.push(point),
            None => series.push(Series { name: kind(entry).into(), points: vec![point] }),
        }
    }
    let layers = || result.entries.iter().filter_map(|entry| entry.layer);
    let boundary = result.boundary.as_ref().and_then(|boundary| boundary.layer);
    let inside = |layer: &usize| layers().min() <= Some(*layer) && Some(*layer) <= layers().max();
    LineChart {
        title: title.into(),
        x_label: "layer".into(),
        y_label: y_label.into(),
        series,
        marks: boundary.filter(inside).map(|x| Mark { x: x as f64, label: "boundary".into() }).into_iter().collect(),
        ..LineChart::default()
    }
}

fn gain_pictures(result: &SweepResult) -> Vec<Picture> {
    let with_interval = |value: &MeanOverSeeds| (value.mean, value.half_width.map(|_| value.interval()));
    let mut pictures = Vec::new();
    for (name, title, y_label, of) in [
        ("gain", "Gain by layer", "Avg@K, after minus before", gain_of as OverSeeds),
        ("reward", "Change of the training reward", "reward, last minus first", |entry| entry.reward_change),
    ] {
        let mut chart = by_layer(result, title, y_label, |entry| of(entry).as_ref().map(with_interval));
        chart.zero_line = true;
        let (lowest, highest) = chart
            .series
            .iter()
            .flat_map(|series| &series.points)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| (low.min(point.x), high.max(point.x)));
        let reference = result.entries.iter().find(|entry| entry.variant.is_reference());
        let mut caption = String::new();
        if let Some((reference, value)) = reference.and_then(|entry| Some((entry, of(entry)?))) {
            let (y, interval) = with_interval(&value);
            if lowest < highest {
                let points = [lowest, highest].map(|x| Point { x, y, interval }).to_vec();
                chart.series.push(Series { name: reference.variant.to_string(), points });
            }
            caption = format!("{}: {}.", reference.variant, over_seeds(Some(&value)));
        }
        pictures.push(Picture::new(format!("sweep-{name}"), chart, caption));
    }
    pictures
}

fn gain_of(entry: &SweepEntry) -> Option<MeanOverSeeds> {
    Some(entry.gain)
}

fn measure_pictures(result: &SweepResult) -> Vec<Picture> {
    let mut pictures = Vec::new();
    for (name, title, y_label, of) in [
        ("kl_to_full", "KL(layer || full)", "nats / token", (|measured| measured.kl_to_full) as Measure),
        ("gradient_cosine", "Gradient cosine with the full policy", "cosine", |measured| measured.gradient_cosine),
        ("entropy_change", "Entropy change, feed-forward", "nats", |measured| measured.entropy_change),
        ("block_influence", "Block influence", "1 - cosine", |measured| measured.block_influence),
    ] {
        let value = |entry: &SweepEntry| Some((of(entry.measured.as_ref()?)?, None));
        let chart = LineChart { zero_line: true, ..by_layer(result, title, y_label, value) };
        let correlation = result.rank_correlations.get(name).copied().flatten();
        let caption = correlation.map_or("Too few layers for a rank correlation with the gain.".into(), |value| {
            format!("Rank correlation with the gain over the layers: {value:+.2}.")
        });
        pictures.push(Picture::new(format!("sweep-{}", name.replace('_', "-")), chart, caption));
    }
    pictures
}

fn gain_table(result: &SweepResult) -> Table {
    let row = |entry: &SweepEntry| {
        vec![
            entry.variant.to_string(),
            over_seeds(Some(&entry.gain)),
            over_seeds(entry.reward_change.as_ref()),
            number(entry.contribution),
            entry.runs.len().to_string(),
        ]
    };
    Table {
        caption: "Means over seeds".into(),
        header: ["", "gain", "reward", "share", "runs"].map(String::from).to_vec(),
        rows: result.entries.iter().map(row).collect(),
    }
}

fn measures_table(result: &SweepResult) -> Table {
    let row = |entry: &SweepEntry| {
        let of = |value: Measure| number(entry.measured.as_ref().and_then(value));
        vec![
            entry.variant.to_string(),
            of(|measured| measured.kl_to_full),
            of(|measured| measured.gradient_cosine),
            of(|measured| measured.entropy_change),
            of(|measured| measured.block_influence),
        ]
    };
    Table {
        caption: "Before training".into(),
        header: ["", "KL to full (nats)", "gradient cosine", "entropy change (nats)", "block influence"]
            .map(String::from)
            .to_vec(),
        rows: result.entries.iter().filter(|entry| entry.layer.is_some()).map(row).collect(),
    }
}

fn runs_table(result: &SweepResult) -> Table {
    let rows = result.entries.iter().flat_map(|entry| {
        entry.runs.iter().map(|run| {
            vec![
                entry.variant.to_string(),
                run.seed.to_string(),
                format!("{:.3}", run.before),
                format!("{:.3}", run.after),
                format!("{:+.3}", run.gain),
                run.reward_change.map_or(MISSING.into(), |change| format!("{change:+.3}")),
                run.folder.display().to_string(),
            ]
        })
    });
    Table {
        caption: format!("Avg@{} before and after training", result.samples),
        header: ["", "seed", "before", "after", "gain", "reward", "folder"].map(String::from).to_vec(),
        rows: rows.collect(),
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or(MISSING.into(), |value| format!("{value:.3}"))
}

fn over_seeds(value: Option<&MeanOverSeeds>) -> String {
    match value {
        None => MISSING.into(),
        Some(MeanOverSeeds { mean, half_width: None }) => format!("{mean:+.3}"),
        Some(MeanOverSeeds { mean, half_width: Some(half_width) }) => format!("{mean:+.3} \u{b1}{half_width:.3}"),
    }
}
