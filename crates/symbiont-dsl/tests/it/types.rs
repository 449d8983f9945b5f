//! Types: what is said of them, and what an editor is told.

use symbiont_dsl::analysis::{Analysis, Meaning};
use symbiont_dsl::definition::check;
use symbiont_dsl::signatures::Receiver;
use symbiont_dsl::syntax::parse;

use super::random::run;

/// What types everything of these declarations, and then the statements of a body.
const AROUND: &str = "
type Level = String
type Alert = { name: String, level: Level, count: Option<int>, next: Option<Alert> }
function twice(n: int) -> int { n * 2 }
function untyped(x) { x }
function one() { 1 }
";

fn program(statements: &str) -> String {
    format!(
        "{AROUND}function body(s: String, n: int, xs: Array<int>, alert: Alert, o: Option<String>, w: Widget, d: duration, t: time) {{\n{statements}\n}}"
    )
}

/// The diagnostics about types of a text.
fn said(source: &str) -> Vec<String> {
    check(source)
        .diagnostics
        .iter()
        .filter(|found| {
            found.code.starts_with("E022")
                || found.code.starts_with("W032")
                || found.code == "W0313"
        })
        .map(|found| format!("{} `{}`: {}", found.code, &source[found.span.clone()], found.message))
        .collect()
}

#[track_caller]
fn fits(statements: &str) {
    let source = program(statements);
    assert_eq!(said(&source), [] as [String; 0], "{statements}");
    let errors: Vec<_> =
        check(&source).diagnostics.into_iter().filter(|d| d.code.starts_with('E')).collect();
    assert_eq!(errors, [], "{statements}");
}

#[track_caller]
fn fails(statements: &str, want: &str) {
    assert_eq!(said(&program(statements)), [want], "{statements}");
}

