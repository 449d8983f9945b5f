//! One fault gives one message, wherever it stands and whatever stands around it.

use symbiont_dsl::definition::check;
use symbiont_dsl::diagnostic::{Diagnostic, render};

/// Where in a program a piece stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum In {
    /// At the outermost level.
    File,
    /// Among the items of an agent.
    Agent,
    /// Among statements.
    Body,
    /// In a policy.
    Policy,
    /// In a `schedule`.
    Schedule,
}

use In::{Agent, Body, File, Policy, Schedule};

/// Pieces with one fault each, and the code of its message; `+` where the fix mends it.
#[rustfmt::skip]
const FAULTS: &[(In, &str, &str)] = &[
    // Declarations.
    (File, "agnet typo { with { print(1); } }", "+E0111"),
    (File, "fn f0(a) { a } agent caller0 { with { return f0(1); } }", "+E0111"),
    (File, "def f1(a) { a } agent caller1 { with { return f1(1); } }", "+E0111"),
    (File, "func f2(a) { a } agent caller2 { with { return f2(1); } }", "+E0111"),
    (File, "class thing { with { print(1); } }", "+E0111"),
    (File, "struct Pair = { a: int }", "+E0111"),
    (File, "import \"other.symbi\"", "E0111"),
    (File, "nothing { a b c }", "E0111"),
    (File, "agent { with { print(1); } }", "E0101"),
    (File, "agent params(a: int { with { print(a); } }", "+E0103"),
    (File, "agent typed(a int) { with { print(a); } }", "+E0115"),
    (File, "agent valued(a: int = 1) { with { print(a); } }", "E0119"),
    (File, "agent optional(a: String?) { with { print(a); } }", "+E0115"),
    (File, "agent several(a: int[]) { with { print(a); } }", "+E0115"),
    (File, "agent generic(a: Array<int) { with { print(a); } }", "E0101"),
    (File, "agent result() -> { with { return 1; } }", "E0101"),
    (File, "type Broken = { a: , b: int }", "E0101"),
    (File, "type Sign { a: int }", "+E0113"),
    (File, "metadata { version \"1\" }", "+E0113"),
    (File, "metadata { version = }", "E0101"),
    (File, "metadata { author := \"me\" }", "+E0115"),
    (File, "policy broken { alow: exec }", "+E0111"),
    (File, "schedule { every: 5m }", "E0101"),
    (File, "memory { path \"/a\" }", "E0101"),
    (File, "memory weighed { search { vector_weight = 2 } }", "E0207"),
    (File, "agent twice { with { print(1); } with { print(2); } }", "E0116"),
    (File, "type Hollow =", "E0101"),
    (File, "type Either = int | String", "+E0115"),
    (File, "type Maybe1 = int | null", "+E0115"),
    (File, "agent united(a: int | String) { with { print(a); } }", "+E0115"),
    (File, "function united1(a) -> int | Error { a } agent caller3 { with { return united1(1); } }", "+E0115"),
    (File, "type Circle = Disk type Disk = Circle", "E0224"),
    (File, "type Itself = Itself agent itself(a: Itself) { with { let b: Itself = 1; print(a, b); } }", "E0224"),
    (File, "type Nested = { inner: Nested }", "E0224"),
    (File, "agent timed(t: Duration) { with { print(t); } }", "+W0310"),
    (File, "agent counted(t: Integer) { with { print(t); } }", "+W0310"),
    (File, "agent lost { with { print(unknown_name); } }", "E0201"),
    (File, "function res1(y: int): int { y } agent call1 { with { return res1(1); } }", "+E0115"),
    (File, "function res2(y: int): Array<int> { [y] } agent call2 { with { return res2(1); } }", "+E0115"),
    (File, "function res3(y) String { y } agent call3 { with { return res3(1); } }", "+E0115"),
    (File, "function res4(a b, c) { a + b + c } agent call4 { with { return res4(1, 2, 3); } }", "+E0101"),
    (File, "function res5(...ys) { ys } agent call5 { with { return res5(1, 2); } }", "E0115"),
    (File, "function res6(&y) { y } agent call6 { with { return res6(1); } }", "+E0115"),
    (File, "function res7(y: ?int) { y } agent call7 { with { return res7(1); } }", "+E0115"),
    (File, "function res8(y?: int) { y } agent call8 { with { return res8(1); } }", "+E0115"),
    (File, "function res9(y: &int) { y } agent call9 { with { return res9(1); } }", "+E0115"),
    (File, "agent lacks1(x) with { print(x); } }", "+E0101"),
    (File, "agent lacks2\n    with { print(1); }\n}", "+E0101"),
    // Items.
    (Agent, "capabilties = [\"exec\", \"secrets\"]", "+E0111"),
    (Agent, "on massage(topic) { print(topic); }", "+E0111"),
    (Agent, "on start( { print(1); }", "+E0103"),
    (Agent, "use shared", "E0101"),
    (Agent, "wiht timeout = 5s { print(1); }", "+E0111"),
    (Agent, "fn inner(a) { a }", "+E0111"),
    (Agent, "with timeout 5s { print(1); }", "+E0113"),
    (Agent, "with timeout = 10 seconds { print(1); }", "+E0115"),
    (Agent, "with max_memory_mb = 64, timeout = 1.5 min { print(1); }", "+E0115"),
    (Agent, "with max_memory_mb = 0 { print(1); }", "E0207"),
    (Agent, "with sandbox = tier9 { print(1); }", "+E0206"),
    (Agent, "capabilities = [1]", "E0101"),
    // Rules.
    (Policy, "alow: exec", "+E0111"),
    (Policy, "allow exec", "+E0113"),
    (Policy, "allow: 5", "E0208"),
    (Policy, "allow:", "E0101"),
    (Policy, "allow: exec if", "E0101"),
    (Policy, "allow: exec(command) if command = \"a\"", "+E0115"),
    (Policy, "require: { rate_limit: \"often\" }", "E0208"),
    (Policy, "allow: *", "+E0115"),
    (Policy, "deny: fs.*", "+E0115"),
    (Policy, "deny: fs.* if time.hour > 20", "+E0115"),
    (Policy, "allow: exec(command) unless command == \"rm\"", "+E0115"),
    (Policy, "allow: exec(command) when command == \"ls\"", "+E0115"),
    (Policy, "allow: exec(command) where command == \"ls\"", "+E0115"),
    // Blocks.
    (Schedule, "cron: \"0 25 * * *\" agent: worker", "E0231"),
    (Schedule, "cron: \"0 3 * * MOM\" agent: worker", "+E0231"),
    (Schedule, "cron: \"@dayly\" agent: worker", "+E0231"),
    (Schedule, "cron: \"0 3 * *\" agent: worker", "E0231"),
    (Schedule, "cron: 5 agent: worker", "E0207"),
    (Schedule, "corn: \"0 3 * * *\" agent: worker", "+W0304"),
    (Schedule, "cron: \"0 3 * * *\" agent: wroker", "+W0332"),
    (Schedule, "every: 5m timezone: \"Berlin\" agent: worker", "+E0232"),
    (Schedule, "every: 5m overlap: skpi agent: worker", "+W0303"),
    (Schedule, "every: 5parsecs agent: worker", "E0110"),
    (Schedule, "every: agent: worker", "E0101"),
    (Schedule, "every: 5m, cron: \"0 3 * * *\" agent: worker", "E0233"),
    (Schedule, "at: \"tomorrow\" agent: worker", "E0207"),
    (Schedule, "every: 5m", "W0331"),
    // Statements.
    (Body, "for i in 1..n - 1 { print(i); }", "+E0115"),
    (Body, "for i in 0...n { print(i); }", "E0115"),
    (Body, "if n in 1..5 { print(n); }", "+E0115"),
    (Body, "print([1, 2, 3][1..n]);", "+E0115"),
    (Body, "print([1, 2, 3][..=1]);", "+E0115"),
    (Body, "print([1, 2, 3][n..]);", "+E0115"),
    (Body, "print(-n as String);", "+E0115"),
    (Body, "print(n as float / 2);", "+E0115"),
    (Body, "let lam = (y z) => y + z; print(lam(1, 2));", "+E0101"),
    (Body, "let lam1 = (y, z) => y + z; print(lam1(1));", "W0313"),
    (Body, "let lam2 = (y: int) => y; print(lam2(\"a\"));", "E0221"),
    (Body, "print([1].map((y: String) => y));", "E0221"),
    (Body, "if Some(y) = n { print(y); }", "+E0115"),
    (Body, "if n then print(n) elseif n then print(2) end", "+E0115"),
    (Body, "if n then print(n) elsif (n) then print(2) else print(3) end", "+E0115"),
    (Body, "while n do\n            print(n)\n        end", "+E0115"),
    (Body, "if n { print(1); } else n == 2 { print(2); }", "+E0115"),
    (Body, "unless n { print(1); } else { print(2); }", "+E0115"),
    (Body, "repeat { print(n); } until n;", "E0115"),
    (Body, "repeat\n            print(n)\n        until n > 2", "E0115"),
    (Body, "match n { Some(_, q) => print(q), _ => print(1) }", "E0115"),
    (Body, "match n { 1 => n = 2, _ => print(1) }", "+E0120"),
    (Body, "match n { 1 => let y = 2, _ => print(1) }", "+E0120"),
    (Body, "match n { 1 => while n { break; }, _ => {} }", "+E0120"),
    (Body, "match n { q @ 1 => print(q), _ => print(1) }", "E0106"),
    (Body, "match n { 1 print(1), _ => print(2) }", "E0101"),
    (Body, "try { print(n); } catch (let e) { print(e); }", "+E0115"),
    (Body, "const { p } = n; print(p);", "+E0115"),
    (Body, "print(0 < n < 3);", "+W0327"),
    (Body, "print(n ^^ 1);", "E0115"),
    (Body, "let y = n ? 1; print(y);", "E0115"),
    (Body, "for (let i = 0; i < n; i++) { print([1][i]); }", "+E0115"),
    (Body, "for (let i = 0; i < n; i++) { if n { i = 4; } }", "E0115"),
    (Body, "for (let i = 0; i < n.length; i++) { n.push(i); }", "E0115"),
    (Body, "for (let i = 0; i < max(n, 2); i++) { print(i); }", "E0115"),
    (Body, "do { n += 1; if n == 2 { continue; } } while (n < 4);", "E0115"),
    (Body, "do { n += 1; } while (n < 4);", "+E0115"),
    (Body, "let a = 1\nprint(a);", "+E0102"),
    (Body, "let = 1;", "E0101"),
    (Body, "let a = ; print(a);", "E0101"),
    (Body, "let a 1; print(a);", "E0101"),
    (Body, "lte a = 1; print(a);", "+E0111"),
    (Body, "const a = 1; print(a);", "+E0115"),
    (Body, "print((n, 2));", "+E0115"),
    (Body, "for i in 0..n { print(i); }", "+E0115"),
    (Body, "for i in 0..=n { print(i); }", "+E0115"),
    (Body, "print([1, 2, 3][0:n]);", "+E0115"),
    (Body, "print([1, 2, 3][:2]);", "+E0115"),
    (Body, "print([1, 2, 3][n:]);", "+E0115"),
    (Body, "let listed: [int] = [1]; print(listed);", "+E0115"),
    (Body, "var a = 1; print(a);", "+E0115"),
    (Body, "let mut a = 1; print(a);", "+E0115"),
    (Body, "let a := 1; print(a);", "+E0115"),
    (Body, "n := 1;", "+E0115"),
    (Body, "n++;", "+E0115"),
    (Body, "n--;", "+E0115"),
    (Body, "++n;", "+E0115"),
    (Body, "if n = 1 { print(n); }", "+E0115"),
    (Body, "if n === 1 { print(n); }", "+E0115"),
    (Body, "if n !== 1 { print(n); }", "+E0115"),
    (Body, "if n and n { print(n); }", "+E0115"),
    (Body, "if n or n { print(n); }", "+E0115"),
    (Body, "if n & n { print(n); }", "+E0115"),
    (Body, "if n | n { print(n); }", "+E0115"),
    (Body, "if n { print(n); } elif n { print(2); }", "+E0115"),
    (Body, "if n { print(n); } elif (n) { print(2); }", "+E0115"),
    (Body, "if n { print(n); } elif not n { print(2); }", "+E0115"),
    (Body, "try { print(n); } except Error as e { print(e); }", "+E0115"),
    (Body, "try { print(n); } except (e) { print(e); }", "+E0115"),
    (Body, "try { print(n); } except { print(2); }", "+E0115"),
    (Body, "if n { print(n); } esle { print(2); }", "+E0111"),
    (Body, "if { print(1); }", "E0101"),
    (Body, "if n: print(n);", "+E0115"),
    (Body, "let a = n ? 1 : 2; print(a);", "+E0115"),
    (Body, "print(n ? 1 : 2, 3);", "+E0115"),
    (Body, "print({ a: n ? 1 : 2 });", "+E0115"),
    (Body, "let a = n ?? 2; print(a);", "+E0115"),
    (Body, "let a = n?.name; print(a);", "+E0115"),
    (Body, "let a = n?; print(a);", "+E0115"),
    (Body, "for i of [1] { print(i); }", "+E0115"),
    (Body, "for (i in [1]) { print(i); }", "+E0115"),
    (Body, "for (let i of [1]) { print(i); }", "+E0115"),
    (Body, "for (let i = 0; i < 9; i++) { print(i); }", "+E0115"),
    (Body, "for i in { print(1); }", "E0101"),
    (Body, "for i [1] { print(i); }", "E0101"),
    (Body, "for(1);", "E0115"),
    (Body, "for (;;) { print(n); }", "E0115"),
    (Body, "while(1);", "E0101"),
    (Body, "if n == {a: 1} { print(n); }", "+E0121"),
    (Body, "if n == {a: 1}.a { print(n); }", "+E0121"),
    (Body, "while {a: n}.a { break; }", "+E0121"),
    (Body, "if n in {a: 1, b: 2} { print(n); }", "+E0121"),
    (Body, "if n { print(1); }; else { print(2); }", "E0101"),
    (Body, "print(n); catch (e) { print(e); }", "E0101"),
    (Body, "foreach i in [1] { print(i); }", "+E0115"),
    (Body, "whlie n { print(n); }", "+E0111"),
    (Body, "whlie (n) { print(n); }", "+E0111"),
    (Body, "if n { retrun n; }", "+E0111"),
    (Body, "switch n { _ => 1 }", "+E0115"),
    (Body, "match n { 1 -> 2, _ => 3 }", "+E0115"),
    (Body, "match n { 1 = 2, _ => 3 }", "E0101"),
    (Body, "match n { [1] => 2, _ => 3 }", "E0101"),
    (Body, "match n { 1 => return 2, _ => 3 }", "+E0120"),
    (Body, "match n { 1 | 2 => 3, _ => 4 }", "E0115"),
    (Body, "match n { x if x > 1 => 2, _ => 3 }", "E0115"),
    (Body, "try { print(n); }", "E0101"),
    (Body, "try { print(n); } except (e) { print(e); }", "+E0115"),
    (Body, "try { print(n); } finally { print(1); }", "E0115"),
    (Body, "function f(a) { a }", "E0111"),
    (Body, "fn f(a) { a }", "E0111"),
    (Body, "break;", "E0204"),
    (Body, "len(n) = 1;", "E0112"),
    // Expressions.
    (Body, "print([1, 2 3]);", "+E0101"),
    (Body, "print(1 2);", "+E0101"),
    (Body, "print({ a: 1 b: 2 c });", "E0101"),
    (Body, "print({ a: });", "E0101"),
    (Body, "print([1, 2);", "+E0103"),
    (Body, "print((1 + 2);", "+E0103"),
    (Body, "print(1 + );", "E0101"),
    (Body, "print(n.);", "E0101"),
    (Body, "print(n[1);", "+E0103"),
    (Body, "print([1].map(|x| x + 1));", "+E0115"),
    (Body, "let wide: int | bool = 1; print(wide);", "+E0115"),
    (Body, "let open = \"abc;\n        print(open);", "+E0104"),
    (Body, "let open = \"abc\n        print(open);", "E0104"),
    (Body, "print(\"abc\n        print(n);", "E0104"),
    (Body, "print(\"abc\" + \"def);\n        print(\"x\");", "+E0104"),
    (Body, "print('text');", "+E0115"),
    (Body, "print(`text`);", "+E0115"),
    (Body, "print(5secnds);", "+E0110"),
    (Body, "print(\"\\u{110000}\");", "E0117"),
    (Body, "print(\"\\q\");", "+W0118"),
    (Body, "print(99999999999999999999);", "E0109"),
    (Body, "print([1].map((x) -> x + 1));", "+E0115"),
    (Body, "print([1].map(x -> x + 1));", "+E0115"),
    (Body, "print(@n);", "E0106"),
    (Body, "print(vault://);", "E0101"),
    (File, "agent nam0 { with { print(True); } }", "+E0201"),
    (File, "agent nam1 { with { return nil; } }", "+E0201"),
    (File, "agent nam2 { with { console.log(\"a\"); } }", "+E0201"),
    (File, "agent nam3 { with { return JSON.parse(\"1\"); } }", "+E0201"),
    (File, "agent nam4 { with { return this; } }", "E0201"),
    (File, "agent nam5 { with { println(\"a\"); } }", "+W0312"),
    (File, "agent nam6 { with { return undefined; } }", "+E0201"),
    (File, "agent nam7 { with { return str(5); } }", "W0312"),
    (File, "agent nam8 { with { return Math.max(1, 2); } }", "+E0201"),
    (File, "agent nam9 { with { pass; } }", "E0201"),
    // What other languages write.
    (File, "def g0(a):\n    return a\n\nagent caller4 { with { return g0(1); } }", "+E0111"),
    (File, "def g5():\n    return 1\n\nagent caller9 { with { return g5(); } }", "+E0111"),
    (File, "def g6(a: int) -> int:\n    return a\n\nagent caller10 { with { return g6(1); } }", "+E0111"),
    (File, "func g7(a int) int {\n    return a;\n}\n\nagent caller11 { with { return g7(1); } }", "+E0111"),
    (File, "func g8(a, b int) int { return a + b; } agent caller12 { with { return g8(1, 2); } }", "+E0111"),
    (Agent, "func helper(a int) int { return a; }", "+E0111"),
    (File, "async fn g1(a) { a } agent caller5 { with { return g1(1); } }", "+E0115"),
    (File, "export agent exported { with { print(1); } }", "+E0115"),
    (File, "pub function g2(a) { a } agent caller6 { with { return g2(1); } }", "+E0115"),
    (File, "@traced(1)\nagent traced { with { print(1); } }", "+E0115"),
    (File, "struct Triple { a: int, b: int }", "+E0111"),
    (File, "enum Color { Red, Green }", "E0111"),
    (File, "use std::io;", "E0111"),
    (File, "import { a } from \"b\";", "E0111"),
    (File, "from os import path", "E0111"),
    (File, "const LIMIT = 5;", "E0111"),
    (File, "function g3(int a, b) { print(a, b); } agent caller7 { with { return g3(1, \"\"); } }", "+E0115"),
    (File, "function g4(a: int) int { return a; } agent caller8 { with { return g4(1); } }", "+E0115"),
    (Body, "if n { throw \"bad\"; }", "+E0115"),
    (Body, "if n { throw new Error(\"bad\"); }", "+E0115"),
    (Body, "if n { raise ValueError(\"bad\"); }", "+E0115"),
    (Body, "let a = await f(n); print(a);", "+E0115"),
    (Body, "await f(n);", "+E0115"),
    (Body, "print([1].map(async x => x));", "+E0115"),
    (Body, "let a = n as int; print(a);", "+E0115"),
    (Body, "print(n as String, n);", "+E0115"),
    (Body, "println!(\"a {}\", n);", "+E0115"),
    (Body, "print(format!(\"a {}\", n));", "+E0115"),
    (Body, "print(vec![1, 2]);", "+E0115"),
    (Body, "if n { panic!(\"bad\"); }", "+E0115"),
    (Body, "print(2 ** 3);", "+E0115"),
    (Body, "print(n ** 2 + 1);", "+E0115"),
    (Body, "--n;", "+E0115"),
    (Body, "let a = n++; print(a);", "E0115"),
    (Body, "{ let a = 1; print(a); }", "+E0115"),
    (Body, "switch n { case 1: print(1); break; default: print(2); }", "E0115"),
    (Body, "switch (n) {\n            case 1:\n                print(1);\n                break;\n            default:\n                print(2);\n        }", "E0115"),
    (Body, "match n { case 1 => 2, case 3 => 4, _ => 5 }", "+E0115"),
    (Body, "match n { 1 -> 2, 3 -> 4, _ -> 5 }", "+E0115"),
    (Body, "match n:\n            case 1:\n                print(1)", "E0115"),
    (Body, "print(.5);", "+E0115"),
    (Body, "let (a, b) = [1, 2]; print(a, b);", "+E0115"),
    (Body, "let [a, b] = n; print(a, b);", "+E0115"),
    (Body, "let {a, b} = n; print(a, b);", "+E0115"),
    (Body, "const { a, b } = n; print(a, b);", "+E0115"),
    (Body, "let a, b = 1, 2; print(a, b);", "+E0115"),
    (Body, "for k, v in n { print(k, v); }", "E0115"),
    (Body, "for (k, v) in n { print(k, v); }", "E0115"),
    (Body, "for i = 0; i < 3; i++ { print(i); }", "+E0115"),
    (Body, "for i := 1; i <= n; i += 1 { print(i); }", "+E0115"),
    (Body, "for i := range n { print(i); }", "+E0115"),
    (Body, "for _, x := range n { print(x); }", "E0115"),
    (Body, "if n { print(1); } elseif n == 2 { print(2); }", "+E0115"),
    (Body, "let f = lambda x: x + 1; print(f(1));", "+E0115"),
    (Body, "print([1].map(lambda x: x + 1));", "+E0115"),
    (Body, "let f = fn(x) { x }; print(f(1));", "+E0115"),
    (Body, "print([1].map(function(x) { return x; }));", "+E0115"),
    (Body, "let f = |x: int| x; print(f(1));", "+E0115"),
    (Body, "let none = || 1; print(none());", "+E0115"),
    (Body, "let a = 1 if n else 2; print(a);", "+E0115"),
    (Body, "if n <> 1 { print(1); }", "+E0115"),
    (Body, "if n is None { print(1); }", "+E0115"),
    (Body, "if n is not None { print(1); }", "+E0115"),
    (Body, "if n instanceof Error { print(1); }", "E0115"),
    (Body, "if typeof n == \"string\" { print(1); }", "+E0115"),
    (Body, "if n =~ \"a\" { print(1); }", "E0115"),
    (Body, "print(n << 2);", "E0115"),
    (Body, "print(n ^ 2);", "E0115"),
    (Body, "print(~n);", "E0115"),
    (Body, "print(f\"a {n} b\");", "+E0115"),
    (Body, "print(r\"a\\d\");", "+E0115"),
    (Body, "print(`a ${n} b`);", "+E0115"),
    (Body, "print('''a''');", "+E0115"),
    (Body, "print(\"a\" . \"b\");", "+E0115"),
    (Body, "do { print(n); } while (n < 3);", "+E0115"),
    (Body, "loop { print(1); break; }", "+E0115"),
    (Body, "for { print(1); break; }", "+E0115"),
    (Body, "unless n { print(1); }", "+E0115"),
    (Body, "until n { print(1); }", "+E0115"),
    (Body, "while (n) do { print(1); }", "+E0115"),
    (Body, "while (n) do print(1);", "+E0115"),
    (Body, "if n > 1 then { print(1); }", "+E0115"),
    (Body, "if (n > 1) print(1);", "+E0115"),
    (Body, "if (n) print(1); else print(2);", "+E0115"),
    (Body, "for i in range(0, 3):\n            print(i)", "+E0115"),
    (Body, "if n > 1:\n            print(1)\n        elif n:\n            print(3)\n        else:\n            print(2)", "+E0115"),
    (Body, "while n < 3:\n            n += 1\n            if n:\n                print(n)", "+E0115"),
    (Body, "try:\n            print(1)\n        except KeyError as e:\n            print(e)", "+E0115"),
    (Body, "try { print(n); } catch (e: KeyError) { print(e); }", "+E0115"),
    (Body, "yield n;", "E0115"),
    (Body, "del n.a;", "E0115"),
    (Body, "import os", "E0115"),
    (Body, "with open(\"a\") as f { print(f); }", "E0115"),
    (Body, "mut a = 1; print(a);", "+E0115"),
    (Body, "int a = 1; print(a);", "+E0115"),
    (Body, "print \"a\", n;", "+E0115"),
    (Body, "assert n > 1, \"bad\";", "+E0115"),
    (Body, "n &&= true;", "+E0115"),
    (Body, "n ||= true;", "+E0115"),
    (Body, "n ??= true;", "+E0115"),
    (Body, "n **= 2;", "+E0115"),
    (Body, "n <<= 2;", "E0115"),
    (Body, "print(7 // 2);", "+E0115"),
    (Body, "let a = 7 // 2;\n        print(a);", "+E0115"),
    (Body, "let a = new Widget(1); print(a);", "E0115"),
    (Body, "print(&n);", "+E0115"),
    (Body, "print([...n, 1]);", "E0115"),
    (Body, "print({...n, a: 1});", "E0115"),
    (Body, "print({n, a: 1});", "+E0101"),
    (Body, "print({ 1: 2 });", "+E0115"),
    (Body, "print({ [n]: 2 });", "E0115"),
    (Body, "print([x * 2 for x in n if x > 1]);", "+E0115"),
    (Body, "print(sum(x for x in n));", "+E0115"),
    (Body, "print(n.0);", "+E0115"),
    (Body, "print(n::y);", "E0115"),
    (Body, "print(n!.y);", "+E0115"),
    (Body, "print(0x1f);", "+E0115"),
    (Body, "print(10L);", "+E0115"),
    (Body, "print($n);", "+E0115"),
    (Body, "for k in {a: 1} { print(k); }", "+E0121"),
    (Body, "let a = if n then 1 else 2; print(a);", "+E0115"),
    (Body, "print(if n then 1 else if n == 2 then 3 else 4, 5);", "+E0115"),
    (Body, "if n then print(1) else print(2);", "+E0115"),
    (Body, "if n then print(1) end", "+E0115"),
    (File, "function h0(n) { if (n) return 1 else return 2 } agent caller13 { with { return h0(1); } }", "+E0115"),
    (File, "function h1(n) { if (n) return 1; else return 2; } agent caller14 { with { return h1(1); } }", "+E0115"),
    (Body, "if (n) 1 else \"two\"", "+E0115"),
    (Body, "if (let Some(x) = n) { print(x); }", "+E0115"),
    (Body, "if (let x = n) { print(x); }", "E0115"),
    (Body, "while let Some(x) = f(n) { print(x); }", "+E0115"),
    (Body, "while (let Some(x) = f(n)) { print(x); }", "+E0115"),
    (Body, "while let x = f(n) { print(x); }", "E0115"),
    (Body, "if not n is None { print(1); }", "+E0115"),
    (Body, "if !n is not None { print(1); }", "+E0115"),
    (Body, "try { print(n); } except (KeyError, IndexError) as e { print(e); }", "E0115"),
    (Body, "try { print(n); } except (KeyError) as e { print(e); }", "+E0115"),
    (Body, "try { print(n); } catch (KeyError | IndexError e) { print(e); }", "E0115"),
    (Body, "match n { 1..3 => 2, _ => 3 }", "E0115"),
    (Body, "match n { 1..=3 => 2, _ => 3 }", "E0115"),
    (Body, "match n { -3..-1 => 2, _ => 3 }", "E0115"),
    (Body, "{ print(n) }\n        print(1);", "+E0115"),
    (Body, "let (p, q) = f(n); print(p, q);", "+E0115"),
    (Body, "let (n, q) = n; print(n, q);", "+E0115"),
    (Body, "let (_, q) = f(n); print(q);", "+E0115"),
    (Body, "let a, b = [2], n; print(a, b);", "+E0115"),
    (Body, "let a, b = n, a; print(a, b);", "E0115"),
    (Body, "if n then\n            print(1)\n        else\n            print(2)\n        end", "+E0115"),
    (Body, "var a, b; a = 1; print(a, b);", "+E0115"),
    (Body, "let a = 1, b = 2; print(a, b);", "+E0115"),
    (Body, "var a = 1, b = 2, c = 3; print(a, b, c);", "+E0115"),
    (Body, "let a\n        print(a);", "+E0101"),
    (Body, "match n { ..5 => 2, _ => 4 }", "E0115"),
    (Body, "match n { 1...5 => 3, _ => 4 }", "E0115"),
    (Body, "print([x for x in n for y in x]);", "E0115"),
    (Body, "print(any(x > 1 for x in n));", "+E0115"),
    (Body, "print(all(x > 1 for x in n if x));", "+E0115"),
    (Body, "print([f(x) for x in n if x > 1]);", "+E0115"),
    (Body, "print([{ a: x } for x in n]);", "+E0115"),
    (Body, "print([{} for x in n]);", "E0115"),
    (Body, "print('say \"hi\"');", "+E0115"),
    (Body, "print('it''s');", "+E0115"),
    (Body, "print('it\\'s \\\"so\\\"');", "+E0115"),
    (Body, "let a; a = 1; print(a);", "+E0101"),
    (Body, "var a; a = 1; print(a);", "+E0115"),
    (Body, "var a: int; print(a);", "E0101"),
    (Body, "n ^= 1;", "E0115"),
    (Body, "print(n->y);", "+E0115"),
    (Body, "n->y = 2;", "+E0115"),
    (Body, "print([1].map(x->x + 1));", "+E0115"),
    (Body, "while n { break 'outer; }", "E0115"),
    (Body, "'outer: while n { break; }", "+E0115"),
    (Body, "for i in [1] { print(i); continue outer; }", "E0115"),
    (Body, "outer: for i in [1] { print(i); }", "+E0115"),
    (File, "agent negated1(n) { with { let xs = [1]; if not n in xs { print(1); } } }", "+W0325"),
    (File, "agent negated2(n) { with { if !n in [1] { print(1); } } }", "+W0325"),
    (File, "agent negated3(n) { with { if not n not in [1] { print(1); } } }", "+W0325"),
    (File, "agent negated4(n) { with { if not n == 1 { print(1); } } }", "+W0325"),
    (File, "agent negated5(n) { with { if !n != \"a\" { print(1); } } }", "+W0325"),
    (File, "agent negated6(n) { with { if not n < 1 { print(1); } } }", "+W0325"),
    (File, "agent negated7(n) { with { if 1 == 2 { print(n); } } }", "W0326"),
    (File, "agent negated8(n) { with { if \"a\" < \"b\" { print(n); } } }", "W0326"),
];

