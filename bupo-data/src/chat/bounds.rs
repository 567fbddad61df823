//! The bound on every value a template makes.
//!
//! The engine's fuel pays for every byte and slot a template creates, but values share their parts: a list of two
//! lists of two lists of ... is small to make and without end to write out, to compare or, if it is deep enough, to
//! drop. So every value is weighed as it would be written out before it is kept or worked on.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// How deep lists may be nested in one another.
const DEPTH_LIMIT: usize = 32;

/// What an item weighs besides its text, in bytes.
const ITEM_WEIGHT: usize = 64;

/// How many bytes one unit of fuel pays for.
const BYTES_PER_FUEL: usize = 64;

/// Makes the filter that lets through values of at most `limit` bytes, written out, and pays for weighing them.
/// Iterators become lists: they could otherwise grow without being made anew, or be drawn from without being paid for.
pub(super) fn filter(limit: usize) -> impl Fn(&State, Value) -> Result<Value, Error> + Send + Sync + 'static {
    move |state, value| {
        let mut scale = Scale { left: limit };
        let kept = scale.weigh(&value, 0)?;
        state.consume_fuel(((limit - scale.left) / BYTES_PER_FUEL) as u64)?;
        Ok(kept.unwrap_or(value))
    }
}

/// What may still be put on before it is too much.
struct Scale {
    left: usize,
}

impl Scale {
    /// Takes off what the value weighs. Returns the value that stands for it, where it cannot stand for itself.
    fn weigh(&mut self, value: &Value, depth: usize) -> Result<Option<Value>, Error> {
        if depth > DEPTH_LIMIT {
            return Err(refused("lists are nested too deeply"));
        }
        let text = match value.kind() {
            ValueKind::String | ValueKind::Bytes => value.len().unwrap_or(0).max(value.as_str().map_or(0, str::len)),
            _ => 0,
        };
        self.take(text.saturating_add(ITEM_WEIGHT))?;
        match value.kind() {
            ValueKind::Seq => self.items(value, depth, false),
            ValueKind::Iterable => self.items(value, depth, true),
            ValueKind::Map => self.map(value, depth),
            // Namespaces, macros and loops can come to hold themselves, and are of no use as values.
            ValueKind::Plain => Err(refused("a macro or a loop is used as a value")),
            ValueKind::Invalid => Err(Error::new(ErrorKind::InvalidOperation, value.to_string())),
            _ => Ok(None),
        }
    }

    fn items(&mut self, value: &Value, depth: usize, anew: bool) -> Result<Option<Value>, Error> {
        let mut items = Vec::new();
        let mut changed = anew;
        for item in value.try_iter()? {
            let kept = self.weigh(&item, depth + 1)?;
            changed |= kept.is_some();
            items.push(kept.unwrap_or(item));
        }
        Ok(changed.then(|| Value::from(items)))
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<Option<Value>, Error> {
        if is_namespace(value) {
            return Err(refused("a namespace is used as a value"));
        }
        let mut pairs = Vec::new();
        let mut changed = false;
        for key in value.try_iter()? {
            let item = value.get_item(&key)?;
            self.weigh(&key, depth + 1)?;
            let kept = self.weigh(&item, depth + 1)?;
            changed |= kept.is_some();
            pairs.push((key, kept.unwrap_or(item)));
        }
        Ok(changed.then(|| Value::from_pairs(pairs)))
    }

    fn take(&mut self, weight: usize) -> Result<(), Error> {
        self.left = self.left.checked_sub(weight).ok_or_else(|| refused("a value is too large"))?;
        Ok(())
    }
}

/// Namespaces are the only maps with a type of their own that a template can make.
fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace"))
}

fn refused(reason: &'static str) -> Error {
    Error::new(ErrorKind::OutOfFuel, reason)
}
