//! The queries speak of nodes that exist, and find what they are for.

use tree_sitter::{Query, QueryCursor, StreamingIterator as _};

use crate::{parse, programs, text};

/// The captures of a query in a source, in its order: the line, the text's first line and the
/// name. Of several for the same text the last one is left.
fn captures(query: &str, source: &str) -> Vec<(usize, String, String)> {
    let query = Query::new(&tree_sitter_symbi::LANGUAGE.into(), query).unwrap();
    let tree = parse(source);
    let mut cursor = QueryCursor::new();
    let mut matches = cursor.matches(&query, tree.root_node(), source.as_bytes());
    let mut found = std::collections::BTreeMap::new();
    while let Some(matched) = matches.next() {
        for capture in matched.captures() {
            let node = capture.node;
            let name = query.capture_names()[capture.index as usize];
            let key = (node.start_byte(), std::cmp::Reverse(node.end_byte()));
            let best = found.entry(key).or_insert((matched.pattern_index, node, name));
            if matched.pattern_index >= best.0 {
                *best = (matched.pattern_index, node, name);
            }
        }
    }
    let shown = |(_, node, name): (usize, tree_sitter::Node<'_>, &str)| {
        let first = text(node, source).lines().next().unwrap_or_default();
        (node.start_position().row + 1, first.to_owned(), name.to_owned())
    };
    found.into_values().map(shown).collect()
}

#[test]
fn each_query_finds_something_in_real_programs() {
    let programs = programs("crates/symbiont-dsl/test_data/programs");
    for (name, query) in [
        ("highlights", tree_sitter_symbi::HIGHLIGHTS_QUERY),
        ("locals", tree_sitter_symbi::LOCALS_QUERY),
        ("folds", tree_sitter_symbi::FOLDS_QUERY),
        ("indents", tree_sitter_symbi::INDENTS_QUERY),
        ("injections", tree_sitter_symbi::INJECTIONS_QUERY),
        ("tags", tree_sitter_symbi::TAGS_QUERY),
    ] {
        let found: usize = programs.iter().map(|(_, source)| captures(query, source).len()).sum();
        assert!(found > 0, "{name} found {found}");
    }
}

/// Checks the names of captures of one text in a source, in order.
#[track_caller]
fn check(query: &str, source: &str, want: &[(&str, &str)]) {
    let found = captures(query, source);
    for (piece, name) in want {
        let names: Vec<&str> =
            found.iter().filter(|(_, text, _)| text == piece).map(|(_, _, name)| &**name).collect();
        assert_eq!(names.join(" "), *name, "`{piece}` in {source}");
    }
}

#[test]
fn colours_go_by_meaning_and_not_by_spelling() {
    check(
        tree_sitter_symbi::HIGHLIGHTS_QUERY,
        "agent watch(url: String, t: Thing) {\n\
            capabilities = [\"http\"]\n\
            policy web { allow: http.get(url) if agent.trusted deny: any }\n\
            with timeout = 30s {\n\
                let channel = \"a\\n\";\n\
                for n in range(0, 2) { log(\"info\", channel.lower()); }\n\
                if let Some(x) = ask(vault://a/b, count = 1.5) { None } // end\n\
            }\n\
        }",
        &[
            ("agent", "keyword variable"),
            ("watch", "type"),
            ("url", "variable.parameter variable"),
            ("String", "type.builtin"),
            ("Thing", "type"),
            ("web", "label"),
            ("allow", "keyword.directive"),
            ("deny", "keyword.exception"),
            ("get", "function.method.call"),
            ("http", "module.builtin"),
            ("timeout", "property"),
            ("30s", "number"),
            ("channel", "variable variable"),
            ("\\n", "string.escape"),
            ("for", "keyword.repeat"),
            ("range", "function.builtin"),
            ("Some", "constructor"),
            ("x", "variable"),
            ("vault://a/b", "string.special"),
            ("count", "variable.parameter"),
            ("1.5", "number.float"),
            ("None", "constant.builtin"),
            ("// end", "comment"),
            ("if", "keyword.conditional keyword.conditional"),
        ],
    );
}

#[test]
fn tags_name_what_is_declared_and_called() {
    check(
        tree_sitter_symbi::TAGS_QUERY,
        "type Alert = String\nfunction f(x: Alert) { g(x) }\nagent a { use policy p }",
        &[("Alert", "name name"), ("f", "name"), ("g", "name"), ("p", "name"), ("x", "")],
    );
}

#[test]
fn patterns_inside_texts_are_another_language() {
    let source =
        "agent a { with { regex_match(x, \"[a-z]+\") || x.contains_pattern(\"^b\") } } // c";
    let found = captures(tree_sitter_symbi::INJECTIONS_QUERY, source);
    let contents: Vec<&str> = found
        .iter()
        .filter(|(_, _, name)| name == "injection.content")
        .map(|(_, text, _)| &**text)
        .collect();
    assert_eq!(contents, ["[a-z]+", "^b", "// c"]);
}
