//! The work that goes on stride by stride: reading, writing, comparing, copying, searching.
//!
//! A stride takes far less than a millisecond, and pays about a step for each hundred nanoseconds.

use std::fmt;
use std::sync::Arc;

use memchr::memmem::Finder;
use sha2::{Digest as _, Sha256};

use super::long::Job;
use super::meter::{MAP, Meter, Result, TEXT, VALUE, raise};
use super::work::piece;
use crate::value::{Array, LONGEST_LIST, Map, Reader, Same, Text, Unwritable, Value, Writer};

/// How many elements are gone through in one go.
const ELEMENTS: usize = 4_096;

/// How many bytes are gone through in one go, where each takes about a nanosecond.
const BYTES: usize = 128 << 10;

/// Reads JSON.
impl Job for Reader {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let (at, bytes) = (self.at(), self.bytes);
        let value = self.go_on(BYTES / 8);
        meter.work((self.at() - at) as u64 / 8)?;
        meter.allocate(self.bytes - bytes)?;
        Ok(value?)
    }
}

/// Writes a value.
#[derive(Debug)]
pub(super) struct Write {
    writer: Option<Writer>,
    /// Steps are paid for so much of it.
    paid: usize,
    limit: usize,
    form: Form,
}

/// What a value is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Shown,
    /// What a run gives to its host: JSON that it does not keep.
    Result,
}

impl Write {
    pub(super) fn new(value: &Value, form: Form, limit: usize) -> Write {
        let writer = match form {
            Form::Json | Form::Result => Writer::json(value, limit),
            Form::Shown => Writer::shown(value, limit),
        };
        Write { writer: Some(writer), limit, paid: 0, form }
    }
}

impl Job for Write {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let Some(writer) = &mut self.writer else { return Ok(Some(Value::Null)) };
        let before = writer.length();
        // What is there at once has only been copied.
        meter.bulk(before - self.paid)?;
        let done = writer.go_on(BYTES / 8);
        // Numbers and quotes take longer to write than to copy.
        let written = writer.length() - before;
        meter.work(written as u64 / 4)?;
        meter.bulk(written)?;
        if self.form != Form::Result {
            meter.allocate((writer.length() - self.paid) as u64)?;
        }
        self.paid = writer.length();
        match done {
            Ok(false) => Ok(None),
            Ok(true) => {
                meter.allocate(TEXT)?;
                Ok(self.writer.take().map(|writer| Value::from(writer.into_text())))
            }
            Err(Unwritable::TooLong) if self.form == Form::Shown => Err(meter.too_long()),
            Err(why) => Err(why.error(self.limit).into()),
        }
    }
}

/// Compares two values.
impl Job for Same {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let before = 8 * ELEMENTS as u64;
        let mut budget = before;
        let same = self.go_on(&mut budget);
        meter.work((before - budget) / 8)?;
        Ok(same.map(Value::Bool))
    }
}

/// Looks for a value in an array.
#[derive(Debug)]
pub(super) struct Find {
    items: Arc<Array>,
    item: Value,
    at: usize,
    same: Option<Same>,
}

impl Find {
    pub(super) fn new(items: &Arc<Array>, item: &Value) -> Find {
        Find { items: Arc::clone(items), item: item.clone(), at: 0, same: None }
    }
}

impl Job for Find {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let before = 8 * ELEMENTS as u64;
        let mut budget = before;
        let found = loop {
            let Some(other) = self.items.get(self.at) else { break Some(false) };
            if budget == 0 {
                break None;
            }
            budget = budget.saturating_sub(1 + self.item.as_str().map_or(0, str::len) as u64 / 64);
            let same = self.same.get_or_insert_with(|| Same::new(other, &self.item));
            match same.go_on(&mut budget) {
                Some(true) => break Some(true),
                Some(false) => {
                    self.same = None;
                    self.at += 1;
                }
                None => break None,
            }
        };
        meter.work((before - budget) / 8)?;
        Ok(found.map(Value::Bool))
    }
}

/// Goes through an array with a value that each element may change: a sum, the least, the greatest.
#[derive(Debug)]
pub(super) struct Fold {
    items: Arc<Array>,
    at: usize,
    value: Value,
    with: fn(&mut Value, &Value, &mut Meter) -> Result,
}

impl Fold {
    /// Begins with a value, and with the element of this number.
    pub(super) fn new(
        items: &Arc<Array>,
        at: usize,
        value: Value,
        with: fn(&mut Value, &Value, &mut Meter) -> Result,
    ) -> Fold {
        Fold { items: Arc::clone(items), at, value, with }
    }
}

