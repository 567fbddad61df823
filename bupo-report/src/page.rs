//! The page: sections of text, tables and pictures in one HTML file.

use bupo_chart::{Chart, PAGE_CSS};
use minijinja::{AutoEscape, Environment};
use serde::Serialize;
use serde_json::{Value, json};

use crate::ReportError;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page and its pictures.
#[derive(Debug, Clone)]
pub struct Report {
    pub(crate) title: String,
    /// What was asked for, under the title.
    pub(crate) subtitle: String,
    pub(crate) sections: Vec<Section>,
}

/// A picture with the name of its files.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Of its files, without an ending; unique within a report.
    pub name: String,
    /// What is drawn.
    pub chart: Chart,
    /// What to see in it.
    pub(crate) caption: String,
    /// What the page's script shows of a cell, where the chart alone does not say it.
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
    /// Beside one another where there is room.
    Pictures(Vec<Picture>),
    Table(Table),
    /// Text in lines of its own, such as settings, under a name.
    Listing {
        name: String,
        text: String,
        folded: bool,
    },
}

/// The first row is the header, the first column names the rows.
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

    /// What the script needs to answer the pointer.
    fn hover(&self) -> Value {
        let x_label = match &self.chart {
            Chart::Line(chart) => Some(&chart.x_label),
            Chart::Heat(_) => None,
        };
        json!({"chart": self.chart.hover(), "x_label": x_label, "cells": self.cells})
    }
}

impl Report {
    /// All pictures, in the page's order.
    pub fn pictures(&self) -> impl Iterator<Item = &Picture> {
        self.sections.iter().flat_map(|section| &section.parts).flat_map(|part| match part {
            Part::Pictures(pictures) => &pictures[..],
            _ => &[],
        })
    }

    /// The page.
    ///
    /// # Errors
    /// If the template fails.
    pub fn html(&self) -> Result<String, ReportError> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.add_template("page", TEMPLATE)?;
        let hover: Vec<Value> = self.pictures().map(Picture::hover).collect();
        let sections: Vec<Value> = self.sections.iter().map(section).collect();
        Ok(environment.get_template("page")?.render(minijinja::value::Serde(json!({
            "title": self.title,
            "subtitle": self.subtitle,
            "sections": sections,
            "style": format!("{STYLE}{PAGE_CSS}"),
            "script": SCRIPT,
            // Within a script element only this sign could end it.
            "hover": Value::from(hover).to_string().replace('<', "\\u003c"),
        })))?)
    }
}

fn section(section: &Section) -> Value {
    let parts: Vec<Value> = section
        .parts
        .iter()
        .map(|part| match part {
            Part::Pictures(pictures) => json!({"pictures": pictures.iter().map(|picture| json!({
                "name": picture.name,
                "wide": matches!(picture.chart, Chart::Heat(_)),
                "svg": picture.chart.inline_svg(&picture.name),
                "caption": picture.caption,
            })).collect::<Vec<_>>()}),
            Part::Table(table) => json!({ "table": table }),
            Part::Listing { name, text, folded } => json!({"listing": {"name": name, "text": text, "folded": folded}}),
        })
        .collect();
    json!({"title": section.title, "text": section.text, "parts": parts})
}
