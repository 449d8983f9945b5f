//! Values of running programs.
//!
//! # What holds
//!
//! - Cloning a value is cheap: what is large is shared until it is changed.
//! - A container knows how deeply it is nested, so that no walk over a value that a machine made
//!   can overflow the stack: [`MAX_DEPTH`] is checked where values are put into one another.
//! - Shared parts may make a small value stand for an enormous tree. Every walk whose length a
//!   program chooses takes a budget.

mod garbage;
mod json;
mod same;
mod text;

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

pub(crate) use garbage::Garbage;
pub(crate) use json::{Reader, Unwritable, Writer, base64_text};
pub use json::{from_json, from_json_text, json_length, to_json, to_json_text};
pub(crate) use same::Same;
pub(crate) use text::Form;
pub use text::Text;

/// How deeply values may be nested.
pub const MAX_DEPTH: u32 = 128;

/// The most elements of an array.
pub(crate) const LONGEST_LIST: usize = 1 << 20;

/// The most entries of a map. Its index is made anew in one go when it grows, seven eighths of a power of two
/// full (`hashbrown`): with these it is not again, which would take longer than a run may hold a thread.
pub(crate) const LONGEST_MAP: usize = (1 << 18) / 8 * 7;

/// Bytes of an array's own.
pub(crate) const ARRAY: u64 = 48;
/// Bytes of a map's own.
pub(crate) const MAP: u64 = 96;
/// Bytes of one value where it stands.
pub(crate) const VALUE: u64 = size_of::<Value>() as u64;
/// Bytes of one entry of a map, without its key's text.
pub(crate) const ENTRY: u64 = VALUE + 56;
/// Bytes of a text's own.
pub(crate) const TEXT: u64 = 40;

/// What stands where a secret would be shown.
pub const REDACTED: &str = "[redacted]";

/// A value. Cloning one is cheap: what is large is shared until it is changed.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    String(Text),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A length of time.
    Duration(Duration),
    /// A number of bytes.
    Size(u64),
    /// A moment: nanoseconds since 1970, UTC.
    Time(i64),
    /// Values in order.
    Array(Arc<Array>),
    /// Values by name, in the order in which they were added: a map or a record.
    Map(Arc<Map>),
    /// `Some(x)`
    Some(Arc<Value>),
    /// `None`
    None,
    /// `Ok(x)`
    Ok(Arc<Value>),
    /// `Err(x)`
    Err(Arc<Value>),
    /// An error.
    Error(Arc<ErrorValue>),
    /// `range(a, b)`, from the first up to and without the second: an array of which nothing is there
    /// until something asks for more than its numbers. Nothing tells it from another array.
    Range(i64, i64),
    /// A function of the program, or a lambda with what it captured.
    Function(Arc<Closure>),
    /// Whatever a policy may read as "whatever".
    Any,
    /// A secret: used where it is needed, shown nowhere.
    Secret(Arc<Secret>),
    /// A declared memory, by its name: what is called of it is asked of the host.
    Memory(Arc<str>),
}

/// Values in order. It reads as a slice.
#[derive(Debug, Clone, Default)]
pub struct Array {
    items: Vec<Value>,
    /// The deepest it has been: 1 without containers in it.
    depth: u32,
}

/// The entries of a map, in the order in which they were added.
pub type Entries = IndexMap<Arc<str>, Value, foldhash::fast::RandomState>;

/// Values by name. It reads as an [`IndexMap`].
#[derive(Debug, Clone, Default)]
pub struct Map {
    entries: Entries,
    /// The deepest it has been: 1 without containers in it.
    depth: u32,
}

/// An error as a program sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorValue {
    /// Its kind, such as `PolicyDenied`: what `catch` names.
    pub kind: Arc<str>,
    /// What happened, in words.
    pub message: Arc<str>,
    /// The operation that failed, such as `fs.read:/etc/passwd`, if one did.
    pub operation: Option<Arc<str>>,
    /// Whether the same again might succeed.
    pub retryable: bool,
}

