//! Writes example charts as SVG, PNG and HTML into a folder: `cargo run -p bupo-chart --example gallery -- FOLDER`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use bupo_chart::{Chart, ColourScale, HeatMap, LineChart, Mark, PAGE_CSS, Point, Series, Shade, YScale};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("give the folder to write to")?);
    fs::create_dir_all(&folder)?;
    let mut figures = String::new();
    for (name, chart) in gallery() {
        let (svg, png, inline) = (chart.svg(), chart.png()?, chart.inline_svg(name));
        println!("{name}: svg {} bytes, png {} bytes", svg.len(), png.len());
        fs::write(folder.join(name).with_extension("svg"), svg)?;
        fs::write(folder.join(name).with_extension("png"), png)?;
        let width = if matches!(chart, Chart::Line(_)) { 560 } else { 1140 };
        figures.push_str(&format!("<figure style=\"width:{width}px\">{inline}</figure>"));
    }
    for theme in ["light", "dark"] {
        let style =
            "body{background:var(--chart-paper);display:flex;flex-wrap:wrap;max-width:1200px}figure{margin:10px}";
        let page = format!(
            "<!doctype html><html data-theme=\"{theme}\"><meta charset=\"utf-8\"><style>{PAGE_CSS}{style}</style>{figures}"
        );
        fs::write(folder.join(theme).with_extension("html"), page)?;
    }
    Ok(())
}

fn gallery() -> Vec<(&'static str, Chart)> {
    vec![
        ("change", entropy_change().into()),
        ("flow", entropy_flow().into()),
        ("reward", reward().into()),
        ("log", learning_rates().into()),
        ("many", many_series().into()),
        ("alone", alone().into()),
        ("empty", LineChart { title: "Nothing yet".into(), x_label: "step".into(), ..LineChart::default() }.into()),
        ("tokens", tokens().into()),
        ("small", small().into()),
        ("training", training().into()),
    ]
}

fn layers(count: u32, y: impl Fn(f64) -> f64, interval: impl Fn(f64) -> f64) -> Vec<Point> {
    let point = |layer| {
        let x = f64::from(layer);
        Point { x, y: y(x), interval: (interval(x) > 0.0).then(|| (y(x) - interval(x), y(x) + interval(x))) }
    };
    (1..=count).map(point).collect()
}

/// Deterministic noise between -1 and 1.
fn noise(seed: f64) -> f64 {
    (seed * 12.9898).sin() * 43_758.545 % 1.0
}

fn entropy_change() -> LineChart {
    let change = |x: f64| if x < 7.0 { 0.9 - 0.1 * x } else { 0.12 * noise(x) - (x / 36.0).powi(8) * 3.4 };
    let stage = |from, to, label: &str| Shade { from, to, label: label.into() };
    LineChart {
        title: "Qwen3-4B: entropy change of the feed-forward blocks".into(),
        x_label: "layer".into(),
        y_label: "ΔH of FFN (nats)".into(),
        series: vec![Series { name: "FFN".into(), points: layers(36, change, |x| 0.08 + x * 0.004) }],
        shades: vec![stage(0.5, 6.5, "exploration"), stage(6.5, 30.5, "integration"), stage(30.5, 36.5, "convergence")],
        zero_line: true,
        band: Some((-0.05, 0.05)),
        ..LineChart::default()
    }
}

fn entropy_flow() -> LineChart {
    let series =
        [("residual stream", 11.6, 0.0021, 1.0), ("attention", 11.2, 0.0008, 2.0), ("feed-forward", 10.9, 0.0016, 3.0)];
    LineChart {
        title: "Entropy flow".into(),
        x_label: "layer".into(),
        y_label: "entropy (nats)".into(),
        series: series
            .map(|(name, top, bend, seed)| {
                let y = |x: f64| (top - bend * x.powf(2.35) + 0.25 * noise(x + seed)).max(0.2);
                Series { name: name.into(), points: layers(36, y, |_| 0.22) }
            })
            .into(),
        marks: vec![Mark { x: 6.0, label: "policy layer 6".into() }],
        ..LineChart::default()
    }
}

fn reward() -> LineChart {
    let run = |run: u32| {
        let y = |x: f64| 0.72 - 0.55 * (-x / (60.0 + 18.0 * f64::from(run))).exp() + 0.03 * noise(x + f64::from(run));
        let points = (0..300).map(|x| Point { x: f64::from(x), y: y(f64::from(x)), interval: None }).collect();
        Series { name: format!("{} seed {}", ["GRPO", "BuPO"][run as usize % 2], run / 2 + 1), points }
    };
    LineChart {
        title: "Mean reward while training".into(),
        x_label: "step".into(),
        y_label: "reward".into(),
        series: (0..6).map(run).collect(),
        marks: vec![
            Mark { x: 30.0, label: "internal policy ends".into() },
            Mark { x: 200.0, label: "learning rate halved".into() },
        ],
        ..LineChart::default()
    }
}

