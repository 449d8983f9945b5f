; Scopes.

[
  (program)
  (agent_declaration)
  (function_declaration)
  (handler)
  (block)
  (arm)
  (lambda_expression)
  (for_statement)
  (catch_clause)
  (if_expression)
  (rule)
] @local.scope

; Definitions. An assignment to a name that nobody declared declares it for the whole handler,
; function or behaviour, which no query can tell from one that changes a variable.

(parameter name: (identifier) @local.definition)
(let_statement name: (identifier) @local.definition)
(for_statement name: (identifier) @local.definition)
(catch_clause name: (identifier) @local.definition)
(name_pattern (identifier) @local.definition)
(function_declaration name: (identifier) @local.definition)
(memory_declaration name: (identifier) @local.definition)

; References.

(identifier) @local.reference
