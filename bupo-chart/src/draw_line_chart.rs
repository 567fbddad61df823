//! Draws line charts.

use crate::canvas::{Canvas, Label};
use crate::hover::HoverData;
use crate::line_chart::{LineChart, Point, Series, YScale};
use crate::picture::Picture;
use crate::text;
use layout::Layout;

mod annotations;
mod curves;
mod layout;

/// Draws the chart; the ids in the picture begin with `id`.
pub(crate) fn draw(chart: &LineChart, id: &str) -> Picture {
    let layout = Layout::new(chart);
    let mut canvas = Canvas::default();
    layout.draw_title(&mut canvas);
    layout.annotations.draw_shades(&mut canvas, layout.plot);
    layout.draw_grid(&mut canvas);
    layout.annotations.draw_marks(&mut canvas, layout.plot);
    curves::draw(&mut canvas, &layout, &format!("{id}-plot"));
    layout.annotations.draw_labels(&mut canvas, layout.plot);
    layout.draw_axes(&mut canvas);
    if layout.is_empty {
        canvas.text(&Label::middle("no data", "chart-soft", layout.data.centre(), 12.0));
    }
    layout.draw_legend(&mut canvas);
    Picture {
        width: layout.width,
        height: layout.height,
        body: canvas.into_string(),
        description: description(chart),
        plot: layout.data,
        data: HoverData::Line {
            x: (layout.x.lo, layout.x.hi),
            y: (layout.y.lo, layout.y.hi),
            y_scale: chart.y_scale,
            series: chart.series.iter().map(|series| drawn(series, chart.y_scale)).collect(),
        },
    }
}

/// The series with only the points, marked zeros and intervals that are drawn.
fn drawn(series: &Series, scale: YScale) -> Series {
    let shown = |point: &&Point| point.is_drawable(scale) || point.is_marked_zero(scale);
    let points = series.points.iter().filter(shown);
    let points = points.map(|point| Point { interval: point.drawable_interval(), ..*point }).collect();
    Series { name: text::clean(&series.name), points }
}

fn description(chart: &LineChart) -> String {
    let names: Vec<_> = chart.series.iter().take(40).map(|series| series.name.as_str()).collect();
    format!("Line chart of {} over {}: {}", chart.y_label, chart.x_label, names.join(", "))
}