impl Job for Fold {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let end = self.at.saturating_add(ELEMENTS).min(self.items.len());
        meter.work(end.saturating_sub(self.at) as u64 / 2)?;
        for item in self.items.get(self.at..end).unwrap_or_default() {
            (self.with)(&mut self.value, item, meter)?;
        }
        self.at = end;
        Ok((end == self.items.len()).then(|| std::mem::take(&mut self.value)))
    }
}

/// Copies what is in two arrays, or in two maps, into one.
#[derive(Debug)]
pub(super) enum Join {
    Arrays { parts: [Value; 2], at: [usize; 2], ends: [usize; 2], made: Array },
    Maps { parts: [Arc<Map>; 2], at: [usize; 2], made: Map },
}

impl Join {
    /// Two arrays. They have been found not to be too long.
    pub(super) fn arrays(a: &Value, b: &Value) -> Join {
        let ends = [a, b].map(|list| list.list_length().unwrap_or(0));
        Join::of([a.clone(), b.clone()], 0, ends)
    }

    /// An array by itself: a copy, or what a range stands for.
    pub(super) fn array(array: &Value) -> Join {
        Join::arrays(array, &Value::Null)
    }

    /// A part of an array.
    pub(super) fn slice(array: &Value, part: std::ops::Range<usize>) -> Join {
        Join::of([array.clone(), Value::Null], part.start, [part.end, 0])
    }

    fn of(parts: [Value; 2], start: usize, ends: [usize; 2]) -> Join {
        let mut made = Array::new(Vec::with_capacity(ends[0] - start + ends[1] + 1));
        made.deepen(parts[0].depth().max(parts[1].depth()));
        Join::Arrays { parts, at: [0, start], ends, made }
    }

    pub(super) fn maps(a: &Arc<Map>, b: &Arc<Map>) -> Join {
        let mut made = Map::with_capacity(a.len().max(b.len()));
        made.deepen(a.deepest().max(b.deepest()));
        Join::Maps { parts: [Arc::clone(a), Arc::clone(b)], at: [0, 0], made }
    }
}

impl Job for Join {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        match self {
            Join::Arrays { parts, at: [part, at], ends, made } => {
                let mut left = ELEMENTS;
                while *part < 2 && left > 0 {
                    let end = (*at + left).min(ends[*part]);
                    meter.bulk(2 * (end - *at))?;
                    match &parts[*part] {
                        Value::Array(items) => {
                            made.items_mut().extend_from_slice(&items[*at..end]);
                        }
                        range => {
                            made.items_mut().extend((*at..end).filter_map(|at| range.element(at)));
                        }
                    }
                    (left, *at) = (left - (end - *at), end);
                    if end == ends[*part] {
                        (*part, *at) = (*part + 1, 0);
                    }
                }
                Ok((*part == 2).then(|| Value::Array(Arc::new(std::mem::take(made)))))
            }
            Join::Maps { parts, at: [part, at], made } if *part < 2 => {
                let end = (*at + ELEMENTS / 2).min(parts[*part].len());
                meter.work((end - *at) as u64)?;
                meter.entries(made.len())?;
                for (key, value) in (*at..end).filter_map(|at| parts[*part].get_index(at)) {
                    made.entries_mut().insert(Arc::clone(key), value.clone());
                }
                *at = end;
                if end == parts[*part].len() {
                    (*part, *at) = (*part + 1, 0);
                }
                Ok(None)
            }
            Join::Maps { made, .. } => Ok(Some(Value::from(std::mem::take(made)))),
        }
    }
}

/// Copies a text, and what is appended to it.
#[derive(Debug)]
pub(super) struct Append {
    parts: [Text; 2],
    /// The part, and how much of it has been copied.
    at: [usize; 2],
    made: String,
}

impl Append {
    /// Two texts that have been found not to be too long together.
    pub(super) fn new(text: Text, more: Text) -> Append {
        let made = String::with_capacity(text.len() + more.len());
        Append { parts: [text, more], at: [0, 0], made }
    }
}

impl Job for Append {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let [part, at] = self.at;
        let text = &self.parts[part];
        let mut end = (at + BYTES).min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        meter.bulk(end - at)?;
        self.made.push_str(&text[at..end]);
        self.at = if end == text.len() { [part + 1, 0] } else { [part, end] };
        Ok((self.at[0] == 2).then(|| Value::from(std::mem::take(&mut self.made))))
    }
}

/// Reads CSV, whose first line names the fields.
pub(super) struct Csv {
    text: Text,
    at: usize,
    reader: Box<csv_core::Reader>,
    /// A field that is being read.
    field: Vec<u8>,
    keys: Option<Vec<Arc<str>>>,
    record: Vec<Value>,
    records: Array,
}

impl fmt::Debug for Csv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Csv({})", self.at)
    }
}

