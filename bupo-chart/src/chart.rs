//! A chart and its pictures.

use crate::canvas::{attribute, identifier};
use crate::{ChartError, HeatMap, Hover, HoverData, LineChart, Rect, heat, line, png, style, text};

/// A chart that can be drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Chart {
    /// Lines over a shared number.
    Line(LineChart),
    /// Colours over a grid.
    Heat(HeatMap),
}

/// A chart as it was drawn.
pub(crate) struct Picture {
    pub width: f64,
    pub height: f64,
    /// The elements.
    pub body: String,
    /// What the picture shows, for readers who do not see it.
    pub description: String,
    pub plot: Rect,
    pub data: HoverData,
}

impl Chart {
    /// The title as it was given.
    pub fn title(&self) -> &str {
        match self {
            Self::Line(chart) => &chart.title,
            Self::Heat(map) => &map.title,
        }
    }

    /// An `<svg>` element for an HTML page that has [`PAGE_CSS`](crate::PAGE_CSS). Its colours are classes, but for
    /// those of a heat map's cells; the ids inside it begin with `id`, so that many can share a page.
    ///
    /// It is named by an `aria-label` and has no `<title>`, which browsers would show as a tooltip over the hover text.
    pub fn inline_svg(&self, id: &str) -> String {
        self.element(&self.draw(&identifier(id)), "width=\"100%\"", "")
    }

    /// The text of an SVG file: light colours on white, 85 mm wide for lines and 170 mm for a heat map.
    pub fn svg(&self) -> String {
        let picture = self.draw("chart");
        let width = match self {
            Self::Line(_) => 85.0,
            Self::Heat(_) => 170.0,
        };
        let height = width * picture.height / picture.width;
        let size = format!("xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}mm\" height=\"{height:.2}mm\"");
        let title = attribute(self.title());
        let style = style::light();
        let ground = "<rect class=\"chart-paper\" width=\"100%\" height=\"100%\"/>";
        self.element(&picture, &size, &format!("<title>{title}</title><style>{style}</style>{ground}"))
    }

    /// The bytes of a PNG file of [`Chart::svg`], about 2000 pixels wide: 600 dots per inch for lines, 300 for a heat
    /// map.
    ///
    /// # Errors
    /// If the renderer refuses the chart.
    pub fn png(&self) -> Result<Vec<u8>, ChartError> {
        png::render(&self.svg()).map_err(|reason| ChartError::Render { title: text::clean(self.title()), reason })
    }

    /// Where the data lie in [`Chart::inline_svg`].
    pub fn hover(&self) -> Hover {
        let Picture { width, height, plot, data, .. } = self.draw("chart");
        Hover { width, height, plot, data }
    }

    fn draw(&self, id: &str) -> Picture {
        match self {
            Self::Line(chart) => line::draw(chart, id),
            Self::Heat(map) => heat::draw(map, id),
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
