//! The kinds of tokens and of nodes in the syntax tree.

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// What a token or a node of the syntax tree is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the names say it")]
        pub enum SyntaxKind { $($(#[doc = $doc])* $name),* }

        impl SyntaxKind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

kinds! {
    // What the parser does not look at.
    Whitespace, LineComment, BlockComment,
    /// Characters that mean nothing here; the lexer has said so.
    Unknown,
    // Words and literals. Keywords are names: which word is one depends on where it stands.
    Name, Int, Float,
    /// A number with a unit: `30s`, `30.seconds`, `512MB`.
    Quantity,
    String,
    /// `"""text"""`
    LongString,
    /// `vault://path`
    Secret,
    // Brackets.
    LeftParen, RightParen, LeftBrace, RightBrace, LeftBracket, RightBracket,
    // Marks. `>=` is two tokens, since `Array<int>=` is not a comparison.
    Comma, Semicolon, Colon, Dot, Equals, FatArrow, ThinArrow,
    EqualsEquals, BangEquals, Less, Greater, LessEquals,
    /// No operator of the language; the parser says what to write instead.
    Question,
    Plus, Minus, Star, Slash, Percent, Bang, AndAnd, OrOr,
    PlusEquals, MinusEquals, StarEquals, SlashEquals, PercentEquals,
    /// After the last token; never in the tree.
    End,
    // Nodes.
    Root, Metadata, Agent, Policy, Rule, TypeDeclaration, Function, Schedule, Channel, Memory,
    Webhook, InnerBlock, Entry, Parameters, Parameter, Capabilities, Use, Handler, With,
    Block, Let, Assign, ExpressionStatement, For, While, Try, Catch, Return, Break, Continue,
    NamedType, RecordType, FieldType,
    LiteralExpression, NameExpression, ParenthesizedExpression, ArrayExpression, RecordExpression,
    Field, UnaryExpression, BinaryExpression, MemberExpression, IndexExpression, CallExpression,
    Argument, LambdaExpression, IfExpression, MatchExpression, Arm, WrapExpression,
    SecretExpression, Pattern,
    /// What the parser skipped after a fault.
    Error,
}

impl SyntaxKind {
    /// Whether the parser passes over it.
    pub fn is_trivia(self) -> bool {
        self <= Self::Unknown
    }
}

/// The language of the tree, for rowan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SymbiontLanguage {}

impl rowan::Language for SymbiontLanguage {
    type Kind = SyntaxKind;

    fn kind_from_raw(raw: rowan::SyntaxKind) -> SyntaxKind {
        SyntaxKind::ALL.get(usize::from(raw.0)).copied().unwrap_or(SyntaxKind::Error)
    }

    fn kind_to_raw(kind: SyntaxKind) -> rowan::SyntaxKind {
        rowan::SyntaxKind(kind as u16)
    }
}

/// A node of the syntax tree.
pub type SyntaxNode = rowan::SyntaxNode<SymbiontLanguage>;
/// A token of the syntax tree.
pub type SyntaxToken = rowan::SyntaxToken<SymbiontLanguage>;