#[test]
fn what_fits_is_accepted() {
    for statements in [
        // Numbers.
        "let x: float = 1;",
        "let x: float = n * 2;",
        "let x: float = if n > 1 { 1 } else { 2.5 };",
        // Options take what they would hold.
        "let x: Option<int> = 1;",
        "let x: Maybe<int> = Some(1);",
        "let x: Optional<int> = None;",
        "let x: Option<int> = null;",
        "let x: Option<Array<int>> = [1, 2];",
        "let x: Option<String> = o;",
        "let x: Option<String> = [\"a\"].first;",
        // Results take errors and values.
        "let x: Result<int> = Ok(1);",
        "let x: Result<int> = Err(\"no\");",
        "let x: Result<int> = error(\"no\");",
        "let x: Result<int> = 1;",
        "let x: Result<int, String> = Ok(n);",
        // Whatever.
        "let x: any = [1];",
        "let x: JSON = { a: 1 };",
        "let x: Value = null;",
        "let x: Widget = 1;",
        "let x: Gadget<int, String> = w;",
        "let x: int = w;",
        "let x: int = w.size;",
        "let x: int = read_size(s);",
        "let x: int = untyped(s);",
        "let x: int = parse_json(s);",
        "let x: int = context.a;",
        // Containers.
        "let x: Array<int> = [];",
        "let x: List<float> = [1, 2.5];",
        "let x: Array = [1, \"a\"];",
        "let x: Array<int> = range(0, 3);",
        "let x: Map<String, int> = { a: 1, \"b\": 2 };",
        "let x: Map<String, any> = alert;",
        "let xs = [1]; xs.push(\"a\"); let y: String = xs[1];",
        "let r = { a: 1 }; r.a = \"text\"; let y: String = r.a;",
        "let xs = [1, \"a\"]; let y: String = xs[1];",
        // Records.
        "let x: Alert = { name: \"a\", level: \"b\" };",
        "let x = Alert { name: \"a\", level: \"b\", count: 1, next: None };",
        "let x: Alert = Alert { name: \"a\", level: \"b\", next: alert };",
        "let r = { name: s, level: s, more: 1 }; let x: Alert = r;",
        "let x: Alert = parse_json(s);",
        "let x: Option<Alert> = alert.next;",
        "let x: { a: int } = { a: 1 };",
        "let m: Map<String, int> = {}; let x: Alert = m;",
        // Aliases.
        "let x: Level = \"high\"; let y: String = x;",
        "let x: String = alert.level;",
        // Variables that change.
        "let x = 1; x = \"a\"; let y: String = x;",
        "x = 1; x = \"a\"; let y: String = x;",
        "let x = null; if n > 1 { x = \"a\" } let y: String = x;",
        "for x in xs { let y: int = x; }",
        "for x in alert { let y: String = x; }",
        // What hosts give.
        "let x: int = exec(\"ls\").exit_code;",
        "let x: String = fs.read(\"a\");",
        "let x: bytes = fs.read(\"a\");",
        "let x: time = now(); let y: duration = time_since(x);",
        "let x: Array<String> = fs.list(\"/\");",
        "let key: String = vault://a/b;",
        // Methods and lambdas.
        "let x: Array<int> = xs.filter(x => x > 1).sort();",
        "let x: Array<String> = xs.map(x => \"n\" + x);",
        "let x: int = xs.length; let y: int = s.length();",
        "let x: String = xs.get(9, \"default\");",
        // Operators.
        "let x: String = s + n + d + t + true;",
        "let x: duration = d * 2 + 30s; let y: time = t + d; let z: duration = t - t;",
        "let x: float = d / 30s;",
        "let x: bool = s in [\"a\"] && \"k\" in alert || n in xs;",
        "let x: int = n / 2 % 3;",
        // What is put into something.
        "alert.next = Some(alert); alert.next = alert; alert.level = \"high\"; alert.count = null;",
        "xs[0] = 2; xs.push(3); let y = [1]; y.push(s); y[0] = s;",
        "let y = alert; y.more = 1; let z: Array<float> = xs; z[0] = 1; z += [2];",
        // Options beside options and nothing.
        "o == None || o == null || o == Some(s) || null == o;",
        // `not` before what may be a bool, or in parentheses.
        "let flags = [true]; !n in flags; not n == true; !n == w; (not n) in xs; (!n) == 1;",
        "!(n in xs); not (n == 1); !n && n == 1;",
        "!w in [true, w]; !(n == 1) in w.flags; !s.is_empty() not in w.flags;",
        // What hosts take.
        "exec(s, xs, { timeout: 5s }); exec(s, null, { timeout: 500 }); exec(s, { env: {} });",
        "sleep(500); sleep(d * 2); send(s, n); send(s, s, xs); receive(); receive(5s); publish(s);",
        "http.get(s, { query: { a: n }, headers: {}, timeout: 5s, verify_tls: false });",
        "http.request(s, s, body = n); tool(s); tool(s, xs); tool(s, { a: 1 }); tool(s, null);",
        "memory.search(s, limit = n); fs.write(s, null);",
        "fs.list(); fs.read(s + n); exec(w, w, w); sleep(w); m = null; exec(s, m);",
        // Nothing is said where it is not written, although it would fail.
        "let x = \"a\" - 1;",
        "let x = s - 1;",
        // Errors are returned from anywhere.
        "return error(\"no\");",
    ] {
        fits(statements);
    }
}

