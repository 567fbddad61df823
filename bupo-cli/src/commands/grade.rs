//! `bupo grade`

use std::fs;

use bupo_grade::{Grader, Item, Reward, Rewards, Rule};
use bupo_runs::write_atomically;
use serde_json::{Map, Value, json};

use super::check_writable;
use crate::args::GradeArgs;
use crate::error::CliError;

pub fn run(args: GradeArgs) -> Result<(), CliError> {
    check_writable(&args.out)?;
    let text = fs::read_to_string(&args.input).map_err(CliError::io("read", &args.input))?;
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            read_line(line)
                .map_err(|reason| CliError::Message(format!("{} line {}: {reason}", args.input.display(), index + 1)))
        })
        .collect::<Result<Vec<Line>, _>>()?;
    let grader = Grader::new(rewards(&args.rule))?;
    let items: Vec<Item<'_>> = lines
        .iter()
        .map(|line| Item {
            response: &line.response,
            answer: &line.answer,
            data_source: &line.data_source,
            prompt: None,
        })
        .collect();
    let graded = grader.grade(&items);
    let mut out = String::new();
    for (line, graded) in lines.iter_mut().zip(&graded) {
        line.fields.insert("score".into(), json!(graded.graded.score));
        line.fields.insert("extracted".into(), json!(graded.graded.extracted));
        out += &format!("{}\n", Value::Object(std::mem::take(&mut line.fields)));
    }
    write_atomically(&args.out, out.as_bytes())?;
    let mean = graded.iter().map(|item| item.graded.score).sum::<f64>() / graded.len().max(1) as f64;
    outln!("graded {} answers by {}, mean score {mean:.4}, into {}", graded.len(), args.rule, args.out.display());
    report_failures(&grader);
    Ok(())
}

/// Says on the error stream what a scorer failed to grade.
pub fn report_failures(grader: &Grader) {
    let failures = grader.failures();
    if let Some(first) = failures.first {
        eprintln!("warning: {} answers could not be graded and score 0; the first: {first}", failures.count);
    }
}

/// One rule for every answer.
pub fn rewards(rule: &Rule) -> Rewards {
    Rewards { rule: Reward::Rule(rule.clone()), ..Rewards::default() }
}

struct Line {
    /// All fields, those that are not looked at too.
    fields: Map<String, Value>,
    response: String,
    answer: String,
    data_source: String,
}

fn read_line(line: &str) -> Result<Line, String> {
    let fields: Map<String, Value> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(_) => Err(format!("`{name}` is not a text")),
        None => Err(format!("there is no `{name}`; a line is {{\"response\": \"...\", \"answer\": \"...\"}}")),
    };
    let (response, answer) = (text("response")?, text("answer")?);
    let data_source = if fields.contains_key("data_source") { text("data_source")? } else { String::new() };
    Ok(Line { response, answer, data_source, fields })
}
