//! Values of running programs.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

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
    String(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A length of time.
    Duration(Duration),
    /// A number of bytes.
    Size(u64),
    /// A moment: nanoseconds since 1970, UTC.
    Time(i64),
    /// Values in order.
    Array(Arc<Vec<Value>>),
    /// Values by name, in the order in which they were added: a map or a record.
    Map(Arc<IndexMap<Arc<str>, Value>>),
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
    /// `range(a, b)`: from the first up to and without the second.
    Range(i64, i64),
    /// A function of the program, or a lambda with what it captured.
    Function(Arc<Closure>),
    /// Whatever a policy may read as "whatever".
    Any,
    /// A secret: used where it is needed, shown nowhere.
    Secret(Arc<Secret>),
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
    pub(crate) captured: Vec<Value>,
}

/// A secret's path and text.
#[derive(Clone)]
pub struct Secret {
    /// Where it came from.
    pub path: Arc<str>,
    /// What it is.
    pub text: Arc<str>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.path)
    }
}