#[test]
fn what_never_fits_is_an_error() {
    for (statements, want) in [
        ("let x: int = \"a\";", "E0221 `\"a\"`: `x` is declared as `int`, and is given `String`"),
        ("let x: int = 2.5;", "E0221 `2.5`: `x` is declared as `int`, and is given `float`"),
        ("let x: String = null;", "E0221 `null`: `x` is declared as `String`, and is given `null`"),
        (
            "let x: String = o;",
            "E0221 `o`: `x` is declared as `String`, and is given `Option<String>`",
        ),
        ("let x: Level = 1;", "E0221 `1`: `x` is declared as `Level`, and is given `int`"),
        (
            "let x: Array<int> = [1, s];",
            "E0221 `s`: an element here is `int`, and is given `String`",
        ),
        (
            "let x: Array<String> = xs;",
            "E0221 `xs`: `x` is declared as `Array<String>`, and is given `Array<int>`",
        ),
        (
            "let x: Map<String, int> = { a: s };",
            "E0221 `s`: the field `a` is `int`, and is given `String`",
        ),
        (
            "let x: Option<int> = Some(s);",
            "E0221 `s`: what is in this `Some` is `int`, and is given `String`",
        ),
        (
            "let x: Option<int> = s;",
            "E0221 `s`: `x` is declared as `Option<int>`, and is given `String`",
        ),
        (
            "let x: Result<int> = Ok(s);",
            "E0221 `s`: what is in this `Ok` is `int`, and is given `String`",
        ),
        (
            "let x: int = if n > 1 { 1 } else { s };",
            "E0221 `s`: `x` is declared as `int`, and is given `String`",
        ),
        (
            "let x: int = match n { 1 => 2, _ => s };",
            "E0221 `s`: `x` is declared as `int`, and is given `String`",
        ),
        ("twice(s);", "E0221 `s`: `twice` takes `int` as `n`, and is given `String`"),
        ("twice(n = s);", "E0221 `s`: `twice` takes `int` as `n`, and is given `String`"),
        (
            "let x: String = twice(1);",
            "E0221 `twice(1)`: `x` is declared as `String`, and is given `int`",
        ),
        (
            "let y = twice(1); let x: String = y;",
            "E0221 `y`: `x` is declared as `String`, and is given `int`",
        ),
        ("let x: int = 1; x = s;", "E0221 `s`: `x` is declared as `int`, and is given `String`"),
        ("n += 1.5;", "E0221 `1.5`: `n` is declared as `int`, and is given `float`"),
        (
            "let x: int = exec(\"ls\").stdout;",
            "E0221 `exec(\"ls\").stdout`: `x` is declared as `int`, and is given `String`",
        ),
        (
            "let x: int = s.length.to_string;",
            "E0221 `s.length.to_string`: `x` is declared as `int`, and is given `String`",
        ),
        (
            "for x in xs { let y: String = x; }",
            "E0221 `x`: `y` is declared as `String`, and is given `int`",
        ),
        (
            "xs.map(x => { let y: String = x; });",
            "E0221 `x`: `y` is declared as `String`, and is given `int`",
        ),
        ("let x: Alert = { name: s };", "E0222 `{ name: s }`: `Alert` lacks the field `level`"),
        ("let x = Alert {};", "E0222 `Alert {}`: `Alert` lacks the fields `name`, `level`"),
        ("Alert { name: s, level: s, cuont: 1 };", "E0222 `cuont`: `Alert` has no field `cuont`"),
        (
            "Alert { name: n, level: s };",
            "E0221 `n`: the field `name` is `String`, and is given `int`",
        ),
        (
            "Alert { name: s, level: s, next: { name: s } };",
            "E0222 `{ name: s }`: `Alert` lacks the field `level`",
        ),
        (
            "let r = { name: s }; let x: Alert = r;",
            "E0221 `r`: `x` is declared as `Alert`, and is given `{ name: String }`",
        ),
        // What is put into something, too.
        ("alert.name = n;", "E0221 `n`: the field `name` is `String`, and is given `int`"),
        ("alert[\"name\"] = n;", "E0221 `n`: an element here is `String`, and is given `int`"),
        ("xs[0] = s;", "E0221 `s`: an element here is `int`, and is given `String`"),
        ("xs.push(s);", "E0221 `s`: an element here is `int`, and is given `String`"),
        (
            "let x: Map<String, int> = {}; x[s] = s;",
            "E0221 `s`: an element here is `int`, and is given `String`",
        ),
        (
            "let x: Array<Array<int>> = []; x[0] = [s];",
            "E0221 `s`: an element here is `int`, and is given `String`",
        ),
        // Options beside what may be in them.
        ("o == s;", "W0324 `o == s`: `Option<String>` and `String` are never equal"),
        ("xs.first() != 1;", "W0324 `xs.first() != 1`: `Option<int>` and `int` are never equal"),
        ("o in [s];", "W0324 `o in [s]`: `Option<String>` and `String` are never equal"),
        ("n in [Some(1)];", "W0324 `n in [Some(1)]`: `int` and `Option<int>` are never equal"),
        (
            "xs.first() not in xs;",
            "W0324 `xs.first() not in xs`: `Option<int>` and `int` are never equal",
        ),
        ("xs.contains(xs.first());", "W0324 `xs.first()`: `Option<int>` and `int` are never equal"),
        (
            "match o { \"a\" => 1, \"b\" => 2, _ => 3 }",
            "W0324 `\"a\"`: `Option<String>` and `String` are never equal",
        ),
        ("if let 1 = xs.first() { s; }", "W0324 `1`: `Option<int>` and `int` are never equal"),
        ("len(5);", "W0313 `5`: `len` takes `String | Array | Map | bytes`, and is given `int`"),
        ("len();", "W0313 `len`: `len` takes 1 argument, and is given 0"),
        ("range(s);", "W0313 `s`: `range` takes `int`, and is given `String`"),
        ("s.split();", "W0313 `split`: `split` takes 1 argument, and is given 0"),
        ("s.split(1);", "W0313 `1`: `split` takes `String`, and is given `int`"),
        ("xs.map(5);", "W0313 `5`: `map` takes `item => any`, and is given `int`"),
        ("xs.sort((a, b) => a - b);", "W0313 `sort`: `sort` takes no arguments, and is given 1"),
        ("xs.upper();", "W0313 `upper`: `Array<int>` has no `upper`"),
        ("s.lenght;", "W0313 `lenght`: `String` has no `lenght`"),
        ("s.toUpperCase();", "W0313 `toUpperCase`: `String` has no `toUpperCase`"),
        ("o.upper();", "W0313 `upper`: `Option<String>` has no `upper`"),
        ("5.upper();", "W0313 `upper`: `int` has no `upper`"),
        ("sum(s);", "W0313 `s`: `sum` takes `Array<T>`, and is given `String`"),
        ("xs.get(s);", "W0313 `s`: `get` takes `int`, and is given `String`"),
        ("exec(s, s);", "W0313 `s`: `exec` takes `Array` as `args`, and is given `String`"),
        ("exec(n);", "W0313 `n`: `exec` takes `String` as `command`, and is given `int`"),
        (
            "exec(s, { timeout: s });",
            "W0313 `s`: `exec` takes `duration | int` as `timeout`, and is given `String`",
        ),
        (
            "exec(s, timeout = s);",
            "W0313 `s`: `exec` takes `duration | int` as `timeout`, and is given `String`",
        ),
        ("exec();", "W0313 `exec`: `exec` needs `command`"),
        ("fs.read(n);", "W0313 `n`: `fs.read` takes `String` as `path`, and is given `int`"),
        ("fs.read(null);", "W0313 `null`: `fs.read` takes `String` as `path`, and is given `null`"),
        (
            "http.get(s, query = n);",
            "W0313 `n`: `http.get` takes `Map` as `query`, and is given `int`",
        ),
        (
            "http.get(s, { verify_tls: s });",
            "W0313 `s`: `http.get` takes `bool` as `verify_tls`, and is given `String`",
        ),
        (
            "http.request(n, s);",
            "W0313 `n`: `http.request` takes `String` as `method`, and is given `int`",
        ),
        (
            "memory.search(n);",
            "W0313 `n`: `memory.search` takes `String` as `query`, and is given `int`",
        ),
        ("tool(n, {});", "W0313 `n`: `tool` takes `String` as `name`, and is given `int`"),
        ("fs.write(s);", "W0313 `fs.write`: `fs.write` needs `content`"),
        (
            "sleep(s);",
            "W0313 `s`: `sleep` takes `duration | int` as `duration`, and is given `String`",
        ),
        ("send(s);", "W0313 `send`: `send` needs `payload`"),
        (
            "send(payload = s, to = n);",
            "W0313 `n`: `send` takes `String` as `to`, and is given `int`",
        ),
        ("publish(n, s);", "W0313 `n`: `publish` takes `String` as `topic`, and is given `int`"),
        // What `not` is read as part of.
        ("not s in xs;", "W0325 `not s in xs`: `not` is read before `in`"),
        ("!n == 1;", "W0325 `!n == 1`: `!` is read before `==`"),
        ("not o == None;", "W0325 `not o == None`: `not` is read before `==`"),
        ("1 >= 2;", "W0326 `1 >= 2`: this comparison is always false"),
        ("1 == 1.0;", "W0326 `1 == 1.0`: this comparison is always true"),
        ("\"1\" != 1;", "W0326 `\"1\" != 1`: this comparison is always true"),
        ("alert.nmae;", "W0321 `nmae`: `Alert` has no field `nmae`"),
        ("s - n;", "E0223 `s - n`: `-` does not go with `String` and `int`"),
        ("alert.level * n;", "E0223 `alert.level * n`: `*` does not go with `Level` and `int`"),
        ("s < n;", "E0223 `s < n`: `<` does not go with `String` and `int`"),
        ("n in s;", "E0223 `n in s`: `in` does not go with `int` and `String`"),
        ("s - twice(1);", "E0223 `s - twice(1)`: `-` does not go with `String` and `int`"),
        (
            "let x: Map<String, int, int> = {};",
            "W0322 `Map<String, int, int>`: `Map` takes 2 types, and 3 are given",
        ),
        ("let x: int<String> = 1;", "W0322 `int<String>`: `int` takes 0 types, and 1 is given"),
    ] {
        fails(statements, want);
    }
}