/// Statements that are as they should be, though they look like what other languages write.
#[rustfmt::skip]
const SOUND: &[&str] = &[
    "print((0 < n) < true, 0 < n == true, 0 < n < true, (0 < n) < n);",
    "let elif = 1; if n > 1 { print(n); }\n        elif += 2;",
    "let elif = [1]; if n > 1 { print(n); }\n        elif[0] = 2;",
    "let elif = x => x; if n > 1 { print(n); }\n        elif(2);",
    "let elif = x => x; if n > 1 { print(n); }\n        elif (2);",
    "let elsif = { a: 1 }; if n > 1 { print(n); }\n        elsif.a = 2;",
    "let elseif = 1; if n > 1 { print(n); }\n        print(elseif);",
    "let elif = [1]; let f = x => { if x { print(x); } elif }; print(f(n));",
    "let elif = [1]; let f = x => { if x { print(x); } elif in [elif] }; print(f(n));",
    "let elif = 1; let f = x => { if x { print(x); } elif == 1 }; print(f(n));",
    "let except = x => x; try { print(n); } catch (e) { print(e); }\n        except(3);",
    "let except = [1]; try { print(n); } catch (e) { print(e); }\n        except.push(1);",
    "let rescue = 1; let f = x => { try { print(x); } catch (e) { print(e); } rescue }; print(f(n));",
];

