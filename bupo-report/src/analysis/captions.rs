//! What a chart shows, from its numbers.

use bupo_chart::{Point, Series};

/// The first and the last value of each line: "From layer 1 to 6: attention 5.40 to 1.51, feed-forward 2.23 to -1.55."
pub(super) fn ends(series: &[Series], number: fn(f64) -> String) -> String {
    let ends = |series: &Series| Some((series.name.clone(), *series.points.first()?, *series.points.last()?));
    let lines: Vec<(String, Point, Point)> = series.iter().filter_map(ends).collect();
    let Some((_, first, last)) = lines.first() else { return String::new() };
    let range = match first.x == last.x {
        true => format!("At layer {}", first.x),
        false => format!("From layer {} to {}", first.x, last.x),
    };
    let value = |(name, first, last): &(String, Point, Point)| match first.x == last.x {
        true => format!("{name} {}", number(first.y)),
        false => format!("{name} {} to {}", number(first.y), number(last.y)),
    };
    format!("{range}: {}.", lines.iter().map(value).collect::<Vec<_>>().join(", "))
}

/// The value of each line at the last layer.
pub(super) fn last(series: &[Series], number: fn(f64) -> String) -> String {
    let last = |series: &Series| Some((series.name.clone(), *series.points.last()?));
    let lines: Vec<(String, Point)> = series.iter().filter_map(last).collect();
    let Some((_, at)) = lines.first() else { return String::new() };
    let values: Vec<String> = lines.iter().map(|(name, point)| format!("{name} {}", number(point.y))).collect();
    format!("At layer {}: {}.", at.x, values.join(", "))
}

/// The least and the greatest value of each line, with their layers.
pub(super) fn extremes(series: &[Series]) -> String {
    let of = |series: &Series| {
        let least = series.points.iter().min_by(|a, b| a.y.total_cmp(&b.y))?;
        let most = series.points.iter().max_by(|a, b| a.y.total_cmp(&b.y))?;
        let at = |point: &Point| format!("{} at layer {}", signed(point.y), point.x);
        Some(format!("{}: at least {}, at most {}.", series.name, at(least), at(most)))
    };
    series.iter().filter_map(of).collect::<Vec<_>>().join(" ")
}

/// A number with three digits.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.1e}"),
    }
}

pub(super) fn percent(value: f64) -> String {
    format!("{:.0}%", value * 100.0)
}

fn signed(value: f64) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    format!("{sign}{}", number(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, values: &[f64]) -> Series {
        let point = |(index, y): (usize, &f64)| Point { x: (index + 1) as f64, y: *y, interval: None };
        Series { name: name.into(), points: values.iter().enumerate().map(point).collect() }
    }

    #[test]
    fn captions_have_the_numbers_of_their_chart() {
        let lines = [line("layer", &[9.0, 12.34, 0.051]), line("attention", &[]), line("ffn", &[-1.0, 2.0, 250.4])];
        assert_eq!(ends(&lines, number), "From layer 1 to 3: layer 9.00 to 0.05, ffn -1.00 to 250.");
        assert_eq!(last(&lines, number), "At layer 3: layer 0.05, ffn 250.");
        assert_eq!(extremes(&lines[2..]), "ffn: at least -1.00 at layer 1, at most +250 at layer 3.");
        assert_eq!(ends(&[line("layer", &[0.126])], percent), "At layer 1: layer 13%.");
        assert_eq!(ends(&[], number), "");
        assert_eq!(number(0.0003), "3.0e-4");
    }
}
