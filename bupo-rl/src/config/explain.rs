//! Errors of settings as sentences: where the setting is, what is wrong, and what it may be.

use std::path::Path;

use strsim::damerau_levenshtein;

use crate::RlError;

/// Names further apart than this are not taken for slips of the pen.
const MAX_DISTANCE: usize = 3;

/// An error in a file, with its line and the setting there.
pub(super) fn in_file(path: &Path, text: &str, error: &toml::de::Error) -> RlError {
    let (line, key) = error.span().map_or((1, None), |span| place(text, span.start));
    RlError::Config(format!("{} line {line}: {}", path.display(), explain(error.message(), key.as_deref())))
}

/// An error in merged settings, whose text ends with the path of the setting.
pub(super) fn in_settings(error: &toml::de::Error) -> RlError {
    let text = error.to_string();
    let key = text.rsplit_once("in `").map(|(_, key)| key.trim_end().trim_end_matches('`').to_string());
    RlError::Config(explain(error.message(), key.as_deref()))
}

/// A setting that does not exist in the tables before it; `known` are those that do.
pub(super) fn unknown(name: &str, tables: &[&str], known: &[String]) -> RlError {
    let table = (!tables.is_empty()).then(|| tables.join("."));
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    RlError::Config(no_setting(name, table.as_deref(), &known))
}

/// The line of a place in a text, from 1, and the path of the setting on it.
fn place(text: &str, start: usize) -> (usize, Option<String>) {
    let start = start.min(text.len());
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let table = text.lines().take(line).filter_map(|line| {
        let header = line.trim().strip_prefix('[')?;
        Some(header.trim_start_matches('[').split(']').next()?.trim().to_string())
    });
    let own = text.lines().nth(line - 1).unwrap_or_default();
    let key = own.split_once('=').map(|(key, _)| key.trim().to_string());
    match (table.last(), key) {
        (Some(table), Some(key)) => (line, Some(format!("{table}.{key}"))),
        (table, key) => (line, key.or(table)),
    }
}

/// A message of the TOML reader in the words of settings.
fn explain(message: &str, key: Option<&str>) -> String {
    let names = quoted(message);
    if message.starts_with("unknown field")
        && let [name, known @ ..] = &names[..]
    {
        let table = key.map(|key| key.strip_suffix(&format!(".{name}")).unwrap_or(key)).filter(|table| table != name);
        return no_setting(name, table, known);
    }
    let key = key.unwrap_or("the setting");
    if message.starts_with("unknown variant")
        && let [name, known @ ..] = &names[..]
    {
        let nearest = nearest(name, known).map_or(String::new(), |name| format!("did you mean \"{name}\"? "));
        return format!("{key} is \"{name}\"; {nearest}it can be {}", list(known));
    }
    if let Some((found, expected)) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.split_once(", expected "))
    {
        return format!("{key} is {}; it must be {}", in_words(found), wanted(expected.trim()));
    }
    match key {
        "the setting" => message.to_string(),
        key => format!("{key}: {message}"),
    }
}

fn no_setting(name: &str, table: Option<&str>, known: &[&str]) -> String {
    let place = table.map_or(String::new(), |table| format!(" in [{table}]"));
    match nearest(name, known) {
        Some(nearest) => format!("there is no setting {name}{place}; did you mean {nearest}?"),
        None => format!("there is no setting {name}{place}; there are {}", known.join(", ")),
    }
}

/// The known name that is most like `name`, if one is like it.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &&str| damerau_levenshtein(name, known);
    let nearest = known.iter().copied().min_by_key(distance)?;
    (distance(&nearest) <= MAX_DISTANCE.min(name.chars().count() / 2)).then_some(nearest)
}

/// The words in backticks, in order.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn list(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    match &quoted[..] {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        other => other.join(""),
    }
}

/// What was found, without the reader's name for its kind: `string "many"` is `"many"`.
fn in_words(found: &str) -> String {
    let kinds = ["string ", "integer ", "floating point ", "boolean "];
    let value = kinds.iter().find_map(|kind| found.strip_prefix(kind)).unwrap_or(found);
    match value {
        "sequence" => "a list".into(),
        "map" => "a table".into(),
        value => value.trim_matches('`').into(),
    }
}

/// What was expected, for a person.
fn wanted(expected: &str) -> String {
    match expected {
        "usize" | "u64" | "u32" => "a whole number, 0 or more".into(),
        "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list, such as [\"a\", \"b\"]".into(),
        "a string" | "path string" => "a text in quotes".into(),
        table if table.starts_with("struct ") => "a table of settings".into(),
        other => other.to_string(),
    }
}
