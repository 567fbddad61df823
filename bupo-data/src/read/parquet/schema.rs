//! The schema of a Parquet file as a tree: structs, lists and maps, and the columns at its leaves.

use super::{
    fault::{Decoded, damaged, unsupported},
    footer::{Element, Meaning},
};

/// How deep fields may nest.
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
    /// A list, and the definition level from which on an element is there.
    List(Box<Field>, u32),
    Map,
}

/// A column: a field whose values are stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    /// Its place among the columns of a row group.
    pub(super) index: usize,
    pub(super) physical: Physical,
    pub(super) meaning: Meaning,
    /// The definition level at which a value is there; below it something around it is null.
    pub(super) max_definition: u32,
    /// How many lists it is in.
    pub(super) max_repetition: u32,
}

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Physical {
    Bool,
    Int32,
    Int64,
    Int96,
    Float,
    Double,
    Bytes,
    Fixed(usize),
}

/// The fields of a file and the number of its leaves.
pub(super) fn tree(elements: Vec<Element>) -> Decoded<(Vec<Field>, usize)> {
    let mut builder = Builder { elements: elements.into_iter(), leaves: 0 };
    let Some(root) = builder.elements.next() else { return damaged("it has no schema") };
    let fields = builder.fields(root.children, 0, 0, MAX_DEPTH)?;
    match builder.elements.next() {
        Some(_) => damaged("its schema has more than one root"),
        None => Ok((fields, builder.leaves)),
    }
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
    /// Its type, as a reader would call it.
    pub(super) fn type_name(&self) -> String {
        match &self.shape {
            Shape::Leaf(leaf) => leaf.type_name().to_owned(),
            Shape::Map => "map".to_owned(),
            Shape::List(element, _) => format!("list<{}>", element.type_name()),
            Shape::Struct(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|field| format!("{}: {}", field.name, field.type_name())).collect();
                format!("struct<{}>", fields.join(", "))
            }
        }
    }
}

impl Leaf {
    pub(super) fn type_name(&self) -> &'static str {
        match (self.meaning, self.physical) {
            (Meaning::Null, _) => "null",
            (Meaning::Other(name), _) => name,
            (Meaning::Decimal { .. }, _) => "decimal",
            (Meaning::Integer { bits: 8, signed: true }, _) => "int8",
            (Meaning::Integer { bits: 16, signed: true }, _) => "int16",
            (Meaning::Integer { bits: 8, signed: false }, _) => "uint8",
            (Meaning::Integer { bits: 16, signed: false }, _) => "uint16",
            (Meaning::Integer { signed: false, .. }, Physical::Int32) => "uint32",
            (Meaning::Integer { signed: false, .. }, Physical::Int64) => "uint64",
            (_, Physical::Bool) => "bool",
            (_, Physical::Int32) => "int32",
            (_, Physical::Int64) => "int64",
            (_, Physical::Int96) => "timestamp",
            (_, Physical::Float) => "float",
            (_, Physical::Double) => "double",
            (Meaning::Text, Physical::Bytes) => "string",
            (_, Physical::Bytes | Physical::Fixed(_)) => "binary",
        }
    }

    /// Whether it may hold text. Older writers do not say of bytes that they are text.
    pub(super) fn is_text(&self) -> bool {
        self.physical == Physical::Bytes && matches!(self.meaning, Meaning::Text | Meaning::Plain)
    }
}

struct Builder {
    elements: std::vec::IntoIter<Element>,
    leaves: usize,
}

impl Builder {
    fn fields(&mut self, count: i64, definition: u32, repetition: u32, depth: usize) -> Decoded<Vec<Field>> {
        (0..count).map(|_| Ok(self.field(definition, repetition, depth)?.listed())).collect()
    }

    fn field(&mut self, definition: u32, repetition: u32, depth: usize) -> Decoded<Built> {
        let Some(depth) = depth.checked_sub(1) else {
            return unsupported(format!("more than {MAX_DEPTH} structs in each other"));
        };
        let Some(element) = self.elements.next() else { return damaged("its schema ends early") };
        let (definition, repetition) = match element.repetition {
            0 => (definition, repetition),
            1 => (definition + 1, repetition),
            2 => (definition + 1, repetition + 1),
            other => return damaged(format!("column `{}` has the repetition {other}", element.name)),
        };
        let shape = match element.physical {
            Some(code) if element.children == 0 => Shape::Leaf(self.leaf(&element, code, definition, repetition)?),
            _ => self.group(&element, definition, repetition, depth)?,
        };
        Ok(Built { field: Field { name: element.name, shape }, repeated: element.repetition == 2, definition })
    }

    fn leaf(&mut self, element: &Element, code: i64, max_definition: u32, max_repetition: u32) -> Decoded<Leaf> {
        let physical = match code {
            0 => Physical::Bool,
            1 => Physical::Int32,
            2 => Physical::Int64,
            3 => Physical::Int96,
            4 => Physical::Float,
            5 => Physical::Double,
            6 => Physical::Bytes,
            7 => match usize::try_from(element.length) {
                Ok(length @ 1..) => Physical::Fixed(length),
                _ => return damaged(format!("column `{}` has values of {} bytes", element.name, element.length)),
            },
            _ => return damaged(format!("column `{}` has the unknown type {code}", element.name)),
        };
        let index = self.leaves;
        self.leaves += 1;
        Ok(Leaf { index, physical, meaning: element.meaning, max_definition, max_repetition })
    }