/// A function and what it captured when it was made.
#[derive(Debug, Clone)]
pub struct Closure {
    /// Which function of the compiled program.
    pub(crate) function: u32,
    /// The captured values, in the order in which the compiler numbered them.
    pub(crate) captured: Array,
}

/// A secret's path and text.
#[derive(Clone)]
pub struct Secret {
    /// Where it came from.
    pub path: Arc<str>,
    /// What it is.
    pub text: Arc<str>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.path)
    }
}

impl ErrorValue {
    /// An error of a kind, with what happened in words.
    pub fn new(kind: impl Into<Arc<str>>, message: impl Into<Arc<str>>) -> Self {
        ErrorValue { kind: kind.into(), message: message.into(), operation: None, retryable: false }
    }

    /// The same error, with the operation that failed.
    #[must_use]
    pub fn with_operation(self, operation: impl Into<Arc<str>>) -> Self {
        ErrorValue { operation: Some(operation.into()), ..self }
    }

    /// The same error, marked as one that may pass.
    #[must_use]
    pub fn with_retryable(self, retryable: bool) -> Self {
        ErrorValue { retryable, ..self }
    }
}

impl fmt::Display for ErrorValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for ErrorValue {}

impl Array {
    /// An array of these values.
    pub fn new(items: Vec<Value>) -> Self {
        let depth = 1 + items.iter().map(Value::depth).max().unwrap_or(0);
        Array { items, depth }
    }

    /// Appends a value.
    pub fn push(&mut self, value: Value) {
        self.deepen(value.depth() + 1);
        self.items.push(value);
    }

    /// An array that has been as deep as this, which is no less than it is.
    pub(crate) fn with_deepest(items: Vec<Value>, depth: u32) -> Self {
        Array { items, depth }
    }

    /// The deepest it has been.
    pub(crate) fn deepest(&self) -> u32 {
        self.depth
    }

    /// The values themselves, taken out.
    pub fn into_items(mut self) -> Vec<Value> {
        std::mem::take(&mut self.items)
    }

    /// The values, to be changed. Whoever puts a deeper value in calls [`Array::deepen`].
    pub(crate) fn items_mut(&mut self) -> &mut Vec<Value> {
        &mut self.items
    }

    /// Notes that something makes the array this deep.
    pub(crate) fn deepen(&mut self, depth: u32) {
        self.depth = self.depth.max(depth).max(1);
    }
}

impl Deref for Array {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.items
    }
}

impl FromIterator<Value> for Array {
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Self {
        Array::new(items.into_iter().collect())
    }
}

impl Map {
    /// An empty map.
    pub fn new() -> Self {
        Map { entries: Entries::default(), depth: 1 }
    }

    /// An empty map with room for some entries.
    pub(crate) fn with_capacity(entries: usize) -> Self {
        let entries = Entries::with_capacity_and_hasher(entries, Default::default());
        Map { entries, depth: 1 }
    }

    /// Puts a value under a key, and gives back what was there.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, value: Value) -> Option<Value> {
        self.deepen(value.depth() + 1);
        self.entries.insert(key.into(), value)
    }

    /// A map that has been as deep as this, which is no less than it is.
    pub(crate) fn with_deepest(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// The deepest it has been.
    pub(crate) fn deepest(&self) -> u32 {
        self.depth
    }

    /// The entries, to be changed. Whoever puts a deeper value in calls [`Map::deepen`].
    pub(crate) fn entries_mut(&mut self) -> &mut Entries {
        &mut self.entries
    }

    /// Notes that something makes the map this deep.
    pub(crate) fn deepen(&mut self, depth: u32) {
        self.depth = self.depth.max(depth).max(1);
    }
}

impl Deref for Map {
    type Target = Entries;

    fn deref(&self) -> &Entries {
        &self.entries
    }
}