#[test]
fn results_fit_what_is_declared() {
    for (source, want) in [
        (
            "function f() -> int { return \"a\" }",
            Some("`f` is declared to give `int`, and gives `String`"),
        ),
        (
            "function f() -> int { \"a\" }",
            Some("`f` is declared to give `int`, and gives `String`"),
        ),
        (
            "function f() -> int { return null }",
            Some("`f` is declared to give `int`, and gives `null`"),
        ),
        ("function f() -> int { return Err(\"no\") }", None),
        ("function f() -> int { error(\"no\") }", None),
        ("function f() -> int { try { return 1 } catch (e) { return e } }", None),
        ("function f() -> int { log(\"info\", \"a\") }", None),
        ("function f() -> int { xs = [1]; xs.map(x => { return \"a\" }); 1 }", None),
        ("function f(x) -> int { if x { return 1 } }", None),
        ("function f(x) -> int { return }", None),
        (
            "agent a() -> int { with { \"a\" } }",
            Some("`a` is declared to give `int`, and gives `String`"),
        ),
        // A run shows what is in them.
        ("agent a() -> int { with { Ok(1) } }", None),
        ("agent a(x: Option<int>) -> int { with { x } }", None),
        ("agent a() -> int { with { null } }", None),
        ("agent a() -> int { on start { return \"a\" } with { 1 } }", None),
        ("agent a() -> Report { with { 1 } }", None),
    ] {
        let got: Vec<String> = (check(source).diagnostics.into_iter())
            .filter(|found| found.code.starts_with("E02"))
            .map(|found| found.message)
            .collect();
        assert_eq!(got.first().map(String::as_str), want, "{source}");
        assert!(got.len() < 2, "{source}: {got:?}");
    }
}

