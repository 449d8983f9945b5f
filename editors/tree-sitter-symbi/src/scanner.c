// What the grammar cannot tell from one token ahead.
//
// The scanner has no state: what a character means follows from it, from what is expected there and
// from a little of what comes after it. Nothing is looked at twice but the comments and the one
// token after a `{` or after a word, so that scanning takes linear time.

#include <string.h>

#include "tree_sitter/parser.h"

// In the order of `externals` in grammar.js.
enum Token {
  BLOCK_COMMENT,
  STRING_CONTENT,
  LONG_STRING_CONTENT,
  RECORD_OPEN,
  NAMED_RECORD_OPEN,
  ARM_BLOCK_OPEN,
  LET,
  FOR,
  TRY,
  NOT_BEFORE_IN,
  SPELT_QUANTITY,
  // Never expected by the grammar: where it is, the parser recovers from a fault and expects
  // everything.
  ERROR_SENTINEL,
};

static const char *const DURATION_WORDS[] = {
    "nanosecond", "nanoseconds", "microsecond", "microseconds", "millisecond", "milliseconds",
    "second",     "seconds",     "minute",      "minutes",      "hour",        "hours",
    "day",        "days",        "week",        "weeks",        "month",       "months",
    "year",       "years",       "ms",          "s",            "m",           "h",
    "d",          "w",           "y",
};

// As long as the longest word that is looked for, and the byte after it.
enum { WORD = 16 };

static void next(TSLexer *lexer) { lexer->advance(lexer, false); }

static bool is_space(int32_t c) {
  return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000 || c == 0xFEFF;
}

static bool is_digit(int32_t c) { return c >= '0' && c <= '9'; }

static bool begins_name(int32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= 0x80 && !is_space(c));
}

static bool continues_name(int32_t c) { return begins_name(c) || is_digit(c); }

// Reads a name into `word`, which is left empty where the name is longer than that.
static void read_name(TSLexer *lexer, char word[WORD]) {
  unsigned length = 0;
  for (; continues_name(lexer->lookahead); next(lexer), length++) {
    if (length < WORD - 1) {
      word[length] = lexer->lookahead < 0x80 ? (char)lexer->lookahead : '?';
    }
  }
  word[length < WORD ? length : 0] = '\0';
}

// Reads the rest of a comment after `/*`; comments nest. One that is not closed goes to the end.
static void read_block_comment(TSLexer *lexer) {
  unsigned open = 1;
  while (open > 0 && !lexer->eof(lexer)) {
    int32_t c = lexer->lookahead;
    next(lexer);
    if (c == '/' && lexer->lookahead == '*') {
      next(lexer);
      open++;
    } else if (c == '*' && lexer->lookahead == '/') {
      next(lexer);
      open--;
    }
  }
}

// Looks past layout and comments; false where a `/` is no comment.
static bool pass_trivia(TSLexer *lexer) {
  for (;;) {
    if (is_space(lexer->lookahead)) {
      next(lexer);
      continue;
    }
    bool line = lexer->lookahead == '#';
    if (lexer->lookahead == '/') {
      next(lexer);
      if (lexer->lookahead == '*') {
        next(lexer);
        read_block_comment(lexer);
        continue;
      }
      line = lexer->lookahead == '/';
      if (!line) return false;
    }
    if (!line) return true;
    while (lexer->lookahead != '\n' && !lexer->eof(lexer)) next(lexer);
  }
}

static bool string_content(TSLexer *lexer) {
  bool any = false;
  while (lexer->lookahead != '"' && lexer->lookahead != '\\' && !lexer->eof(lexer)) {
    next(lexer);
    any = true;
  }
  lexer->result_symbol = STRING_CONTENT;
  return any;
}

static bool long_string_content(TSLexer *lexer) {
  bool any = false;
  lexer->result_symbol = LONG_STRING_CONTENT;
  while (lexer->lookahead != '\\' && !lexer->eof(lexer)) {
    lexer->mark_end(lexer);
    unsigned quotes = 0;
    for (; quotes < 3 && lexer->lookahead == '"'; quotes++) next(lexer);
    if (quotes == 3) return any;
    if (quotes == 0) next(lexer);
    any = true;
  }
  lexer->mark_end(lexer);
  return any;
}

// What is after a `{`.
enum Inside { OTHER, EMPTY, KEY_COLON, KEY_EQUALS };

