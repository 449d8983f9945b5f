(agent_declaration name: (identifier) @name) @definition.class
(type_declaration name: (identifier) @name) @definition.type
(function_declaration name: (identifier) @name) @definition.function
(policy_declaration name: (identifier) @name) @definition.constant
(schedule_declaration name: (identifier) @name) @definition.constant
(channel_declaration name: (identifier) @name) @definition.constant
(memory_declaration name: (identifier) @name) @definition.constant
(webhook_declaration name: (identifier) @name) @definition.constant

(call_expression function: (identifier) @name) @reference.call
(use_policy name: (identifier) @name) @reference.constant
(named_type name: (type_identifier) @name) @reference.type
(record type: (type_identifier) @name) @reference.type
