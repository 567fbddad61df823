//! The lines, markers and intervals of series.

use std::fmt::Write;

use super::frame::Frame;
use super::{LineChart, Series};
use crate::canvas::{Canvas, Num};
use crate::{Rect, style};

/// A point in units of the viewBox.
#[derive(Clone, Copy)]
struct Spot {
    x: f64,
    y: f64,
    /// The upper and the lower end.
    interval: Option<(f64, f64)>,
}

/// Points of which each is joined to the next.
type Run = Vec<Spot>;

/// More points than this in a series are thinned.
const MANY: usize = 2000;
/// The width in which thinned points keep only their ends and extremes; about two pixels of a PNG.
const BIN: f64 = 0.5;
/// Markers are about this far apart, and on every point where the points are.
const SPACING: f64 = 24.0;
/// Where there is but one series, its points need no more room than this to have one each.
const NARROW: f64 = 8.0;
/// How far what lies at the edge of the plot may reach over it.
const OVER: f64 = 4.5;

/// Draws the series, cut at the plot by a clip path of this id.
pub(super) fn draw(canvas: &mut Canvas, frame: &Frame, clip: &str) {
    let series: Vec<(usize, Vec<Run>)> =
        frame.chart.series.iter().map(|series| runs(series, frame)).enumerate().collect();
    let data = frame.data;
    let room =
        Rect { x: data.x - OVER, y: data.y - OVER, width: data.width + 2.0 * OVER, height: data.height + 2.0 * OVER };
    canvas.raw(&format!("<clipPath id=\"{clip}\">"));
    canvas.rect("", room);
    canvas.raw(&format!("</clipPath><g clip-path=\"url(#{clip})\">"));
    // All intervals lie under all lines.
    for (i, runs) in &series {
        let class = format!("class=\"chart-interval {}\"", style::class(*i));
        canvas.path(&class, &runs.iter().map(|run| bands(run)).collect::<String>());
    }
    for (i, runs) in &series {
        canvas.raw(&format!("<g class=\"{}\">", style::class(*i)));
        canvas.path("class=\"chart-line\"", &runs.iter().map(|run| whiskers(run)).collect::<String>());
        canvas.path(&style::stroke(*i), &runs.iter().map(|run| path(run)).collect::<String>());
        canvas.path("class=\"chart-dot\"", &markers(*i, runs, frame.chart, data.x));
        canvas.raw("</g>");
    }
    canvas.raw("</g>");
}

/// The points in units of the viewBox, parted where one is missing.
fn runs(series: &Series, frame: &Frame) -> Vec<Run> {
    let parts = series.points.split(|point| !point.is_drawable(frame.chart.y_scale)).filter(|part| !part.is_empty());
    let spots = parts.map(|part| {
        let spot = |point: &super::Point| Spot {
            x: frame.x.at(point.x),
            y: frame.y.at(point.y),
            interval: point.drawable_interval().map(|(lo, hi)| (frame.y.at(hi), frame.y.at(lo))),
        };
        part.iter().map(spot).collect()
    });
    let thin = |run: Run| if series.points.len() > MANY { thinned(&run) } else { run };
    spots.map(thin).collect()
}

/// What the picture can show of very many points: of those in one narrow column the first, the last and the extremes,
/// each with the widest interval.
fn thinned(run: &[Spot]) -> Run {
    let mut thinned = Run::new();
    for bin in run.chunk_by(|one, other| (one.x / BIN).floor() == (other.x / BIN).floor()) {
        let interval = bin.iter().filter_map(|spot| spot.interval);
        let interval =
            interval.reduce(|(top, bottom), (other_top, other_bottom)| (top.min(other_top), bottom.max(other_bottom)));
        let lowest = bin.iter().enumerate().max_by(|(_, one), (_, other)| one.y.total_cmp(&other.y));
        let highest = bin.iter().enumerate().min_by(|(_, one), (_, other)| one.y.total_cmp(&other.y));
        let mut kept = vec![0, bin.len() - 1];
        kept.extend([lowest, highest].into_iter().flatten().map(|(i, _)| i));
        kept.sort_unstable();
        kept.dedup();
        thinned.extend(kept.into_iter().map(|i| Spot { interval, ..bin[i] }));
    }
    thinned
}

