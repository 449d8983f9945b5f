//! Where lines break.
//!
//! What is to be printed is a flat list of instructions ([`Op`]): texts, places where a line may
//! break, and groups. A group stands on one line if it has no forced break in it and fits; if not,
//! each of its own places breaks, and the groups in it decide for themselves. A group may also
//! name where its last part begins: if all before that fits, only that part breaks
//! (`f(a, {` and the fields on lines of their own).
//!
//! # What holds
//!
//! - One pass backwards measures, one pass forwards prints; both are loops, so that neither time nor
//!   stack grows faster than the text.
//! - A comment that ends with its line is followed by a line break, whatever was meant to follow.

/// The width that lines should have at most, in characters.
const WIDTH: usize = 100;

/// What one more level moves to the right.
const INDENT: usize = 4;

/// One instruction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op<'a> {
    /// As it is.
    Text(&'a str),
    /// A space, unless a line begins.
    Space,
    /// In a group on one line this text, a new line in a broken one.
    Line(&'static str),
    /// A new line.
    Hard,
    /// A new line, and an empty one before it.
    Blank,
    /// Breaks the groups that it is in, and is nothing itself.
    Break,
    /// Only in a group on one line.
    IfFlat(&'static str),
    /// Only in a broken group.
    IfBroken(&'static str),
    /// Begins the group with this number.
    Open(usize),
    Close,
    Indent,
    Dedent,
    /// A comment on a line of its own.
    Own(&'a str),
    /// A comment behind what was printed last, before the end of that line.
    Trailing(&'a str),
    /// A comment between what is before and behind it.
    Inline(&'a str),
}

/// How a group is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Flat,
    Broken,
    /// On one line but for its last part.
    Hugging,
}

/// The instructions, in order.
#[derive(Debug, Default)]
pub(super) struct Layout<'a> {
    ops: Vec<Op<'a>>,
    groups: Vec<Group>,
    /// The numbers of the groups that are open.
    open: Vec<usize>,
}

#[derive(Debug, Default)]
struct Group {
    /// The number of the instruction after its last.
    end: usize,
    /// The number of the instruction with which its last part begins.
    last_part: Option<usize>,
}

impl<'a> Layout<'a> {
    pub(super) fn push(&mut self, op: Op<'a>) {
        self.ops.push(op);
    }

    pub(super) fn open(&mut self) {
        self.open.push(self.groups.len());
        self.ops.push(Op::Open(self.groups.len()));
        self.groups.push(Group::default());
    }

    /// Whether what comes next is a part of the open group that may break without the rest of it.
    pub(super) fn last_part(&mut self, may_break: bool) {
        if let Some(group) = self.open.last() {
            self.groups[*group].last_part = may_break.then_some(self.ops.len());
        }
    }

    pub(super) fn close(&mut self) {
        self.ops.push(Op::Close);
        if let Some(group) = self.open.pop() {
            self.groups[group].end = self.ops.len();
        }
    }

    pub(super) fn print(&self) -> String {
        let measures = Measures::of(&self.ops);
        let mut page = Page::default();
        let mut modes: Vec<Mode> = Vec::new();
        for (at, op) in self.ops.iter().enumerate() {
            let mode = modes.last().copied().unwrap_or(Mode::Broken);
            match *op {
                Op::Text(text) => page.text(text),
                Op::Space => page.space = true,
                Op::Line(_) if mode == Mode::Broken => page.line(1),
                Op::Line(flat) => page.space |= !flat.is_empty(),
                Op::Hard => page.line(1),
                Op::Blank => page.line(2),
                Op::IfFlat(text) if mode == Mode::Flat => page.text(text),
                Op::IfBroken(text) if mode == Mode::Broken => page.text(text),
                Op::Break | Op::IfFlat(_) | Op::IfBroken(_) => {}
                Op::Open(_) if mode == Mode::Flat => modes.push(Mode::Flat),
                Op::Open(group) => {
                    modes.push(measures.mode(at, &self.groups[group], page.column()));
                }
                Op::Close => {
                    modes.pop();
                }
                // The last part is not moved to the right when the others are not.
                Op::Indent => page.indent += INDENT * usize::from(mode != Mode::Hugging),
                Op::Dedent => page.indent -= INDENT * usize::from(mode != Mode::Hugging),
                Op::Own(text) => page.own_line(text),
                Op::Trailing(text) => page.trailing(text),
                Op::Inline(text) => page.inline(text),
            }
        }
        page.finish()
    }
}

/// For each instruction and the place after the last, what decides whether a group fits.
struct Measures {
    /// How wide all before it is on one line.
    width: Vec<usize>,
    /// How many forced breaks are before it.
    breaks: Vec<usize>,
    /// How wide what comes is up to the next place where a line may break.
    ahead: Vec<usize>,
}

impl Measures {
    fn of(ops: &[Op<'_>]) -> Self {
        let (mut width, mut breaks) = (vec![0; ops.len() + 1], vec![0; ops.len() + 1]);
        let mut ahead = vec![0; ops.len() + 1];
        for (at, op) in ops.iter().enumerate() {
            let (wide, forced) = match op {
                Op::Text(text) => (first_line(text).0, false),
                Op::Inline(text) => (first_line(text).0 + 1, false),
                Op::Space => (1, false),
                Op::Line(flat) | Op::IfFlat(flat) => (flat.len(), false),
                Op::Hard | Op::Blank | Op::Break | Op::Own(_) | Op::Trailing(_) => (0, true),
                Op::IfBroken(_) | Op::Open(_) | Op::Close | Op::Indent | Op::Dedent => (0, false),
            };
            width[at + 1] = width[at] + wide;
            breaks[at + 1] = breaks[at] + usize::from(forced);
        }
        for (at, op) in ops.iter().enumerate().rev() {
            ahead[at] = match op {
                Op::Text(text) | Op::Inline(text) => match first_line(text) {
                    (wide, true) => wide,
                    (wide, false) => wide + ahead[at + 1],
                },
                Op::Space => 1 + ahead[at + 1],
                Op::Line(_) | Op::Hard | Op::Blank | Op::Own(_) | Op::Trailing(_) => 0,
                // A group is looked at only inside a broken one.
                Op::IfBroken(text) => text.len() + ahead[at + 1],
                Op::Break | Op::IfFlat(_) => ahead[at + 1],
                Op::Open(_) | Op::Close | Op::Indent | Op::Dedent => ahead[at + 1],
            };
        }
        Self { width, breaks, ahead }
    }

    /// How the group that begins at instruction `at` is printed from this column on.
    fn mode(&self, at: usize, group: &Group, column: usize) -> Mode {
        let fits = |end: usize| {
            self.breaks[at] == self.breaks[end]
                && column + self.width[end] - self.width[at] + self.ahead[end] <= WIDTH
        };
        match group.last_part {
            _ if fits(group.end) => Mode::Flat,
            Some(last_part) if fits(last_part) => Mode::Hugging,
            Some(_) | None => Mode::Broken,
        }
    }
}

/// How many characters the first line of a text has, and whether there are more lines.
fn first_line(text: &str) -> (usize, bool) {
    match text.split_once('\n') {
        Some((line, _)) => (line.chars().count(), true),
        None => (text.chars().count(), false),
    }
}

/// What has been printed, and what comes before the next text.
#[derive(Default)]
struct Page {
    out: String,
    column: usize,
    indent: usize,
    /// New lines to come.
    lines: usize,
    /// Whether they are there because of a comment alone: what follows goes on with what was begun.
    goes_on: bool,
    space: bool,
    /// Whether the space is there because of a comment alone.
    after_comment: bool,
}

impl Page {
    fn line(&mut self, lines: usize) {
        self.lines = self.lines.max(lines);
        self.goes_on = false;
    }

    /// The column at which the next text would begin.
    fn column(&self) -> usize {
        match self.lines {
            0 => self.column + usize::from(self.space),
            _ => self.margin(),
        }
    }

    fn margin(&self) -> usize {
        self.indent + INDENT * usize::from(self.goes_on)
    }

    fn text(&mut self, text: &str) {
        if self.after_comment && matches!(text, ")" | "]" | "," | ";" | ".") {
            self.space = false;
        }
        self.begin();
        self.write(text);
    }

    /// Goes to where the next text begins.
    fn begin(&mut self) {
        if !self.out.is_empty() {
            if self.lines > 0 {
                self.out.extend(std::iter::repeat_n('\n', self.lines));
                self.column = self.margin();
                self.out.extend(std::iter::repeat_n(' ', self.column));
            } else if self.space {
                self.out.push(' ');
                self.column += 1;
            }
        }
        (self.lines, self.goes_on, self.space, self.after_comment) = (0, false, false, false);
    }

    fn write(&mut self, text: &str) {
        self.out.push_str(text);
        match text.rsplit_once('\n') {
            Some((_, last)) => self.column = last.chars().count(),
            None => self.column += text.chars().count(),
        }
    }

    /// Writes a comment, without what is invisible at the ends of its lines.
    fn comment(&mut self, text: &str) {
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                self.write("\n");
            }
            self.write(line.trim_end());
        }
    }

    fn own_line(&mut self, text: &str) {
        if self.lines == 0 {
            (self.lines, self.goes_on) = (1, true);
        }
        let goes_on = self.goes_on;
        self.begin();
        self.comment(text);
        (self.lines, self.goes_on) = (1, goes_on);
    }

    fn trailing(&mut self, text: &str) {
        self.out.push(' ');
        self.comment(text);
        if self.lines == 0 {
            (self.lines, self.goes_on) = (1, true);
        }
    }

    fn inline(&mut self, text: &str) {
        self.space |= !self.out.ends_with(['(', '[', ' ']);
        self.begin();
        self.comment(text);
        (self.space, self.after_comment) = (true, true);
    }

    fn finish(mut self) -> String {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out
    }
}