impl<K: Into<Arc<str>>> FromIterator<(K, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(entries: I) -> Self {
        let mut map = Map::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl Closure {
    /// How deeply what it captured is nested, itself included.
    fn depth(&self) -> u32 {
        self.captured.depth
    }
}

impl Value {
    /// An array of these values.
    pub fn array(items: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(Arc::new(items.into_iter().collect()))
    }

    /// A map of these entries.
    pub fn map<K: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        Value::Map(Arc::new(entries.into_iter().collect()))
    }

    /// `Some(value)`
    pub fn some(value: Value) -> Value {
        Value::Some(Arc::new(value))
    }

    /// Whether the value, written out, takes more than these bytes: its texts, and some for each value in it,
    /// where what is shared counts wherever it stands. Takes no longer than `limit` allows.
    ///
    /// What is shared may be exponentially more than what is there: forty times `s = [s, s]` is a million
    /// million values in forty arrays.
    pub fn is_written_beyond(&self, limit: u64) -> bool {
        let mut left = limit;
        self.write_off(&mut left).is_none()
    }

    /// Takes what is written from what is left; `None` when it is more.
    fn write_off(&self, left: &mut u64) -> Option<()> {
        let own = match self {
            Value::String(text) => text.len() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::Error(error) => error.to_string().len() as u64,
            Value::Range(from, to) => u64::try_from(i128::from(*to) - i128::from(*from))
                .unwrap_or(0)
                .saturating_mul(VALUE),
            _ => 0,
        };
        *left = left.checked_sub(own.saturating_add(VALUE))?;
        match self {
            Value::Some(inner) | Value::Ok(inner) | Value::Err(inner) => inner.write_off(left),
            Value::Array(array) => array.iter().try_for_each(|item| item.write_off(left)),
            Value::Map(map) => map.iter().try_for_each(|(key, value)| {
                *left = left.checked_sub(key.len() as u64 + ENTRY)?;
                value.write_off(left)
            }),
            _ => Some(()),
        }
    }

    /// How deeply the value is nested: 0 for one that holds no others.
    pub fn depth(&self) -> u32 {
        let (mut value, mut wrappers) = (self, 0);
        loop {
            match value {
                Value::Some(inner) | Value::Ok(inner) | Value::Err(inner) => {
                    wrappers += 1;
                    value = inner;
                }
                Value::Array(array) => return wrappers + array.depth,
                Value::Range(..) => return wrappers + 1,
                Value::Map(map) => return wrappers + map.depth,
                Value::Function(closure) => return wrappers + closure.depth(),
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
                | Value::Any
                | Value::Secret(_)
                | Value::Memory(_) => return wrappers,
            }
        }
    }

    /// What `type_of` says about it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "duration",
            Value::Size(_) => "size",
            Value::Time(_) => "time",
            Value::Array(_) | Value::Range(..) => "array",
            Value::Map(_) => "map",
            Value::Some(_) | Value::None => "option",
            Value::Ok(_) | Value::Err(_) => "result",
            Value::Error(_) => "error",
            Value::Function(_) => "function",
            Value::Any => "any",
            Value::Secret(_) => "secret",
            Value::Memory(_) => "memory",
        }
    }

    /// Whether a condition takes it as true: all but `false`, `null`, `None` and `Err`.
    pub fn is_true(&self) -> bool {
        !matches!(self, Value::Bool(false) | Value::Null | Value::None | Value::Err(_))
    }

    /// How many elements it has, if it is an array.
    pub(crate) fn list_length(&self) -> Option<usize> {
        match self {
            Value::Array(items) => Some(items.len()),
            Value::Range(from, to) => {
                let length = u64::try_from(i128::from(*to) - i128::from(*from)).unwrap_or(0);
                Some(usize::try_from(length).unwrap_or(usize::MAX))
            }
            _ => None,
        }
    }

    /// An element, if it is an array that has so many.
    pub(crate) fn element(&self, at: usize) -> Option<Value> {
        match self {
            Value::Array(items) => items.get(at).cloned(),
            Value::Range(from, to) => {
                let number = from.checked_add_unsigned(at as u64).filter(|number| number < to);
                number.map(Value::Int)
            }
            _ => None,
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The order of two values, if they have one: numbers, sizes, texts, durations, times, bools.
    pub(crate) fn order(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::String(a), Value::String(b)) if a.address() == b.address() => {
                Some(Ordering::Equal)
            }
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            _ => compare_numbers(self, other),
        }
    }
}

