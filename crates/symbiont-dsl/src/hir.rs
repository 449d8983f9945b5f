//! The program as data: what the parser made of the text, without its layout.
//!
//! The syntax tree is lowered into these types; the checker, the policy compiler and the machine's
//! compiler read them and nothing else. Every node that a message may point at has its span.

use std::ops::Range;
use std::time::Duration;

/// Bytes of the source.
pub type Span = Range<usize>;

/// Something, and where it stands in the source.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    /// The thing.
    pub node: T,
    /// Where it stands.
    pub span: Span,
}

/// A whole source text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program {
    /// The entries of all `metadata` blocks, in order.
    pub metadata: Vec<Entry>,
    /// `type` declarations.
    pub types: Vec<TypeDecl>,
    /// `function` declarations outside agents.
    pub functions: Vec<Function>,
    /// `policy` declarations outside agents.
    pub policies: Vec<PolicyBlock>,
    /// `agent` declarations.
    pub agents: Vec<Agent>,
    /// `schedule`, `channel`, `memory` and `webhook` declarations.
    pub blocks: Vec<BlockDecl>,
}

/// `key = value` in a declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Spanned<String>,
    /// The value.
    pub value: Expr,
}

/// `type Name = ...`
#[derive(Debug, Clone, PartialEq)]
pub struct TypeDecl {
    /// Its name.
    pub name: Spanned<String>,
    /// What it stands for.
    pub ty: Type,
}

/// A type as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Type {
    /// Its form.
    pub kind: TypeKind,
    /// Where it stands.
    pub span: Span,
}

/// The forms of types.
#[derive(Debug, Clone, PartialEq)]
pub enum TypeKind {
    /// A name, with arguments where it has some: `String`, `Array<int>`, `Widget<T>`.
    Named(String, Vec<Type>),
    /// `{ field: Type }`
    Record(Vec<(Spanned<String>, Type)>),
}

/// A parameter of an agent, a function, a handler or a lambda.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: Spanned<String>,
    /// Its type, if one is written.
    pub ty: Option<Type>,
}

/// `function name(p: Type) -> Type { statements }`
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: Spanned<String>,
    /// Its parameters.
    pub params: Vec<Param>,
    /// The type of its result, if one is written.
    pub result: Option<Type>,
    /// What it does.
    pub body: Block,
}

/// `agent name(p: Type) -> Type { items }`
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its name.
    pub name: Spanned<String>,
    /// Its parameters.
    pub params: Vec<Param>,
    /// The type of its result, if one is written.
    pub result: Option<Type>,
    /// `capabilities = [...]`, if it is there.
    pub capabilities: Option<Vec<Spanned<String>>>,
    /// `policy name { ... }` inside it.
    pub policies: Vec<PolicyBlock>,
    /// `use policy name`
    pub uses: Vec<Spanned<String>>,
    /// `function` inside it.
    pub functions: Vec<Function>,
    /// `on message`, `on start`, `on stop`.
    pub handlers: Vec<Handler>,
    /// `with ... { }`, if it is there.
    pub with: Option<With>,
    /// Where the declaration stands.
    pub span: Span,
}

/// What a handler answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// `on message(topic, payload)`
    Message,
    /// `on start`
    Start,
    /// `on stop`
    Stop,
}

/// `on event(params) { statements }`
#[derive(Debug, Clone, PartialEq)]
pub struct Handler {
    /// Which event.
    pub event: Event,
    /// Its parameters.
    pub params: Vec<Param>,
    /// What it does.
    pub body: Block,
    /// Where it stands.
    pub span: Span,
}

/// `with key = value, ... { statements }`
#[derive(Debug, Clone, PartialEq)]
pub struct With {
    /// Its attributes.
    pub attributes: Vec<Entry>,
    /// The agent's behaviour.
    pub body: Block,
    /// Where it stands.
    pub span: Span,
}

/// `policy name { rules }`
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyBlock {
    /// Its name.
    pub name: Spanned<String>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
    /// Where it stands.
    pub span: Span,
}

