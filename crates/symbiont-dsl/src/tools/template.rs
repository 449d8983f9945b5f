//! Where the values of a call go: templates, and what comes of them.
//!
//! `{name}` in a template stands for the value of the parameter, `{{` and `}}` for a brace.

use super::arguments::Refusal;
use super::manifest::is_of_header;
use super::{Action, Parameter, Tool};
use crate::url::{Url, encoded};
use crate::value::{Value, to_json};

/// Text with places for values.
#[derive(Debug, Clone, Default)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    /// The value of the parameter of that number.
    Value(usize),
}

/// Arguments of a command that are there together, or none of them.
pub(super) type Group = Vec<Template>;

/// What is sent along with a request.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Text(Template),
    Json(Document),
}

/// A JSON document with places for values.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Fixed(serde_json::Value),
    Text(Template),
    Array(Vec<Document>),
    Object(Vec<(String, Document)>),
}

/// What a call of a tool is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// A command in the agent's sandbox.
    Exec {
        /// The program, and what follows its name.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// What it reads.
        stdin: Option<String>,
    },
    /// A request over HTTP.
    Http(Request),
}

/// A request over HTTP that a tool makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// Whom it asks, and for what.
    pub url: Url,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// What is sent along.
    pub body: Option<String>,
}

impl Template {
    /// Reads a template of these parameters.
    ///
    /// # Errors
    ///
    /// What is wrong, and the name that nobody knows, if it is one.
    pub(super) fn parse<'t>(
        text: &'t str,
        parameters: &[Parameter],
    ) -> Result<Self, (String, Option<&'t str>)> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, after) = (rest.as_bytes()[at], &rest[at + 1..]);
            if after.as_bytes().first() == Some(&brace) {
                plain.push(brace as char);
                rest = &after[1..];
                continue;
            }
            let Some((name, after)) = after.split_once('}').filter(|_| brace == b'{') else {
                return Err(("a `{` or `}` that stands for itself is doubled".to_owned(), None));
            };
            let known = parameters.iter().position(|parameter| parameter.name == name);
            let Some(parameter) = known else {
                return Err((format!("there is no parameter `{name}`"), Some(name)));
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Value(parameter));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// The numbers of the parameters in it.
    pub(super) fn uses(&self) -> impl Iterator<Item = usize> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value(parameter) => Some(*parameter),
            Piece::Text(_) => None,
        })
    }

    /// The text, if it has no place for a value.
    pub(super) fn fixed(&self) -> Option<String> {
        match self.pieces.as_slice() {
            [] => Some(String::new()),
            [Piece::Text(text)] => Some(text.clone()),
            _ => None,
        }
    }

    /// The parameter that is all of it.
    pub(super) fn lone(&self) -> Option<usize> {
        match self.pieces.as_slice() {
            [Piece::Value(parameter)] => Some(*parameter),
            _ => None,
        }
    }

    /// The parameter whose value it begins with, if it does not begin with a text of the manifest. What is
    /// empty begins nothing.
    fn beginning(&self, values: &[Option<Value>]) -> Option<usize> {
        let begins = |piece: &&Piece| match piece {
            Piece::Text(text) => !text.is_empty(),
            Piece::Value(parameter) => {
                values[*parameter].as_ref().is_none_or(|value| !value.to_string().is_empty())
            }
        };
        match self.pieces.iter().find(begins)? {
            Piece::Value(parameter) => Some(*parameter),
            Piece::Text(_) => None,
        }
    }

    /// Whether every value in it is there.
    fn is_there(&self, values: &[Option<Value>]) -> bool {
        self.uses().all(|parameter| values[parameter].is_some())
    }

    fn write(&self, values: &[Option<Value>], spell: impl Fn(&str) -> String) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value(parameter) => {
                    if let Some(value) = &values[*parameter] {
                        out.push_str(&spell(&value.to_string()));
                    }
                }
            }
        }
        out
    }

    /// What it is where an array stands for its elements.
    fn each(&self, values: &[Option<Value>], spell: impl Fn(&str) -> String) -> Vec<String> {
        if !self.is_there(values) {
            return Vec::new();
        }
        match self.lone().and_then(|parameter| values[parameter].as_ref()) {
            Some(Value::Array(items)) => {
                items.iter().map(|item| spell(&item.to_string())).collect()
            }
            _ => vec![self.write(values, spell)],
        }
    }
}

