//! What values become where a type is written, beside a plain model of it.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use symbiont_dsl::machine::{Entry, Limits, Machine, Step, compile};
use symbiont_dsl::syntax::parse;
use symbiont_dsl::value::{Value, from_json, to_json_text};

use super::saving;

/// A written type.
#[derive(Debug, Clone)]
enum Ty {
    Int,
    Text,
    Any,
    Float,
    Option(Box<Ty>),
    Result(Box<Ty>),
    Array(Box<Ty>),
    Map(Box<Ty>),
    Record(Vec<(String, Ty)>),
    /// The declared type `{ value: float, next: Option<Tree>, more: Array<Tree> }`.
    Tree,
}

impl Ty {
    fn text(&self) -> String {
        match self {
            Ty::Int => "int".into(),
            Ty::Text => "String".into(),
            Ty::Any => "any".into(),
            Ty::Float => "float".into(),
            Ty::Option(of) => format!("Option<{}>", of.text()),
            Ty::Result(of) => format!("Result<{}>", of.text()),
            Ty::Array(of) => format!("Array<{}>", of.text()),
            Ty::Map(of) => format!("Map<String, {}>", of.text()),
            Ty::Record(fields) => {
                let fields = fields.iter().map(|(name, ty)| format!("{name}: {}", ty.text()));
                format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
            }
            Ty::Tree => "Tree".into(),
        }
    }

    fn tree() -> Ty {
        Ty::Record(vec![
            ("value".into(), Ty::Float),
            ("next".into(), Ty::Option(Box::new(Ty::Tree))),
            ("more".into(), Ty::Array(Box::new(Ty::Tree))),
        ])
    }
}

/// The model.
fn fitted(ty: &Ty, json: &Json) -> String {
    match (ty, json) {
        (Ty::Tree, json) => fitted(&Ty::tree(), json),
        (Ty::Option(_), Json::Null) => "none".into(),
        (Ty::Option(of), json) => format!("some({})", fitted(of, json)),
        (Ty::Result(of), json) => format!("ok({})", fitted(of, json)),
        (Ty::Float, Json::Number(_)) => "float".into(),
        (ty, Json::Array(items)) => {
            let of = if let Ty::Array(of) = ty { of } else { &Ty::Any };
            let items: Vec<String> = items.iter().map(|item| fitted(of, item)).collect();
            format!("[{}]", items.join(","))
        }
        (ty, Json::Object(object)) => {
            let mut out = String::new();
            for (key, value) in object {
                let of = match ty {
                    Ty::Map(of) => Some(&**of),
                    Ty::Record(fields) => {
                        fields.iter().find(|(name, _)| name == key).map(|(_, ty)| ty)
                    }
                    _ => None,
                };
                let _ = write!(out, "{key}:{},", fitted(of.unwrap_or(&Ty::Any), value));
            }
            if let Ty::Record(fields) = ty {
                let missing = fields
                    .iter()
                    .filter(|(name, ty)| matches!(ty, Ty::Option(_)) && !object.contains_key(name));
                let mut missing: Vec<&str> = missing.map(|(name, _)| name.as_str()).collect();
                missing.sort_unstable();
                missing.dedup();
                missing.iter().for_each(|name| _ = write!(out, "{name}:none,"));
            }
            format!("{{{out}}}")
        }
        (_, Json::Null) => "null".into(),
        (_, Json::Bool(_)) => "bool".into(),
        (_, Json::String(_)) => "string".into(),
        (_, Json::Number(number)) => if number.is_i64() { "int" } else { "float" }.into(),
    }
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "value", "next", "more"]).prop_map(str::to_owned)
}

fn types() -> impl Strategy<Value = Ty> {
    let leaf = prop_oneof![
        1 => Just(Ty::Int),
        1 => Just(Ty::Text),
        1 => Just(Ty::Any),
        3 => Just(Ty::Float),
        2 => Just(Ty::Tree),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed.clone().prop_map(Ty::Option),
            boxed.clone().prop_map(Ty::Result),
            boxed.clone().prop_map(Ty::Array),
            boxed.prop_map(Ty::Map),
            prop::collection::btree_map(name(), inner, 0..4)
                .prop_map(|fields| Ty::Record(fields.into_iter().collect())),
        ]
    })
}

