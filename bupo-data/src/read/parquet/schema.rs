//! The schema of a Parquet file as a tree of structs, lists and maps, with the leaf columns at its ends.

use parquet::{
    basic::{ConvertedType, LogicalType, Repetition},
    schema::types::{SchemaDescriptor, Type},
};

use super::{error::ReadError, kind::Kind};

/// How deep fields may be nested.
const MAX_DEPTH: usize = 32;

/// A named field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) shape: Shape,
}

#[derive(Debug)]
pub(super) enum Shape {
    Leaf(Leaf),
    Struct(Vec<Field>),
    /// `exists` is the definition level from which on the list has an element.
    List {
        element: Box<Field>,
        exists: i16,
    },
    Map,
}

/// A column of which values are stored.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// Its dotted path.
    pub(super) name: String,
    /// Its index among the leaf columns of the file.
    pub(super) index: usize,
    pub(super) kind: Kind,
    /// The definition level at which a value is there; below it, it or something around it is null.
    pub(super) max_definition: i16,
    /// How many lists it is in.
    pub(super) max_repetition: i16,
}

/// The fields of a file.
pub(super) fn fields(schema: &SchemaDescriptor) -> Result<Vec<Field>, ReadError> {
    let root = schema.root_schema();
    check_depth(root, MAX_DEPTH)?;
    let mut builder = Builder { schema, leaves: 0 };
    builder.fields(root, 0)
}

/// The field at a dotted path. A name may itself have dots in it.
pub(super) fn find<'a>(fields: &'a [Field], path: &str) -> Option<&'a Field> {
    fields.iter().find(|field| field.name == path).or_else(|| {
        fields.iter().find_map(|field| match &field.shape {
            Shape::Struct(children) => find(children, path.strip_prefix(field.name.as_str())?.strip_prefix('.')?),
            _ => None,
        })
    })
}

/// The dotted names of all fields that are not structs, with them.
pub(super) fn columns(fields: &[Field]) -> Vec<(String, &Field)> {
    fields
        .iter()
        .flat_map(|field| match &field.shape {
            Shape::Struct(children) => {
                columns(children).into_iter().map(|(name, child)| (format!("{}.{name}", field.name), child)).collect()
            }
            _ => vec![(field.name.clone(), field)],
        })
        .collect()
}

impl Field {
    /// Its type, as [`Description`](crate::Description) names it.
    pub(super) fn type_name(&self) -> String {
        match &self.shape {
            Shape::Leaf(leaf) => leaf.kind.name().to_owned(),
            Shape::Map => "map".to_owned(),
            Shape::List { element, .. } => format!("list<{}>", element.type_name()),
            Shape::Struct(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|field| format!("{}: {}", field.name, field.type_name())).collect();
                format!("struct<{}>", fields.join(", "))
            }
        }
    }
}

fn check_depth(field: &Type, depth: usize) -> Result<(), ReadError> {
    if field.is_primitive() {
        return Ok(());
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err(ReadError::Unsupported(format!("structs nested more than {MAX_DEPTH} deep")));
    };
    field.get_fields().iter().try_for_each(|field| check_depth(field, depth))
}

struct Builder<'a> {
    schema: &'a SchemaDescriptor,
    /// How many leaf columns were passed.
    leaves: usize,
}

impl Builder<'_> {
    fn fields(&mut self, group: &Type, definition: i16) -> Result<Vec<Field>, ReadError> {
        group.get_fields().iter().map(|field| Ok(self.field(field, definition)?.listed(field))).collect()
    }

    /// The field; one that repeats is not yet a list. `definition` is the definition level around it.
    fn field(&mut self, field: &Type, definition: i16) -> Result<Built, ReadError> {
        let definition = definition + i16::from(repetition(field) != Repetition::REQUIRED);
        let shape = if field.is_primitive() { self.leaf(field)? } else { self.group(field, definition)? };
        Ok(Built { field: Field { name: field.name().to_owned(), shape }, definition })
    }

    fn leaf(&mut self, field: &Type) -> Result<Shape, ReadError> {
        let index = self.leaves;
        self.leaves += 1;
        let Some(column) = self.schema.columns().get(index) else {
            return Err(ReadError::Damaged(format!("its schema has no column {index}")));
        };
        Ok(Shape::Leaf(Leaf {
            name: column.path().string(),
            index,
            kind: Kind::new(field),
            max_definition: column.max_def_level(),
            max_repetition: column.max_rep_level(),
        }))
    }

    fn group(&mut self, group: &Type, definition: i16) -> Result<Shape, ReadError> {
        match (annotation(group), group.get_fields()) {
            (ConvertedType::LIST, [repeated]) => {
                let built = self.field(repeated, definition)?;
                if repetition(repeated) != Repetition::REPEATED {
                    return Err(ReadError::Damaged(format!(
                        "column `{}` is a list whose field does not repeat",
                        group.name()
                    )));
                }
                let tuple = format!("{}_tuple", group.name());
                Ok(Shape::List { element: Box::new(built.field.element(&tuple)), exists: built.definition })
            }
            (ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE, _) => {
                self.fields(group, definition).map(|_| Shape::Map)
            }
            _ => self.fields(group, definition).map(Shape::Struct),
        }
    }
}