impl Document {
    /// The document with its values; what misses one is left out.
    fn fill(&self, values: &[Option<Value>]) -> Option<serde_json::Value> {
        Some(match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(template) if !template.is_there(values) => return None,
            Self::Text(template) => match template.lone() {
                Some(parameter) => to_json(values[parameter].as_ref()?).ok()?,
                None => template.write(values, str::to_owned).into(),
            },
            Self::Array(items) => items.iter().filter_map(|item| item.fill(values)).collect(),
            Self::Object(entries) => serde_json::Value::Object(
                entries
                    .iter()
                    .filter_map(|(key, item)| Some((key.clone(), item.fill(values)?)))
                    .collect(),
            ),
        })
    }
}

fn as_it_is(text: &str) -> String {
    text.to_owned()
}

impl Tool {
    /// What a call with these [arguments](Tool::arguments) is to do.
    ///
    /// # Errors
    ///
    /// A value that may not stand where the manifest puts it.
    pub fn prepare(&self, values: &[Option<Value>]) -> Result<Prepared, Refusal> {
        match &self.action {
            Action::Exec { program, args, stdin } => {
                let mut written = Vec::new();
                for group in args {
                    if !group.iter().all(|template| template.is_there(values)) {
                        continue;
                    }
                    for template in group {
                        let words = template.each(values, as_it_is);
                        // What a value begins must not be taken for an option.
                        if let Some(first) = template.beginning(values)
                            && !self.parameters[first].leading_dash
                            && words.iter().any(|word| word.starts_with('-'))
                        {
                            let name = &self.parameters[first].name;
                            return Err(self.misplaced(format!("`{name}` may not begin with `-`")));
                        }
                        written.extend(words);
                    }
                }
                let nul = |text: &String| text.contains('\0');
                if written.iter().any(nul) {
                    let words = "an argument of a command can't hold a NUL character";
                    return Err(self.misplaced(words.to_owned()));
                }
                let stdin = stdin.as_ref().filter(|template| template.is_there(values));
                Ok(Prepared::Exec {
                    program: program.clone(),
                    args: written,
                    stdin: stdin.map(|template| template.write(values, as_it_is)),
                })
            }
            Action::Http { method, origin, path, query, headers, body } => {
                let mut text = origin.clone();
                for template in path {
                    let part = template.write(values, encoded);
                    if template.uses().next().is_some() && matches!(part.as_str(), "" | "." | "..")
                    {
                        let words = "a part of the path can't be empty, `.` or `..`";
                        return Err(self.misplaced(words.to_owned()));
                    }
                    text.push('/');
                    text.push_str(&part);
                }
                let mut url = Url::parse(&text)
                    .map_err(|words| self.misplaced(format!("the URL: {words}")))?;
                for (key, template) in query {
                    for value in template.each(values, as_it_is) {
                        url.push_query(key, &value);
                    }
                }
                let mut written = Vec::new();
                for (name, template) in headers.iter().filter(|(_, value)| value.is_there(values)) {
                    let value = template.write(values, as_it_is);
                    if !value.bytes().all(is_of_header) {
                        let words = format!("the header `{name}` holds visible ASCII only");
                        return Err(self.misplaced(words));
                    }
                    written.push((name.clone(), value));
                }
                let body = match body {
                    None => None,
                    Some(Body::Text(template)) if !template.is_there(values) => None,
                    Some(Body::Text(template)) => Some(template.write(values, as_it_is)),
                    Some(Body::Json(document)) => {
                        let named = |name: &str| {
                            written.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
                        };
                        if !named("content-type") {
                            written
                                .push(("content-type".to_owned(), "application/json".to_owned()));
                        }
                        document.fill(values).map(|value| value.to_string())
                    }
                };
                Ok(Prepared::Http(Request { method: method.clone(), url, headers: written, body }))
            }
        }
    }

    fn misplaced(&self, words: String) -> Refusal {
        Refusal {
            argument: None,
            kind: "ToolArgumentError",
            message: format!("`{}`: {words}", self.name),
            nearest: None,
        }
    }
}
