//! What the fuzz targets ask of any input holds for the inputs that are kept, and for programs.

use std::path::Path;

use super::programs;

#[path = "../../../../fuzz/src/properties.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets are in another crate")]
pub(super) mod properties;

type Property = fn(&[u8]);

/// What a target asks of its input.
const TARGETS: [(&str, Property); 6] = [
    ("lexer", properties::lexer),
    ("parser", properties::parser),
    ("checker", properties::checker),
    ("formatter", properties::formatter),
    ("evaluator", properties::evaluator),
    ("restore", properties::restore),
];

#[test]
fn programs_have_the_properties_of_any_input() {
    for (_, property) in TARGETS {
        for folder in ["programs", "faults", "policies", "format"] {
            programs(folder).iter().for_each(|(_, source)| property(source.as_bytes()));
        }
    }
}

#[test]
fn kept_inputs_have_the_properties_of_any_input() {
    for (target, property) in TARGETS {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
        let mut kept = 0;
        for entry in std::fs::read_dir(&seeds).unwrap() {
            property(&std::fs::read(entry.unwrap().path()).unwrap());
            kept += 1;
        }
        assert!(kept > 0, "no inputs in {}", seeds.display());
    }
}