/// What an editor shows at the `$0` of a body.
#[track_caller]
fn hover(statements: &str, want: Option<&str>) {
    let source = program(statements);
    let at = source.find("$0").expect("a place is marked");
    let source = source.replace("$0", "");
    let analysis = Analysis::of(&source, &parse(&source).program);
    assert_eq!(analysis.type_at(at).as_deref(), want, "{statements}");
}

#[test]
fn everything_shows_its_type() {
    for (statements, want) in [
        ("let $0x = 1;", "int"),
        ("let x = 1; x$0 + 2;", "int"),
        ("let $0x = [1, 2].map(x => x + 1.5);", "Array<float>"),
        ("let x = 1; x = 2; $0x", "int"),
        ("let x = 1; x = \"a\"; $0x", "any"),
        ("$0total = 0; for x in xs { total += x }", "int"),
        ("let $0x = { a: 1, b: [s] };", "{ a: int, b: Array<String> }"),
        ("let $0x = fs.read(\"a\");", "String"),
        ("fs.$0read(\"a\");", "fs.read(path: String) -> String"),
        ("$0len(xs);", "len(value: String | Array | Map | bytes) -> int"),
        ("$0twice(1);", "twice(n: int) -> int"),
        ("untyped(\"a\"); $0untyped(s);", "untyped(x: String) -> String"),
        ("let x = one(); $0x", "int"),
        ("xs.map($0item => item);", "int"),
        ("xs.filter(i => $0i > 1);", "int"),
        ("if let Some($0a) = alert.next { a }", "Alert"),
        ("match o { Some(text) => $0text, None => \"\" };", "String"),
        ("match alert { { count: $0c } => c, _ => 1 };", "Option<int>"),
        ("try { s } catch (e) { $0e }", "error"),
        ("alert.next.$0unwrap();", "Alert"),
        ("alert.$0level", "Level"),
        ("$0alert", "Alert"),
        (
            "let x: $0Alert = alert;",
            "{ name: String, level: Level, count: Option<int>, next: Option<Alert> }",
        ),
        ("let x: $0Level = s;", "String"),
        ("$0w", "Widget"),
        ("let x = if n > 1 { 1 } else { 2.5 }; $0x", "float"),
        ("let $0x = d * 2;", "duration"),
        ("let x = exec(\"ls\"); x.$0stdout", "String"),
        ("let $0x = s.split(\",\");", "Array<String>"),
        ("let $0x = n > 1 && s == \"a\";", "bool"),
    ] {
        hover(statements, Some(want));
    }
}

