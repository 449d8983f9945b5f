; `indent.begin` and `indent.branch` are Neovim's words, `indent` and `outdent` are Helix's. Each of
; them passes over the other's.

[
  (entries)
  (agent_body)
  (rules)
  (settings)
  (record_type)
  (block)
  (arms)
  (array)
  (record)
  (record_pattern)
  (arguments)
  (parameters)
  (parenthesized_expression)
] @indent.begin @indent

["}" "]" ")"] @indent.branch @outdent

["}" "]" ")"] @indent.end

[(long_string) (block_comment)] @indent.ignore
