//! The cells of a heat map.

use std::fmt::Write;

use crate::canvas::Canvas;
use crate::heat_map::{ColourScale, HeatMap};
use crate::rect::Rect;
use crate::{axis, colour};

/// The cells, grouped by colour.
pub(super) struct Grid {
    pub rows: usize,
    pub columns: usize,
    /// The values of the first and the last colour.
    pub range: (f64, f64),
    pub has_missing: bool,
    scale: ColourScale,
    /// The data of one path per colour level, then of one path for the missing cells, in units of cells.
    paths: Vec<String>,
}

/// The index of the missing cells in [`Grid::paths`].
const MISSING: usize = colour::LEVELS;

impl Grid {
    pub fn new(map: &HeatMap, range: (f64, f64)) -> Self {
        let rows = map.values.len().max(map.rows.len());
        let columns = map.values.iter().map(Vec::len).max().unwrap_or(0).max(map.columns.len());
        let mut paths = vec![String::new(); MISSING + 1];
        for row in 0..rows {
            let values = map.values.get(row).map_or(&[][..], Vec::as_slice);
            let level = |column: usize| match values.get(column).and_then(|value| axis::drawable(*value, false)) {
                Some(value) => colour::level(value, range),
                None => MISSING,
            };
            let mut start = 0;
            while start < columns {
                let run_level = level(start);
                let end = (start..columns).find(|column| level(*column) != run_level).unwrap_or(columns);
                let (y, width) = (rows - 1 - row, end - start);
                // Writing to a String cannot fail.
                let _ = write!(paths[run_level], "M{start} {y}h{width}v1h-{width}z");
                start = end;
            }
        }
        Self { rows, columns, range, has_missing: !paths[MISSING].is_empty(), scale: map.scale, paths }
    }

    pub fn draw(&self, canvas: &mut Canvas, plot: Rect, hatch: &str) {
        if self.rows * self.columns == 0 {
            return;
        }
        let (width, height) = (plot.width / self.columns as f64, plot.height / self.rows as f64);
        // One unscaled rectangle below the other cells: inside the scaled group the hatching would be scaled too.
        if self.has_missing {
            draw_missing(canvas, plot, hatch);
        }
        let (x, y) = (plot.x, plot.y);
        canvas.raw(&format!(
            "<g {} transform=\"translate({x} {y}) scale({width} {height})\">",
            colour::group(self.scale)
        ));
        for (level, d) in self.paths[..MISSING].iter().enumerate() {
            canvas.path(&format!("fill=\"{}\"", colour::of_level(level, self.scale)), d);
        }
        canvas.raw("</g>");
    }
}

/// Writes the hatching pattern of missing cells.
pub(super) fn define_hatch(canvas: &mut Canvas, id: &str) {
    canvas.raw(&format!(
        "<pattern id=\"{id}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
         <rect class=\"chart-missing\" width=\"6\" height=\"6\"/>\
         <path class=\"chart-hatch\" d=\"M-1 1L1 -1M0 6L6 0M5 7L7 5\"/></pattern>"
    ));
}

/// Draws a rectangle with the pattern of missing cells.
pub(super) fn draw_missing(canvas: &mut Canvas, rect: Rect, hatch: &str) {
    canvas.rect(&format!("fill=\"url(#{hatch})\""), rect);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_one_colour_share_a_path() {
        let values = vec![vec![0.0, 0.0, 1.0], vec![1.0, f64::NAN]];
        let grid = Grid::new(&HeatMap { values, ..HeatMap::default() }, (0.0, 1.0));
        assert_eq!((grid.rows, grid.columns, grid.has_missing), (2, 3, true));
        assert_eq!(grid.paths[0], "M0 1h2v1h-2z", "row 0 is at the bottom");
        assert_eq!(grid.paths[colour::LEVELS - 1], "M2 1h1v1h-1zM0 0h1v1h-1z");
        assert_eq!(grid.paths[MISSING], "M1 0h2v1h-2z");
    }
}
