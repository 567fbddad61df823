//! The size limit on every value of a template: minijinja's fuel counts what a template allocates, but not the size of
//! values that share parts. A list of two lists of two lists and so on is small, and takes exponential time to print or
//! compare. So the size of every value as it would be printed is counted before it is stored or used.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// The largest depth of nested lists.
const DEPTH_LIMIT: usize = 32;

/// The size of an item without its text, in bytes.
const ITEM_SIZE: usize = 64;

/// The number of bytes that one unit of fuel allows.
const BYTES_PER_FUEL: usize = 64;

/// A filter that passes values of at most `limit` bytes when printed, and consumes fuel for measuring them. Iterators
/// become lists: iterating over them would otherwise consume no fuel.
pub(super) fn filter(limit: usize) -> impl Fn(&State, Value) -> Result<Value, Error> + Send + Sync + 'static {
    move |state, value| {
        let mut meter = Meter { left: limit };
        let replacement = meter.measure(&value, 0)?;
        state.consume_fuel(((limit - meter.left) / BYTES_PER_FUEL) as u64)?;
        Ok(replacement.unwrap_or(value))
    }
}

/// The size that a value may still have.
struct Meter {
    left: usize,
}

impl Meter {
    /// Subtracts the size of the value. Returns the value to use in its place, if it is or contains an iterator.
    fn measure(&mut self, value: &Value, depth: usize) -> Result<Option<Value>, Error> {
        if depth > DEPTH_LIMIT {
            return Err(refused("lists are nested too deeply"));
        }
        let text = match value.kind() {
            ValueKind::String | ValueKind::Bytes => value.len().unwrap_or(0).max(value.as_str().map_or(0, str::len)),
            _ => 0,
        };
        self.take(text.saturating_add(ITEM_SIZE))?;
        match value.kind() {
            ValueKind::Seq => self.items(value, depth, false),
            ValueKind::Iterable => self.items(value, depth, true),
            ValueKind::Map => self.map(value, depth),
            // Macros and loops may contain themselves, and no prompt needs them as values.
            ValueKind::Plain => Err(refused("a macro or a loop is used as a value")),
            ValueKind::Invalid => Err(Error::new(ErrorKind::InvalidOperation, value.to_string())),
            _ => Ok(None),
        }
    }

    fn items(&mut self, value: &Value, depth: usize, is_iterator: bool) -> Result<Option<Value>, Error> {
        let mut items = Vec::new();
        let mut changed = is_iterator;
        for item in value.try_iter()? {
            let replacement = self.measure(&item, depth + 1)?;
            changed |= replacement.is_some();
            items.push(replacement.unwrap_or(item));
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
            self.measure(&key, depth + 1)?;
            let replacement = self.measure(&item, depth + 1)?;
            changed |= replacement.is_some();
            pairs.push((key, replacement.unwrap_or(item)));
        }
        Ok(changed.then(|| Value::from_pairs(pairs)))
    }

    fn take(&mut self, size: usize) -> Result<(), Error> {
        self.left = self.left.checked_sub(size).ok_or_else(|| refused("a value is too large"))?;
        Ok(())
    }
}

/// Namespaces are the only maps of their own type that a template can create.
fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace"))
}

fn refused(reason: &'static str) -> Error {
    Error::new(ErrorKind::OutOfFuel, reason)
}
