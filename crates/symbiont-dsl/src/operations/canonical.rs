//! A call of a running program in the one form in which policies, the trail and the host see it.

use std::sync::Arc;
use std::time::Duration;

use super::{Given, Misplaced, Place, Shape, arrange, option, options_slot};
use crate::machine::HostCall;
use crate::value::{ErrorValue, Value};

/// The call with its arguments in their slots, `None` in those that are left out before others, and a record of
/// its options behind them; one of a tool as it is.
///
/// A `timeout` that is a bare number becomes a duration of so many milliseconds; the path of a program has no
/// `.` and no doubled slashes.
///
/// # Errors
///
/// `TypeError` for an argument or an option that belongs nowhere, for an option that is given twice,
/// and for a timeout that is negative.
pub fn canonical(call: &HostCall) -> Result<HostCall, ErrorValue> {
    let refused = |message: String, nearest: Option<&str>| {
        let hint = nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        ErrorValue::new("TypeError", message + &hint)
    };
    let values = || call.args.iter().chain(call.named.iter().map(|(_, value)| value));
    let names = call.named.iter().map(|(name, _)| Some(&**name));
    let given: Vec<Given<'_>> = std::iter::repeat_n(None, call.args.len())
        .chain(names)
        .zip(values())
        .map(|(name, value)| {
            let shape = match value {
                Value::Map(_) => Shape::Record,
                Value::Null | Value::None => Shape::Open,
                _ => Shape::Other,
            };
            Given { name, shape }
        })
        .collect();
    let arranged = match arrange(&call.name, &given) {
        // What a tool takes is the tool's affair.
        None => return Ok(call.clone()),
        Some(Ok(arranged)) => arranged,
        Some(Err(Misplaced { message, nearest, .. })) => return Err(refused(message, nearest)),
    };
    let mut args: Vec<Value> = Vec::with_capacity(given.len());
    let mut put = |slot: usize, value: Value| {
        if args.len() <= slot {
            args.resize(slot + 1, Value::None);
        }
        args[slot] = value;
    };
    let mut options: Vec<(Arc<str>, Value)> = Vec::new();
    let (mut rest, mut named) = (Vec::new(), Vec::new());
    for ((place, value), given) in arranged.places.iter().zip(values()).zip(&given) {
        match (place, value) {
            (Place::Slot(slot), value) => put(*slot, value.clone()),
            (Place::Options, Value::Map(map)) => {
                for (key, value) in map.iter() {
                    option(&call.name, key)
                        .map_err(|(message, nearest)| refused(message, nearest))?;
                    options.push((Arc::clone(key), value.clone()));
                }
            }
            // No options.
            (Place::Options, _) => {}
            (Place::Option, value) => {
                options.push((Arc::from(given.name.unwrap_or_default()), value.clone()));
            }
            (Place::Rest, value) => match given.name {
                None => rest.push(value.clone()),
                Some(name) => named.push((Arc::from(name), value.clone())),
            },
        }
    }
    for (key, value) in &mut options {
        // A bare number is milliseconds, also where a rule compares it with a duration.
        if let ("timeout", Value::Int(millis)) = (&**key, &*value) {
            *value = u64::try_from(*millis)
                .map(|millis| Value::Duration(Duration::from_millis(millis)))
                .map_err(|_| ErrorValue::new("TypeError", "`timeout` is negative"))?;
        }
    }
    for (at, (key, _)) in options.iter().enumerate() {
        if options[..at].iter().any(|(earlier, _)| earlier == key) {
            return Err(refused(format!("`{}` is given `{key}` twice", call.name), None));
        }
    }
    if !options.is_empty() {
        put(options_slot(arranged.name()), Value::map(options));
    }
    args.extend(rest);
    // A path has one spelling; a name is looked for by whoever runs it.
    if let ("exec", Some(Value::String(program))) = (arranged.name(), args.first_mut())
        && program.starts_with('/')
    {
        *program = super::absolute(program).into();
    }
    Ok(HostCall { name: Arc::from(arranged.name()), args, named, span: call.span.clone() })
}
