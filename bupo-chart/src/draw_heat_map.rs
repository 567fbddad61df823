//! Draws heat maps.

use crate::axis;
use crate::canvas::{Canvas, Label};
use crate::heat_map::{ColourScale, HeatMap};
use crate::hover::HoverData;
use crate::picture::Picture;
use grid::Grid;
use layout::Layout;

mod axis_labels;
mod colour_bar;
mod grid;
mod layout;
mod sizes;

/// Draws the heat map; the ids in the picture begin with `id`.
pub(crate) fn draw(map: &HeatMap, id: &str) -> Picture {
    let grid = Grid::new(map, range(map));
    let layout = Layout::new(map, &grid);
    let mut canvas = Canvas::default();
    let hatch = format!("{id}-missing");
    layout.draw_title(&mut canvas);
    if grid.has_missing {
        grid::define_hatch(&mut canvas, &hatch);
    }
    grid.draw(&mut canvas, layout.plot, &hatch);
    canvas.rect("class=\"chart-axis\"", layout.plot);
    if grid.rows * grid.columns == 0 {
        canvas.text(&Label::middle("no data", "chart-soft", layout.plot.centre(), 13.0));
    }
    layout.draw_labels(&mut canvas);
    layout.colour_bar.draw(&mut canvas, map, grid.has_missing.then_some(hatch.as_str()));
    Picture {
        width: layout.width,
        height: layout.height,
        body: canvas.into_string(),
        description: description(map, &grid),
        plot: layout.plot,
        data: HoverData::Heat { rows: grid.rows, columns: grid.columns },
    }
}

/// The values of the first and the last colour.
fn range(map: &HeatMap) -> (f64, f64) {
    let given =
        map.range.filter(|(lo, hi)| axis::drawable(*lo, false).is_some() && axis::drawable(*hi, false).is_some());
    let of_values = || axis::extent(map.values.iter().flatten().copied(), false);
    let (lo, hi) = given.map(|(one, other)| (one.min(other), one.max(other))).or_else(of_values).unwrap_or((0.0, 1.0));
    match map.scale {
        ColourScale::Sequential => axis::widen((lo, hi), false),
        ColourScale::Diverging => {
            let end = lo.abs().max(hi.abs());
            axis::widen((-end, end), false)
        }
    }
}

fn description(map: &HeatMap, grid: &Grid) -> String {
    let (rows, columns) = (grid.rows, grid.columns);
    format!("Heat map of {}: {rows} by {columns}, {} over {}", map.value_label, map.y_label, map.x_label)
}
