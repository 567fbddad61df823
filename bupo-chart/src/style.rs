//! How things look: the style sheet, and what tells series apart besides colour.

use crate::canvas::Num;

/// The style sheet for a page with [`inline_svg`](crate::Chart::inline_svg) charts.
///
/// Colours are custom properties named `--chart-...` of the root: light ones, dark ones where the reader prefers them,
/// and either one by `data-theme="light"` or `data-theme="dark"` on the root. Print is light.
pub const PAGE_CSS: &str = concat!(include_str!("colours.css"), include_str!("rules.css"));

const RULES: &str = include_str!("rules.css");

/// How many colours and how many markers series have.
const KINDS: usize = 8;

/// Lengths drawn and left out. Two series of one marker and colour are a multiple of [`KINDS`] apart, which is not one
/// of the number of dash patterns.
const DASHES: [&str; 5] = ["", "7 3", "2 2.5", "9 3 2 3", "5 2 1.5 2 1.5 2"];

/// Corners of the markers after the round one.
const MARKERS: [&[(f64, f64)]; KINDS - 1] = [
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

/// The rules with the light colours in place of the custom properties, for files on their own.
pub(crate) fn light() -> String {
    let root = PAGE_CSS.split_once('}').map_or("", |(root, _)| root);
    let colours = root.split([';', '{']).filter_map(|line| line.split_once(": "));
    colours
        .fold(RULES.to_owned(), |rules, (name, colour)| rules.replace(&format!("var({})", name.trim()), colour.trim()))
}

/// The class of a series.
pub(crate) fn class(series: usize) -> String {
    format!("chart-s{}", series % KINDS)
}

/// The attributes of a series' line.
pub(crate) fn stroke(series: usize) -> String {
    match dash(series) {
        "" => "class=\"chart-line\"".into(),
        dash => format!("class=\"chart-line\" stroke-dasharray=\"{dash}\""),
    }
}

/// The path of a series' marker around a place.
pub(crate) fn marker(series: usize, x: f64, y: f64) -> String {
    match (series % KINDS).checked_sub(1) {
        None => format!("M{} {}a3 3 0 1 0 6 0a3 3 0 1 0-6 0z", Num(x - 3.0), Num(y)),
        Some(kind) => {
            let corners = MARKERS[kind].iter().map(|(dx, dy)| format!("{} {}", Num(x + dx), Num(y + dy)));
            format!("M{}z", corners.collect::<Vec<_>>().join("L"))
        }
    }
}

fn dash(series: usize) -> &'static str {
    DASHES[(series + series / KINDS) % DASHES.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    type Colours<'a> = BTreeMap<&'a str, &'a str>;

    /// The custom properties of each block that has some: light, dark by choice, dark by preference.
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
    fn contrast_is_that_of_wcag() {
        assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
        assert!((contrast("#777777", "#ffffff") - 4.478).abs() < 1e-3);
    }

    #[test]
    fn text_and_series_stand_out_from_what_they_lie_on() {
        let blocks = blocks();
        assert_eq!(blocks.len(), 3);
        for colours in &blocks {
            let grounds = ["paper", "shade-0", "shade-1", "shade-2", "band"];
            for ground in grounds.map(|name| colours[format!("--chart-{name}").as_str()]) {
                for text in ["--chart-ink", "--chart-soft"] {
                    assert!(contrast(colours[text], ground) >= 4.5, "{text} on {ground}");
                }
                for (name, colour) in colours {
                    if name.starts_with("--chart-s") && name.len() == "--chart-s0".len() || *name == "--chart-axis" {
                        assert!(contrast(colour, ground) >= 3.0, "{name} on {ground}: {}", contrast(colour, ground));
                    }
                }
            }
        }
    }

    #[test]
    fn every_theme_has_every_colour() {
        let [light, chosen, preferred] = blocks().try_into().unwrap();
        assert_eq!(chosen, preferred);
        assert!(light.keys().eq(chosen.keys()));
        for name in RULES.split("var(").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            assert!(light.contains_key(name), "{name}");
        }
        for series in 0..KINDS {
            assert!(RULES.contains(&format!(".{} {{", class(series))));
        }
    }

    #[test]
    fn files_on_their_own_have_plain_colours() {
        assert!(!light().contains("var(") && light().contains(".chart-s0 { color: #0068a8; }"));
    }

    #[test]
    fn forty_series_differ_without_colour() {
        let looks: BTreeSet<_> = (0..40).map(|series| (dash(series), marker(series, 0.0, 0.0))).collect();
        assert_eq!(looks.len(), 40);
    }
}
