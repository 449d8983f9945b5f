//! The arguments of a call of a tool, against what its manifest says it takes.

use super::{Kind, Parameter, Tool};
use crate::diagnostic::nearest;
use crate::syntax::literal::short;
use crate::value::Value;

/// An argument of a call.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The name it is given by.
    pub name: Option<&'a str>,
    /// What it is, or `None` for what only the run will know.
    pub value: Option<&'a Value>,
}

/// Why a call of a tool is refused for its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which argument, from 0, if it is one.
    pub argument: Option<usize>,
    /// The kind of the error: `TypeError`, or `ToolArgumentError` for a value beyond a limit.
    pub kind: &'static str,
    /// What is wrong, in words.
    pub message: String,
    /// The name that may have been meant.
    pub nearest: Option<String>,
}

/// What is wrong with a value, in words that follow the parameter's name, and of which kind it is.
pub(super) type Unfit = (&'static str, String);

fn beyond(words: String) -> Unfit {
    ("ToolArgumentError", words)
}

impl Tool {
    /// The arguments of a call in the order of the parameters, defaults included; `None` is what was
    /// left out, or what only the run will know.
    ///
    /// # Errors
    ///
    /// The first argument that the tool does not take, or the first parameter that is missing.
    pub fn arguments(&self, given: &[Given<'_>]) -> Result<Vec<Option<Value>>, Refusal> {
        let refused = |argument, kind, message, nearest: Option<&str>| Refusal {
            argument,
            kind,
            message,
            nearest: nearest.map(str::to_owned),
        };
        let mut places: Vec<Option<usize>> = vec![None; self.parameters.len()];
        let mut position = 0;
        for (at, Given { name, .. }) in given.iter().enumerate() {
            let place = match name {
                Some(name) => {
                    let names = || self.parameters.iter().map(|parameter| parameter.name.as_str());
                    names().position(|known| known == *name).ok_or_else(|| {
                        let message = format!("`{}` has no parameter `{}`", self.name, short(name));
                        refused(Some(at), "TypeError", message, nearest(name, names()))
                    })?
                }
                None => {
                    position += 1;
                    position - 1
                }
            };
            let Some(slot) = places.get_mut(place) else {
                let message = format!("a call is `{self}`, and this one has more arguments");
                return Err(refused(Some(at), "TypeError", message, None));
            };
            if slot.replace(at).is_some() {
                let name = &self.parameters[place].name;
                let message = format!("`{}` is given `{name}` twice", self.name);
                return Err(refused(Some(at), "TypeError", message, None));
            }
        }
        let mut values = Vec::with_capacity(self.parameters.len());
        for (parameter, place) in self.parameters.iter().zip(places) {
            // What only the run will know may also be there.
            let open = place.is_some_and(|at| given[at].value.is_none());
            let value = place.and_then(|at| given[at].value).and_then(present);
            let value = match value {
                Some(value) => Some(parameter.fit(value).map_err(|(kind, words)| {
                    let message = format!("`{}` takes {words} as `{}`", self.name, parameter.name);
                    refused(place, kind, message, None)
                })?),
                None if parameter.required && !open => {
                    let message =
                        format!("a call is `{self}`, and this one has no `{}`", parameter.name);
                    return Err(refused(None, "TypeError", message, None));
                }
                None if open => None,
                None => parameter.default.clone(),
            };
            values.push(value);
        }
        Ok(values)
    }
}

/// The value, unless it is nothing.
fn present(value: &Value) -> Option<&Value> {
    match value {
        Value::Null | Value::None => None,
        Value::Some(inner) => present(inner),
        value => Some(value),
    }
}

impl Parameter {
    /// The value in its one form.
    ///
    /// # Errors
    ///
    /// What is taken instead.
    pub(super) fn fit(&self, value: &Value) -> Result<Value, Unfit> {
        let Some((min, max)) = self.items else { return self.one(value) };
        let Value::Array(items) = value else {
            let words = format!("an {} and no {}", self.type_name(), value.type_name());
            return Err(("TypeError", words));
        };
        if items.len() < min || items.len() > max {
            let count = items.len();
            return Err(beyond(format!("{min} to {max} elements and not {count}")));
        }
        let items: Result<Vec<Value>, Unfit> = items.iter().map(|item| self.one(item)).collect();
        Ok(Value::array(items?))
    }

    fn one(&self, value: &Value) -> Result<Value, Unfit> {
        let fit = match (&self.kind, value) {
            (Kind::Text { min, max, pattern }, Value::String(text)) => {
                // A character has at most four bytes.
                let count = if text.len() > max.saturating_mul(4) {
                    max.saturating_add(1)
                } else {
                    text.chars().count()
                };
                if count < *min || count > *max {
                    return Err(beyond(format!("{min} to {max} characters")));
                }
                if let Some(pattern) = pattern
                    && !pattern.is_match(text)
                {
                    let shown = short(text);
                    return Err(beyond(format!(
                        "what matches `{}` and not `{shown}`",
                        shown_pattern(pattern)
                    )));
                }
                value.clone()
            }
            (Kind::Int { min, max }, Value::Int(number)) => {
                if number < min || number > max {
                    return Err(beyond(format!("{} and not {number}", from_to(min, max))));
                }
                value.clone()
            }
            (Kind::Float { min, max }, Value::Int(_) | Value::Float(_)) => {
                #[expect(clippy::cast_precision_loss, reason = "an int is accepted for a float")]
                let number = match value {
                    Value::Int(number) => *number as f64,
                    Value::Float(number) => *number,
                    _ => f64::NAN,
                };
                if !number.is_finite() || number < *min || number > *max {
                    return Err(beyond(format!("{} and not {number}", from_to(min, max))));
                }
                Value::Float(number)
            }
            (Kind::Bool, Value::Bool(_)) => value.clone(),
            (kind, value) => {
                let article = if kind.word() == "int" { "an" } else { "a" };
                let words = format!("{article} {} and no {}", kind.word(), value.type_name());
                return Err(("TypeError", words));
            }
        };
        let same = |allowed: &Value| allowed.to_string() == fit.to_string();
        if !self.allowed.is_empty() && !self.allowed.iter().any(same) {
            let names: Vec<_> = self.allowed.iter().map(|value| format!("`{value}`")).collect();
            let got = short(&fit.to_string());
            return Err(beyond(format!("{} and not `{got}`", names.join(", "))));
        }
        Ok(fit)
    }
}

/// The bounds of a number in words; what is unbounded is left out.
fn from_to<T: ToString + PartialEq + Extreme>(min: &T, max: &T) -> String {
    match (*min == T::LEAST, *max == T::MOST) {
        (false, false) => format!("{} to {}", min.to_string(), max.to_string()),
        (false, true) => format!("at least {}", min.to_string()),
        (true, false) => format!("at most {}", max.to_string()),
        (true, true) => "a finite number".to_owned(),
    }
}

trait Extreme {
    const LEAST: Self;
    const MOST: Self;
}

impl Extreme for i64 {
    const LEAST: Self = Self::MIN;
    const MOST: Self = Self::MAX;
}

impl Extreme for f64 {
    const LEAST: Self = Self::MIN;
    const MOST: Self = Self::MAX;
}

/// The pattern as the manifest has it.
fn shown_pattern(pattern: &regex::Regex) -> &str {
    let text = pattern.as_str();
    let inner = text.strip_prefix(super::manifest::PATTERN_OPEN);
    [super::manifest::PATTERN_CLOSE_COMMENT, super::manifest::PATTERN_CLOSE]
        .into_iter()
        .find_map(|close| inner?.strip_suffix(close))
        .unwrap_or(text)
}