/// The verb of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `allow`
    Allow,
    /// `deny`
    Deny,
    /// `require`
    Require,
    /// `audit`
    Audit,
}

/// `verb: what if condition`
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The verb.
    pub verb: Verb,
    /// What it speaks of: a call (a pattern with named parts), a name, a member such as `fs.read`,
    /// a string, an array of those, or a record of settings.
    pub what: Expr,
    /// The condition, if there is one.
    pub condition: Option<Expr>,
    /// Where it stands.
    pub span: Span,
}

/// The declarations that are blocks of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// `schedule`
    Schedule,
    /// `channel`
    Channel,
    /// `memory`
    Memory,
    /// `webhook`
    Webhook,
}

/// `schedule name { ... }` and the like.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDecl {
    /// Which declaration.
    pub kind: BlockKind,
    /// Its name.
    pub name: Spanned<String>,
    /// Its settings.
    pub entries: Vec<Entry>,
    /// Its inner blocks (`search`, `filter`, `data_classification`), by name.
    pub inner: Vec<(Spanned<String>, Vec<Entry>)>,
    /// `policy` blocks inside it.
    pub policies: Vec<PolicyBlock>,
    /// Where it stands.
    pub span: Span,
}

/// Statements, and the value of the block if it ends in an expression without `;`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// The statements, in order.
    pub statements: Vec<Stmt>,
    /// The closing expression, if there is one.
    pub value: Option<Box<Expr>>,
    /// Where it stands.
    pub span: Span,
}

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Stmt {
    /// Its form.
    pub kind: StmtKind,
    /// Where it stands.
    pub span: Span,
}

/// The forms of statements.
#[derive(Debug, Clone, PartialEq)]
pub enum StmtKind {
    /// `let x: T = e`
    Let {
        /// The name.
        name: Spanned<String>,
        /// Its type, if one is written.
        ty: Option<Type>,
        /// Its value.
        value: Expr,
    },
    /// `x = e`, `x.y += e`, `x[i] *= e`. The target is a name, a member or an element.
    Assign {
        /// What is assigned to.
        target: Expr,
        /// `None` for `=`, the operator of the others.
        op: Option<BinaryOp>,
        /// The value.
        value: Expr,
    },
    /// An expression for its effect, `if` and `match` included.
    Expr(Expr),
    /// `for x in e { }`
    For {
        /// The variable.
        name: Spanned<String>,
        /// What is walked through: an array, a range, a map (its keys) or a string (its characters).
        iterable: Expr,
        /// What is done for each.
        body: Block,
    },
    /// `while e { }`
    While {
        /// The condition.
        condition: Expr,
        /// What is done.
        body: Block,
    },
    /// `try { } catch (Kind e) { }`
    Try {
        /// What is tried.
        body: Block,
        /// What is done about errors; the first that fits.
        catches: Vec<Catch>,
    },
    /// `return e`
    Return(Option<Expr>),
    /// `break`
    Break,
    /// `continue`
    Continue,
}