    fn group(&mut self, element: &Element, definition: u32, repetition: u32, depth: usize) -> Decoded<Shape> {
        match (element.meaning, element.children) {
            (Meaning::List, 1) => {
                let inner = self.field(definition, repetition, depth)?;
                if !inner.repeated {
                    return damaged(format!("column `{}` is a list of nothing that repeats", element.name));
                }
                let tuple = format!("{}_tuple", element.name);
                Ok(Shape::List(Box::new(inner.field.element(&tuple)), inner.definition))
            }
            (Meaning::Map, children) => self.fields(children, definition, repetition, depth).map(|_| Shape::Map),
            (_, children) => self.fields(children, definition, repetition, depth).map(Shape::Struct),
        }
    }
}

struct Built {
    field: Field,
    repeated: bool,
    definition: u32,
}

impl Built {
    /// The field: a list if it repeats without being called one.
    fn listed(self) -> Field {
        if !self.repeated {
            return self.field;
        }
        Field { name: self.field.name.clone(), shape: Shape::List(Box::new(self.field), self.definition) }
    }
}

impl Field {
    /// The element of the list in which this is the field that repeats: what is inside, unless an older writer left the
    /// wrapping out.
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
    use super::{super::fault::Fault, *};

    fn group(name: &str, repetition: i64, children: i64, meaning: Meaning) -> Element {
        Element { name: name.to_owned(), repetition, children, meaning, ..Element::default() }
    }

    fn text(name: &str, repetition: i64) -> Element {
        Element { name: name.to_owned(), repetition, physical: Some(6), meaning: Meaning::Text, ..Element::default() }
    }

    fn types(elements: Vec<Element>) -> Vec<(String, String)> {
        let (fields, _) = tree(elements).unwrap();
        columns(&fields).into_iter().map(|(name, field)| (name, field.type_name())).collect()
    }

    #[test]
    fn lists_of_three_two_and_one_levels_are_lists() {
        let root = |children| group("schema", 0, children, Meaning::Plain);
        let three = vec![
            root(1),
            group("p", 1, 1, Meaning::List),
            group("list", 2, 1, Meaning::Plain),
            group("element", 1, 2, Meaning::Plain),
            text("role", 1),
            text("content", 1),
        ];
        let two = vec![
            root(1),
            group("p", 1, 1, Meaning::List),
            group("array", 2, 2, Meaning::Plain),
            text("role", 1),
            text("content", 1),
        ];
        let one = vec![root(1), group("p", 2, 2, Meaning::Plain), text("role", 1), text("content", 1)];
        for elements in [three, two, one] {
            let expected = "list<struct<role: string, content: string>>";
            assert_eq!(types(elements), [("p".to_owned(), expected.to_owned())]);
        }
        assert_eq!(types(vec![root(1), text("t", 2)]), [("t".to_owned(), "list<string>".to_owned())]);
    }

    #[test]
    fn levels_count_what_may_be_null_or_repeat() {
        let elements = vec![
            group("schema", 0, 2, Meaning::Plain),
            group("s", 1, 1, Meaning::Plain),
            text("a.b", 0),
            group("p", 1, 1, Meaning::List),
            group("list", 2, 1, Meaning::Plain),
            text("element", 1),
        ];
        let (fields, leaves) = tree(elements).unwrap();
        assert_eq!(leaves, 2);
        let Some(Field { shape: Shape::Leaf(leaf), .. }) = find(&fields, "s.a.b") else { panic!("{fields:?}") };
        assert_eq!((leaf.index, leaf.max_definition, leaf.max_repetition), (0, 1, 0));
        let Some(Field { shape: Shape::List(element, 2), .. }) = find(&fields, "p") else { panic!("{fields:?}") };
        let Shape::Leaf(leaf) = &element.shape else { panic!("{element:?}") };
        assert_eq!((leaf.index, leaf.max_definition, leaf.max_repetition), (1, 3, 1));
        assert!(find(&fields, "s.a").is_none() && find(&fields, "p.element").is_none());
    }

    #[test]
    fn schemas_that_do_not_add_up_are_refused() {
        let deep: Vec<_> = (0..10_000).map(|_| group("g", 0, 1, Meaning::Plain)).collect();
        let missing = vec![group("schema", 0, 2, Meaning::Plain), text("a", 0)];
        let huge = vec![group("schema", 0, i64::MAX, Meaning::Plain), text("a", 0)];
        let extra = vec![group("schema", 0, 0, Meaning::Plain), text("a", 0)];
        for elements in [deep, missing, huge, extra, vec![]] {
            assert!(matches!(tree(elements), Err(Fault::Damaged(_) | Fault::Unsupported(_))));
        }
    }
}
