/**
 * @file The Symbiont agent language.
 *
 * The grammar accepts every program that the language's own parser accepts, and reads it in the
 * same way. It accepts a little more (a `;` may be missing after any statement): an editor that
 * colours and folds is helped by a tree, and the diagnostics come from `symbiont lsp`.
 *
 * What cannot be told from one token ahead is looked up by the scanner (`src/scanner.c`): what a
 * `{` opens, whether `let`, `for`, `try` and `not` are words or names, and whether `30.seconds` is
 * a duration.
 *
 * @license MIT OR Apache-2.0
 */

/// <reference types="tree-sitter-cli/dsl" />
// @ts-check

const PRECEDENCE = { or: 1, and: 2, equal: 3, compare: 4, add: 5, multiply: 6, unary: 7, postfix: 8 };

const OPERATORS = [
  [PRECEDENCE.or, ['||']],
  [PRECEDENCE.and, ['&&']],
  [PRECEDENCE.equal, ['==', '!=', 'in']],
  [PRECEDENCE.compare, ['<', '<=', '>', '>=']],
  [PRECEDENCE.add, ['+', '-']],
  [PRECEDENCE.multiply, ['*', '/', '%']],
];

/** `a, b,`, or nothing. */
const list = rule => optional(seq(rule, repeat(seq(',', rule)), optional(',')));

/** `{ entry, entry; entry }`: a comma, a semicolon or nothing stands between entries. */
const braced = (rule, open = '{') => seq(open, repeat(choice(rule, ',', ';')), '}');

/** What stands between a key and its value. */
const separator = choice('=', ':');

/**
 * The expressions that are built of operands. There are two sorts of operands: in the head of a
 * statement none begins or ends with a record, since a `{` there opens the statement's block.
 */
const operation = {
  binary: ($, operand) => choice(
    ...OPERATORS.map(([precedence, operators]) => prec.left(precedence, seq(
      field('left', operand),
      field('operator', operators.length > 1 ? choice(...operators) : operators[0]),
      field('right', operand),
    ))),
    prec.left(PRECEDENCE.equal, seq(
      field('left', operand),
      field('operator', seq(alias($._not_before_in, 'not'), 'in')),
      field('right', operand),
    )),
  ),
  unary: operand => prec(PRECEDENCE.unary, seq(
    field('operator', choice('!', '-', 'not')),
    field('operand', operand),
  )),
  member: ($, operand) => prec(PRECEDENCE.postfix, seq(
    field('object', operand),
    '.',
    field('name', $.identifier),
  )),
  index: ($, operand) => prec(PRECEDENCE.postfix, seq(
    field('object', operand),
    '[',
    field('index', $._expression),
    ']',
  )),
  call: ($, operand) => prec(PRECEDENCE.postfix, seq(
    field('function', operand),
    field('arguments', $.arguments),
  )),
};

