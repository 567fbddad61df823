//! The types of the columns of JSON rows, which may differ from row to row.

use std::collections::BTreeMap;

use super::object::Object;
use crate::read::describe::Column;

/// The depth to which objects are described; a deeper one is a `struct`.
const MAX_DEPTH: usize = 8;
/// The largest number of columns.
const MAX_COLUMNS: usize = 1000;

/// The columns so far: the order in which each first appeared, and its types.
#[derive(Default)]
pub(super) struct Kinds(BTreeMap<String, (usize, Vec<String>)>);

impl Kinds {
    /// Adds the columns of a row.
    pub(super) fn add(&mut self, row: &str) -> Result<(), String> {
        self.add_fields("", &Object::parse(row)?, MAX_DEPTH)
    }

    /// The columns; one of several types is described by all of them.
    pub(super) fn into_columns(self) -> Vec<Column> {
        let mut columns: Vec<_> = self.0.into_iter().collect();
        columns.sort_by_key(|(_, (place, _))| *place);
        columns.into_iter().map(|(name, (_, kinds))| Column { name, kind: kinds.join(" | ") }).collect()
    }

    fn add_fields(&mut self, prefix: &str, object: &Object<'_>, depth: usize) -> Result<(), String> {
        for (name, value) in object.fields() {
            let name = format!("{prefix}{name}");
            if value.starts_with('{') && depth > 0 {
                self.add_fields(&format!("{name}."), &Object::parse(value)?, depth - 1)?;
            } else {
                self.add_kind(name, kind(value))?;
            }
        }
        Ok(())
    }

    fn add_kind(&mut self, name: String, kind: String) -> Result<(), String> {
        let place = self.0.len();
        let (_, kinds) = self.0.entry(name).or_insert_with(|| (place, Vec::new()));
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
        if self.0.len() > MAX_COLUMNS {
            return Err(format!("with it the file has more than {MAX_COLUMNS} columns"));
        }
        Ok(())
    }
}

/// The type of a value; of a list, with that of its first element.
fn kind(value: &str) -> String {
    match value.bytes().next() {
        Some(b'"') => "string".to_owned(),
        Some(b't' | b'f') => "bool".to_owned(),
        Some(b'n') => "null".to_owned(),
        Some(b'{') => "struct".to_owned(),
        Some(b'[') => {
            let elements = value.get(1..).unwrap_or_default().trim_start();
            match elements.bytes().next() {
                None | Some(b']') => "list".to_owned(),
                Some(b'[') => "list<list>".to_owned(),
                Some(_) => format!("list<{}>", kind(elements.split([',', ']']).next().unwrap_or_default())),
            }
        }
        _ if value.contains(['.', 'e', 'E']) => "double".to_owned(),
        _ => "int".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(rows: &[&str]) -> Vec<(String, String)> {
        let mut kinds = Kinds::default();
        rows.iter().for_each(|row| kinds.add(row).unwrap());
        kinds.into_columns().into_iter().map(|column| (column.name, column.kind)).collect()
    }

    #[test]
    fn every_type_has_a_name() {
        let row = r#"{"s": "1.5", "b": true, "n": null, "i": -12, "d": 1e5, "l": [ ], "ll": [[1.5]],
            "ls": [{"a": 1}], "li": [ 12, 1.5], "o": {"x.y": {"z": 1.5}, "e": {}}}"#;
        let expected = [
            ("s", "string"),
            ("b", "bool"),
            ("n", "null"),
            ("i", "int"),
            ("d", "double"),
            ("l", "list"),
            ("ll", "list<list>"),
            ("ls", "list<struct>"),
            ("li", "list<int>"),
            ("o.x.y.z", "double"),
        ];
        assert_eq!(columns(&[row]), expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
    }

    #[test]
    fn columns_of_several_types_are_described_by_all() {
        let rows = [r#"{"b": 1}"#, r#"{"a": 1, "b": null}"#, r#"{"b": "x"}"#, r#"{"b": 2}"#];
        let expected = [("b", "int | null | string"), ("a", "int")];
        assert_eq!(columns(&rows), expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
    }

    #[test]
    fn depth_and_number_of_columns_are_limited() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000));
        let names = columns(&[&deep]);
        assert_eq!(names, [("a".to_owned() + &".a".repeat(MAX_DEPTH), "struct".to_owned())]);
        let many: Vec<_> = (0..=MAX_COLUMNS).map(|column| format!(r#""{column}": 1"#)).collect();
        let mut kinds = Kinds::default();
        assert!(kinds.add(&format!("{{{}}}", many.join(","))).unwrap_err().contains("1000 columns"));
    }
}
