//! A chart of any kind, drawn as SVG or PNG.

use crate::canvas::{attribute, identifier};
use crate::error::ChartError;
use crate::heat_map::HeatMap;
use crate::hover::Hover;
use crate::line_chart::LineChart;
use crate::picture::Picture;
use crate::{draw_heat_map, draw_line_chart, png, style, text};

/// A chart of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Chart {
    /// Lines over a common x axis.
    Line(LineChart),
    /// Values over a grid, as colours.
    Heat(HeatMap),
}

impl Chart {
    /// The title, unchanged.
    pub fn title(&self) -> &str {
        match self {
            Self::Line(chart) => &chart.title,
            Self::Heat(map) => &map.title,
        }
    }

    /// An `<svg>` element for an HTML page with the style sheet [`PAGE_CSS`](crate::PAGE_CSS). Colours are set by classes,
    /// except those of heat map cells. Ids in the element begin with `id`, which must be unique in the page.
    ///
    /// The title is an `aria-label`; there is no `<title>`, which browsers would show as a tooltip over the hover text.
    pub fn inline_svg(&self, id: &str) -> String {
        self.element(&self.draw(&identifier(id)), "width=\"100%\"", "")
    }

    /// Whether the chart takes the width of two others: a heat map of many columns.
    pub fn is_wide(&self) -> bool {
        matches!(self, Self::Heat(map) if !map.is_narrow())
    }

    /// The text of an SVG file: light colours on white; 85 mm wide, a wide heat map 170 mm.
    pub fn svg(&self) -> String {
        let picture = self.draw("chart");
        let width = if self.is_wide() { 170.0 } else { 85.0 };
        let height = width * picture.height / picture.width;
        let size = format!("xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}mm\" height=\"{height:.2}mm\"");
        let title = attribute(self.title());
        let style = style::light();
        let background = "<rect class=\"chart-paper\" width=\"100%\" height=\"100%\"/>";
        self.element(&picture, &size, &format!("<title>{title}</title><style>{style}</style>{background}"))
    }

    /// The bytes of a PNG file of [`Chart::svg`], 2008 pixels wide: 600 dots per inch, 300 for a wide heat map.
    ///
    /// # Errors
    /// If the SVG cannot be parsed or rendered.
    pub fn png(&self) -> Result<Vec<u8>, ChartError> {
        png::render(&self.svg()).map_err(|reason| ChartError::Render { title: text::clean(self.title()), reason })
    }

    /// The position of the data in [`Chart::inline_svg`].
    pub fn hover(&self) -> Hover {
        let Picture { width, height, plot, data, .. } = self.draw("chart");
        Hover { width, height, plot, data }
    }

    fn draw(&self, id: &str) -> Picture {
        match self {
            Self::Line(chart) => draw_line_chart::draw(chart, id),
            Self::Heat(map) => draw_heat_map::draw(map, id),
        }
    }

    fn element(&self, picture: &Picture, size: &str, head: &str) -> String {
        let Picture { width, height, body, .. } = picture;
        let name = match attribute(self.title()) {
            title if title.trim().is_empty() => "Chart".into(),
            title => title,
        };
        let description = attribute(&picture.description);
        format!(
            "<svg class=\"chart\" {size} viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{name}\">{head}\
             <desc>{description}</desc>{body}</svg>"
        )
    }
}

impl From<LineChart> for Chart {
    fn from(chart: LineChart) -> Self {
        Self::Line(chart)
    }
}

impl From<HeatMap> for Chart {
    fn from(map: HeatMap) -> Self {
        Self::Heat(map)
    }
}
