//! Text that is cheap to share and cheap to append to.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A string of a program.
///
/// Cloning shares it. Appending to one that nobody shares extends it in place, so that building a
/// long text piece by piece takes linear time.
#[derive(Clone)]
pub struct Text(Form);

#[derive(Clone)]
pub(crate) enum Form {
    /// As it was made: one allocation.
    Fixed(Arc<str>),
    /// Appended to at least once, or made from a `String`.
    Grown(Arc<String>),
}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Form::Fixed(text) => text,
            Form::Grown(text) => text,
        }
    }

    /// Appends in place where nobody shares the text, and to a copy otherwise.
    pub fn push_str(&mut self, more: &str) {
        match &mut self.0 {
            Form::Fixed(text) => {
                let mut grown = String::with_capacity((text.len() + more.len()).max(32));
                grown.push_str(text);
                grown.push_str(more);
                self.0 = Form::Grown(Arc::new(grown));
            }
            Form::Grown(text) => Arc::make_mut(text).push_str(more),
        }
    }

    /// Whether appending has to copy what is there.
    pub(crate) fn append_copies(&self) -> bool {
        match &self.0 {
            Form::Fixed(_) => true,
            Form::Grown(text) => Arc::strong_count(text) > 1,
        }
    }

    /// How it is held.
    pub(crate) fn form(&self) -> &Form {
        &self.0
    }

    /// Where what is shared with its clones is.
    pub(crate) fn address(&self) -> *const u8 {
        match &self.0 {
            Form::Fixed(text) => Arc::as_ptr(text).cast(),
            Form::Grown(text) => Arc::as_ptr(text).cast(),
        }
    }

    /// Whether somebody else holds the same text.
    pub(crate) fn is_shared(&self) -> bool {
        match &self.0 {
            Form::Fixed(text) => Arc::strong_count(text) > 1,
            Form::Grown(text) => Arc::strong_count(text) > 1,
        }
    }

    /// The text as a key of a map.
    pub fn to_key(&self) -> Arc<str> {
        match &self.0 {
            Form::Fixed(text) => Arc::clone(text),
            Form::Grown(text) => Arc::from(text.as_str()),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Text::from("")
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(Form::Fixed(Arc::from(text)))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(Form::Grown(Arc::new(text)))
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Text(Form::Fixed(text))
    }
}

impl From<Text> for Arc<str> {
    fn from(text: Text) -> Self {
        text.to_key()
    }
}