impl Csv {
    pub(super) fn new(text: &Text) -> Csv {
        Csv {
            text: text.clone(),
            at: 0,
            reader: Box::new(csv_core::Reader::new()),
            field: Vec::new(),
            keys: None,
            record: Vec::new(),
            records: Array::default(),
        }
    }

    /// A record has been read.
    fn take(&mut self, meter: &mut Meter) -> Result {
        let record = std::mem::take(&mut self.record);
        let Some(keys) = &self.keys else {
            let texts = record.iter().filter_map(|field| match field {
                Value::String(text) => Some(text.to_key()),
                _ => None,
            });
            self.keys = Some(texts.collect());
            return Ok(());
        };
        if record.len() != keys.len() {
            let number = self.records.len() + 2;
            let (fields, named) = (record.len(), keys.len());
            let message = format!("no CSV: record {number} has {fields} fields, the first {named}");
            return Err(raise("ParseError", message));
        }
        if self.records.len() >= LONGEST_LIST {
            return meter.list(LONGEST_LIST + 1);
        }
        meter.map(keys.len())?;
        meter.allocate(VALUE)?;
        let mut map = Map::with_capacity(keys.len());
        for (key, value) in keys.iter().zip(record) {
            map.insert(Arc::clone(key), value);
        }
        self.records.push(Value::from(map));
        Ok(())
    }
}

impl Job for Csv {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let start = self.at;
        let stop = (start + BYTES / 8).min(self.text.len());
        let mut buffer = [0; 1 << 10];
        let text = self.text.clone();
        loop {
            if self.at >= stop && stop < text.len() {
                meter.work((self.at - start) as u64 / 4)?;
                return Ok(None);
            }
            let (result, read, wrote) =
                self.reader.read_field(&text.as_bytes()[self.at..stop], &mut buffer);
            self.at += read;
            self.field.extend_from_slice(&buffer[..wrote]);
            match result {
                csv_core::ReadFieldResult::InputEmpty | csv_core::ReadFieldResult::OutputFull => {}
                csv_core::ReadFieldResult::Field { record_end } => {
                    let field = String::from_utf8_lossy(&self.field);
                    meter.allocate(TEXT + field.len() as u64)?;
                    self.record.push(Value::from(&*field));
                    self.field.clear();
                    meter.entries(self.record.len())?;
                    if record_end {
                        self.take(meter)?;
                    }
                }
                csv_core::ReadFieldResult::End => {
                    meter.work((self.at - start) as u64 / 4)?;
                    let records = std::mem::take(&mut self.records);
                    return Ok(Some(Value::Array(Arc::new(records))));
                }
            }
        }
    }
}

/// Cuts a text wherever something stands in it.
#[derive(Debug)]
pub(super) struct Split {
    text: Text,
    finder: Box<Finder<'static>>,
    /// Where the next part begins.
    start: usize,
    /// Up to where the text has been searched.
    at: usize,
    parts: Array,
}

impl Split {
    pub(super) fn new(text: &Text, finder: Box<Finder<'static>>) -> Split {
        Split { text: text.clone(), finder, start: 0, at: 0, parts: Array::default() }
    }
}

impl Job for Split {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let (from, length) = (self.at, self.finder.needle().len());
        let stop = from.saturating_add(BYTES).min(self.text.len());
        let reach = stop.saturating_add(length - 1).min(self.text.len());
        // Each that is found takes as long as many bytes that are passed by.
        let mut left = ELEMENTS;
        while left > 0 && self.at < stop {
            let Some(found) = self.finder.find(&self.text.as_bytes()[self.at..reach]) else {
                self.at = stop;
                break;
            };
            let end = self.at + found;
            piece(&self.text[self.start..end], &mut self.parts, meter)?;
            self.at = end + length;
            (self.start, left) = (self.at, left - 1);
        }
        meter.work((self.at - from) as u64 / 16 + (ELEMENTS - left) as u64 / 4)?;
        meter.list(self.parts.len() + 1)?;
        if self.at < self.text.len() {
            return Ok(None);
        }
        piece(&self.text[self.start..], &mut self.parts, meter)?;
        Ok(Some(Value::Array(Arc::new(std::mem::take(&mut self.parts)))))
    }
}

/// Makes a text or a number of a text or of bytes.
#[derive(Debug)]
pub(super) struct Change {
    source: Source,
    at: usize,
    made: String,
    how: How,
}

#[derive(Debug)]
enum Source {
    Text(Text),
    Bytes(Arc<[u8]>),
}

