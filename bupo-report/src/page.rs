//! The page: sections of text, tables and charts in one HTML file.

use bupo_chart::Chart;
use serde::Serialize;
use serde_json::{Value, json};

use crate::ReportError;
use crate::frame::Frame;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A report page and its charts.
#[derive(Debug, Clone)]
pub struct Report {
    pub(crate) title: String,
    /// The line under the title.
    pub(crate) subtitle: String,
    pub(crate) sections: Vec<Section>,
}

/// A chart with a caption and a file name.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The name of its files without extension, unique within a report.
    pub name: String,
    /// The chart.
    pub chart: Chart,
    /// The text under the chart.
    pub(crate) caption: String,
    /// Texts and values that the page's script shows for a heat map's cells.
    pub(crate) cells: Option<Value>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// Charts, side by side if the page is wide enough.
    Pictures(Vec<Picture>),
    /// Charts to compare, all in a row if the page is wide enough.
    Compared(Vec<Picture>),
    Table(Table),
    /// A prompt with responses to it, as texts of different roles.
    Texts(Vec<Role>),
    /// Preformatted text, such as settings, with a name. `folded` hides it until it is opened.
    Listing {
        name: String,
        text: String,
        folded: bool,
    },
}

/// A text with who wrote it, and a remark such as its score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) remark: String,
    pub(crate) text: String,
}

/// A table whose first column has the names of the rows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Picture {
    pub(crate) fn new(name: impl Into<String>, chart: impl Into<Chart>, caption: impl Into<String>) -> Self {
        Self { name: name.into(), chart: chart.into(), caption: caption.into(), cells: None }
    }

    /// The caption, with what the marks of zeros mean if there are any.
    fn full_caption(&self) -> String {
        match &self.chart {
            Chart::Line(chart) if chart.marks_zeros() => {
                format!("{} Open triangles at the bottom are zeros, for which a log scale has no place.", self.caption)
            }
            _ => self.caption.clone(),
        }
    }

    /// The data that the page's script shows on hover.
    fn hover(&self) -> Value {
        let x_label = match &self.chart {
            Chart::Line(chart) => Some(&chart.x_label),
            Chart::Heat(_) => None,
        };
        json!({"chart": self.chart.hover(), "x_label": x_label, "cells": self.cells})
    }
}

impl Report {
    /// All charts, in the order of the page.
    pub fn pictures(&self) -> impl Iterator<Item = &Picture> {
        self.sections.iter().flat_map(|section| &section.parts).flat_map(|part| match part {
            Part::Pictures(pictures) | Part::Compared(pictures) => &pictures[..],
            _ => &[],
        })
    }

    /// Renders the page.
    ///
    /// # Errors
    /// [`ReportError::Page`] if the template fails.
    pub fn html(&self) -> Result<String, ReportError> {
        let frame = Frame {
            title: &self.title,
            subtitle: &self.subtitle,
            template: TEMPLATE,
            values: json!({"sections": self.sections.iter().map(section).collect::<Vec<_>>()}),
            style: STYLE,
            script: SCRIPT,
            data: self.pictures().map(Picture::hover).collect(),
        };
        frame.html()
    }
}

fn section(section: &Section) -> Value {
    let picture = |picture: &Picture| {
        json!({
            "name": picture.name,
            "wide": picture.chart.is_wide(),
            "svg": picture.chart.inline_svg(&picture.name),
            "caption": picture.full_caption(),
        })
    };
    let pictures = |pictures: &[Picture]| pictures.iter().map(picture).collect::<Vec<_>>();
    let parts: Vec<Value> = section
        .parts
        .iter()
        .map(|part| match part {
            Part::Pictures(shown) => json!({"pictures": pictures(shown)}),
            Part::Compared(shown) => json!({"pictures": pictures(shown), "compared": true}),
            Part::Table(table) => json!({ "table": table }),
            Part::Texts(roles) => json!({ "texts": roles }),
            Part::Listing { name, text, folded } => json!({"listing": {"name": name, "text": text, "folded": folded}}),
        })
        .collect();
    json!({"title": section.title, "text": section.text, "parts": parts})
}