/// Writes a whole number without going through the formatting machinery.
fn itoa(number: i64, buffer: &mut [u8; 20]) -> &str {
    let (mut at, mut rest) = (buffer.len(), number.unsigned_abs());
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    std::str::from_utf8(&buffer[at..]).unwrap_or("")
}

/// A float with its decimal point.
pub(crate) fn float_text(number: f64) -> String {
    format!("{number:?}")
}

/// A duration as ISO 8601, in days, hours, minutes and seconds.
pub(crate) fn duration_text(duration: Duration) -> String {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    let mut text = String::from("P");
    if days > 0 {
        text.push_str(&format!("{days}D"));
    }
    if hours == 0 && minutes == 0 && seconds == 0 && nanoseconds == 0 {
        if days == 0 {
            text.push_str("T0S");
        }
        return text;
    }
    text.push('T');
    if hours > 0 {
        text.push_str(&format!("{hours}H"));
    }
    if minutes > 0 {
        text.push_str(&format!("{minutes}M"));
    }
    if nanoseconds > 0 {
        let fraction = format!("{nanoseconds:09}");
        text.push_str(&format!("{seconds}.{}S", fraction.trim_end_matches('0')));
    } else if seconds > 0 {
        text.push_str(&format!("{seconds}S"));
    }
    text
}

/// A moment as RFC 3339, in UTC. Every `i64` of nanoseconds is one (1677 to 2262).
pub(crate) fn time_text(nanoseconds: i64) -> String {
    moment(nanoseconds).to_string()
}

/// The moment for calendars.
pub(crate) fn moment(nanoseconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

/// The order of two numbers or sizes, by value: an `int` and a `float` are compared exactly.
fn compare_numbers(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Float(b)) => compare_mixed(*a, *b),
        (Value::Float(a), Value::Int(b)) => compare_mixed(*b, *a).map(Ordering::reverse),
        (Value::Size(a), Value::Size(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Size(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Size(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "corrected below")]
fn compare_mixed(a: i64, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    if b >= i64::MAX as f64 {
        return Some(Ordering::Less); // `i64::MAX as f64` is 2^63, beyond every `i64`.
    }
    if b < i64::MIN as f64 {
        return Some(Ordering::Greater);
    }
    let whole = b.trunc() as i64;
    Some(a.cmp(&whole).then_with(|| 0.0_f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal)))
}

/// Equality by value. The host's own values only: a program's may stand for enormous trees.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        Same::new(self, other).go_on(&mut { u64::MAX }).unwrap_or(false)
    }
}

/// As `print` shows it, cut at a mebibyte.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = Writer::shown(self, 1 << 20);
        let written = writer.go_on(usize::MAX);
        f.write_str(&writer.into_text())?;
        if written.is_err() { f.write_str("...") } else { Ok(()) }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::String(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::String(value.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(value: Arc<str>) -> Self {
        Value::String(value.into())
    }
}

impl From<Duration> for Value {
    fn from(value: Duration) -> Self {
        Value::Duration(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Self {
        Value::Array(Arc::new(Array::new(value)))
    }
}

impl From<Map> for Value {
    fn from(value: Map) -> Self {
        Value::Map(Arc::new(value))
    }
}

impl From<ErrorValue> for Value {
    fn from(value: ErrorValue) -> Self {
        Value::Error(Arc::new(value))
    }
}