fn path(run: &[Spot]) -> String {
    if run.len() < 2 { String::new() } else { joined(run.iter().map(|spot| (spot.x, spot.y))) }
}

/// The areas between the ends of the intervals.
fn bands(run: &[Spot]) -> String {
    let with_intervals = run.split(|spot| spot.interval.is_none()).filter(|part| part.len() > 1);
    let area = |part: &[Spot]| {
        let top = part.iter().filter_map(|spot| Some((spot.x, spot.interval?.0)));
        let bottom = part.iter().rev().filter_map(|spot| Some((spot.x, spot.interval?.1)));
        joined(top.chain(bottom)) + "z"
    };
    with_intervals.map(area).collect()
}

/// The intervals that no neighbour's joins.
fn whiskers(run: &[Spot]) -> String {
    let alone = run.split(|spot| spot.interval.is_none()).filter(|part| part.len() == 1).flatten();
    let whisker = |spot: &Spot| {
        let (top, bottom) = spot.interval?;
        let (x, left) = (Num(spot.x), Num(spot.x - 4.0));
        let (top, bottom) = (Num(top), Num(bottom));
        Some(format!("M{x} {top}V{bottom}M{left} {top}h8M{left} {bottom}h8"))
    };
    alone.filter_map(whisker).collect()
}

/// Markers on points that are alone, and on some or all of the others.
fn markers(i: usize, runs: &[Run], chart: &LineChart, left: f64) -> String {
    // Series that run close together have theirs at different places.
    let shift = (i % 4) as f64 / chart.series.len().clamp(1, 4) as f64;
    let mut next = left + shift * SPACING;
    let (room, several) = if chart.series.len() > 1 { (SPACING * 0.75, true) } else { (NARROW, false) };
    let mut markers = String::new();
    for run in runs {
        let sparse = run.windows(2).all(|pair| (pair[1].x - pair[0].x).abs() >= room);
        for spot in run {
            if sparse || several && spot.x >= next {
                markers.push_str(&style::marker(i, spot.x, spot.y));
                next = spot.x + SPACING;
            }
        }
    }
    markers
}

fn joined(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (i, (x, y)) in places.enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        // Writing to a string does not fail.
        let _ = write!(d, "{command}{} {}", Num(x), Num(y));
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(x: f64, y: f64) -> Spot {
        Spot { x, y, interval: Some((y - 1.0, y + 1.0)) }
    }

    #[test]
    fn thinning_keeps_extremes_and_ends() {
        let mut run: Run = (0..100_000).map(|i| spot(f64::from(i) / 250.0, f64::from(i % 7))).collect();
        run[50_321].y = -500.0;
        run[70_321].y = 900.0;
        run[80_321].interval = Some((-777.0, 3.0));
        let thinned = thinned(&run);
        assert!(thinned.len() < 3300, "{}", thinned.len());
        assert!(thinned.iter().any(|spot| spot.y == -500.0) && thinned.iter().any(|spot| spot.y == 900.0));
        assert!(thinned.iter().any(|spot| spot.interval.is_some_and(|(top, _)| top == -777.0)));
        assert_eq!((thinned[0].x, thinned[thinned.len() - 1].x), (run[0].x, run[99_999].x));
        assert!(thinned.is_sorted_by(|one, other| one.x <= other.x));
    }

    #[test]
    fn one_interval_has_whiskers_and_several_have_an_area() {
        let alone = [spot(10.0, 20.0)];
        assert_eq!(whiskers(&alone), "M10 19V21M6 19h8M6 21h8");
        assert_eq!((bands(&alone), path(&alone)), (String::new(), String::new()));
        let pair = [spot(10.0, 20.0), spot(30.0, 25.0)];
        assert_eq!(whiskers(&pair), "");
        assert_eq!(bands(&pair), "M10 19L30 24L30 26L10 21z");
        assert_eq!(path(&pair), "M10 20L30 25");
    }
}
