//! What is answered at a place, which `$0` marks in the text.

use lsp_types::{
    CodeActionContext, CodeActionOrCommand, CodeActionParams, DocumentSymbol,
    DocumentSymbolResponse, HoverContents, Range, SemanticTokensFullDeltaResult, TextEdit,
};
use symbiont_lsp::Document;
use symbiont_lsp::answers;

use crate::{client, document, marked};

/// A program with something of everything, in which `BODY` is put.
const AROUND: &str = "\
// Where incidents are kept.
memory notes { }
type Incident = { id: int, title: String }
policy shared { allow: fs.read }

/* Adds one.
 * Nothing else. */
function increased(value: int, by: int) -> int { value + by }

agent worker(topic: String) { with { return topic; } }

agent main(incident: Incident, limits: Map<String, int>) {
    use policy shared
    with sandbox = tier1 {
        let names = [\"a\", \"b\"];
        let text = \"some\";
        BODY
    }
}
";

fn around(body: &str) -> String {
    AROUND.replace("BODY", body)
}

fn labels(text: &str) -> Vec<String> {
    let (document, at) = marked(text);
    answers::completion(&document, at, &client()).into_iter().map(|item| item.label).collect()
}

/// What completion offers: `+name` must be there, `-name` must not, and nothing else is looked at.
#[track_caller]
fn offers(text: &str, want: &str) {
    let labels = labels(text);
    for wanted in want.split_whitespace() {
        let (sign, name) = wanted.split_at(1);
        let there = labels.iter().any(|label| label.trim_end_matches([' ', '=']) == name);
        assert_eq!(there, sign == "+", "{wanted} in {text}\n{labels:?}");
    }
}

#[test]
fn completion_offers_what_may_stand_there() {
    // Declarations, items and blocks.
    offers("$0", "+agent +policy +function +schedule +memory -let -fs");
    offers("ag$0", "+agent");
    offers("agent a { }\n$0\nagent b { }", "+agent +type -with");
    offers("agent a {\n    $0\n}", "+capabilities +with +on +use +policy -agent -let");
    offers("agent a {\n    w$0\n    with { }\n}", "+with -let");
    offers("agent a { on $0 { } }", "+message +start +stop -let");
    offers("policy p { allow: x }\nagent a { use $0 }", "+p");
    offers("policy p { allow: x }\nagent a { use policy $0 }", "+p -allow");
    offers("agent a { with $0 { } }", "+sandbox +timeout +memory -let");
    offers("agent a { with sandbox = tier1, $0 { } }", "+timeout -let");
    offers("agent a { with sandbox = $0 { } }", "+tier1 +firecracker -timeout");
    offers("agent a { with sandbox = \"$0\" { } }", "+tier1 -timeout");
    offers("agent a { with memory = $0 { } }", "+persistent -tier1");
    offers("agent b { }\nschedule s { cron: \"* * * * *\", agent: $0 }", "+b -cron");
    offers("schedule s { $0 }", "+cron +timezone +input -path");
    offers("memory m { $0 }", "+store +search -cron");
    offers("memory m { search { $0 } }", "+vector_weight -store");
    offers("channel c { $0 }", "+platform +data_classification");
    offers("schedule s { every: 5m, overlap: $0 }", "+skip +queue +merge +allow -shift");
    offers("schedule s { every: 5m, gap: $0 }", "+skip +shift -queue");
    offers("schedule s { every: 5m, fold: $0, catch_up: none }", "+first +both -latest");
    offers("schedule s { every: 5m, catch_up: $0 }", "+none +latest +all -first");
    offers("channel c { platform: $0 }", "+slack +matrix -github");
    offers("channel c { audit_level: $0 }", "+minimal +full -slack");
    offers("channel c { default_deny: $0 }", "+true +false");
    offers("webhook w { provider $0 }", "+github +stripe -full");
    offers("webhook w { filter { $0 } }", "+json_path -path");
    offers("agent a { capabilities = [$0] }", "+fs.read +network -let");
    offers("agent a { capabilities = [\"$0\"] }", "+fs.read +network -let");
    // Policies.
    offers("policy p { $0 }", "+allow +deny +require +audit -let");
    offers("policy p { allow: $0 }", "+fs.read +exec +network +any -let");
    offers("policy p { allow: fs.$0 }", "+read +write -post");
    offers("policy p { allow: [fs.read, $0] }", "+exec -let");
    offers("policy p { allow: read_logs(service) if $0 }", "+service +len -allow");
    // Types and patterns.
    offers("type T = { a: $0 }", "+String +Array +T -let");
    offers("agent a(x: $0) { }", "+String +JSON -let");
    offers("function f(x: Array<$0>) { x }", "+int");
    offers(&around("match text { $0 => 1 }"), "+Some +None +_ -let");
    offers(&around("try { } catch ($0) { }"), "+Timeout +PolicyDenied -let");
}

#[test]
fn completion_offers_what_bodies_may_say() {
    offers(
        &around("$0"),
        "+let +for +return +names +text +incident +increased +len +fs +exec +notes -allow",
    );
    offers(&around("let x = $0;"), "+names +increased +true -let -x");
    offers(&around("let y = increased($0);"), "+value +by +names -let");
    offers(&around("let y = increased(by = 1, $0);"), "+value -by");
    offers(&around("fs.$0"), "+read +write +list -len -post");
    offers(&around("http.$0\n        let x = 1;"), "+get +post -read");
    offers(&around("notes.$0"), "+get +set +search -read");
    offers(&around("http.get(\"u\", { $0 })"), "+headers +timeout -let");
    offers(&around("delegate(\"$0\")"), "+worker +main -let");
    offers(&around("send(\"$0\", \"t\", 1)"), "+worker");
    offers(&around("send(\"worker\", \"$0\", 1)"), "-worker");
    offers(&around("incident.$0"), "+id +title -split");
    offers(&around("text.$0"), "+split +trim -map -id");
    offers(&around("names.first().$0"), "+unwrap -split");
    offers(&around("names[0].$0\n        let y = 1;"), "+split -map");
    offers(&around("let n: Incident = Incident { $0: 1 };"), "+id +title -let");
    offers(&around("for name in names { $0 }"), "+name +names");
    offers(&around("names.map(each => $0)"), "+each");
    offers(&around("{ let inner = 1; } $0"), "-inner");
    // Nothing in comments, texts and new names.
    for nothing in ["// $0", "/* $0 */ 1", "let x = \"$0\";", "let $0 = 1;", "let x = 12$0;"] {
        assert_eq!(labels(&around(nothing)), <[String; 0]>::default(), "{nothing}");
    }
}

#[test]
fn completion_replaces_the_word_at_the_place() {
    #[track_caller]
    fn check(text: &str, label: &str, want: &str) {
        let (document, at) = marked(text);
        let items = answers::completion(&document, at, &client());
        let item = items.into_iter().find(|item| item.label == label).expect("it is offered");
        let Some(lsp_types::CompletionTextEdit::Edit(edit)) = item.text_edit else {
            panic!("it says what it replaces")
        };
        assert_eq!(applied(&document, vec![edit]), want);
    }
    check("agent a { with { le$0n(1) } }", "length", "agent a { with { length($0)(1) } }");
    check("agent a { with { fs.re$0 } }", "read", "agent a { with { fs.read($0) } }");
    check("agent a { with sandbox = tie$0 { } }", "tier2", "agent a { with sandbox = tier2 { } }");
    check(
        "agent b\nagent a { with { spawn(\"x$0y\") } }",
        "b",
        "agent b\nagent a { with { spawn(\"b\") } }",
    );
    check(
        "agent a {\n    wi$0\n}",
        "with",
        "agent a {\n    with sandbox = ${1:tier1}, timeout = ${2:30s} {\n        $0\n    }\n}",
    );
}

#[test]
fn without_snippets_no_snippet_is_inserted() {
    let plain = answers::Client { snippets: false, ..client() };
    for text in ["$0", "agent a { $0 }", "agent a { with { $0 } }", "agent a { with $0 { } }"] {
        let (document, at) = marked(text);
        for item in answers::completion(&document, at, &plain) {
            let Some(lsp_types::CompletionTextEdit::Edit(edit)) = item.text_edit else { panic!() };
            assert!(!edit.new_text.contains('$'), "{}: {}", item.label, edit.new_text);
        }
    }
}

#[test]
fn an_item_is_resolved_to_its_page() {
    let (document, at) = marked("agent a { with { $0 } }");
    let items = answers::completion(&document, at, &client());
    let item = items.into_iter().find(|item| item.label == "len").expect("it is offered");
    assert!(item.documentation.is_none());
    let text = format!("{:?}", answers::resolve(item).documentation);
    assert!(text.contains("len("), "{text}");
}

/// What hover says, of which `want` is a part.
#[track_caller]
fn hovers(text: &str, want: &str) {
    let (document, at) = marked(text);
    let said = answers::hover(&document, at).map(|hover| match hover.contents {
        HoverContents::Markup(markup) => markup.value,
        other => panic!("{other:?}"),
    });
    match (&said, want) {
        (None, "") => {}
        (Some(said), want) if !want.is_empty() => {
            assert!(said.contains(want), "{want:?} in {said}");
        }
        (said, want) => panic!("{want:?} in {said:?}"),
    }
}

#[test]
fn hover_has_the_page_of_what_is_wrong() {
    let wrong = "type A = A\ntype Ag$0e = Integr\n";
    hovers(wrong, "type Age = Integr");
    hovers("type A$0 = A\n", "**E0224**: a type that stands for itself");
    hovers("type A$0 = A\n", "type Node = { value: int, next: Option<Node> }");
    // Beside what the word means, and where there is no word.
    hovers(&around("print(unkn$0own)"), "**E0201**");
    hovers(&around("print(1 + $0)"), "**E0101**");
    hovers(&around("let x $0= 1; print(x)"), "");
}

#[test]
fn hover_says_what_a_word_means() {
    hovers(&around("le$0n(names)"), "`len(");
    hovers(&around("fs.re$0ad(\"a\")"), "`fs.read(");
    hovers(&around("f$0s.read(\"a\")"), "fs.read");
    hovers(&around("exec$0(\"ls\")"), "`exec(");
    hovers(&around("text.spl$0it(\",\")"), "split(");
    hovers(&around("print(tex$0t)"), "let text: String");
    hovers(&around("print(names.map(na$0me => name))"), "name: String");
    hovers(&around("print(incident.tit$0le)"), "title: String");
    hovers(&around("print(names.fir$0st())"), "first(");
    hovers(&around("wh$0ile true { }"), "`while");
    hovers(&around("read_logs$0(1)"), "tool");
    hovers(&around("print(conte$0xt)"), "Filled by the runtime");
    hovers(&around("increa$0sed(1, 2)"), "Adds one.\nNothing else.");
    hovers(&around("increa$0sed(1, 2)"), "function increased(value: int, by: int) -> int");
    hovers(&around("note$0s.get(\"a\")"), "Where incidents are kept.");
    hovers(&around("print(inci$0dent)"), "(parameter) incident");
    hovers(&around("delegate(\"work$0er\", {})"), "agent worker(topic: String)");
    hovers(
        &AROUND.replace("incident: Inci", "incident: Inc$0i"),
        "type Incident = { id: int, title: String }",
    );
    hovers(&AROUND.replace("sandbox", "san$0dbox"), "`tier1` or `docker`");
    hovers("schedule s { cr$0on: \"* * * * *\" }", "cron");
    hovers("policy p { al$0low: fs.read }", "allow");
    hovers("// com$0ment", "");
    hovers("agent$0 a", "agent");
}

#[test]
fn a_signature_is_shown_while_a_call_is_written() {
    #[track_caller]
    fn check(body: &str, want: &str) {
        let (document, at) = marked(&around(body));
        let told = answers::signature(&document, at).map(|help| {
            let active = help.active_signature.unwrap_or(0) as usize;
            let signature = &help.signatures[active];
            let parameters = signature.parameters.as_deref().unwrap_or_default();
            let here = help.active_parameter.and_then(|at| parameters.get(at as usize));
            let here = here.map(|it| match &it.label {
                lsp_types::ParameterLabel::Simple(label) => label.clone(),
                lsp_types::ParameterLabel::LabelOffsets(_) => panic!("labels are texts"),
            });
            format!("{} @ {}", signature.label, here.unwrap_or_default())
        });
        assert_eq!(told.unwrap_or_default(), want, "{body}");
    }
    check("increased($0)", "increased(value: int, by: int) -> int @ value: int");
    check("increased(1, $0)", "increased(value: int, by: int) -> int @ by: int");
    check("increased(by = $0)", "increased(value: int, by: int) -> int @ by: int");
    check("increased(increased(1, 2$0), 3)", "increased(value: int, by: int) -> int @ by: int");
    check("fs.write(\"a\", $0)", "fs.write(path: String, content: any) -> null @ content: any");
    check("unknown_tool($0)", "");
    check("increased$0(1)", "");
}

/// The ranges, as the text in them with what is around it.
fn shown(document: &Document, ranges: impl IntoIterator<Item = Range>) -> Vec<String> {
    let mut found: Vec<String> = ranges
        .into_iter()
        .map(|range| {
            let span = document.text.span(range);
            format!("{}:{}", range.start.line, &document.source()[span])
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_member_leads_to_the_field_of_its_type() {
    for (body, declared) in [
        ("let w: Outer = v; w.in$0ner.a", vec!["1:inner"]),
        ("w.inner.a$0", vec!["2:a"]),
        ("w.inner.a$0 = 2", vec!["2:a"]),
        ("w.list[0].a$0", vec!["2:a"]),
        ("w.nobody$0", vec![]),
        ("w.inner.keys$0()", vec![]),
        ("({ a: 1 }).a$0", vec![]),
        ("let i: Inner = { a$0: 1 };", vec!["2:a"]),
        ("Inner { a$0: 1 }", vec!["2:a"]),
        ("let o: Outer = { inner: { \"a$0\": 1 }, list: [] };", vec!["2:a"]),
        ("let o: Outer = { inner: { a: 1 }, list: [{ a$0: 2 }] };", vec!["2:a"]),
        ("match w { { inner: { a$0: 1 } } => 1, _ => 2 }", vec!["2:a"]),
        ("let r = { a$0: 1 };", vec![]),
    ] {
        let (document, at) = marked(&format!(
            "// the types\ntype Outer = {{ inner: Inner, list: Array<Inner> }}\n\
             type Inner = {{ a: int }}\nfunction f(w: Outer, v: Outer) {{ {body} }}"
        ));
        let definition = answers::definition(&document, at).map(|location| location.range);
        assert_eq!(shown(&document, definition), declared, "{body}");
    }
}

#[test]
fn a_field_leads_to_where_it_is_named() {
    for at in ["type T = { a$0: int, b: int }", "type T = { a: int, b$0: int }"] {
        let (document, at) = marked(&format!(
            "{at}\nfunction f(t: T) {{ t.a = 1; let u: T = {{ a: 2, b: t.b }}; u.a }}\n\
             function g(x) {{ x.a }}"
        ));
        let declared = if at < 15 { 'a' } else { 'b' };
        for (with, want) in [(true, 1), (false, 0)] {
            let found = answers::references(&document, at, with).expect("it is a field");
            let found = shown(&document, found.into_iter().map(|location| location.range));
            let uses = if declared == 'a' { 3 } else { 2 };
            assert_eq!(found.len(), uses + want, "{found:?}");
            assert!(found.iter().all(|place| place.ends_with(declared)), "{found:?}");
        }
    }
}

#[test]
fn a_name_leads_to_its_declaration_and_to_its_uses() {
    #[track_caller]
    fn check(text: &str, declared: &str, used: &[&str]) {
        let (document, at) = marked(text);
        let definition = answers::definition(&document, at).map(|location| location.range);
        assert_eq!(shown(&document, definition), [declared], "{text}");
        let references = answers::references(&document, at, true).expect("it is used");
        let ranges = references.into_iter().map(|location| location.range);
        assert_eq!(shown(&document, ranges), used, "{text}");
        let highlight = answers::highlight(&document, at).expect("it is shown");
        let ranges = highlight.into_iter().map(|highlight| highlight.range);
        assert_eq!(shown(&document, ranges), used, "{text}");
    }
    check("agent a {\nwith {\nlet x = 1;\nlet y = x$0 + x;\ny } }", "2:x", &["2:x", "3:x", "3:x"]);
    check("function f(a) {\na }\nagent a {\nwith {\nf$0(1) } }", "0:f", &["0:f", "4:f"]);
    check("policy p { allow: x }\nagent a {\nuse policy p$0 }", "0:p", &["0:p", "2:p"]);
    check(
        "agent b\nschedule s { agent: b$0 }\nagent a { with {\nspawn(\"b\") } }",
        "0:b",
        &["0:b", "1:b", "3:b"],
    );
    check("type T = { a: int }\nagent a(x: T$0)", "0:T", &["0:T", "1:T"]);
    check("policy p {\nallow: f(x)\nif x$0 == 1 }", "1:x", &["1:x", "2:x"]);
}

/// The text after some changes.
fn applied(document: &Document, mut edits: Vec<TextEdit>) -> String {
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.range.start));
    let mut text = document.source().to_owned();
    for edit in edits {
        text.replace_range(document.text.span(edit.range), &edit.new_text);
    }
    text
}

/// The edits of a change of one document.
fn edits(change: lsp_types::WorkspaceEdit) -> Vec<TextEdit> {
    let Some(lsp_types::DocumentChanges::Edits(changes)) = change.document_changes else {
        panic!("the client takes versions")
    };
    let edits = changes.into_iter().flat_map(|change| change.edits);
    edits
        .map(|edit| match edit {
            lsp_types::OneOf::Left(edit) => edit,
            lsp_types::OneOf::Right(annotated) => annotated.text_edit,
        })
        .collect()
}

#[test]
fn renaming_changes_every_use_or_nothing() {
    #[track_caller]
    fn check(text: &str, name: &str, want: &str) {
        let (document, at) = marked(text);
        let prepared = answers::prepare_rename(&document, at);
        let told = prepared.and_then(|_| answers::rename(&document, at, name, &client()));
        let told = match told {
            Ok(change) => applied(&document, edits(change)),
            Err(words) => format!("! {words}"),
        };
        assert_eq!(told, want);
    }
    check(
        "agent a { with { let x$0 = 1; x + x } }",
        "total",
        "agent a { with { let total = 1; total + total } }",
    );
    check(
        "policy p$0 { allow: x }\nagent a { use policy p }",
        "q",
        "policy q { allow: x }\nagent a { use policy q }",
    );
    check("policy p { allow: f(x$0) if x == 1 }", "y", "policy p { allow: f(y) if y == 1 }");
    check(
        "agent b$0\nagent a { with { spawn(\"b\") } }",
        "c",
        "agent c\nagent a { with { spawn(\"c\") } }",
    );
    check(
        "agent a { with { let x$0 = 1; x } }",
        "größe",
        "agent a { with { let größe = 1; größe } }",
    );
    check("agent a { with { let x$0 = 1; x } }", "let", "! `let` is no name");
    check("agent a { with { let x$0 = 1; x } }", "a b", "! `a b` is no name");
    check("agent a { with { let x$0 = 1; x } }", "", "! `` is no name");
    check(
        "agent a { with { len$0(1) } }",
        "x",
        "! `len` belongs to the language, and keeps its name",
    );
    check("agent a { with { let x$0 = 1; len(x) } }", "len", "! `len` belongs to the language");
    check(
        "agent a { with { some_tool$0(1) } }",
        "x",
        "! `some_tool` is a tool, which is declared elsewhere",
    );
    check("agent a { with { 1$0 } }", "x", "! there is no name here that could be changed");
    check(
        "agent a { with { let x$0 = 1; let y = 2; x + y } }",
        "y",
        "! `y` would mean something else in line 1, column 40",
    );
    check(
        "agent a(p) { with { let x$0 = 1; p + x } }",
        "p",
        "! `p` would mean something else in line 1, column 32",
    );
    check(
        "agent a { with { match 1 { { k$0 } => k } } }",
        "j",
        "! `k` is also the key that a pattern looks for: write `key: name` there first",
    );
}

#[test]
fn a_fix_mends_what_is_wrong() {
    #[track_caller]
    fn check(text: &str, title: &str, want: &str) {
        let (document, at) = marked(text);
        let place = document.text.position(at);
        let params = CodeActionParams {
            text_document: lsp_types::TextDocumentIdentifier { uri: document.uri.clone() },
            range: Range { start: place, end: place },
            context: CodeActionContext::default(),
            work_done_progress_params: Default::default(),
            partial_result_params: Default::default(),
        };
        let actions = answers::actions(&document, &params, &client());
        let told: Vec<(String, String)> = actions
            .into_iter()
            .map(|action| match action {
                CodeActionOrCommand::CodeAction(action) => {
                    (action.title, applied(&document, edits(action.edit.expect("it changes"))))
                }
                CodeActionOrCommand::Command(command) => panic!("{command:?}"),
            })
            .collect();
        assert_eq!(told, [(title.to_owned(), want.to_owned())]);
    }
    check(
        "agent a { with sandbox = tier$09 { } }",
        "change to `tier1`",
        "agent a { with sandbox = tier1 { } }",
    );
    check("agent a { with { let x = 1$0\nx } }", "add `;`", "agent a { with { let x = 1;\nx } }");
}

#[test]
fn diagnostics_say_what_is_wrong_and_what_mends_it() {
    let document = document("agent a { with sandbox = tier9 { let x = 1; } }");
    let told = serde_json::to_value(answers::diagnostics(&document)).expect("it is JSON");
    let codes: Vec<&str> =
        told.as_array().expect("a list").iter().filter_map(|it| it["code"].as_str()).collect();
    assert_eq!(codes, ["E0206", "W0301"]);
    assert_eq!(told[0]["range"]["start"]["character"], 25);
    assert_eq!(told[0]["data"]["explain"], "symbiont explain E0206");
    assert_eq!(told[0]["data"]["fix"]["newText"], "tier1");
    assert_eq!(told[1]["tags"][0], 1, "what is unused is greyed out");
}

#[test]
fn an_instruction_in_plain_words_has_no_faults() {
    assert_eq!(answers::diagnostics(&document("look after the logs")), []);
}

#[test]
fn symbols_are_nested_as_they_are_declared() {
    fn told(symbols: &[DocumentSymbol], out: &mut String) {
        for symbol in symbols {
            out.push_str(&format!(
                "{} {}",
                symbol.detail.as_deref().unwrap_or_default(),
                symbol.name
            ));
            if let Some(children) = &symbol.children {
                out.push('(');
                told(children, out);
                out.push(')');
            }
            out.push(' ');
        }
    }
    let document = document(
        "metadata { a = 1 }\nagent a { function f() { 1 } on start { } with { 1 } }\npolicy p { }",
    );
    let DocumentSymbolResponse::Nested(symbols) = answers::symbols(&document, &client()) else {
        panic!("the client shows symbols in symbols")
    };
    let mut out = String::new();
    told(&symbols, &mut out);
    assert_eq!(out, "metadata metadata agent a(function f on on start with with ) policy p ");
    let flat = answers::Client { nested_symbols: false, ..client() };
    let DocumentSymbolResponse::Flat(symbols) = answers::symbols(&document, &flat) else {
        panic!("the client shows none")
    };
    assert_eq!(
        symbols.iter().filter(|symbol| symbol.container_name.as_deref() == Some("a")).count(),
        3
    );
}

#[test]
fn blocks_comments_and_lists_fold() {
    let text = "// one\n// two\nagent a {\n    with {\n        f([\n            1,\n        ]);\n    }\n}\n/* a\nb */\n";
    let folds = answers::folding(&document(text));
    let told: Vec<(u32, u32)> = folds.iter().map(|fold| (fold.start_line, fold.end_line)).collect();
    assert_eq!(told, [(0, 1), (2, 7), (3, 6), (4, 5), (9, 10)]);
}

#[test]
fn selections_grow_from_the_inside_out() {
    let (document, at) = marked("agent a { with { f(x$0 + 1); } }");
    let mut next = answers::selection(&document, &[document.text.position(at)]).pop();
    let mut texts = Vec::new();
    while let Some(selection) = next {
        texts.push(document.source()[document.text.span(selection.range)].to_owned());
        next = selection.parent.map(|parent| *parent);
    }
    assert_eq!(
        texts,
        [
            "x",
            "x + 1",
            "f(x + 1)",
            "f(x + 1);",
            "{ f(x + 1); }",
            "with { f(x + 1); }",
            "agent a { with { f(x + 1); } }"
        ]
        .into_iter()
        .filter(|text| *text != "f(x + 1);")
        .collect::<Vec<_>>()
    );
}

/// The colours of a text, each as `colour:text` with its shades behind a `+`.
fn colours(document: &Document, told: &[lsp_types::SemanticToken]) -> Vec<String> {
    let legend = answers::capabilities(&client()).semantic_tokens_provider.expect("it colours");
    let lsp_types::SemanticTokensServerCapabilities::SemanticTokensOptions(options) = legend else {
        panic!("it needs no registration")
    };
    let legend = options.legend;
    let (mut line, mut character) = (0, 0);
    told.iter()
        .map(|token| {
            line += token.delta_line;
            character = if token.delta_line == 0 { character } else { 0 } + token.delta_start;
            let at = |character| document.text.offset(lsp_types::Position { line, character });
            let text = &document.source()[at(character)..at(character + token.length)];
            let shades: String = legend
                .token_modifiers
                .iter()
                .enumerate()
                .filter(|(bit, _)| token.token_modifiers_bitset & (1 << bit) != 0)
                .map(|(_, shade)| format!("+{}", shade.as_str()))
                .collect();
            format!("{}:{text}{shades}", legend.token_types[token.token_type as usize].as_str())
        })
        .collect()
}

#[test]
fn every_word_has_its_colour() {
    let text = "# c\nagent a(p: String) { with sandbox = tier1 { let x = len(p); x = fs.read(\"ä\"); tool_of_mine(x.y, n = 1s) } }";
    let document = document(text);
    let told = answers::tokens(&document, None).plain().data;
    assert_eq!(
        colours(&document, &told).join(" "),
        "comment:# c keyword:agent class:a+declaration parameter:p+declaration type:String+defaultLibrary keyword:with \
         property:sandbox operator:= enumMember:tier1 keyword:let variable:x+declaration operator:= \
         function:len+defaultLibrary parameter:p variable:x+modification operator:= namespace:fs+defaultLibrary \
         function:read+defaultLibrary+async string:\"ä\" function:tool_of_mine+async variable:x property:y parameter:n \
         operator:= number:1s"
    );
    let half = answers::tokens(&document, Some(4..9)).plain().data;
    assert_eq!(colours(&document, &half), ["keyword:agent"]);
}

#[test]
fn colours_change_by_what_is_between() {
    let before = answers::tokens(&document("agent a { with { let x = 1; x } }"), None);
    let document = document("agent a { with { let x = 1; y(2); x } }");
    let after = answers::tokens(&document, None);
    let SemanticTokensFullDeltaResult::TokensDelta(delta) = after.since(&before, 7) else {
        panic!()
    };
    assert_eq!(delta.result_id.as_deref(), Some("7"));
    let mut data = flat(&before.plain().data);
    for edit in delta.edits {
        let start = edit.start as usize;
        let new = flat(&edit.data.unwrap_or_default());
        data.splice(start..start + edit.delete_count as usize, new);
    }
    assert_eq!(data, flat(&after.plain().data));
}

fn flat(tokens: &[lsp_types::SemanticToken]) -> Vec<u32> {
    tokens
        .iter()
        .flat_map(|token| {
            [
                token.delta_line,
                token.delta_start,
                token.length,
                token.token_type,
                token.token_modifiers_bitset,
            ]
        })
        .collect()
}
