//! The lines, markers and intervals of series.

use std::fmt::Write;

use super::layout::Layout;
use crate::canvas::{Canvas, Num};
use crate::line_chart::{LineChart, Point, Series};
use crate::rect::Rect;
use crate::style;

/// A point in units of the viewBox.
#[derive(Clone, Copy)]
struct Spot {
    x: f64,
    y: f64,
    /// The y coordinates of the upper and the lower end.
    interval: Option<(f64, f64)>,
}

/// Consecutive points that are joined by a line.
type Run = Vec<Spot>;

/// A series with more points than this is thinned.
const MAX_POINTS: usize = 2000;
/// Thinning keeps the ends and the extremes of each interval of x of this width, about two pixels of a PNG.
const BIN: f64 = 0.5;
/// The least distance between the markers of a series, unless all points have one.
const MARKER_SPACING: f64 = 24.0;
/// If there is only one series, all its points have markers when they are at least this far apart.
const SINGLE_SERIES_SPACING: f64 = 8.0;
/// How far lines and markers at the edge may extend beyond the plot.
const OVERHANG: f64 = 4.5;

/// Draws the series, clipped to the plot; `clip` is the id of the clip path.
pub(super) fn draw(canvas: &mut Canvas, layout: &Layout, clip: &str) {
    let series: Vec<(usize, Vec<Run>)> =
        layout.chart.series.iter().map(|series| runs(series, layout)).enumerate().collect();
    let data = layout.data;
    let clip_rect = Rect {
        x: data.x - OVERHANG,
        y: data.y - OVERHANG,
        width: data.width + 2.0 * OVERHANG,
        height: data.height + 2.0 * OVERHANG,
    };
    canvas.raw(&format!("<clipPath id=\"{clip}\">"));
    canvas.rect("", clip_rect);
    canvas.raw(&format!("</clipPath><g clip-path=\"url(#{clip})\">"));
    // All intervals first, so that they are below all lines.
    for (i, runs) in &series {
        let class = format!("class=\"chart-interval {}\"", style::class(*i));
        canvas.path(&class, &runs.iter().map(|run| bands(run)).collect::<String>());
    }
    for (i, runs) in &series {
        canvas.raw(&format!("<g class=\"{}\">", style::class(*i)));
        canvas.path("class=\"chart-line\"", &runs.iter().map(|run| whiskers(run)).collect::<String>());
        canvas.path(&style::stroke(*i), &runs.iter().map(|run| path(run)).collect::<String>());
        canvas.path("class=\"chart-dot\"", &markers(*i, runs, layout.chart, data.x));
        canvas.path("class=\"chart-open\"", &zeros(&layout.chart.series[*i], layout));
        canvas.raw("</g>");
    }
    canvas.raw("</g>");
}

/// The points in units of the viewBox, split where a point cannot be drawn.
fn runs(series: &Series, layout: &Layout) -> Vec<Run> {
    let parts = series.points.split(|point| !point.is_drawable(layout.chart.y_scale)).filter(|part| !part.is_empty());
    let spots = parts.map(|part| {
        let spot = |point: &Point| Spot {
            x: layout.x.at(point.x),
            y: layout.y.at(point.y),
            interval: point.drawable_interval().map(|(lo, hi)| (layout.y.at(hi), layout.y.at(lo))),
        };
        part.iter().map(spot).collect()
    });
    let thin = |run: Run| if series.points.len() > MAX_POINTS { thinned(&run) } else { run };
    spots.map(thin).collect()
}

/// Of the points in each interval of x of width [`BIN`], the first, the last, the lowest and the highest, each with the
/// union of the intervals: at the resolution of the picture this looks like all points.
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

/// The areas between the ends of consecutive intervals.
fn bands(run: &[Spot]) -> String {
    let with_intervals = run.split(|spot| spot.interval.is_none()).filter(|part| part.len() > 1);
    let area = |part: &[Spot]| {
        let top = part.iter().filter_map(|spot| Some((spot.x, spot.interval?.0)));
        let bottom = part.iter().rev().filter_map(|spot| Some((spot.x, spot.interval?.1)));
        joined(top.chain(bottom)) + "z"
    };
    with_intervals.map(area).collect()
}

/// The intervals of points whose neighbours have none.
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

/// Markers on all points of a run whose points are far enough apart; otherwise on some of them if there are several
/// series, and on none if there is one. `left` is the left edge of the plot.
fn markers(i: usize, runs: &[Run], chart: &LineChart, left: f64) -> String {
    // Shifted from series to series, so that the markers of overlapping lines do not coincide.
    let shift = (i % 4) as f64 / chart.series.len().clamp(1, 4) as f64;
    let mut next = left + shift * MARKER_SPACING;
    let (min_spacing, several) =
        if chart.series.len() > 1 { (MARKER_SPACING * 0.75, true) } else { (SINGLE_SERIES_SPACING, false) };
    let mut markers = String::new();
    for run in runs {
        let sparse = run.windows(2).all(|pair| (pair[1].x - pair[0].x).abs() >= min_spacing);
        for spot in run {
            if sparse || several && spot.x >= next {
                markers.push_str(&style::marker(i, spot.x, spot.y));
                next = spot.x + MARKER_SPACING;
            }
        }
    }
    markers
}

/// Triangles at the bottom of a log scale, one for each zero, as far apart as markers are.
fn zeros(series: &Series, layout: &Layout) -> String {
    let bottom = layout.data.bottom();
    let mut next = f64::NEG_INFINITY;
    let mut triangles = String::new();
    for point in series.points.iter().filter(|point| point.is_marked_zero(layout.chart.y_scale)) {
        let x = layout.x.at(point.x);
        if x >= next {
            let (left, right, top) = (Num(x - 3.5), Num(x + 3.5), Num(bottom - 6.0));
            triangles.push_str(&format!("M{left} {top}L{right} {top}L{} {}z", Num(x), Num(bottom)));
            next = x + SINGLE_SERIES_SPACING;
        }
    }
    triangles
}

/// A path through the points.
fn joined(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (i, (x, y)) in places.enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        // Writing to a String cannot fail.
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