static enum Inside look_inside(TSLexer *lexer) {
  if (!pass_trivia(lexer)) return OTHER;
  if (lexer->lookahead == '}') return EMPTY;
  if (lexer->lookahead == '"') {
    next(lexer);
    while (lexer->lookahead != '"' && !lexer->eof(lexer)) {
      if (lexer->lookahead == '\\') next(lexer);
      next(lexer);
    }
    next(lexer);
  } else if (begins_name(lexer->lookahead)) {
    while (continues_name(lexer->lookahead)) next(lexer);
  } else {
    return OTHER;
  }
  if (!pass_trivia(lexer)) return OTHER;
  if (lexer->lookahead == ':') return KEY_COLON;
  if (lexer->lookahead != '=') return OTHER;
  next(lexer);
  return lexer->lookahead == '=' || lexer->lookahead == '>' ? OTHER : KEY_EQUALS;
}

// A `{` after a name opens a record of that type if it looks like one. In an arm or a lambda
// `{ key:` opens a record, and all else a block. Elsewhere a `{` opens a record wherever an
// expression may begin.
static bool opening_brace(TSLexer *lexer, const bool *expected) {
  next(lexer);
  lexer->mark_end(lexer);
  bool looks = expected[NAMED_RECORD_OPEN] || expected[ARM_BLOCK_OPEN];
  enum Inside inside = looks ? look_inside(lexer) : OTHER;
  if (expected[NAMED_RECORD_OPEN] && inside != OTHER) {
    lexer->result_symbol = NAMED_RECORD_OPEN;
  } else if (expected[ARM_BLOCK_OPEN] && inside != KEY_COLON) {
    lexer->result_symbol = ARM_BLOCK_OPEN;
  } else if (expected[RECORD_OPEN]) {
    lexer->result_symbol = RECORD_OPEN;
  } else {
    return false;
  }
  return true;
}

// `let` and `for` before a name, `try` before a block and `not` before `in` are words; elsewhere
// they are names (or, where an operand may begin, the other `not`).
static bool contextual_word(TSLexer *lexer, const bool *expected) {
  static const char *const WORDS[] = {"let", "for", "try", "not"};
  char word[WORD];
  read_name(lexer, word);
  lexer->mark_end(lexer);
  for (unsigned at = 0; at < 4; at++) {
    if (!expected[LET + at] || strcmp(word, WORDS[at]) != 0) continue;
    if (!pass_trivia(lexer)) return false;
    lexer->result_symbol = LET + at;
    switch (LET + at) {
    case TRY:
      return lexer->lookahead == '{';
    case NOT_BEFORE_IN:
      read_name(lexer, word);
      return strcmp(word, "in") == 0;
    default:
      return begins_name(lexer->lookahead);
    }
  }
  return false;
}

// `30.seconds`, but not `30.max(x)`, nor `30.seconds()`.
static bool spelt_quantity(TSLexer *lexer) {
  while (is_digit(lexer->lookahead) || lexer->lookahead == '_') next(lexer);
  if (lexer->lookahead != '.') return false;
  next(lexer);
  char word[WORD];
  read_name(lexer, word);
  lexer->mark_end(lexer);
  lexer->result_symbol = SPELT_QUANTITY;
  if (lexer->lookahead == '(') return false;
  for (unsigned at = 0; at < sizeof DURATION_WORDS / sizeof *DURATION_WORDS; at++) {
    if (strcmp(word, DURATION_WORDS[at]) == 0) return true;
  }
  return false;
}

void *tree_sitter_symbi_external_scanner_create(void) { return NULL; }

void tree_sitter_symbi_external_scanner_destroy(void *payload) { (void)payload; }

unsigned tree_sitter_symbi_external_scanner_serialize(void *payload, char *buffer) {
  (void)payload;
  (void)buffer;
  return 0;
}

void tree_sitter_symbi_external_scanner_deserialize(void *payload, const char *buffer,
                                                    unsigned length) {
  (void)payload;
  (void)buffer;
  (void)length;
}

bool tree_sitter_symbi_external_scanner_scan(void *payload, TSLexer *lexer, const bool *expected) {
  (void)payload;
  bool recovering = expected[ERROR_SENTINEL];
  if (!recovering && expected[STRING_CONTENT]) return string_content(lexer);
  if (!recovering && expected[LONG_STRING_CONTENT]) return long_string_content(lexer);
  while (is_space(lexer->lookahead)) lexer->advance(lexer, true);
  if (lexer->lookahead == '/') {
    next(lexer);
    if (lexer->lookahead != '*') return false;
    next(lexer);
    read_block_comment(lexer);
    lexer->result_symbol = BLOCK_COMMENT;
    return true;
  }
  if (recovering) return false;
  if (lexer->lookahead == '{') return opening_brace(lexer, expected);
  if (is_digit(lexer->lookahead)) return expected[SPELT_QUANTITY] && spelt_quantity(lexer);
  bool words = expected[LET] || expected[FOR] || expected[TRY] || expected[NOT_BEFORE_IN];
  return words && begins_name(lexer->lookahead) && contextual_word(lexer, expected);
}
