; The last pattern that matches a node decides.

(identifier) @variable
(name_pattern (identifier) @variable)
(type_identifier) @type

; What the runtime puts there.
((identifier) @variable.builtin
  (#any-of? @variable.builtin
    "context" "request" "resource" "user" "recipient" "workflow" "current_time"))

; Comments and literals.

[(line_comment) (block_comment)] @comment
[(string) (long_string)] @string
(escape_sequence) @string.escape
(secret) @string.special
(integer) @number
(float) @number.float
(quantity) @number
(boolean) @boolean
[(null) (none)] @constant.builtin

; Names by their place.

(parameter name: (identifier) @variable.parameter)
(named_argument name: (identifier) @variable.parameter)
(member_expression name: (identifier) @property)
(entry key: (_) @property)
(field key: (_) @property)
(field_type key: (_) @property)
(field_pattern key: (_) @property)
(inner_settings name: (_) @property)

((named_type name: (type_identifier) @type.builtin)
  (#any-of? @type.builtin
    "String" "int" "float" "bool" "duration" "size" "bytes" "time" "any"
    "Array" "List" "Map" "Option" "Maybe" "Optional" "Result" "JSON" "Value"))

(agent_declaration name: (identifier) @type)
(type_declaration name: (identifier) @type)
(policy_declaration name: (identifier) @label)
(use_policy name: (identifier) @label)
(schedule_declaration name: (identifier) @label)
(channel_declaration name: (identifier) @label)
(memory_declaration name: (identifier) @label)
(webhook_declaration name: (identifier) @label)
(function_declaration name: (identifier) @function)

; Calls.

(call_expression function: (identifier) @function.call)
(call_expression function: (member_expression name: (identifier) @function.method.call))

((call_expression function: (identifier) @function.builtin)
  (#any-of? @function.builtin
    "abs" "append" "ask" "assert" "base64" "broadcast" "ceil" "checkpoint" "delegate" "emit"
    "entries" "error" "exec" "floor" "format" "generate_id" "hash" "keys" "len" "length" "log"
    "max" "memory_search" "memory_write" "min" "now" "parse_csv" "parse_json" "print" "publish"
    "push" "random" "range" "reason" "receive" "regex_match" "request_approval" "reverse" "round"
    "schedule" "send" "sleep" "sort" "spawn" "sum" "time_since" "to_json" "tool" "type_of" "uuid"
    "values" "zip"))

((call_expression function: (member_expression object: (identifier) @module.builtin))
  (#any-of? @module.builtin "fs" "http" "memory"))

((call_expression function: (identifier) @constructor)
  (#any-of? @constructor "Some" "Ok" "Err"))

(wrap_pattern name: (identifier) @constructor)

; Words.

[
  "metadata" "agent" "policy" "type" "schedule" "channel" "memory" "webhook"
  "capabilities" "use" "on" "with" "let"
] @keyword

(handler event: _ @keyword)

"function" @keyword.function
"return" @keyword.return
["if" "else" "match"] @keyword.conditional
["for" "while" (break_statement) (continue_statement)] @keyword.repeat
["try" "catch"] @keyword.exception
["in" "not"] @keyword.operator

(rule verb: _ @keyword)
(rule verb: "allow" @keyword.directive)
(rule verb: "deny" @keyword.exception)

; Marks.

[
  "=" "+=" "-=" "*=" "/=" "%="
  "==" "!=" "<" "<=" ">" ">="
  "+" "-" "*" "/" "%" "!" "&&" "||"
  "=>" "->"
] @operator

[":" "," ";" "."] @punctuation.delimiter
["(" ")" "[" "]" "{" "}"] @punctuation.bracket

(type_arguments ["<" ">"] @punctuation.bracket)

(wildcard_pattern) @character.special
