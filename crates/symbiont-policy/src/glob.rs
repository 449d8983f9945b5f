//! Texts in which `*` stands for any text, and the operations that a rule names with them.

/// Whether `text` has the form `pattern`, in time of at most the product of their lengths.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Where to go on when the text after the last star turns out to belong to the star.
    let mut retry = None;
    while from < text.len() {
        if pattern.get(at) == Some(&b'*') {
            retry = Some((at + 1, from));
            at += 1;
        } else if pattern.get(at) == Some(&text[from]) {
            (at, from) = (at + 1, from + 1);
        } else if let Some((after_star, taken)) = retry {
            (at, from) = (after_star, taken + 1);
            retry = Some((after_star, taken + 1));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// The operations that one entry of a rule's `operations` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern<'a> {
    /// Every operation.
    Every,
    /// `fs.read`: this name, with or without a part after the colon.
    Name(&'a str),
    /// `tool.*`: such names, with or without a part after the colon.
    NameLike(&'a str),
    /// `fs.read:/a`: this operation and no other.
    Exact(&'a str),
    /// `fs.read:/a*`: this name, and a whole operation of such a form.
    Under(&'a str, &'a str),
    /// `*:443`: a whole operation of such a form.
    Like(&'a str),
}

impl<'a> Pattern<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        match text.split_once(':') {
            None if text == "*" => Self::Every,
            None if text.contains('*') => Self::NameLike(text),
            None => Self::Name(text),
            Some((name, _)) if name.contains('*') => Self::Like(text),
            Some((name, rest)) if rest.contains('*') => Self::Under(name, text),
            Some(_) => Self::Exact(text),
        }
    }

    pub(crate) fn covers(self, operation: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Name(name) => name_of(operation) == name,
            Self::NameLike(glob) => matches(glob, name_of(operation)),
            Self::Exact(whole) => operation == whole,
            Self::Under(name, glob) => name_of(operation) == name && matches(glob, operation),
            Self::Like(glob) => matches(glob, operation),
        }
    }
}

/// The part of an operation before its first colon.
pub(crate) fn name_of(operation: &str) -> &str {
    operation.split_once(':').map_or(operation, |(name, _)| name)
}

/// The part of an operation after its first colon.
pub(crate) fn resource_of(operation: &str) -> Option<&str> {
    operation.split_once(':').map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, operation: &str, want: bool) {
        assert_eq!(Pattern::new(pattern).covers(operation), want, "{pattern} of {operation}");
    }

    #[test]
    fn a_pattern_covers_what_its_form_says() {
        check("fs.read", "fs.read", true);
        check("fs.read", "fs.read:", true);
        check("fs.read", "fs.read:/a", true);
        check("fs.read", "fs.reader", false);
        check("fs.read:", "fs.read", false);
        check("fs.read:", "fs.read:", true);
        check("fs.read:/a*", "fs.read:/a/b", true);
        check("fs.read:/a*", "fs.read:/b/a", false);
        check("fs.read:*", "fs.read", false);
        check("net.connect:*:443", "net.connect:a:b:443", true);
        check("net.connect:*:443", "net.connect:443", false);
        check("tool.*", "tool.call:git", true);
        check("*l", "tool.call:git", true);
        check("a*b", "axx:yyb", false);
        check("*:443", "net.connect:a:443", true);
        check("*", "", true);
        check("é*", "éa", true);
    }

    #[test]
    fn hostile_globs_end() {
        assert!(!matches(&"*a".repeat(512), &"a".repeat(500)));
        assert!(matches(&"*a".repeat(512), &"a".repeat(4096)));
        assert!(matches("", ""));
        assert!(!matches("", "a"));
    }
}
