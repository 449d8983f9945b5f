//! `symbiont policy show`: what policy blocks become.

use crate::{program, ran};

const SOURCE: &str = r#"policy shared {
    allow: fs.read
}
agent a {
    use policy shared
    policy own {
        allow: pay(amount) if amount < 10 && user.role == "lead"
        deny: pay(amount) if lookup(amount) == 1
        require: { approval: true, approvers: ["lead"], timeout: 5s, operations: [exec] }
    }
    with { null }
}
"#;

#[test]
fn rules_are_shown_in_words() {
    let (_directory, path) = program(SOURCE);
    let shown = ran(["policy", "show", &path]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    let want = "policy shared of agent a (FILE:1)

  allow-1  line 2: allow: fs.read
    allows `fs.read`

policy own of agent a (FILE:6)

  allow-1  line 7: allow: pay(amount) if amount < 10 && user.role == \"lead\"
    allows `tool.call:pay`
    when `argument.0 < 10` and `user.role == \"lead\"`

  deny-2  line 8: deny: pay(amount) if lookup(amount) == 1
    denies `tool.call:pay`
    when `(not expressible: lookup(amount))`

  require-3  line 9: require: { approval: true, approvers: [\"lead\"], timeout: 5s, operations: [exec] }
    asks for approval of `sandbox.exec`
    approved by 1 of lead within 1 h 0 min
    within 5.00 s
";
    assert_eq!(shown.out.replace(&path, "FILE"), want);
    assert!(shown.err.contains("warning[W0308]"), "{}", shown.err);
}

#[test]
fn cedar_is_shown_with_where_it_comes_from() {
    let (_directory, path) = program(SOURCE);
    let shown = ran(["policy", "show", "--cedar", &path]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    let out = shown.out.replace(&path, "FILE");
    for part in [
        "// policy own of agent a (FILE:6)\n",
        "\n// FILE:2: allow: fs.read\n@effect(\"allow\")\n@id(\"shared/allow-1\")\n",
        "permit(principal, action == Action::\"fs.read\", resource);\n",
        // What cannot be expressed always denies.
        "permit(principal, action == Action::\"tool.call\", resource == Resource::\"pay\");\n",
        " &&\n  ",
        "\n};\n",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
}

#[test]
fn policies_are_shown_to_programs() {
    let (_directory, path) = program(SOURCE);
    let shown = ran(["policy", "show", "-o", "json", &path]);
    let json: serde_json::Value = serde_json::from_str(&shown.out).expect("JSON");
    let rule = &json["policies"][1]["rules"][0];
    assert_eq!(rule["id"], "allow-1");
    assert_eq!(rule["line"], 7);
    assert_eq!(rule["effect"], "allow");
    assert_eq!(rule["operations"], serde_json::json!(["tool.call:pay"]));
    assert!(rule["cedar"].as_str().is_some_and(|text| text.contains("permit(")));
}

#[test]
fn what_has_no_policies_says_so() {
    let (_directory, path) = program("agent a");
    let shown = ran(["policy", "show", &path]);
    assert_eq!((shown.code, shown.out.as_str()), (Some(0), ""));
    assert!(shown.err.contains("has no policies"), "{}", shown.err);
    let (_directory, path) = program("agent a {");
    assert_eq!(ran(["policy", "show", &path]).code, Some(1));
    let (_directory, path) = program("please look at the logs");
    assert_eq!(ran(["policy", "show", &path]).code, Some(2));
}