fn learning_rates() -> LineChart {
    let points = (0..5000).map(|i| {
        let x = f64::from(i);
        Point { x, y: (-x / 500.0).exp() * (1.5 + noise(x)), interval: None }
    });
    LineChart {
        title: "KL divergence from the reference model, which is a long title that has to be broken in two".into(),
        x_label: "step".into(),
        y_label: "KL (nats)".into(),
        series: vec![Series { name: "run".into(), points: points.collect() }],
        y_scale: YScale::Log,
        ..LineChart::default()
    }
}

fn many_series() -> LineChart {
    let series = |i: u32| Series {
        name: format!("Qwen3-4B-Base, DeepMath, alignment at layer {i}, seed {}, the long-named run", i * 7),
        points: layers(20, |x| f64::from(i) + (x / 3.0 + f64::from(i)).sin(), |_| 0.0),
    };
    LineChart {
        title: "Two dozen series".into(),
        x_label: "layer".into(),
        y_label: "value".into(),
        series: (0..24).map(series).collect(),
        ..LineChart::default()
    }
}

fn alone() -> LineChart {
    let one = |name: &str, x, y| Series {
        name: name.into(),
        points: vec![Point { x, y, interval: Some((y - 2.0, y + 3.0)) }],
    };
    LineChart {
        title: "Accuracy on AIME24 after training".into(),
        x_label: "trained layer".into(),
        y_label: "Avg@32 (%)".into(),
        series: vec![one("GRPO", 1.0, 18.0), one("BuPO, layer 6", 2.0, 21.5), one("BuPO, layer 24", 3.0, 16.0)],
        ..LineChart::default()
    }
}

fn tokens() -> HeatMap {
    let words =
        ["Ġthe", "\\n", "答", "🙂", "Ġprobability", "=", "Ġ\\frac", "{", "1", "}", "Ġinternationalization", "Ġso"];
    let value = |row: u32, column: u32| {
        if row > 30 && column % 17 == 3 {
            return f64::NAN;
        }
        let (x, y) = (f64::from(column), f64::from(row));
        (11.5 - 11.0 * (y / 35.0).powf(1.5 + (x * 0.7).sin())).max(0.0) + 0.4 * noise(x * 36.0 + y)
    };
    HeatMap {
        title: "Entropy of each layer's policy along a response".into(),
        x_label: "token".into(),
        y_label: "layer".into(),
        value_label: "entropy (nats)".into(),
        columns: (0..60).map(|i| words[i % words.len()].to_owned()).collect(),
        rows: (1..=36).map(|layer| layer.to_string()).collect(),
        values: (0..36).map(|row| (0..60).map(|column| value(row, column)).collect()).collect(),
        ..HeatMap::default()
    }
}

fn small() -> HeatMap {
    let words = ["The", "Ġanswer", "Ġis", "Ġ", "4", "2", ".", "Ġ", "\n", "So", "Ġwe", "<eos>"];
    HeatMap {
        title: "Change of log-probability of the sampled token".into(),
        x_label: "token".into(),
        y_label: "layer".into(),
        value_label: "Δ log p".into(),
        columns: words.map(String::from).into(),
        rows: (1..=6).map(|layer| layer.to_string()).collect(),
        values: (0..6).map(|r| (0..12).map(|c| 2.5 * noise(f64::from(r * 12 + c))).collect()).collect(),
        scale: ColourScale::Diverging,
        ..HeatMap::default()
    }
}

fn training() -> HeatMap {
    let value = |row: u32, column: u32| {
        f64::from(column).sqrt() * (f64::from(row) - 17.5) / 100.0 + 0.1 * noise(f64::from(row * 300 + column))
    };
    HeatMap {
        title: "Change of entropy by layer and step".into(),
        x_label: "step".into(),
        y_label: "layer".into(),
        value_label: "ΔH (nats)".into(),
        columns: (0..300).map(|step| (step * 5).to_string()).collect(),
        rows: (1..=36).map(|layer| layer.to_string()).collect(),
        values: (0..36).map(|row| (0..300).map(|column| value(row, column)).collect()).collect(),
        scale: ColourScale::Diverging,
        ..HeatMap::default()
    }
}
