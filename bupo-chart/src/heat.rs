//! Heat maps.

use crate::canvas::{Canvas, Label};
use crate::chart::Picture;
use crate::{HoverData, axis};
use grid::Grid;
use layout::Layout;

mod bar;
mod grid;
mod labels;
mod layout;

/// Values over a grid, such as layer by token. Row 0 is at the bottom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatMap {
    /// Above the grid; may be empty.
    pub title: String,
    /// What the columns are.
    pub x_label: String,
    /// What the rows are.
    pub y_label: String,
    /// What the colours say, with its unit.
    pub value_label: String,
    /// A name for each column; those without room are left out.
    pub columns: Vec<String>,
    /// A name for each row, from the bottom.
    pub rows: Vec<String>,
    /// By row, then by column. What is not finite or not there is shown as missing.
    pub values: Vec<Vec<f64>>,
    /// The values of the first and the last colour; otherwise those of the least and the greatest value.
    pub range: Option<(f64, f64)>,
    /// Which colours.
    pub scale: ColourScale,
}

/// The colours of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourScale {
    /// From dark blue to light yellow.
    #[default]
    Sequential,
    /// Blue below zero, white at zero, orange above; its range reaches as far to both sides.
    Diverging,
}

pub(crate) fn draw(map: &HeatMap, id: &str) -> Picture {
    let grid = Grid::new(map, range(map));
    let layout = Layout::new(map, &grid);
    let mut canvas = Canvas::default();
    let hatch = format!("{id}-missing");
    layout.draw_title(&mut canvas);
    if grid.has_missing {
        grid::draw_hatch(&mut canvas, &hatch);
    }
    grid.draw(&mut canvas, layout.plot, &hatch);
    canvas.rect("class=\"chart-axis\"", layout.plot);
    if grid.rows * grid.columns == 0 {
        canvas.text(&Label::middle("no data", "chart-soft", layout.plot.centre(), 13.0));
    }
    layout.draw_labels(&mut canvas);
    bar::draw(&mut canvas, map, &layout, grid.has_missing.then_some(hatch.as_str()));
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
