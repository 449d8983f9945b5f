//! The text of a document, and the two ways of naming a place in it.
//!
//! The language counts bytes from the beginning; the protocol counts lines, and in a line the units
//! of the encoding that client and server agreed on.
//!
//! # What holds
//!
//! - Every place of the protocol is a place in the text: what is beyond the end of a line is its
//!   end, what is beyond the last line is the end of the text, what is inside a character is its
//!   beginning.
//! - A conversion takes logarithmic time, however long the line.

use lsp_types::{Position, PositionEncodingKind, Range, TextDocumentContentChangeEvent};
use symbiont_dsl::hir::Span;

/// What the protocol counts in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Bytes.
    Utf8,
    /// Units of two bytes, which every client knows.
    Utf16,
}

impl Encoding {
    /// The first of ours that the client offers; UTF-16 where it offers nothing.
    pub fn agreed(offered: &[PositionEncodingKind]) -> Self {
        match offered.contains(&PositionEncodingKind::UTF8) {
            true => Self::Utf8,
            false => Self::Utf16,
        }
    }

    /// Its name in the protocol.
    pub fn kind(self) -> PositionEncodingKind {
        match self {
            Self::Utf8 => PositionEncodingKind::UTF8,
            Self::Utf16 => PositionEncodingKind::UTF16,
        }
    }
}

/// A character that has more bytes than units.
#[derive(Debug, Clone, Copy)]
struct Wide {
    start: usize,
    end: usize,
    /// How many fewer units than bytes the text has up to and with it.
    saved: usize,
}

/// A text, and where its lines begin.
#[derive(Debug, Clone)]
pub struct Text {
    text: String,
    encoding: Encoding,
    lines: Vec<usize>,
    wide: Vec<Wide>,
}

impl Text {
    /// Reads a text.
    pub fn new(text: String, encoding: Encoding) -> Self {
        let mut this = Self { text, encoding, lines: Vec::new(), wide: Vec::new() };
        this.read();
        this
    }

    fn read(&mut self) {
        let bytes = self.text.as_bytes();
        self.lines.clear();
        self.lines.push(0);
        let ends = bytes.iter().enumerate().filter(|(at, byte)| match byte {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        });
        self.lines.extend(ends.map(|(at, _)| at + 1));
        self.wide.clear();
        if self.encoding == Encoding::Utf8 || self.text.is_ascii() {
            return;
        }
        let mut saved = 0;
        for (start, char) in self.text.char_indices().filter(|(_, char)| !char.is_ascii()) {
            saved += char.len_utf8() - char.len_utf16();
            self.wide.push(Wide { start, end: start + char.len_utf8(), saved });
        }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What lines are counted in.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Where a place of the protocol is.
    pub fn offset(&self, position: Position) -> usize {
        let line = position.line as usize;
        let Some(&start) = self.lines.get(line) else { return self.text.len() };
        let end = self.lines.get(line + 1).map_or(self.text.len(), |next| {
            let end = next - 1;
            let crlf = self.text.as_bytes()[start..end].ends_with(b"\r");
            if crlf && self.text.as_bytes()[end] == b'\n' { end - 1 } else { end }
        });
        let units = self.units(start) + position.character as usize;
        let next = self.wide.partition_point(|wide| wide.end - wide.saved <= units);
        let saved = next.checked_sub(1).map_or(0, |last| self.wide[last].saved);
        let mut offset = (units + saved).min(end);
        if let Some(wide) = self.wide.get(next) {
            offset = if offset > wide.start { wide.start } else { offset };
        }
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    /// How the protocol names a place.
    pub fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= offset) - 1;
        let character = self.units(offset) - self.units(self.lines[line]);
        Position { line: number(line), character: number(character) }
    }

    /// How the protocol names a span.
    pub fn range(&self, span: &Span) -> Range {
        Range { start: self.position(span.start), end: self.position(span.end.max(span.start)) }
    }

    /// The bytes of a range.
    pub fn span(&self, range: Range) -> Span {
        let start = self.offset(range.start);
        start..self.offset(range.end).max(start)
    }

    /// How many units a span has.
    pub fn length(&self, span: &Span) -> u32 {
        number(self.units(span.end) - self.units(span.start))
    }

    /// How many units there are before a place.
    fn units(&self, offset: usize) -> usize {
        let before = self.wide.partition_point(|wide| wide.end <= offset);
        offset - before.checked_sub(1).map_or(0, |last| self.wide[last].saved)
    }

    /// Changes the text, in the order in which the client made the changes.
    pub fn change(&mut self, changes: Vec<TextDocumentContentChangeEvent>) {
        for change in changes {
            match change.range {
                Some(range) => {
                    let span = self.span(range);
                    self.text.replace_range(span, &change.text);
                }
                None => self.text = change.text,
            }
            self.read();
        }
    }
}

/// A number for the protocol. No text that fits into a message has 2^32 lines or units.
pub(crate) fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by walking through the text.
    fn plain(text: &str, encoding: Encoding, at: usize) -> Position {
        let before = &text[..at];
        let broken = before.replace("\r\n", "\n\n");
        let start = broken.rfind(['\n', '\r']).map_or(0, |end| end + 1);
        let mut lines = before.matches('\n').count() + before.matches('\r').count()
            - before.matches("\r\n").count();
        let mut start = start;
        // Between the two characters of one end of line there is no line.
        if before.ends_with('\r') && text[at..].starts_with('\n') {
            lines -= 1;
            start = before[..at - 1].rfind(['\n', '\r']).map_or(0, |end| end + 1);
        }
        let line = &before[start..];
        let character = match encoding {
            Encoding::Utf8 => line.len(),
            Encoding::Utf16 => line.encode_utf16().count(),
        };
        Position { line: number(lines), character: number(character) }
    }

    proptest! {
        #[test]
        fn places_are_what_counting_gives(text in "[a\u{e4}\u{20ac}\u{1f600}\n\r]{0,40}") {
            for encoding in [Encoding::Utf8, Encoding::Utf16] {
                let read = Text::new(text.clone(), encoding);
                for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
                    let position = read.position(at);
                    prop_assert_eq!(position, plain(&text, encoding, at), "byte {}", at);
                    let within = text[..at].ends_with('\r') && text[at..].starts_with('\n');
                    prop_assert_eq!(read.offset(position), if within { at - 1 } else { at });
                }
            }
        }

        #[test]
        fn no_place_is_outside(text in "[a\u{e4}\u{1f600}\n\r]{0,20}", line in 0u32..9, character in 0u32..40) {
            let read = Text::new(text.clone(), Encoding::Utf16);
            let offset = read.offset(Position { line, character });
            prop_assert!(text.is_char_boundary(offset));
        }
    }

    #[test]
    fn what_is_inside_a_character_is_its_beginning() {
        let text = Text::new("\u{1f600}b".to_owned(), Encoding::Utf16);
        let at = |character| text.offset(Position { line: 0, character });
        assert_eq!([at(0), at(1), at(2), at(3), at(9)], [0, 0, 4, 5, 5]);
    }
}