fn values() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::from),
        3 => (0..9_i64).prop_map(Json::from),
        1 => (0..9_i32).prop_map(|n| json!(f64::from(n) + 0.5)),
        1 => Just(json!("text")),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((name(), inner), 0..4)
                .prop_map(|entries| Json::from(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

const LIMITS: Limits = Limits { steps: 10_000_000, memory: 32 << 20, depth: 100, output: 1 << 20 };

/// What a program gives for an `input` of any type, run in slices of so many steps, and moved to
/// another machine after each.
fn run(source: &str, input: Value, fuel: u64) -> String {
    let parsed = parse(source);
    let code = Arc::new(compile(&parsed.program, 0).expect("it compiles"));
    let params = vec![("input".to_owned(), input)];
    let mut machine = Machine::start(Arc::clone(&code), Entry::With, params, vec![], LIMITS)
        .expect("it has its parameter");
    loop {
        match machine.run(fuel) {
            Step::Done(value) => return to_json_text(&value, 1 << 20).expect("it is JSON"),
            Step::Yielded => saving::moved(&mut machine, &code, LIMITS),
            end => panic!("{end:?} of {source}"),
        }
    }
}

const DESCRIBE: &str = "
type Tree = { value: float, next: Option<Tree>, more: Array<Tree> }
function describe(x) -> String {
    match type_of(x) {
        \"option\" => match x { Some(inner) => \"some(\" + describe(inner) + \")\", _ => \"none\" },
        \"result\" => match x { Ok(inner) => \"ok(\" + describe(inner) + \")\", _ => \"err\" },
        \"array\" => \"[\" + x.map(item => describe(item)).join(\",\") + \"]\",
        \"map\" => {
            let out = \"{\"
            for key in x { out += key + \":\" + describe(x[key]) + \",\" }
            out + \"}\"
        }
        kind => kind
    }
}
";

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a value comes in, it becomes what the type says, and never anything else.
    #[test]
    fn what_comes_in_becomes_what_is_written(
        ty in types(),
        value in values(),
        way in 0_usize..12,
        fuel in 20_u64..2_000,
    ) {
        let written = ty.text();
        let (functions, body) = match way {
            0 => (String::new(), format!("let x: {written} = input; describe(x)")),
            1 => (String::new(), format!("let x: {written} = input; x = input; describe(x)")),
            2 => (format!("function f(x: {written}) {{ describe(x) }}"), "f(input)".to_owned()),
            3 => (
                format!("function f(x: {written}) {{ describe(x) }}"),
                "let g = f; g(input)".to_owned(),
            ),
            4 => (
                format!("function f(x: {written}) {{ describe(x) }}"),
                "f(x = input)".to_owned(),
            ),
            5 => (format!("function f(x) -> {written} {{ x }}"), "describe(f(input))".to_owned()),
            6 => (
                format!("function f(x) -> {written} {{ if x {{ return x }} return x }} function g(y: {written}) -> {written} {{ let z: {written} = f(y); z }}"),
                "describe(g(f(input)))".to_owned(),
            ),
            7 => (
                format!("type Box = {{ inside: Array<{written}> }}"),
                "let b = Box { inside: [] }; b.inside.push(input); describe(b.inside[0])".to_owned(),
            ),
            8 => (
                format!("type Cell = {{ inside: {written} }}"),
                "let c: Cell = { inside: input }; let key = \"in\" + \"side\"; c[key] = input; describe(c.inside)".to_owned(),
            ),
            9 => (
                format!("type Cell = {{ inside: {written} }} type Row = {{ cells: Array<Cell> }}"),
                "let r = Row { cells: [{ inside: input }] }; let key = \"cells\"; r[key][0].inside = input; describe(r.cells[0].inside)".to_owned(),
            ),
            10 => (
                format!("type Cell = {{ inside: {written} }}"),
                "let c: Cell = { inside: input }; let d = c.merge({ inside: input }); if describe(c.inside) == describe(d.inside) { describe(d.inside) } else { \"two\" }".to_owned(),
            ),
            _ => (
                format!("type Box = {{ inside: Array<{written}> }}"),
                "let b: Box = { inside: [null] }; b.inside[0] = input; describe(b[\"inside\"][0])".to_owned(),
            ),
        };
        let source = format!("{DESCRIBE}{functions}\nagent t(input) {{ with {{ {body} }} }}");
        let input = from_json(&value).expect("a value");
        let got = run(&source, input, fuel);
        prop_assert_eq!(&got, &json!(fitted(&ty, &value)).to_string(), "{}", source);
    }
}

#[test]
fn errors_are_never_wrapped_as_values() {
    let source = "
        function o(x) -> Option<int> { x }
        function r(x) -> Result<int> { x }
        function e(x) -> Result<int> { if let Err(y) = r(x) { return y } return x }
        function n(x) -> Option<Result<int>> { x }
        agent t(input) { with {
            [n(error(\"c\")).unwrap(), type_of(o(error(\"a\"))), type_of(o(Err(1))), type_of(r(Err(1))), r(error(\"b\")), type_of(e(input))]
                .map(x => match x { Err(e) => \"err \" + e.message, x => x })
        } }";
    let got = run(source, Value::Int(1), 100);
    assert_eq!(got, r#"["err c","error","result","result","err b","result"]"#);
}

/// What is long is gone through stride by stride, and is the same in any slices.
#[test]
fn long_values_are_fitted_in_strides() {
    let source = "
        type Rates = { rates: Map<String, Array<Option<float>>> }
        agent t(input) { with {
            let all: Rates = { rates: { up: range(0, 30000), down: input } };
            let again: Rates = all;
            let ups = all.rates.up.filter(r => match r { Some(r) => type_of(r) == \"float\", _ => false });
            let downs = all.rates.down.filter(r => r == None);
            return [ups.length, downs.length, again == all]
        } }";
    let input =
        Value::array((0..20_000).map(|at| if at % 2 == 0 { Value::Null } else { Value::Int(at) }));
    let whole = run(source, input.clone(), u64::MAX);
    assert_eq!(whole, "[30000,10000,true]");
    assert_eq!(run(source, input, 2_500), whole);
}
