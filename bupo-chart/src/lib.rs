//! Line charts and heat maps of a model's internal policies, as SVG for a page, as SVG files and as PNG files.
//!
//! [`LineChart`] and [`HeatMap`] are the input; [`Chart`] draws them. Any input can be drawn: non-finite values are gaps,
//! text is cleaned and shortened. The same input gives the same bytes.
//!
//! The SVG is written here and not by a plotting library such as `plotters`, because it is styled by the page's classes
//! (light and dark theme), carries positions for the page's hover text, and must not depend on system fonts: `plotters`
//! writes fixed colours into each element and by default measures text with system fonts.
//!
//! ```
//! use bupo_chart::{Chart, LineChart, Point, Series, Shade};
//!
//! let entropy = (1..=36).map(|layer| {
//!     let y = 11.9 - f64::from(layer) * 0.3;
//!     Point { x: f64::from(layer), y, interval: Some((y - 0.2, y + 0.2)) }
//! });
//! let chart = Chart::from(LineChart {
//!     title: "Entropy of the internal policies".into(),
//!     x_label: "layer".into(),
//!     y_label: "entropy (nats)".into(),
//!     series: vec![Series { name: "Qwen3-4B".into(), points: entropy.collect() }],
//!     shades: vec![Shade { from: 0.5, to: 6.5, label: "explore".into() }],
//!     ..LineChart::default()
//! });
//!
//! let page = format!("<style>{}</style>{}", bupo_chart::PAGE_CSS, chart.inline_svg("entropy"));
//! let (svg, png) = (chart.svg(), chart.png()?);
//! # assert!(page.contains("nats") && svg.starts_with("<svg") && png.starts_with(b"\x89PNG"));
//! # Ok::<(), bupo_chart::ChartError>(())
//! ```

mod axis;
mod canvas;
mod chart;
mod colour;
mod draw_heat_map;
mod draw_line_chart;
mod error;
mod heat_map;
mod hover;
mod legend;
mod line_chart;
mod picture;
mod png;
mod rect;
mod style;
mod text;

pub use chart::Chart;
pub use error::ChartError;
pub use heat_map::{ColourScale, HeatMap};
pub use hover::{Hover, HoverData};
pub use line_chart::{LineChart, Mark, Point, Series, Shade, YScale};
pub use rect::Rect;
pub use style::PAGE_CSS;
