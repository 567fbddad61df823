//! A table of results as text, Markdown, LaTeX or CSV.

use clap::ValueEnum;

/// A format other than text for a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// A Markdown table
    Markdown,
    /// A LaTeX tabular
    Latex,
    /// Comma-separated values, with each half-width in its own column
    Csv,
}

/// Rows of named values. The note says how to read them.
pub struct ResultsTable {
    pub note: String,
    pub header: Vec<String>,
    pub rows: Vec<(String, Vec<Cell>)>,
}

/// A value, with the half-width of its interval if it has one; empty if there is none.
#[derive(Clone, Default)]
pub struct Cell {
    pub value: String,
    pub half_width: Option<String>,
}

impl Cell {
    pub fn plain(value: impl ToString) -> Self {
        Self { value: value.to_string(), half_width: None }
    }

    fn joined(&self, sign: &str) -> String {
        let half_width = self.half_width.as_ref().map_or(String::new(), |half_width| format!(" {sign}{half_width}"));
        format!("{}{half_width}", self.value)
    }
}

impl ResultsTable {
    /// The table as lines; `None` is text for a screen.
    pub fn render(&self, format: Option<TableFormat>) -> Vec<String> {
        match format {
            None => self.text(),
            Some(TableFormat::Markdown) => self.markdown(),
            Some(TableFormat::Latex) => self.latex(),
            Some(TableFormat::Csv) => self.csv(),
        }
    }

    fn text(&self) -> Vec<String> {
        let width = self.header.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(15) + 2;
        let line = |name: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!("{cell:>width$}")).collect();
            format!("{name:<16}{cells}")
        };
        let rows =
            self.rows.iter().map(|(name, cells)| line(name, cells.iter().map(|cell| cell.joined("±")).collect()));
        [self.note.clone(), line("", self.header.clone())].into_iter().chain(rows).collect()
    }

    fn markdown(&self) -> Vec<String> {
        let escaped = |text: &str| text.replace('|', "\\|");
        let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
        let named = |name: &str, cells: Vec<String>| {
            line(std::iter::once(name.to_string()).chain(cells).map(|cell| escaped(&cell)).collect())
        };
        let rule = format!("| --- |{}", " ---: |".repeat(self.header.len()));
        let rows =
            self.rows.iter().map(|(name, cells)| named(name, cells.iter().map(|cell| cell.joined("±")).collect()));
        [self.note.clone(), String::new(), named("", self.header.clone()), rule].into_iter().chain(rows).collect()
    }

    fn latex(&self) -> Vec<String> {
        let line = |name: &str, cells: Vec<String>| {
            format!("{} \\\\", std::iter::once(latex_text(name)).chain(cells).collect::<Vec<_>>().join(" & "))
        };
        let number = |cell: &Cell| match (&cell.value, &cell.half_width) {
            (value, _) if value.is_empty() => String::new(),
            (value, Some(half_width)) => format!("${value} \\pm {half_width}$"),
            (value, None) => format!("${value}$"),
        };
        let rows = self.rows.iter().map(|(name, cells)| line(name, cells.iter().map(number).collect()));
        let head = [
            format!("% {}", self.note),
            format!("\\begin{{tabular}}{{l{}}}", "r".repeat(self.header.len())),
            "\\hline".into(),
            line("", self.header.iter().map(|name| latex_text(name)).collect()),
            "\\hline".into(),
        ];
        head.into_iter().chain(rows).chain(["\\hline".into(), "\\end{tabular}".into()]).collect()
    }

    /// Written here and not by the `csv` crate, whose errors of writers cannot occur.
    fn csv(&self) -> Vec<String> {
        let quoted = |text: &str| match text.contains([',', '"', '\n']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.to_string(),
        };
        let line = |cells: Vec<String>| cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",");
        let header = self.header.iter().flat_map(|name| [name.clone(), format!("{name} half-width")]);
        let head = line(std::iter::once("metric".to_string()).chain(header).collect());
        let row = |(name, cells): &(String, Vec<Cell>)| {
            let cells = cells.iter().flat_map(|cell| [cell.value.clone(), cell.half_width.clone().unwrap_or_default()]);
            line(std::iter::once(name.clone()).chain(cells).collect())
        };
        std::iter::once(head).chain(self.rows.iter().map(row)).collect()
    }
}

/// Text with LaTeX's special characters escaped.
fn latex_text(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\\' => "\\textbackslash{}".into(),
            '~' => "\\textasciitilde{}".into(),
            '^' => "\\textasciicircum{}".into(),
            '_' | '%' | '&' | '#' | '$' | '{' | '}' => format!("\\{c}"),
            _ => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ResultsTable {
        let cell = |value: &str| Cell { value: value.into(), half_width: Some("0.1000".into()) };
        ResultsTable {
            note: "graded by strict".into(),
            header: ["aime_2024".into(), "a|b,c".into()].into(),
            rows: vec![
                ("problems".into(), vec![Cell::plain(30), Cell::default()]),
                ("Avg@2".into(), vec![cell("0.5000"), cell("0.2500")]),
            ],
        }
    }

    #[test]
    fn a_table_has_the_same_numbers_in_every_format() {
        let lines = |format| table().render(format);
        assert_eq!(lines(None)[3], "Avg@2              0.5000 ±0.1000   0.2500 ±0.1000");
        assert_eq!(
            lines(Some(TableFormat::Markdown))[2..],
            [
                "|  | aime_2024 | a\\|b,c |",
                "| --- | ---: | ---: |",
                "| problems | 30 |  |",
                "| Avg@2 | 0.5000 ±0.1000 | 0.2500 ±0.1000 |",
            ]
        );
        let latex = lines(Some(TableFormat::Latex));
        assert_eq!(latex[1..5], ["\\begin{tabular}{lrr}", "\\hline", " & aime\\_2024 & a|b,c \\\\", "\\hline"]);
        assert_eq!(latex[6], "Avg@2 & $0.5000 \\pm 0.1000$ & $0.2500 \\pm 0.1000$ \\\\");
        assert_eq!(
            lines(Some(TableFormat::Csv)),
            [
                "metric,aime_2024,aime_2024 half-width,\"a|b,c\",\"a|b,c half-width\"",
                "problems,30,,,",
                "Avg@2,0.5000,0.1000,0.2500,0.1000",
            ]
        );
    }
}
