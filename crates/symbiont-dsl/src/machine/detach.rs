//! Values that cross between a machine and its host.
//!
//! Changing a value costs more when somebody else holds it too, so whoever else holds one would be
//! seen in a run's steps. Hence machine and host share nothing that can be changed: what is shared
//! is copied at the border, and what was one thing before the copy is one thing after it.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use crate::value::{Array, Closure, Map, Value};

/// Copies what is shared; remembers what it copied.
#[derive(Default)]
pub(super) struct Detach {
    /// Copies by the address and the kind of the original, which is kept so that the address stays
    /// its own.
    copies: HashMap<(*const u8, Discriminant<Value>), (Value, Value)>,
}

impl Detach {
    /// The value, sharing nothing with anyone who held it.
    pub(super) fn value(&mut self, mut value: Value) -> Value {
        self.in_place(&mut value);
        value
    }

    fn in_place(&mut self, value: &mut Value) {
        let address = match value {
            Value::String(text) if text.is_shared() => text.address(),
            Value::Array(array) => match Arc::get_mut(array) {
                Some(array) => return array.items_mut().iter_mut().for_each(|v| self.in_place(v)),
                None => Arc::as_ptr(array).cast(),
            },
            Value::Map(map) => match Arc::get_mut(map) {
                Some(map) => {
                    return map.entries_mut().values_mut().for_each(|v| self.in_place(v));
                }
                None => Arc::as_ptr(map).cast(),
            },
            Value::Some(inner) | Value::Ok(inner) | Value::Err(inner) => {
                match Arc::get_mut(inner) {
                    Some(inner) => return self.in_place(inner),
                    None => Arc::as_ptr(inner).cast(),
                }
            }
            Value::Function(closure) => match Arc::get_mut(closure) {
                Some(closure) => {
                    let captured = closure.captured.items_mut();
                    return captured.iter_mut().for_each(|v| self.in_place(v));
                }
                None => Arc::as_ptr(closure).cast(),
            },
            // What cannot be changed may be shared.
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::Duration(_)
            | Value::Size(_)
            | Value::Time(_)
            | Value::None
            | Value::Error(_)
            | Value::Range(..)
            | Value::Any
            | Value::Secret(_)
            | Value::Memory(_) => return,
        };
        let original = (address, discriminant(value));
        if let Some((_, copy)) = self.copies.get(&original) {
            *value = copy.clone();
            return;
        }
        let copy = match &*value {
            Value::String(text) => Value::String(text.detached()),
            Value::Array(array) => Value::Array(Arc::new(self.array(array))),
            Value::Map(map) => {
                let mut copy = Map::clone(map);
                copy.entries_mut().values_mut().for_each(|value| self.in_place(value));
                Value::Map(Arc::new(copy))
            }
            Value::Some(inner) => Value::Some(Arc::new(self.value(Value::clone(inner)))),
            Value::Ok(inner) => Value::Ok(Arc::new(self.value(Value::clone(inner)))),
            Value::Err(inner) => Value::Err(Arc::new(self.value(Value::clone(inner)))),
            Value::Function(closure) => Value::Function(Arc::new(Closure {
                function: closure.function,
                captured: self.array(&closure.captured),
            })),
            other => other.clone(),
        };
        let kept = std::mem::replace(value, copy.clone());
        self.copies.insert(original, (kept, copy));
    }

    fn array(&mut self, array: &Array) -> Array {
        let mut copy = array.clone();
        copy.items_mut().iter_mut().for_each(|value| self.in_place(value));
        copy
    }
}
