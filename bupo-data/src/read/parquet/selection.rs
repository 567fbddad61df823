//! The columns of a Parquet file that problems are read from.

use super::schema::{self, Field, Leaf, Shape};
use crate::{
    error::DataError,
    read::columns::{Columns, Role, list},
};

/// The leaf columns that problems are read from.
pub(super) struct Selection {
    pub(super) prompt: PromptLeaves,
    pub(super) answer: Leaf,
    pub(super) data_source: Option<Leaf>,
}

pub(super) enum PromptLeaves {
    Text(Leaf),
    /// `exists` is the definition level from which on a list has an element.
    Chat {
        role: Leaf,
        content: Leaf,
        exists: i16,
    },
}

impl Selection {
    pub(super) fn new(fields: &[Field], columns: &Columns, file: &str) -> Result<Self, DataError> {
        let exists = |path: &str| schema::find(fields, path).is_some();
        let available = || list(schema::columns(fields).into_iter().map(|(name, _)| name));
        let names = columns.resolve(file, exists, available)?;
        let column_type = |name: &str, role: Role| DataError::ColumnType {
            file: file.to_owned(),
            column: name.to_owned(),
            found: schema::find(fields, name).map(Field::type_name).unwrap_or_default(),
            role: role.name(),
            allowed: role.allowed_types(),
        };
        let scalar = |name: &str, role| match schema::find(fields, name) {
            Some(Field { shape: Shape::Leaf(leaf), .. }) if leaf.max_repetition == 0 && leaf.kind.is_scalar() => {
                Ok(leaf.clone())
            }
            _ => Err(column_type(name, role)),
        };
        Ok(Self {
            prompt: schema::find(fields, &names.prompt)
                .and_then(PromptLeaves::new)
                .ok_or_else(|| column_type(&names.prompt, Role::Prompt))?,
            answer: scalar(&names.answer, Role::Answer)?,
            data_source: names.data_source.map(|name| scalar(&name, Role::DataSource)).transpose()?,
        })
    }

    /// The selected leaf columns.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        let prompt = match &self.prompt {
            PromptLeaves::Text(leaf) => [Some(leaf), None],
            PromptLeaves::Chat { role, content, .. } => [Some(role), Some(content)],
        };
        prompt.into_iter().flatten().chain([&self.answer]).chain(&self.data_source)
    }
}

impl PromptLeaves {
    /// The leaves of a prompt: text, or a list of structs with a role and a content.
    fn new(field: &Field) -> Option<Self> {
        match &field.shape {
            Shape::Leaf(leaf) if leaf.kind.is_text() && leaf.max_repetition == 0 => Some(Self::Text(leaf.clone())),
            Shape::List { element, exists } => {
                let Shape::Struct(fields) = &element.shape else { return None };
                let text = |name: &str| match schema::find(fields, name) {
                    Some(Field { shape: Shape::Leaf(leaf), .. }) if leaf.kind.is_text() && leaf.max_repetition == 1 => {
                        Some(leaf.clone())
                    }
                    _ => None,
                };
                Some(Self::Chat { role: text("role")?, content: text("content")?, exists: *exists })
            }
            _ => None,
        }
    }
}
