//! `bupo grade`

use std::path::Path;

use bupo_grade::{GradedItem, Grader, Item};
use bupo_runs::{JsonLine, JsonLinesOptions, read_json_lines, write_atomically};
use serde_json::{Map, Value, json};

use crate::args::GradeArgs;
use crate::error::CliError;
use crate::files::{check_overwrite, check_writable};
use crate::grading::{rewards, warn_of_failures};

pub fn run(args: &GradeArgs) -> Result<(), CliError> {
    check_writable(&args.out)?;
    check_is_not_input(args)?;
    check_overwrite(&args.out, args.force)?;
    let mut lines = read_lines(&args.input)?;
    let grader = Grader::new(rewards(&args.rule))?;
    let items: Vec<Item<'_>> = lines.iter().map(Line::item).collect();
    let graded = grader.grade(&items);
    let out: String = lines.iter_mut().zip(&graded).map(|(line, graded)| line.graded(graded)).collect();
    write_atomically(&args.out, out.as_bytes())?;
    let mean = graded.iter().map(|item| item.graded.score).sum::<f64>() / graded.len().max(1) as f64;
    outln!(
        "graded {} responses by {}, mean score {mean:.4}, {} scorer failures; wrote {}",
        graded.len(),
        args.rule,
        grader.failures().count,
        args.out.display()
    );
    warn_of_failures(&grader);
    Ok(())
}

fn check_is_not_input(args: &GradeArgs) -> Result<(), CliError> {
    let (input, out) = (args.input.canonicalize(), args.out.canonicalize());
    if matches!((input, out), (Ok(input), Ok(out)) if input == out) {
        return Err(CliError::Message(format!(
            "--out is the input file {}; choose another file",
            args.input.display()
        )));
    }
    Ok(())
}

struct Line {
    /// All fields, including those that grading does not use.
    fields: Map<String, Value>,
    response: String,
    answer: String,
    data_source: String,
}

fn read_lines(path: &Path) -> Result<Vec<Line>, CliError> {
    let options = JsonLinesOptions { skip_empty_lines: true, ..JsonLinesOptions::default() };
    let parse = |JsonLine { number, value }| {
        Line::parse(value).map_err(|reason| CliError::Message(format!("{} line {number}: {reason}", path.display())))
    };
    read_json_lines(path, options)?.into_iter().map(parse).collect()
}

impl Line {
    fn parse(fields: Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| match fields.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            Some(_) => Err(format!("`{name}` is not text; write it in quotes")),
            None => Err(format!("there is no `{name}`; a line is {{\"response\": \"...\", \"answer\": \"...\"}}")),
        };
        let (response, answer) = (text("response")?, text("answer")?);
        let data_source = if fields.contains_key("data_source") { text("data_source")? } else { String::new() };
        Ok(Self { response, answer, data_source, fields })
    }

    fn item(&self) -> Item<'_> {
        Item { response: &self.response, answer: &self.answer, data_source: &self.data_source, prompt: None }
    }

    /// The output line. Takes the fields.
    fn graded(&mut self, item: &GradedItem) -> String {
        let mut fields = std::mem::take(&mut self.fields);
        fields.insert("score".into(), json!(item.graded.score));
        fields.insert("extracted".into(), json!(item.graded.extracted));
        // A failure of an earlier grading is not this one's.
        fields.remove("failure");
        if let Some(failure) = &item.failure {
            fields.insert("failure".into(), json!(failure));
        }
        format!("{}\n", Value::Object(fields))
    }
}