#[derive(Debug)]
pub(super) enum How {
    Lower,
    Upper,
    Reverse,
    Base64,
    Hash(Sha256),
    /// One text for another.
    Replace(Box<Finder<'static>>, Arc<str>),
    /// Whether it holds something.
    Holds(Box<Finder<'static>>),
}

impl Change {
    pub(super) fn of(value: &Value, how: How) -> Change {
        let source = match value {
            Value::Bytes(bytes) => Source::Bytes(Arc::clone(bytes)),
            Value::String(text) => Source::Text(text.clone()),
            _ => Source::Text(Text::default()),
        };
        Change { source, at: 0, made: String::new(), how }
    }
}

impl Job for Change {
    fn stride(&mut self, meter: &mut Meter) -> Result<Option<Value>> {
        let text = match &self.source {
            Source::Text(text) => text.as_str(),
            Source::Bytes(_) => "",
        };
        let bytes = match &self.source {
            Source::Text(text) => text.as_bytes(),
            Source::Bytes(bytes) => bytes,
        };
        let (start, before) = (self.at, self.made.len());
        // Base64 takes three bytes at a time.
        let mut stop = (start + BYTES / 6 * 3).min(bytes.len());
        match &mut self.how {
            How::Lower | How::Upper => {
                // Letters look around them, but not beyond a space.
                let rest = &text[start..];
                let mut length = (stop - start).min(rest.len());
                if length < rest.len() {
                    let spaces = rest.as_bytes()[..length].iter();
                    length = match spaces.rev().position(u8::is_ascii_whitespace) {
                        Some(behind) => length - behind,
                        None => {
                            (0..=length).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0)
                        }
                    };
                }
                let part = &rest[..length];
                stop = start + length;
                let part = match self.how {
                    How::Lower => part.to_lowercase(),
                    _ => part.to_uppercase(),
                };
                self.made.push_str(&part);
                meter.work((stop - start) as u64 / 8)?;
            }
            How::Reverse => {
                let end = text.len() - start;
                let from = (0..=end.saturating_sub(stop - start)).rev();
                let from = from.into_iter().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                self.made.extend(text[from..end].chars().rev());
                stop = text.len() - from;
                meter.work((stop - start) as u64 / 16)?;
            }
            How::Base64 => {
                self.made.push_str(&crate::value::base64_text(&bytes[start..stop]));
                meter.work((stop - start) as u64 / 16)?;
            }
            How::Hash(digest) => {
                digest.update(&bytes[start..stop]);
                meter.work((stop - start) as u64 / 8)?;
            }
            How::Replace(finder, with) if finder.needle().is_empty() => {
                while !text.is_char_boundary(stop) {
                    stop -= 1;
                }
                for letter in text[start..stop].chars() {
                    self.made.push_str(with);
                    meter.fits(self.made.len())?;
                    self.made.push(letter);
                }
                if stop == text.len() {
                    self.made.push_str(with);
                }
                meter.work((stop - start) as u64 / 8)?;
            }
            How::Replace(finder, with) => {
                let reach = (stop + finder.needle().len() - 1).min(bytes.len());
                let mut at = start;
                // Each that is found takes as long as many bytes that are passed by.
                let mut left = ELEMENTS;
                while at < stop
                    && left > 0
                    && let Some(found) = finder.find(&bytes[at..reach])
                {
                    self.made.push_str(&text[at..at + found]);
                    self.made.push_str(with);
                    at += found + finder.needle().len();
                    left -= 1;
                    if self.made.len() - before > BYTES {
                        break;
                    }
                }
                let full = left == 0 || self.made.len() - before > BYTES;
                if !full && at < stop {
                    while !text.is_char_boundary(stop) {
                        stop -= 1;
                    }
                    self.made.push_str(&text[at..stop]);
                    at = stop;
                }
                stop = at;
                meter.work((stop - start) as u64 / 16 + (ELEMENTS - left) as u64 / 4)?;
            }
            How::Holds(finder) => {
                let reach = (stop + finder.needle().len()).min(bytes.len());
                meter.work((reach - start) as u64 / 32)?;
                if finder.find(&bytes[start..reach]).is_some() {
                    return Ok(Some(Value::Bool(true)));
                }
            }
        }
        self.at = stop;
        meter.bulk(self.made.len() - before)?;
        meter.fits(self.made.len())?;
        meter.allocate((self.made.len() - before) as u64)?;
        if stop < bytes.len() {
            return Ok(None);
        }
        meter.allocate(TEXT + MAP)?;
        Ok(Some(match &mut self.how {
            How::Holds(_) => Value::Bool(false),
            How::Hash(digest) => {
                let digest = std::mem::take(digest).finalize();
                Value::from(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            }
            How::Lower | How::Upper | How::Reverse | How::Base64 | How::Replace(..) => {
                Value::from(std::mem::take(&mut self.made))
            }
        }))
    }
}
