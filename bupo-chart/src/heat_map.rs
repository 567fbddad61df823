//! The input of a heat map.

/// Values over a grid, such as layer by token. Row 0 is at the bottom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatMap {
    /// The title above the grid; may be empty.
    pub title: String,
    /// The label of the x axis.
    pub x_label: String,
    /// The label of the y axis.
    pub y_label: String,
    /// The label of the colour bar: the quantity and its unit.
    pub value_label: String,
    /// A name for each column. Names that do not fit are left out.
    pub columns: Vec<String>,
    /// A name for each row, from the bottom. Names that do not fit are left out.
    pub rows: Vec<String>,
    /// `values[row][column]`. Rows may differ in length; absent and non-finite values are drawn as missing.
    pub values: Vec<Vec<f64>>,
    /// The values of the first and the last colour. `None`: the least and the greatest value.
    pub range: Option<(f64, f64)>,
    /// The colour scale.
    pub scale: ColourScale,
}

/// The most columns of a narrow map.
const NARROW: usize = 24;

impl HeatMap {
    /// Whether the map has so few columns that it is drawn as narrow as a line chart.
    pub fn is_narrow(&self) -> bool {
        self.values.iter().map(Vec::len).chain([self.columns.len()]).max().unwrap_or(0) <= NARROW
    }
}

/// How values map to colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourScale {
    /// From dark blue to light yellow.
    #[default]
    Sequential,
    /// Blue below zero, near-white at zero, orange above. The range is made symmetric around zero.
    Diverging,
}