/// The same of declarations.
const SOUND_FILES: &[&str] = &[
    "agent bare\npolicy open { allow: exec }",
    "agent bare\nfunction twice(x) { x * 2 } agent uses { with { return twice(1); } }",
    "agent bare(x)\n    policy open { allow: exec }",
    "agent bare(x) -> int\nmemory notes { store markdown }",
    "agent bare\nagent bare2 { with { return 1; } }",
];

/// A program with these pieces, one after the other where they stand in the same place.
fn program(pieces: &[(In, &str)]) -> String {
    let of = |place: In| pieces.iter().filter(move |(of, _)| *of == place).map(|(_, text)| *text);
    let mut source = String::new();
    for (number, text) in of(Schedule).enumerate() {
        source.push_str(&format!("schedule s{number} {{\n    {text}\n}}\n\n"));
    }
    let has_with = of(Agent).any(|text| text.contains("{ print(1); }") && !text.starts_with("on"));
    let body: String = of(Body).map(|text| format!("        {text}\n")).collect();
    source.push_str("policy shared {\n    allow: [exec, \"*\"]\n");
    of(Policy).for_each(|text| source.push_str(&format!("    {text}\n")));
    source.push_str("}\n\nagent worker(n) {\n    use policy shared\n");
    of(Agent).for_each(|text| source.push_str(&format!("    {text}\n")));
    if !has_with {
        source.push_str(&format!("    with timeout = 5s {{\n        print(n);\n{body}    }}\n"));
    } else if !body.is_empty() {
        source.push_str(&format!("    on stop {{\n{body}    }}\n"));
    }
    source.push_str("}\n\n");
    of(File).for_each(|text| source.push_str(&format!("{text}\n\n")));
    source
}

