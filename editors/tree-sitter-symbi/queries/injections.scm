([(line_comment) (block_comment)] @injection.content
  (#set! injection.language "comment"))

; The second argument of `regex_match`.
((call_expression
  function: (identifier) @_function
  arguments: (arguments . (_) . (string (string_content) @injection.content)))
  (#eq? @_function "regex_match")
  (#set! injection.language "regex"))

((call_expression
  function: (member_expression name: (identifier) @_method)
  arguments: (arguments . (string (string_content) @injection.content)))
  (#eq? @_method "contains_pattern")
  (#set! injection.language "regex"))
