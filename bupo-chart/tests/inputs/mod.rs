//! Charts with extreme input, and functions that inspect pictures.

use std::sync::Arc;

use bupo_chart::{Chart, ColourScale, HeatMap, LineChart, Mark, Point, Series, Shade, YScale};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::roxmltree::Document;
use resvg::usvg::{Group, Node, Options, Rect, Tree};

const EXTREME_TEXTS: [&str; 9] = [
    "",
    "\u{0}\u{1}\u{1b}[31mred\u{1b}[0m\u{7f}\u{85}\u{fffe}\u{ffff}",
    "</text></svg><script>alert('\"&')</script>]]>",
    "\u{202e}right to left\u{202c}\u{200b}\u{feff}\u{2066}",
    "\n\t\r\n\u{2028}",
    "答🙂Ġthe👩\u{200d}🔬ﷺ﷽𒐫",
    "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}",
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
    "many words that go on and on and on and on and on and on and on and on and on and on and on and on and on, still",
];

const EXTREME_NUMBERS: [f64; 12] = [
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    5e-324,
    0.0,
    -0.0,
    1.0,
    1e9,
    -1e-9,
];

pub fn line(name: &str, points: Vec<Point>) -> Series {
    Series { name: name.into(), points }
}

/// A sine wave over whole numbers.
pub fn points(from: u32, to: u32) -> Vec<Point> {
    let point = |i| {
        let (x, y) = (f64::from(i), (f64::from(i) * 0.7).sin());
        Point { x, y, interval: Some((y - 0.1, y + 0.1)) }
    };
    (from..=to).map(point).collect()
}

pub fn heat(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f64) -> HeatMap {
    let values = (0..rows).map(|row| (0..columns).map(|column| value(row, column)).collect()).collect();
    HeatMap { values, ..HeatMap::default() }
}

pub fn extreme() -> Vec<(String, Chart)> {
    let mut charts = extreme_line_charts();
    charts.extend(extreme_heat_maps());
    charts
}

fn extreme_line_charts() -> Vec<(String, Chart)> {
    let mut charts = Vec::new();
    for y_scale in [YScale::Linear, YScale::Log] {
        let mut add = |name: String, chart: LineChart| {
            charts.push((format!("{name} {y_scale:?}"), Chart::from(LineChart { y_scale, ..chart })));
        };
        let of = |points: Vec<Point>| LineChart { series: vec![line("a series", points)], ..LineChart::default() };
        let flat = |x: f64, y: f64| Point { x, y, interval: None };
        add("nothing".into(), LineChart { zero_line: true, ..LineChart::default() });
        add("no points".into(), of(vec![]));
        add("thousands".into(), of(points(0, 30_000)));
        add("unsorted".into(), of((0..3000).map(|i| flat(f64::from(i * 7919 % 3000), f64::from(i % 13))).collect()));
        for (i, one) in EXTREME_NUMBERS.into_iter().enumerate() {
            add(format!("only {one:e}"), of(vec![flat(one, one)]));
            add(format!("all {one:e}"), of((0..5).map(|x| flat(f64::from(x), one)).collect()));
            for &other in &EXTREME_NUMBERS[i + 1..] {
                let interval = Some((other, one));
                let points = vec![Point { x: one, y: other, interval }, Point { x: other, y: one, interval }];
                let notes = LineChart {
                    zero_line: true,
                    y_range: Some((one, other)),
                    band: Some((other, one)),
                    shades: vec![Shade { from: one, to: other, label: "shade".into() }],
                    marks: vec![Mark { x: one, label: "mark".into() }, Mark { x: other, label: "mark".into() }],
                    ..of(points.clone())
                };
                add(format!("{one:e} and {other:e}"), LineChart { zero_line: true, ..of(points) });
                add(format!("{one:e} and {other:e} with notes"), notes);
            }
        }
        for (i, text) in EXTREME_TEXTS.into_iter().enumerate() {
            let note = |x: u32| (f64::from(x), text.to_owned());
            add(
                format!("text {i}"),
                LineChart {
                    title: text.into(),
                    x_label: text.into(),
                    y_label: text.into(),
                    series: (0..24).map(|_| line(text, points(1, 4))).collect(),
                    shades: (0..4).map(note).map(|(from, label)| Shade { from, to: from + 1.0, label }).collect(),
                    marks: (0..9).map(note).map(|(x, label)| Mark { x, label }).collect(),
                    ..LineChart::default()
                },
            );
        }
        let crowd = (0..300).map(|i| line(&format!("run {i}"), points(1, 3))).collect();
        add("a crowd".into(), LineChart { series: crowd, ..LineChart::default() });
    }
    charts
}

fn extreme_heat_maps() -> Vec<(String, Chart)> {
    let mut charts = Vec::new();
    for scale in [ColourScale::Sequential, ColourScale::Diverging] {
        let mut add = |name: String, map: HeatMap| {
            charts.push((format!("{name} {scale:?}"), Chart::from(HeatMap { scale, ..map })));
        };
        for (rows, columns) in [(0, 0), (3, 0), (1, 1), (1, 500), (500, 1), (200, 2000)] {
            add(format!("{rows} by {columns}"), heat(rows, columns, |row, column| (row * 7 + column * 3 % 11) as f64));
        }
        add(
            "names without values".into(),
            HeatMap { rows: vec!["1".into()], columns: vec!["a".into()], ..heat(0, 0, |_, _| 0.0) },
        );
        add("ragged".into(), HeatMap { values: vec![vec![], vec![1.0; 9], vec![2.0]], ..HeatMap::default() });
        for (i, one) in EXTREME_NUMBERS.into_iter().enumerate() {
            add(format!("all {one:e}"), HeatMap { range: Some((one, one)), ..heat(2, 3, |_, _| one) });
            for &other in &EXTREME_NUMBERS[i + 1..] {
                add(
                    format!("{one:e} and {other:e}"),
                    heat(2, 2, |row, column| if row == column { one } else { other }),
                );
            }
        }
        for (i, text) in EXTREME_TEXTS.into_iter().enumerate() {
            let name = || text.to_owned();
            let map = HeatMap {
                title: name(),
                x_label: name(),
                y_label: name(),
                value_label: name(),
                columns: vec![name(); 40],
                rows: vec![name(); 12],
                ..heat(12, 40, |row, column| if row == column { f64::NAN } else { row as f64 })
            };
            add(format!("text {i}"), map);
        }
    }
    charts
}

/// The parsed picture, with its text laid out in the font used for PNG.
pub fn tree(svg: &str) -> Tree {
    let mut fonts = Database::new();
    for face in [dejavu::sans::regular, dejavu::sans::bold] {
        fonts.load_font_source(Source::Binary(Arc::new(face())));
    }
    let options = Options { fontdb: Arc::new(fonts), ..Options::default() };
    Tree::from_str(svg, &options).unwrap_or_else(|error| panic!("{error}"))
}

/// Calls `visit` with the bounding box of each visible element, or of the clip path for a clipped group.
pub fn visible_boxes(group: &Group, visit: &mut dyn FnMut(Rect)) {
    for node in group.children() {
        match node {
            Node::Group(group) => match group.clip_path() {
                Some(clip) => {
                    visible_boxes(clip.root(), &mut |clip| visit(clip.transform(group.abs_transform()).unwrap_or(clip)))
                }
                None => visible_boxes(group, visit),
            },
            _ => visit(node.abs_stroke_bounding_box()),
        }
    }
}

/// The content of all `<text>` elements.
pub fn texts(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).unwrap_or_else(|error| panic!("{error}"));
    let texts = document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")));
    texts.filter_map(|node| node.text().map(String::from)).collect()
}