/// Whether a group is a list or a map, by the logical type or, of older writers, the converted type.
fn annotation(group: &Type) -> ConvertedType {
    let info = group.get_basic_info();
    match info.logical_type_ref() {
        Some(LogicalType::List) => ConvertedType::LIST,
        Some(LogicalType::Map) => ConvertedType::MAP,
        _ => info.converted_type(),
    }
}

/// The repetition of a field; a root has none.
fn repetition(field: &Type) -> Repetition {
    let info = field.get_basic_info();
    if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED }
}

struct Built {
    field: Field,
    definition: i16,
}

impl Built {
    /// The field as a list, if it repeats without being in a group that is called a list.
    fn listed(self, field: &Type) -> Field {
        if repetition(field) != Repetition::REPEATED {
            return self.field;
        }
        let name = self.field.name.clone();
        Field { name, shape: Shape::List { element: Box::new(self.field), exists: self.definition } }
    }
}

impl Field {
    /// The element of the list in which this is the field that repeats: its only child, unless an older writer left out
    /// the group around the element.
    fn element(self, tuple: &str) -> Self {
        match self.shape {
            Shape::Struct(mut fields) if fields.len() == 1 && self.name != "array" && self.name != tuple => {
                fields.remove(0)
            }
            shape => Self { name: self.name, shape },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn tree(fields: &str) -> Result<Vec<Field>, ReadError> {
        let schema = parse_message_type(&format!("message schema {{ {fields} }}")).unwrap();
        super::fields(&SchemaDescriptor::new(Arc::new(schema)))
    }

    fn types(fields: &str) -> Vec<(String, String)> {
        let fields = tree(fields).unwrap();
        columns(&fields).into_iter().map(|(name, field)| (name, field.type_name())).collect()
    }

    #[test]
    fn lists_of_three_two_and_one_levels_are_lists() {
        let message = "optional binary role (UTF8); optional binary content (UTF8);";
        for fields in [
            format!("optional group p (LIST) {{ repeated group list {{ optional group element {{ {message} }} }} }}"),
            format!("optional group p (LIST) {{ repeated group array {{ {message} }} }}"),
            format!("repeated group p {{ {message} }}"),
        ] {
            let expected = "list<struct<role: string, content: string>>";
            assert_eq!(types(&fields), [("p".to_owned(), expected.to_owned())]);
        }
        let expected = [("t".to_owned(), "list<string>".to_owned())];
        assert_eq!(types("repeated binary t (UTF8);"), expected);
        assert_eq!(types("optional group t (LIST) { repeated binary element (UTF8); }"), expected);
    }

    #[test]
    fn nested_lists_and_maps_are_named() {
        let fields = "optional group l (LIST) { repeated group list { optional group element (LIST) {
                repeated group list { optional int32 element; } } } }
            optional group m (MAP) { repeated group key_value { required binary key (UTF8); optional int64 value; } }
            optional group s { optional int32 a; }";
        let expected = [("l", "list<list<int32>>"), ("m", "map"), ("s.a", "int32")];
        assert_eq!(types(fields), expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
        assert!(matches!(&find(&tree(fields).unwrap(), "s.a").unwrap().shape, Shape::Leaf(leaf) if leaf.index == 3));
    }

    #[test]
    fn levels_count_what_may_be_null_or_repeat() {
        let fields = tree(
            "optional group s { required binary a.b (UTF8); }
            optional group p (LIST) { repeated group list { optional binary element (UTF8); } }",
        )
        .unwrap();
        let Some(Field { shape: Shape::Leaf(leaf), .. }) = find(&fields, "s.a.b") else { panic!("{fields:?}") };
        assert_eq!((leaf.index, leaf.max_definition, leaf.max_repetition), (0, 1, 0));
        let Some(Field { shape: Shape::List { element, exists: 2 }, .. }) = find(&fields, "p") else {
            panic!("{fields:?}")
        };
        let Shape::Leaf(leaf) = &element.shape else { panic!("{element:?}") };
        assert_eq!((leaf.index, leaf.max_definition, leaf.max_repetition), (1, 3, 1));
        assert!(find(&fields, "s.a").is_none() && find(&fields, "p.element").is_none());
    }

    #[test]
    fn deep_schemas_are_refused() {
        let nested = |depth: usize| {
            let groups: String = (0..depth).map(|_| "optional group g { ").collect();
            tree(&format!("{groups} optional int32 a; {}", "}".repeat(depth)))
        };
        assert!(nested(MAX_DEPTH - 1).is_ok());
        assert!(matches!(nested(MAX_DEPTH), Err(ReadError::Unsupported(_))));
    }
}