/// What is told of a program, apart from what is not served and what stays unused.
fn told(source: &str) -> Vec<Diagnostic> {
    let mut told = check(source).diagnostics;
    told.retain(|diagnostic| !matches!(diagnostic.code, "W0314" | "W0301"));
    told
}

#[test]
fn the_program_around_the_faults_is_sound() {
    assert_eq!(check(&program(&[])).diagnostics, []);
}

#[test]
fn what_only_looks_like_a_habit_is_sound() {
    let bodies = SOUND.iter().map(|text| (Body, *text));
    for (place, text) in bodies.chain(SOUND_FILES.iter().map(|text| (File, *text))) {
        let source = program(&[(place, text)]);
        let found = told(&source);
        assert!(found.is_empty(), "{text:?}\n{}", render(&found, &source, "agent.symbi", false));
    }
}

#[test]
fn one_fault_gives_one_message_and_its_fix_mends_it() {
    let mut failures = Vec::new();
    for (place, text, code) in FAULTS {
        let source = program(&[(*place, *text)]);
        let found = told(&source);
        let codes: Vec<&str> = found.iter().map(|diagnostic| diagnostic.code).collect();
        let shown = render(&found, &source, "agent.symbi", false);
        if codes != [code.trim_start_matches('+')] {
            failures.push(format!("{text:?} gives {codes:?}\n{shown}"));
            continue;
        }
        let fix = found[0].fix.as_ref().filter(|_| code.starts_with('+'));
        match fix {
            None if code.starts_with('+') => failures.push(format!("{text:?} has no fix\n{shown}")),
            None => {}
            Some(fix) => {
                let mut mended = source.clone();
                mended.replace_range(fix.span.clone(), &fix.replacement);
                let left = told(&mended);
                if !left.is_empty() {
                    let shown = render(&left, &mended, "agent.symbi", false);
                    failures.push(format!("{text:?} is not mended\n{shown}"));
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        FAULTS.len(),
        failures.join("\n")
    );
}

/// Whether pieces make one more fault together, or one less: the same name twice, a second `with`, or
/// two texts that lack their ends, of which each closes the other.
fn clash(pieces: &[(In, &str)]) -> bool {
    let items: Vec<&str> =
        pieces.iter().filter(|(place, _)| *place == Agent).map(|(_, text)| *text).collect();
    let of = |word: &str| items.iter().filter(|text| text.contains(word)).count();
    let same = |at: usize| pieces[..at].contains(&pieces[at]);
    let open = pieces.iter().filter(|(_, text)| text.matches('"').count() % 2 == 1).count();
    open > 1 || (0..pieces.len()).any(same) || of("cap") > 1 || of("{ print(1); }") > 1
}

/// Checks that pieces with a fault each give as many messages as they are.
fn one_each(faults: &[(In, &str, &str)], failures: &mut Vec<String>) {
    let pieces: Vec<(In, &str)> = faults.iter().map(|(place, text, _)| (*place, *text)).collect();
    if clash(&pieces) {
        return;
    }
    let source = program(&pieces);
    let found = told(&source);
    let mut codes: Vec<&str> = found.iter().map(|diagnostic| diagnostic.code).collect();
    let mut want: Vec<&str> =
        faults.iter().map(|(.., code)| code.trim_start_matches('+')).collect();
    codes.sort_unstable();
    want.sort_unstable();
    if codes != want {
        let shown = render(&found, &source, "agent.symbi", false);
        failures.push(format!("{pieces:?} give {codes:?}, not {want:?}\n{shown}"));
    }
}

#[track_caller]
fn none(failures: &[String]) {
    let first = failures.iter().step_by(failures.len() / 12 + 1).cloned().collect::<Vec<_>>();
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), first.join("\n"));
}

#[test]
fn two_faults_give_two_messages() {
    let mut failures = Vec::new();
    for first in FAULTS {
        for second in FAULTS {
            one_each(&[*first, *second], &mut failures);
        }
    }
    none(&failures);
}

/// Tens of faults, each set with another beginning and another stride through the table.
#[test]
fn ten_faults_give_ten_messages() {
    let mut failures = Vec::new();
    for start in 0..FAULTS.len() {
        for stride in [1, 7, 11, 29] {
            let ten: Vec<_> =
                (0..10).map(|at| FAULTS[(start + at * stride) % FAULTS.len()]).collect();
            one_each(&ten, &mut failures);
        }
    }
    none(&failures);
}

/// What could not be read hides nothing beside it: names and types of the same body are told of, but for
/// names that it may have defined.
#[test]
fn faults_of_one_body_are_all_told() {
    let source = "function f(v: int) -> int {
    let a = \u{1f600};
    undefd;
    let lost 5;
    let whole: int = \"text\";
    for i in [1, 2] {
        v.foo(;
        undefined_too;
        print(i * , 2);
    }
    try { print(a +); } catch (Error e) { nobody; }
    print(perhaps);
    let perhaps
    print(lost, lost);
    whole
}
agent caller { with { return f(1); } }
";
    let told = told(source);
    let lines: Vec<(&str, usize)> = told
        .iter()
        .map(|told| (told.code, source[..told.span.start].matches('\n').count() + 1))
        .collect();
    let want = [
        ("E0106", 2),
        ("E0201", 3),
        ("E0101", 4),
        ("E0221", 5),
        ("E0103", 7),
        ("E0201", 8),
        ("E0101", 9),
        ("E0101", 11),
        ("E0201", 11),
        ("E0101", 14),
    ];
    assert_eq!(lines, want, "{}", render(&told, source, "agent.symbi", false));
}
