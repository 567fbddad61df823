//! Line charts and heat maps of a model's internal policies, as SVG for a page, as SVG files and as PNG files.
//!
//! A [`LineChart`] or a [`HeatMap`] says what to show; [`Chart`] draws it. Any input is drawn: what is not finite is a
//! gap, text is cleaned and shortened, and the same input gives the same bytes.
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
mod error;
mod heat;
mod hover;
mod legend;
mod line;
mod png;
mod style;
mod text;

pub use chart::Chart;
pub use error::ChartError;
pub use heat::{ColourScale, HeatMap};
pub use hover::{Hover, HoverData, Rect};
pub use line::{LineChart, Mark, Point, Series, Shade, YScale};
pub use style::PAGE_CSS;
