//! The style sheet, and the dash patterns and markers that distinguish series besides their colours.

use crate::canvas::Num;

/// The style sheet for a page with [`inline_svg`](crate::Chart::inline_svg) charts.
///
/// Colours are custom properties `--chart-...` of the root element. The dark colours apply if the browser prefers dark
/// or the root element has `data-theme="dark"`; `data-theme="light"` and printing give the light colours.
pub const PAGE_CSS: &str = concat!(include_str!("colours.css"), include_str!("rules.css"));

const RULES: &str = include_str!("rules.css");

/// The number of colours and the number of markers; series `i` has colour and marker `i % COUNT`.
const COUNT: usize = 8;

/// The values of `stroke-dasharray`; empty for a solid line. Series with the same colour and marker have different
/// patterns, up to `COUNT * DASHES.len()` = 40 series.
const DASHES: [&str; 5] = ["", "7 3", "2 2.5", "9 3 2 3", "5 2 1.5 2 1.5 2"];

/// The corners of the markers after the first, which is a circle.
const MARKERS: [&[(f64, f64)]; COUNT - 1] = [
    &[(-2.7, -2.7), (2.7, -2.7), (2.7, 2.7), (-2.7, 2.7)],
    &[(0.0, -3.7), (3.5, 2.6), (-3.5, 2.6)],
    &[(0.0, -4.0), (4.0, 0.0), (0.0, 4.0), (-4.0, 0.0)],
    &[(0.0, 3.7), (3.5, -2.6), (-3.5, -2.6)],
    &[
        (-1.2, -3.8),
        (1.2, -3.8),
        (1.2, -1.2),
        (3.8, -1.2),
        (3.8, 1.2),
        (1.2, 1.2),
        (1.2, 3.8),
        (-1.2, 3.8),
        (-1.2, 1.2),
        (-3.8, 1.2),
        (-3.8, -1.2),
        (-1.2, -1.2),
    ],
    &[(-3.7, -3.0), (3.7, 3.0), (3.7, -3.0), (-3.7, 3.0)],
    &[(-1.6, -4.2), (1.6, -4.2), (1.6, 4.2), (-1.6, 4.2)],
];

/// The rules with the light colours in place of the custom properties, for SVG files.
pub(crate) fn light() -> String {
    let root = PAGE_CSS.split_once('}').map_or("", |(root, _)| root);
    let colours = root.split([';', '{']).filter_map(|line| line.split_once(": "));
    colours
        .fold(RULES.to_owned(), |rules, (name, colour)| rules.replace(&format!("var({})", name.trim()), colour.trim()))
}

/// The class of a series, by its index.
pub(crate) fn class(series: usize) -> String {
    format!("chart-s{}", series % COUNT)
}

/// The attributes of a series' line.
pub(crate) fn stroke(series: usize) -> String {
    match dash(series) {
        "" => "class=\"chart-line\"".into(),
        dash => format!("class=\"chart-line\" stroke-dasharray=\"{dash}\""),
    }
}

/// The path data of a series' marker around a point.
pub(crate) fn marker(series: usize, x: f64, y: f64) -> String {
    match (series % COUNT).checked_sub(1) {
        None => format!("M{} {}a3 3 0 1 0 6 0a3 3 0 1 0-6 0z", Num(x - 3.0), Num(y)),
        Some(index) => {
            let corners = MARKERS[index].iter().map(|(dx, dy)| format!("{} {}", Num(x + dx), Num(y + dy)));
            format!("M{}z", corners.collect::<Vec<_>>().join("L"))
        }
    }
}

fn dash(series: usize) -> &'static str {
    DASHES[(series + series / COUNT) % DASHES.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    type Colours<'a> = BTreeMap<&'a str, &'a str>;

    /// The custom properties of each block: light, dark by `data-theme`, dark by the browser's preference.
    fn blocks() -> Vec<Colours<'static>> {
        let blocks = PAGE_CSS.split('{').map(|block| {
            let block = block.split('}').next().unwrap_or_default();
            block.split(';').filter_map(|line| line.trim().split_once(": ")).filter(|(name, _)| name.starts_with("--"))
        });
        blocks.map(Iterator::collect).filter(|colours: &Colours| !colours.is_empty()).collect()
    }

    /// The relative luminance of WCAG 2.
    fn luminance(colour: &str) -> f64 {
        let part = |at| f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        let linear = |c: f64| if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
        0.2126 * linear(part(1)) + 0.7152 * linear(part(3)) + 0.0722 * linear(part(5))
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn contrast_agrees_with_wcag() {
        assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
        assert!((contrast("#777777", "#ffffff") - 4.478).abs() < 1e-3);
    }

    #[test]
    fn text_and_series_contrast_with_all_backgrounds() {
        let blocks = blocks();
        assert_eq!(blocks.len(), 3);
        for colours in &blocks {
            let backgrounds = ["paper", "shade-0", "shade-1", "shade-2", "band"];
            for background in backgrounds.map(|name| colours[format!("--chart-{name}").as_str()]) {
                for text in ["--chart-ink", "--chart-soft"] {
                    assert!(contrast(colours[text], background) >= 4.5, "{text} on {background}");
                }
                for (name, colour) in colours {
                    if name.starts_with("--chart-s") && name.len() == "--chart-s0".len() || *name == "--chart-axis" {
                        assert!(
                            contrast(colour, background) >= 3.0,
                            "{name} on {background}: {}",
                            contrast(colour, background)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_theme_has_every_colour() {
        let [light, by_attribute, by_preference] = blocks().try_into().unwrap();
        assert_eq!(by_attribute, by_preference);
        assert!(light.keys().eq(by_attribute.keys()));
        for name in RULES.split("var(").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            assert!(light.contains_key(name), "{name}");
        }
        for series in 0..COUNT {
            assert!(RULES.contains(&format!(".{} {{", class(series))));
        }
    }

    #[test]
    fn svg_files_have_no_custom_properties() {
        assert!(!light().contains("var(") && light().contains(".chart-s0 { color: #0068a8; }"));
    }

    #[test]
    fn forty_series_differ_without_colour() {
        let styles: BTreeSet<_> = (0..40).map(|series| (dash(series), marker(series, 0.0, 0.0))).collect();
        assert_eq!(styles.len(), 40);
    }
}
