//! What all pages have: the head, the title, the data and the script.

use bupo_chart::PAGE_CSS;
use minijinja::{AutoEscape, Environment};
use serde_json::{Value, json};

use crate::ReportError;

const TEMPLATE: &str = include_str!("frame.html");
const SCRIPT: &str = include_str!("frame.js");

/// The parts of a page that differ between kinds of pages.
pub(crate) struct Frame<'a> {
    pub(crate) title: &'a str,
    /// The line under the title.
    pub(crate) subtitle: &'a str,
    /// The template of all below, which begins in the page's header, and its values.
    pub(crate) template: &'a str,
    pub(crate) values: Value,
    pub(crate) style: &'a str,
    pub(crate) script: &'a str,
    /// What the script shows on hover.
    pub(crate) data: Value,
}

impl Frame<'_> {
    /// Renders the page.
    ///
    /// # Errors
    /// [`ReportError::Page`] if a template fails.
    pub(crate) fn html(&self) -> Result<String, ReportError> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        let render = |template: &str, values: &Value| -> Result<String, ReportError> {
            Ok(environment.render_str(template, minijinja::value::Serde(values))?)
        };
        let content = render(self.template, &self.values)?;
        render(
            TEMPLATE,
            &json!({
                "title": self.title,
                "subtitle": self.subtitle,
                "style": format!("{}{PAGE_CSS}", self.style),
                "content": content,
                "data": embedded_json(&self.data),
                "script": format!("{SCRIPT}{}", self.script),
            }),
        )
    }
}

/// JSON in a script element, of which only `<` can begin the end tag.
fn embedded_json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c")
}
