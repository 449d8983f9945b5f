//! Equality by value, as far as one likes at a time.

use std::cmp::Ordering;

use super::{Value, compare_numbers};

/// A comparison in progress.
#[derive(Debug)]
pub(crate) struct Same {
    /// Containers that are equal so far, and how much of them has been compared.
    open: Vec<(Value, Value, usize)>,
    /// What is known already.
    unequal: bool,
}

/// What can be said of two values without looking into them.
enum Seen {
    Equal,
    Unequal,
    Inside,
}

/// Compares two values as far as they hold no others. Long texts cost more of the budget.
fn seen(a: &Value, b: &Value, cost: &mut u64) -> Seen {
    let equal = match (a, b) {
        (Value::Null | Value::None, Value::Null | Value::None) | (Value::Any, Value::Any) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => {
            a.len() == b.len()
                && (a.address() == b.address() || {
                    *cost += a.len() as u64 / 64;
                    a == b
                })
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            *cost += a.len() as u64 / 64;
            a == b
        }
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Time(a), Value::Time(b)) => a == b,
        (Value::Range(a, b), Value::Range(c, d)) => (a, b) == (c, d) || (a >= b && c >= d),
        (Value::Error(a), Value::Error(b)) => a == b,
        (Value::Secret(a), Value::Secret(b)) => a.text == b.text,
        (Value::Memory(a), Value::Memory(b)) => a == b,
        (Value::Some(_), Value::Some(_))
        | (Value::Ok(_), Value::Ok(_))
        | (Value::Err(_), Value::Err(_)) => return Seen::Inside,
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => return Seen::Inside,
        (Value::Array(_), Value::Range(..)) | (Value::Range(..), Value::Array(_))
            if a.list_length() == b.list_length() =>
        {
            return Seen::Inside;
        }
        (Value::Map(a), Value::Map(b)) if a.len() == b.len() => return Seen::Inside,
        (Value::Function(a), Value::Function(b)) => {
            if a.function == b.function && a.captured.len() == b.captured.len() {
                return Seen::Inside;
            }
            false
        }
        _ => compare_numbers(a, b) == Some(Ordering::Equal),
    };
    if equal { Seen::Equal } else { Seen::Unequal }
}

impl Same {
    pub(crate) fn new(a: &Value, b: &Value) -> Same {
        let mut same = Same { open: Vec::new(), unequal: false };
        // What this one comparison costs is no more than the values' own making.
        same.meet(a, b, &mut 0);
        same
    }

    fn meet(&mut self, a: &Value, b: &Value, cost: &mut u64) {
        match seen(a, b, cost) {
            Seen::Equal => {}
            Seen::Unequal => self.unequal = true,
            Seen::Inside => self.open.push((a.clone(), b.clone(), 0)),
        }
    }

    /// Goes on for about so many comparisons, which it takes from the budget. `None`: there is more
    /// to compare.
    pub(crate) fn go_on(&mut self, budget: &mut u64) -> Option<bool> {
        loop {
            if self.unequal {
                return Some(false);
            }
            let Some((a, b, at)) = self.open.last_mut() else { return Some(true) };
            if *budget == 0 {
                return None;
            }
            let mut cost = 1;
            let number = *at;
            *at += 1;
            let next;
            let pair = match (&*a, &*b) {
                (Value::Array(a), Value::Array(b)) => a.get(number).zip(b.get(number)),
                (Value::Array(items), range @ Value::Range(..))
                | (range @ Value::Range(..), Value::Array(items)) => {
                    next = range.element(number);
                    items.get(number).zip(next.as_ref())
                }
                (Value::Map(a), Value::Map(b)) => match a.get_index(number) {
                    None => None,
                    Some((key, value)) => match b.get(key) {
                        Some(other) => Some((value, other)),
                        None => return Some(false),
                    },
                },
                (Value::Function(a), Value::Function(b)) => {
                    a.captured.get(number).zip(b.captured.get(number))
                }
                (Value::Some(a) | Value::Ok(a) | Value::Err(a), _) if number == 0 => match b {
                    Value::Some(b) | Value::Ok(b) | Value::Err(b) => Some((&**a, &**b)),
                    _ => None,
                },
                _ => None,
            };
            match pair.map(|(a, b)| (seen(a, b, &mut cost), a, b)) {
                None => drop(self.open.pop()),
                Some((Seen::Equal, ..)) => {}
                Some((Seen::Unequal, ..)) => return Some(false),
                Some((Seen::Inside, a, b)) => {
                    let pair = (a.clone(), b.clone(), 0);
                    self.open.push(pair);
                }
            }
            *budget = budget.saturating_sub(cost);
        }
    }
}
