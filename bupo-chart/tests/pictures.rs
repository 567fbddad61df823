//! Any input gives a well-formed picture with all elements inside its bounds.

use std::collections::BTreeSet;

use bupo_chart::{Chart, ColourScale, HeatMap, HoverData, LineChart, Mark, Point, Series, Shade, YScale};
use resvg::tiny_skia::Pixmap;
use resvg::usvg::roxmltree::Document;

mod inputs;

use inputs::{extreme, heat, line, points};

#[test]
fn every_picture_is_well_formed_and_deterministic() {
    for (name, chart) in extreme() {
        for svg in [chart.svg(), chart.inline_svg("id\" onload=\"x")] {
            let document = Document::parse(&svg).unwrap_or_else(|error| panic!("{name}: {error}"));
            let root = document.root_element();
            assert_eq!((root.tag_name().name(), root.attribute("role")), ("svg", Some("img")), "{name}");
            assert!(root.attribute("aria-label").is_some_and(|label| !label.is_empty()), "{name}");
            let ids: Vec<_> = document.descendants().filter_map(|node| node.attribute("id")).collect();
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{name}");
            for part in ["NaN", "inf", "\u{1b}", "\u{202e}"] {
                assert!(!svg.contains(part), "{name} has {part:?}");
            }
        }
        assert_eq!(chart.svg(), chart.clone().svg(), "{name}");
    }
}

#[test]
fn all_elements_are_inside_the_picture() {
    for (name, chart) in extreme() {
        let tree = inputs::tree(&chart.svg());
        let (width, height) = (tree.size().width(), tree.size().height());
        inputs::visible_boxes(tree.root(), &mut |rect| {
            let inside = rect.left() >= -0.01
                && rect.top() >= -0.01
                && rect.right() <= width + 0.01
                && rect.bottom() <= height + 0.01;
            assert!(inside, "{name}: {rect:?} is outside {width} by {height}");
        });
    }
}

#[test]
fn every_picture_becomes_a_png() {
    // A sample, because rendering is slow; the tests above cover the others.
    for (name, chart) in extreme().into_iter().step_by(29) {
        let pixels = Pixmap::decode_png(&chart.png().unwrap()).unwrap();
        assert_eq!(pixels.width(), 2008, "{name}");
        assert!((200..3000).contains(&pixels.height()), "{name} is {} high", pixels.height());
        assert!(pixels.pixels().iter().all(|pixel| pixel.alpha() == 255), "{name} is not opaque");
    }
}

#[test]
fn png_files_contain_text() {
    let dark = |title: &str| {
        let chart: Chart = LineChart { title: title.into(), ..LineChart::default() }.into();
        let pixels = Pixmap::decode_png(&chart.png().unwrap()).unwrap();
        // The title is in the first rows; to its left are the tick labels.
        let title = pixels.pixels()[..2008 * 100].iter().enumerate().filter(|(i, _)| i % 2008 > 600);
        title.filter(|(_, pixel)| pixel.red() < 80).count()
    };
    assert_eq!(dark(""), 0);
    assert!(dark("MMM") > 1000 && dark("MMMMMMMMMMMM") > 3 * dark("MMM"));
}

#[test]
fn labels_are_in_the_picture() {
    let chart = LineChart {
        title: "A title".into(),
        x_label: "layer".into(),
        y_label: "entropy (nats)".into(),
        series: vec![line("first", points(1, 36)), line("second <&>", points(1, 36))],
        shades: vec![Shade { from: 0.5, to: 18.0, label: "a stage".into() }],
        marks: vec![Mark { x: 24.0, label: "a phase".into() }],
        ..LineChart::default()
    };
    let texts = inputs::texts(&Chart::from(chart).svg());
    let expected = ["A title", "layer", "entropy (nats)", "first", "second <&>", "a stage", "a phase"];
    for label in expected.into_iter().chain(["1", "5", "35"]) {
        assert!(texts.iter().any(|text| text == label), "{label} is not in {texts:?}");
    }
    let map = HeatMap {
        columns: ["Ġthe", "\n", "答"].map(String::from).into(),
        rows: ["1", "2"].map(String::from).into(),
        value_label: "nats".into(),
        ..heat(2, 3, |_, column| if column == 1 { f64::NAN } else { 1.0 })
    };
    let texts = inputs::texts(&Chart::from(map.clone()).svg());
    for label in ["Ġthe", "↵", "答", "1", "2", "nats", "missing"] {
        assert!(texts.iter().any(|text| text == label), "{label} is not in {texts:?}");
    }
    let complete = HeatMap { values: vec![vec![1.0; 3]; 2], ..map };
    assert!(!inputs::texts(&Chart::from(complete).svg()).contains(&"missing".into()));
}