#[test]
fn what_is_behind_a_dot_is_known() {
    for (statements, want) in [
        ("alert$0.", "name level count next length"),
        ("s$0.", "length len is_empty trim lower"),
        ("let r = { first: 1 }; r$0.", "first length len is_empty keys"),
        ("exec(\"ls\")$0.", "exit_code signal stdout stderr timed_out"),
        ("w$0.", ""),
        ("d$0.", "milliseconds seconds minutes hours days"),
    ] {
        let source = program(statements);
        let at = source.find("$0").unwrap();
        let source = source.replace("$0", "");
        let analysis = Analysis::of(&source, &parse(&source).program);
        let members = analysis.members_at(at).iter().map(|member| member.name.as_str());
        assert_eq!(members.take(5).collect::<Vec<_>>().join(" "), want, "{statements}");
    }
}

/// Every place that names what is marked with `$0` is marked with `«...»`.
#[track_caller]
fn references(marked: &str) {
    let at = marked.find("$0").expect("a place is marked");
    let at = at - 2 * marked[..at].matches(['«', '»']).count();
    let bare = marked.replace("$0", "");
    let source = bare.replace(['«', '»'], "");
    let analysis = Analysis::of(&source, &parse(&source).program);
    let symbol = analysis.symbol_at(at).unwrap_or_else(|| panic!("no symbol in {marked}"));
    let mut got = source.clone();
    for span in analysis.references(symbol).iter().rev() {
        got.insert(span.end, '»');
        got.insert(span.start, '«');
    }
    assert_eq!(got, bare);
}

#[test]
fn names_are_found_wherever_they_stand() {
    for marked in [
        "function «f»(x) { x } agent a { with { $0«f»(1); xs.map(«f»); f2(1) } }",
        "function f(«x», y) { $0«x» + y } agent a { with { x = 1; f(«x» = x, y = 2) } }",
        "agent a(«x») { on start { $0«x» } on message(x, y) { x } with { «x» } }",
        "agent a(x) { on start { x } on message($0«x», y) { «x» } with { x } }",
        "agent a(x) { function f(«x») { $0«x» } with { x } }",
        "agent a { with { let x = 1; { x: x }; let «x» = 2; $0«x».x; } }",
        "agent a { with { if b() { «x» = 1 } $0«x»; for i in c() { «x» += 1 } } }",
        "agent a { with { let «x» = 1; f(y => «x» + y); f(x => x); $0«x» } }",
        "agent a { with { f(y => { «x» = 1; $0«x» }); f(y => { x = 2 }) } }",
        "agent a { with { «x» = 1; f(y => { «x» = 2; $0«x» }) } }",
        "agent a { with { for «x» in c() { $0«x» } for x in d() { x } } }",
        "agent a { with { match c() { Some(«x») => $0«x», { k: x } => x, x => x } } }",
        "agent a { with { if let Some(«x») = c() { $0«x» } else { x } } }",
        "agent a { with { try { c() } catch («e») { $0«e» } catch (K e) { e } } }",
        "type «T» = int type U = { a: $0«T» } function f(x: «T») -> U { let y: Array = [x]; «T» { a: 1 } }",
        "policy «p» { allow: x } agent a { use policy $0«p» } agent b { policy p { allow: y } use policy p }",
        "agent «a» { with { delegate(\"$0«a»\", {}) } } schedule s { agent: «a» } webhook w { agent = \"«a»\" } channel c { default_agent: «a» }",
        "memory «m» { } agent a { with { $0«m».get(\"k\"); memory_search(«m», \"q\") } }",
        "agent a(«s») { policy p { allow: r(s) if s == 1; deny: q(t) if $0«s» == t } }",
        "agent a(s) { policy p { allow: r(«s») if $0«s» == 1; deny: q(s) if s == 2 } }",
    ] {
        references(marked);
    }
}

