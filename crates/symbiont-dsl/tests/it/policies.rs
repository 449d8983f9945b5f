//! What policy blocks become: `test_data/policies/*.symbi` beside `*.txt`.

use std::fmt::Write as _;

use symbiont_dsl::diagnostic::render;
use symbiont_dsl::policy::compile;
use symbiont_dsl::syntax::parse;

use super::{expect, name, programs};

#[test]
fn blocks_become_policies() {
    for (path, source) in programs("policies") {
        let parsed = parse(&source);
        assert_eq!(parsed.diagnostics, []);
        let mut shown = String::new();
        for block in &parsed.program.policies {
            let (policy, diagnostics) = compile(block, &parsed.program, &source);
            writeln!(shown, "policy {}", policy.id).unwrap();
            for rule in &policy.rules {
                writeln!(shown, "\n{}  {}", rule.id, rule.reason).unwrap();
                writeln!(shown, "    {:?} {}", rule.effect, rule.operations.join(" ")).unwrap();
                for condition in &rule.conditions {
                    writeln!(shown, "    if {condition:?}").unwrap();
                }
                for obligation in &rule.obligations {
                    writeln!(shown, "    with {obligation:?}").unwrap();
                }
            }
            writeln!(shown).unwrap();
            shown.push_str(&render(&diagnostics, &source, &name(&path), false));
        }
        expect(&path.with_extension("txt"), &shown);
    }
}
