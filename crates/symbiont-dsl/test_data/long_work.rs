// What does much in one instruction, for a number `n` that says how much: a name and a body. The tests
// count the work of each slice, and the benchmark takes the time.
[
    ("sort", "range(0, n).map(i => i * 7919 % 1000003).sort()[0]"),
    (
        "sort of long texts",
        "let s = \"a\".repeat(n / 13); let a = range(0, 100).map(i => s + i); a.sort().length",
    ),
    (
        "sort of equal texts",
        "let s = \"abcdefgh\".repeat(200); let a = range(0, 5000).map(i => s + i % 2); a.sort().length",
    ),
    (
        "least of long texts",
        "let s = \"a\".repeat(n / 13); let a = range(0, 100).map(i => s + i); min(a.map(t => t)).length",
    ),
    ("join", "range(0, n).map(i => i * 7919 % 1000003).join(\",\").split(\",\").length"),
    ("split", "\"a,\".repeat(n).split(\",\").length"),
    ("split at what is nowhere", "\"aaaaaaab\".repeat(2 * n).split(\"aaaaaaac\").length"),
    ("replace", "\"abcdefgh \".repeat(n).replace(\"abc\", \"x\").length"),
    ("replace all", "\"ab\".repeat(4 * n).replace(\"a\", \"\").length"),
    (
        "contains",
        "let s = \"aaaaaaab\".repeat(2 * n); if s.contains(\"aaaaaaaab\") { 1 } else { 0 }",
    ),
    (
        "contains much",
        "let s = \"ab\".repeat(8 * n); let p = \"ab\".repeat(n / 2) + \"b\"; if p in s { 1 } else { 0 }",
    ),
    (
        "regex",
        "let text = \"abcdefgh \".repeat(n); if regex_match(text, \"[a-z]+z\") { 1 } else { 0 }",
    ),
    (
        "large regex",
        "let text = \"ab\".repeat(n / 100); if regex_match(text, \"(a|b)*a(a|b){200}[^ab]\") { 1 } else { 0 }",
    ),
    (
        "regex with words",
        "let text = \"ab é \".repeat(n / 4); if regex_match(text, \"\\\\b(a|b|é)+\\\\b\\\\wz\") { 1 } else { 0 }",
    ),
    (
        "regex that begins nowhere",
        "let text = \"abcdefgh \".repeat(n); if text.contains_pattern(\"x[a-z]+\") { 1 } else { 0 }",
    ),
    (
        "format without braces",
        "let s = \"{\".repeat(15 * n); format(s).length",
    ),
    (
        "change a range",
        "let a = range(0, n); a[0] = 1; let b = range(0, n / 2) + range(0, n / 3); a.length + b.length",
    ),
    ("lower", "\"ABCDÉ FGH\".repeat(n).lower().length"),
    ("upper", "\"éàèùßtuvw\".repeat(n).upper().length"),
    ("reverse of a text", "\"éàèùßtuvw\".repeat(n).reverse().length"),
    ("trim", "(\" \".repeat(15 * n) + \"x\").trim().length"),
    ("slice of a text", "\"éàèùßtuvw\".repeat(n).slice(10, 5 * n).length"),
    ("chars", "\"é\".repeat(n).chars.length"),
    ("lines", "\"a\n\".repeat(n).lines.length"),
    ("number of digits", "let s = \" \".repeat(15 * n) + \"1\"; s.to_int()"),
    ("repeat", "\"abcdefghijklmno\".repeat(n).length"),
    ("text and number", "let s = \"a\".repeat(15 * n); let b = s + 1; b.length"),
    (
        "less",
        "let s = \"a\".repeat(15 * n); let t = s + \"b\"; let u = s + \"a\"; if u < t { 1 } else { 0 }",
    ),
    ("hash", "hash(\"abcdefghijklmno\".repeat(n)).length"),
    ("base64", "base64(\"abcdefghij\".repeat(n)).length"),
    ("zip", "zip(range(0, n), range(0, n)).length"),
    (
        "equal arrays",
        "let a = range(0, n).reverse(); let b = a; b.push(1); if a == b { 1 } else { 0 }",
    ),
    (
        "equal nested arrays",
        "let a = zip(range(0, n), range(0, n)); let b = a; if a == b { 1 } else { 0 }",
    ),
    ("contains in an array", "let a = range(0, n).reverse(); if \"x\" in a { 1 } else { 0 }"),
    (
        "contains long texts",
        "let s = \"a\".repeat(8 * n); let t = s + \"b\"; let u = s + \"c\"; let a = range(0, 20).map(i => t); if u in a { 1 } else { 0 }",
    ),
    ("to_json of ints", "to_json(range(0, n).map(i => i)).length"),
    ("to_json of floats", "to_json(range(0, n * 2 / 3).map(i => i / 7.0)).length"),
    ("to_json of texts", "to_json(range(0, n / 4).map(i => \"text\" + i)).length"),
    ("to_json of a text", "let s = \"a\nb\".repeat(3 * n); to_json(s).length"),
    ("parse_json of numbers", "parse_json(to_json(range(0, n).map(i => i))).length"),
    (
        "parse_json of a map",
        "parse_json(\"{\" + range(0, n / 5).map(i => \"\\\"k\" + i + \"\\\":\" + i).join(\",\") + \"}\").length",
    ),
    ("parse_json of a text", "parse_json(\"\\\"\" + \"\\\\n\".repeat(8 * n) + \"\\\"\").length"),
    ("parse_json of empties", "parse_json(\"[\" + \"[],\".repeat(n - 1) + \"[]]\").length"),
    ("parse_csv", "parse_csv(\"a,b,c\n\" + \"1,2,3\n\".repeat(n / 4)).length"),
    (
        "merge",
        "let m = {}; for i in range(0, n / 10) { m[\"k\" + i] = i } let o = {}; for i in range(0, n / 10) { o[\"o\" + i] = i } m.merge(o); m.length",
    ),
    ("grow a map", "let m = {}; for i in range(0, n / 5) { m[\"k\" + i] = i } m.length"),
    ("copy an array", "let a = range(0, n).map(i => \"x\"); let b = a; b.push(1); b.length"),
    (
        "copy a map",
        "let m = {}; for i in range(0, n / 5) { m[\"k\" + i] = i } let o = m; o.x = 1; o.length",
    ),
    ("add arrays", "let a = range(0, n / 2).map(i => \"x\"); let b = a + a; b.length"),
    (
        "keys",
        "let m = {}; for i in range(0, n / 5) { m[\"k\" + i] = i } m.keys.length + m.values.length + m.entries.length",
    ),
    ("free arrays", "let a = zip(range(0, n), range(0, n)); a = 1; a"),
    (
        "free arrays of texts",
        "let m = range(0, n / 800).map(i => range(0, 400).map(j => \"text\" + j)); m = 1; m",
    ),
    (
        "free maps",
        "let m = range(0, n / 5).map(i => ({ a: i })); m = 1; m",
    ),
    (
        "free maps beside a map that grows",
        "let m = range(0, n / 5).map(i => ({ a: i })); m = 1; let k = {}; for i in range(0, n / 5) { k[\"k\" + i] = i } k = 1; k",
    ),
    (
        "free a map",
        "let k = {}; for i in range(0, n / 5) { k[\"k\" + i] = i } k = 1; k",
    ),
    (
        "remove",
        "let a = range(0, n).map(i => \"x\"); a.remove(0); let m = {}; for i in range(0, n / 5) { m[\"k\" + i] = i } m.remove(\"k0\"); m.length",
    ),
    ("sum", "let a = range(0, n).reverse(); sum(a) + max(a) + min(a) + a.slice(1).length"),
    ("call of the host", "let a = zip(range(0, n), range(0, n)); let b = host(a); b.length"),
]