#[test]
fn measured_text_covers_drawn_text() {
    // The column of row names is as wide as measured; no text may extend beyond the left edge, even with wide letters.
    for label in ["WWWWWWWWWWWW", "mmmmmmmmmm", "%%%%%%%", "@@@@@", "ЩЩЩЩЩЩЩЩЩ", "Œ…—…Œ"] {
        let map = HeatMap { rows: vec![label.repeat(3)], ..heat(1, 1, |_, _| 0.0) };
        let tree = inputs::tree(&Chart::from(map).svg());
        inputs::visible_boxes(tree.root(), &mut |rect| assert!(rect.left() >= 0.0, "{label}: {rect:?}"));
    }
}

#[test]
fn a_log_scale_marks_zeros_and_leaves_out_negative_values() {
    let values = [0.0, -1.0, 1.0, 100.0, f64::NAN, 10.0];
    let points = values.iter().enumerate().map(|(x, y)| Point { x: x as f64, y: *y, interval: None });
    let chart = LineChart { series: vec![line("s", points.collect())], y_scale: YScale::Log, ..LineChart::default() };
    assert!(chart.marks_zeros() && !LineChart { y_scale: YScale::Linear, ..chart.clone() }.marks_zeros());
    let chart = Chart::from(chart);
    assert_eq!(chart.svg().matches("class=\"chart-open\"").count(), 1);
    let hover = chart.hover();
    let HoverData::Line { y: (lo, hi), series, y_scale, .. } = hover.data else { panic!("not a line chart") };
    assert_eq!(series[0].points.iter().map(|point| point.y).collect::<Vec<_>>(), [0.0, 1.0, 100.0, 10.0]);
    assert!(lo > 0.0 && lo < 1.0 && hi > 100.0 && y_scale == YScale::Log);
}

#[test]
fn a_given_range_is_used() {
    let with =
        |y_range| Chart::from(LineChart { series: vec![line("s", points(1, 9))], y_range, ..LineChart::default() });
    let HoverData::Line { y, .. } = with(Some((20.0, -10.0))).hover().data else { panic!("not a line chart") };
    assert_eq!(y, (-10.0, 20.0));
    assert_eq!(with(Some((f64::NAN, 1.0))).hover(), with(None).hover());
}

#[test]
fn a_given_x_range_is_used() {
    let with =
        |x_range| Chart::from(LineChart { series: vec![line("s", points(1, 9))], x_range, ..LineChart::default() });
    let HoverData::Line { x: (left, right), .. } = with(Some((0.0, 100.0))).hover().data else {
        panic!("not a line chart")
    };
    assert!((-5.0..=0.0).contains(&left) && (100.0..=105.0).contains(&right));
    assert_eq!(with(Some((f64::NAN, 1.0))).hover(), with(None).hover());
}

#[test]
fn narrow_maps_are_as_wide_as_line_charts() {
    assert!(Chart::from(heat(30, 25, |_, _| 1.0)).is_wide() && !Chart::from(heat(30, 24, |_, _| 1.0)).is_wide());
    assert!(!Chart::from(LineChart::default()).is_wide());
}

#[test]
fn files_are_small() {
    let noisy = |row: usize, column: usize| ((row * 97 + column) as f64 * 12.9898).sin();
    let map = Chart::from(HeatMap { scale: ColourScale::Diverging, ..heat(36, 96, noisy) });
    assert!(map.inline_svg("m").len() < 150_000, "{}", map.inline_svg("m").len());
    let chart = LineChart { series: vec![line("s", points(0, 100_000))], ..LineChart::default() };
    assert!(Chart::from(chart).svg().len() < 150_000);
}

#[test]
fn hover_data_are_the_data_drawn() {
    let mut gap = points(1, 3);
    gap[1].y = f64::NAN;
    let hover = Chart::from(LineChart { series: vec![line("s", gap)], ..LineChart::default() }).hover();
    assert!(hover.plot.x > 0.0 && hover.plot.x + hover.plot.width < hover.width);
    assert!(hover.plot.y > 0.0 && hover.plot.y + hover.plot.height < hover.height);
    let HoverData::Line { series, .. } = hover.data else { panic!("not a line chart") };
    assert_eq!(series[0].points, [points(1, 3)[0], points(1, 3)[2]]);
    let map = Chart::from(heat(4, 7, |_, _| 1.0)).hover();
    assert_eq!(map.data, HoverData::Heat { rows: 4, columns: 7 });
}

#[test]
fn points_are_drawn_at_the_hover_positions() {
    let series = Series { name: "s".into(), points: points(1, 2) };
    let chart = Chart::from(LineChart { series: vec![series], ..LineChart::default() });
    let hover = chart.hover();
    let HoverData::Line { x: (left, right), y: (low, high), .. } = hover.data else { panic!("not a line chart") };
    let place = |point: Point| {
        let x = hover.plot.x + (point.x - left) / (right - left) * hover.plot.width;
        let y = hover.plot.y + (high - point.y) / (high - low) * hover.plot.height;
        format!("{} {}", (x * 100.0).round() / 100.0, (y * 100.0).round() / 100.0)
    };
    let path = format!("d=\"M{}L{}\"", place(points(1, 2)[0]), place(points(1, 2)[1]));
    assert!(chart.svg().contains(&path), "{path}");
}