export default grammar({
  name: 'symbi',

  word: $ => $.identifier,

  externals: $ => [
    $.block_comment,
    $._string_content,
    $._long_string_content,
    $._record_open,
    $._named_record_open,
    $._arm_block_open,
    $._let,
    $._for,
    $._try,
    $._not_before_in,
    $._spelt_quantity,
    $._error_sentinel,
  ],

  extras: $ => [/[\p{White_Space}\uFEFF]/, $.line_comment, $.block_comment],

  supertypes: $ => [$.declaration, $.statement, $.expression, $.pattern, $.type],

  inline: $ => [$._expression, $._head_expression],

  conflicts: $ => [
    // `(a)` is a name in parentheses, or the parameters of a lambda if `=>` follows.
    [$._any_name, $._primary],
    [$._any_name, $.boolean],
    [$._any_name, $.null],
    [$._any_name, $.none],
    // In a block of settings `policy a` is a key and a value, or a policy if `{` follows.
    [$.policy_declaration, $._setting_key],
  ],

  rules: {
    program: $ => repeat(choice($.declaration, ',', ';')),

    // Declarations.

    declaration: $ => choice(
      $.metadata_declaration,
      $.agent_declaration,
      $.policy_declaration,
      $.type_declaration,
      $.function_declaration,
      $.schedule_declaration,
      $.channel_declaration,
      $.memory_declaration,
      $.webhook_declaration,
    ),

    metadata_declaration: $ => seq('metadata', field('body', $.entries)),

    entries: $ => braced($.entry),

    entry: $ => seq(field('key', $._key), separator, field('value', $._expression)),

    _key: $ => choice($.identifier, $.string),

    agent_declaration: $ => seq(
      'agent',
      field('name', $.identifier),
      optional(field('parameters', $.parameters)),
      optional(seq('->', field('result', $.type))),
      optional(field('body', $.agent_body)),
    ),

    agent_body: $ => braced(choice(
      $.capabilities,
      $.policy_declaration,
      $.use_policy,
      $.function_declaration,
      $.handler,
      $.behaviour,
    )),

    capabilities: $ => seq('capabilities', optional(separator), $.array),

    use_policy: $ => seq('use', 'policy', field('name', $.identifier)),

    handler: $ => seq(
      'on',
      field('event', choice('message', 'start', 'stop')),
      optional(field('parameters', $.parameters)),
      field('body', $.block),
    ),

    behaviour: $ => seq(
      'with',
      repeat(seq(alias($._attribute, $.entry), optional(','))),
      field('body', $.block),
    ),

    _attribute: $ => seq(field('key', $._key), separator, field('value', $._head_expression)),

    policy_declaration: $ => seq('policy', field('name', $.identifier), field('body', $.rules)),

    rules: $ => braced($.rule),

    rule: $ => seq(
      field('verb', choice('allow', 'deny', 'require', 'audit')),
      separator,
      field('what', $._expression),
      optional(seq('if', field('condition', $._expression))),
    ),

    type_declaration: $ => seq('type', field('name', $.identifier), separator, field('type', $.type)),

    function_declaration: $ => seq(
      'function',
      field('name', $.identifier),
      field('parameters', $.parameters),
      optional(seq('->', field('result', $.type))),
      field('body', $.block),
    ),

    schedule_declaration: $ => seq('schedule', field('name', $.identifier), field('body', $.settings)),
    channel_declaration: $ => seq('channel', field('name', $.identifier), field('body', $.settings)),
    memory_declaration: $ => seq('memory', field('name', $.identifier), field('body', $.settings)),
    webhook_declaration: $ => seq('webhook', field('name', $.identifier), field('body', $.settings)),

    settings: $ => braced(choice(
      alias($._setting, $.entry),
      alias($._bare_setting, $.entry),
      alias($._inner_settings, $.inner_settings),
      $.policy_declaration,
    )),

    _setting: $ => seq(field('key', $._setting_key), separator, field('value', $._expression)),

    // Without a separator a `{` after the key opens inner settings.
    _bare_setting: $ => seq(
      field('key', $._setting_key),
      field('value', choice($._head_expression, alias($._named_record, $.record))),
    ),

    _inner_settings: $ => seq(
      field('name', $._setting_key),
      field('body', alias($._inner_body, $.settings)),
    ),

    _inner_body: $ => braced(alias($._inner_setting, $.entry)),

    _inner_setting: $ => seq(field('key', $._key), optional(separator), field('value', $._expression)),

    _setting_key: $ => choice($._key, alias('policy', $.identifier)),

    // Types and parameters.

    type: $ => choice($.named_type, $.record_type),

    named_type: $ => seq(field('name', alias($.identifier, $.type_identifier)), optional($.type_arguments)),

    type_arguments: $ => seq('<', $.type, repeat(seq(',', $.type)), optional(','), '>'),

    record_type: $ => braced($.field_type),

    field_type: $ => seq(field('key', $._key), separator, field('type', $.type)),

    parameters: $ => seq('(', list($.parameter), ')'),

    parameter: $ => seq(field('name', $._any_name), optional(seq(':', field('type', $.type)))),

    // Statements.

    block: $ => seq('{', repeat($._statement), '}'),

    // The block of an arm or a lambda, where a `{` could open a record as well.
    _arm_block: $ => seq(alias($._arm_block_open, '{'), repeat($._statement), '}'),

    _statement: $ => choice($.statement, ';'),

    statement: $ => choice(
      $.let_statement,
      $.assignment,
      $.for_statement,
      $.while_statement,
      $.try_statement,
      $.return_statement,
      $.break_statement,
      $.continue_statement,
      $.expression_statement,
    ),

    let_statement: $ => seq(
      alias($._let, 'let'),
      field('name', $.identifier),
      optional(seq(':', field('type', $.type))),
      '=',
      field('value', $._expression),
    ),

    assignment: $ => seq(
      field('target', choice($.identifier, $.member_expression, $.index_expression)),
      field('operator', choice('=', '+=', '-=', '*=', '/=', '%=')),
      field('value', $._expression),
    ),

    for_statement: $ => seq(
      alias($._for, 'for'),
      field('name', $.identifier),
      'in',
      field('iterable', $._head_expression),
      field('body', $.block),
    ),

    while_statement: $ => seq('while', field('condition', $._head_expression), field('body', $.block)),

    try_statement: $ => seq(
      alias($._try, 'try'),
      field('body', $.block),
      repeat1($.catch_clause),
    ),

    catch_clause: $ => seq(
      'catch',
      optional(choice(
        seq('(', optional($._caught), ')'),
        $._caught,
      )),
      field('body', $.block),
    ),

    _caught: $ => choice(
      field('name', $.identifier),
      seq(field('kind', alias($.identifier, $.type_identifier)), field('name', $.identifier)),
    ),

    return_statement: $ => prec.right(seq('return', optional(field('value', $._expression)))),

    break_statement: _ => 'break',

    continue_statement: _ => 'continue',

    // A statement that begins with `if` or `match` ends with its last brace: what follows is the
    // next statement, and never an operator or an argument list.
    expression_statement: $ => choice(
      prec(1, choice($.if_expression, $.match_expression)),
      $._expression,
    ),

    // Expressions.

    _expression: $ => choice($.expression, $.lambda_expression),

    expression: $ => choice(
      $.binary_expression,
      $.unary_expression,
      $.member_expression,
      $.index_expression,
      $.call_expression,
      $.record,
      $._primary,
    ),

    _primary: $ => choice(
      $.identifier,
      $._literal,
      $.none,
      $.secret,
      $.array,
      $.parenthesized_expression,
      $.if_expression,
      $.match_expression,
    ),

    binary_expression: $ => operation.binary($, $.expression),
    unary_expression: $ => operation.unary($.expression),
    member_expression: $ => operation.member($, $.expression),
    index_expression: $ => operation.index($, $.expression),
    call_expression: $ => operation.call($, $.expression),

    _head_expression: $ => choice($._head, $.lambda_expression),

    _head: $ => choice(
      alias($._head_binary, $.binary_expression),
      alias($._head_unary, $.unary_expression),
      alias($._head_member, $.member_expression),
      alias($._head_index, $.index_expression),
      alias($._head_call, $.call_expression),
      $._primary,
    ),

    _head_binary: $ => operation.binary($, $._head),
    _head_unary: $ => operation.unary($._head),
    _head_member: $ => operation.member($, $._head),
    _head_index: $ => operation.index($, $._head),
    _head_call: $ => operation.call($, $._head),

    arguments: $ => seq('(', list(choice($._expression, $.named_argument)), ')'),

    named_argument: $ => seq(
      field('name', $._any_name),
      separator,
      field('value', $._expression),
    ),

    // A name where an expression could stand instead: `f(if: 1)`, `true => 1`.
    _any_name: $ => choice(
      $.identifier,
      alias(choice('if', 'match', 'not', 'true', 'false', 'null', 'None'), $.identifier),
    ),

    parenthesized_expression: $ => seq('(', $._expression, ')'),

    array: $ => seq('[', list($._expression), ']'),

    record: $ => choice(
      braced(alias($.entry, $.field), alias($._record_open, '{')),
      $._named_record,
    ),

    _named_record: $ => seq(
      field('type', alias($.identifier, $.type_identifier)),
      braced(alias($.entry, $.field), alias($._named_record_open, '{')),
    ),

    lambda_expression: $ => seq(
      field('parameters', choice(alias($._lone_parameter, $.parameter), $.parameters)),
      '=>',
      field('body', choice($._expression, alias($._arm_block, $.block))),
    ),

    _lone_parameter: $ => field('name', $._any_name),

    if_expression: $ => prec.right(seq(
      'if',
      field('condition', choice($._head_expression, $.let_condition)),
      field('then', $.block),
      optional(seq('else', field('else', choice($.block, $.if_expression)))),
    )),

    let_condition: $ => seq('let', field('pattern', $.pattern), '=', field('value', $._head_expression)),

    match_expression: $ => seq('match', field('subject', $._head_expression), field('body', $.arms)),

    arms: $ => braced($.arm),

    arm: $ => seq(
      field('pattern', $.pattern),
      '=>',
      field('body', choice($._expression, alias($._arm_block, $.block))),
    ),

    // Patterns.

    pattern: $ => choice(
      $.name_pattern,
      $.wildcard_pattern,
      $.wrap_pattern,
      $.record_pattern,
      $.negative_pattern,
      $.none,
      $._literal,
    ),

    name_pattern: $ => $.identifier,

    wildcard_pattern: _ => '_',

    // `Some`, `Ok` or `Err`.
    wrap_pattern: $ => seq(field('name', $.identifier), '(', field('pattern', $.pattern), ')'),

    negative_pattern: $ => seq('-', choice($.integer, $.float)),

    record_pattern: $ => braced($.field_pattern),

    field_pattern: $ => seq(
      field('key', $._key),
      optional(seq(separator, field('pattern', $.pattern))),
    ),

    // Literals.

    _literal: $ => choice(
      $.integer,
      $.float,
      $.quantity,
      $.string,
      $.long_string,
      $.boolean,
      $.null,
    ),

    boolean: _ => choice('true', 'false'),

    null: _ => 'null',

    none: _ => 'None',

    integer: _ => /\d[\d_]*/,

    float: _ => choice(
      /\d[\d_]*\.\d[\d_]*([eE][+-]?\d[\d_]*)?/,
      /\d[\d_]*[eE][+-]?\d[\d_]*/,
    ),

    quantity: $ => choice(
      /\d[\d_]*(\.\d[\d_]*)?([eE][+-]?\d[\d_]*)?[\p{Alphabetic}][\p{Alphabetic}\p{N}_]*/,
      $._spelt_quantity,
    ),

    string: $ => seq(
      '"',
      repeat(choice(alias($._string_content, $.string_content), $.escape_sequence)),
      token.immediate('"'),
    ),

    long_string: $ => seq(
      '"""',
      repeat(choice(alias($._long_string_content, $.string_content), $.escape_sequence)),
      token.immediate('"""'),
    ),

    escape_sequence: _ => token.immediate(/\\(u\{[0-9A-Fa-f]*\}|[\s\S])/),

    secret: _ => /vault:\/\/[A-Za-z0-9_\-.\/]*/,

    identifier: _ => /[\p{Alphabetic}_][\p{Alphabetic}\p{N}_]*/,

    line_comment: _ => token(choice(/#[^\n]*/, /\/\/[^\n]*/)),
  },
});