#[test]
fn what_is_visible_is_known() {
    let marked = "function f(p) { p } agent a(q) { with { let x = 1; let x = 2; for i in c() { $0 let later = 1; } let z = 1; } function g(r) { r } }";
    let at = marked.find("$0").unwrap();
    let source = marked.replace("$0", "");
    let analysis = Analysis::of(&source, &parse(&source).program);
    let names: Vec<&str> =
        analysis.scope_at(at).iter().map(|symbol| symbol.name.as_str()).collect();
    assert_eq!(names, ["i", "x", "q", "g", "f", "a"]);
}

#[test]
fn what_the_file_does_not_define_is_known_too() {
    let source =
        "agent a(x: Foo) { with { len(x); fs.read(x); fs.eat(x); foo(x); agent.id; any; bar } }";
    let analysis = Analysis::of(source, &parse(source).program);
    let means = |name: &str| {
        let at = source.find(name).unwrap();
        analysis.place_at(at).map(|place| place.meaning)
    };
    assert_eq!(means("Foo"), Some(Meaning::OpaqueType));
    assert_eq!(means("len"), Some(Meaning::Builtin));
    assert_eq!(means("fs.read"), Some(Meaning::HostCall));
    assert_eq!(means("fs.eat"), Some(Meaning::Tool));
    assert_eq!(means("foo"), Some(Meaning::Tool));
    assert_eq!(means("agent.id"), Some(Meaning::Ambient));
    assert_eq!(means("any"), Some(Meaning::Any));
    assert_eq!(means("bar"), Some(Meaning::Undefined));
}

#[test]
fn the_methods_of_the_table_are_those_of_the_machine() {
    for receiver in Receiver::ALL {
        let value = match receiver {
            Receiver::String => "\"text\"",
            Receiver::Array => "[1]",
            Receiver::Map => "{ a: 1 }",
            // Bytes come from outside alone, and moments from the host.
            Receiver::Bytes | Receiver::Time => continue,
            Receiver::Number => "4",
            Receiver::Duration => "30s",
            Receiver::Size => "1KB",
            Receiver::Option => "Some(1)",
            Receiver::Result => "Ok(1)",
            Receiver::Error => "error(\"no\")",
            Receiver::Other => "true",
        };
        let ends = |name: &str| {
            run(&format!("agent a {{ with {{ let x = {value}; return x.{name}() }} }}"), 1_000).0
        };
        for method in receiver.methods() {
            let end = ends(method.name);
            assert!(!end.contains("has no member or method"), "{receiver:?} {method}: {end}");
        }
        let end = ends("nothing_of_that_name");
        assert!(end.contains("has no member or method"), "{receiver:?}: {end}");
    }
}

#[test]
fn functions_give_what_they_are_declared_to() {
    for (function, want) in [
        ("function f(n) -> int { if n { return 1 } }", Some("}")),
        ("function f(n) -> int { if n { return } return 1 }", Some("return")),
        ("function f(n) -> int { if n { 1 } }", Some("}")),
        ("function f(n) -> int { match n { 1 => 2 } }", Some("}")),
        ("function f(n) -> { a: int } { for x in n { return { a: x } } }", Some("}")),
        ("function f(n) -> Array<int> { while n { n = false } }", Some("}")),
        ("function f(n) -> int { try { return 1 } catch (e) { print(e) } }", Some("}")),
        ("function f(n) -> Result<int> { print(n); }", Some("}")),
        ("function f(n) -> int { if n { return 1 } else { return 2 } }", None),
        ("function f(n) -> int { if n { 1 } else { return 2 } }", None),
        ("function f(n) -> int { while true { if n { return 1 } } }", None),
        ("function f(n) -> int { match n { 1 => 2, _ => { return 3 } } }", None),
        ("function f(n) -> int { try { return 1 } catch (e) { return e } }", None),
        ("function f(n) -> int { n.map(x => { return }); 1 }", None),
        ("function f(n) -> Option<int> { if n { return 1 } }", None),
        ("function f(n) -> any { if n { return 1 } }", None),
        ("function f(n) -> Report { if n { return 1 } }", None),
        ("function f(n) -> Result<any> { if n { return 1 } }", None),
        ("function f(n) { if n { return 1 } }", None),
    ] {
        let source = format!("{function}\nagent a() {{ with {{ f(1) }} }}");
        let checked = check(&source);
        let found = checked.diagnostics.iter().find(|found| found.code == "W0323");
        let place = found.map(|found| source[found.span.clone()].trim_end_matches(';'));
        assert_eq!(place, want, "{source}");
    }
}