/// `catch (Kind e) { }`
#[derive(Debug, Clone, PartialEq)]
pub struct Catch {
    /// The kind of error; `None` takes any.
    pub kind: Option<Spanned<String>>,
    /// The error's name in the body, if it has one.
    pub name: Option<Spanned<String>>,
    /// What is done about it.
    pub body: Block,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// Its form.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// The forms of expressions.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// A literal.
    Literal(Literal),
    /// A name.
    Name(String),
    /// `[a, b]`
    Array(Vec<Expr>),
    /// `{ key: e }`, or `Name { field: e }`
    Record {
        /// The name before the brace, if there is one.
        name: Option<Spanned<String>>,
        /// Its fields, in order.
        fields: Vec<(Spanned<String>, Expr)>,
    },
    /// `!e`, `-e`
    Unary(UnaryOp, Box<Expr>),
    /// `a + b`
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `e.name`
    Member(Box<Expr>, Spanned<String>),
    /// `e[i]`
    Index(Box<Expr>, Box<Expr>),
    /// `f(a, name = b)`. Methods and namespaced calls have a [`ExprKind::Member`] as callee.
    Call {
        /// What is called.
        callee: Box<Expr>,
        /// Its arguments, in order.
        args: Vec<Arg>,
    },
    /// `x => e`, `(a, b) => { ... }`
    Lambda {
        /// Its parameters.
        params: Vec<Param>,
        /// What it gives.
        body: Box<Block>,
    },
    /// `if c { } else { }`, whose value is that of the block taken.
    If {
        /// The condition.
        condition: Box<Condition>,
        /// When it holds.
        then: Block,
        /// When it does not; an `else if` is a block with an `if` as value.
        otherwise: Option<Block>,
    },
    /// `match e { pattern => block }`
    Match {
        /// What is looked at.
        subject: Box<Expr>,
        /// The arms, in order.
        arms: Vec<Arm>,
    },
    /// `Some(e)`
    Some(Box<Expr>),
    /// `None`
    None,
    /// `Ok(e)`
    Ok(Box<Expr>),
    /// `Err(e)`
    Err(Box<Expr>),
    /// `vault://path/to/secret`
    Secret(String),
    /// What the parser could not read. A program with one has errors and never runs.
    Missing,
}

impl Expr {
    /// Gives the expressions that stand directly in this one, in order. Those in blocks of it, and in the
    /// heads before such a block, are left out: a walk through them knows what names mean there.
    pub(crate) fn each_part<'a>(&'a self, mut give: impl FnMut(&'a Expr)) {
        match &self.kind {
            ExprKind::Array(items) => items.iter().for_each(give),
            ExprKind::Record { fields, .. } => fields.iter().for_each(|(_, value)| give(value)),
            ExprKind::Unary(_, of)
            | ExprKind::Member(of, _)
            | ExprKind::Some(of)
            | ExprKind::Ok(of)
            | ExprKind::Err(of) => give(of),
            ExprKind::Binary(_, left, right) | ExprKind::Index(left, right) => {
                give(left);
                give(right);
            }
            ExprKind::Call { callee, args } => {
                give(callee);
                args.iter().for_each(|arg| give(&arg.value));
            }
            ExprKind::Literal(_)
            | ExprKind::Name(_)
            | ExprKind::None
            | ExprKind::Secret(_)
            | ExprKind::Missing
            | ExprKind::Lambda { .. }
            | ExprKind::If { .. }
            | ExprKind::Match { .. } => {}
        }
    }
}

/// The condition of an `if`.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// `if e`
    Expr(Expr),
    /// `if let pattern = e`
    Let(Pattern, Expr),
}

/// One argument of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// Its name, if it is named.
    pub name: Option<Spanned<String>>,
    /// Its value.
    pub value: Expr,
}

/// One arm of a `match`.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// What it fits.
    pub pattern: Pattern,
    /// What is done; a single expression is a block with that value.
    pub body: Block,
}

/// A pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// Its form.
    pub kind: PatternKind,
    /// Where it stands.
    pub span: Span,
}

/// The forms of patterns.
#[derive(Debug, Clone, PartialEq)]
pub enum PatternKind {
    /// `_`
    Wildcard,
    /// A name, which takes anything.
    Name(String),
    /// A literal, which takes what equals it.
    Literal(Literal),
    /// `Some(p)`
    Some(Box<Pattern>),
    /// `None`
    None,
    /// `Ok(p)`
    Ok(Box<Pattern>),
    /// `Err(p)`
    Err(Box<Pattern>),
    /// `{ key: p, key }`; keys that are not named may be there.
    Record(Vec<(Spanned<String>, Pattern)>),
}

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// `42`
    Int(i64),
    /// `4.2`
    Float(f64),
    /// `"text"`
    String(String),
    /// `30s`
    Duration(Duration),
    /// `512MB`, in bytes
    Size(u64),
}

/// Operators before an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `!`, `not`
    Not,
    /// `-`
    Negate,
}

/// Operators between expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum BinaryOp {
    Or,
    And,
    Equal,
    NotEqual,
    In,
    NotIn,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}
