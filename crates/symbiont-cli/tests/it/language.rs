//! What the reference of the language says of this runtime.

use symbiont_dsl::docs::{self, Kind};

use crate::{program, ran};

/// A call that the reference says is not served fails as it says.
#[test]
fn calls_that_are_not_served_raise_what_their_pages_say() {
    let mut source = String::from("agent a { with { let kinds = {};\n");
    let mut want = serde_json::Map::new();
    for page in docs::all().iter().filter(|page| page.kind == Kind::Call) {
        let Some((before, rest)) = page.text.split_once(" this version: raises `") else {
            continue;
        };
        assert!(before.ends_with("served by") || before.ends_with("in"), "{}", page.name);
        let (kind, _) = rest.split_once('`').expect("the kind ends");
        let call = match page.name {
            "secret.read" => "vault://a/b".to_owned(),
            "request_approval" => "request_approval({ action: \"x\" })".to_owned(),
            "schedule" => "schedule(\"b\", 1h, {})".to_owned(),
            "reason" => "reason(\"why?\")".to_owned(),
            name => format!("{name}(\"b\", {{}})"),
        };
        let name = page.name;
        source += &format!(
            "try {{ {call}; kinds[\"{name}\"] = \"served\" }} catch (e) {{ kinds[\"{name}\"] = e.kind }}\n"
        );
        want.insert(name.to_owned(), kind.into());
    }
    assert!(want.len() > 5, "{want:?}");
    source += "kinds } }\nagent b { with { 1 } }";
    let (_directory, path) = program(&source);
    let run = ran(["run", &path, "--agent", "a", "-o", "json"]);
    let got: serde_json::Value =
        serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}\n{}", run.err));
    assert_eq!(got, serde_json::Value::Object(want), "{}", run.err);
}
