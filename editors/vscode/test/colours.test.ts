import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { before, test } from "node:test";

import { INITIAL, type IGrammar, parseRawGrammar, Registry } from "vscode-textmate";

const require = createRequire(join(process.cwd(), "test/"));
const oniguruma = require("vscode-oniguruma") as typeof import("vscode-oniguruma");

let grammar: IGrammar;

before(async () => {
  const wasm = readFileSync(require.resolve("vscode-oniguruma/release/onig.wasm"));
  await oniguruma.loadWASM(new Uint8Array(wasm).buffer);
  const path = "syntaxes/symbi.tmLanguage.json";
  const registry = new Registry({
    onigLib: Promise.resolve({
      createOnigScanner: (patterns) => new oniguruma.OnigScanner(patterns),
      createOnigString: (text) => new oniguruma.OnigString(text),
    }),
    loadGrammar: async () => parseRawGrammar(readFileSync(path, "utf8"), path),
  });
  grammar = (await registry.loadGrammar("source.symbi"))!;
});

/** Each piece of the source with its innermost scope. */
function pieces(source: string): { text: string; scope: string; depth: number }[] {
  let state = INITIAL;
  return source.split("\n").flatMap((line) => {
    const { tokens, ruleStack } = grammar.tokenizeLine(line, state);
    state = ruleStack;
    return tokens.map(({ startIndex, endIndex, scopes }) => ({
      text: line.slice(startIndex, endIndex), scope: scopes.at(-1)!, depth: scopes.length,
    }));
  });
}

/** The scopes of pieces that have these texts, in the order of the source. */
function check(source: string, want: Record<string, string>): void {
  const found = pieces(source);
  for (const [text, scope] of Object.entries(want)) {
    const scopes = found.filter((piece) => piece.text.trim() === text);
    const got = scopes.map(({ scope }) => scope.replace(/\.symbi$/, "")).join(" ");
    assert.equal(got, scope, `\`${text}\` in ${source}`);
  }
}

test("declarations and items", () => {
  check("agent watch(url: String) -> Report {", {
    agent: "keyword.declaration", watch: "entity.name.type.agent", url: "variable.other.property",
    String: "support.type", Report: "entity.name.type", "->": "storage.type.function.arrow",
  });
  check("metadata {\n  version = \"1\"\n}", { metadata: "keyword.declaration", version: "variable.other" });
  check("schedule nightly { agent: a }", { schedule: "keyword.declaration", agent: "variable.other.property" });
  check("agent a {\n  use policy web\n  on message(topic) { }\n  with timeout = 5s { }\n}", {
    use: "keyword.other", policy: "keyword.declaration", web: "entity.name.section",
    on: "keyword.other", message: "keyword.other.event", with: "keyword.other", "5s": "constant.numeric.quantity",
  });
  check("policy p { allow: http.get(url) if x deny: any }", {
    policy: "keyword.declaration", allow: "keyword.other.allow", deny: "keyword.other.deny",
    http: "support.class", get: "support.function", if: "keyword.control",
  });
});

test("words are words only where they may stand", () => {
  check("agent a {\n  let channel = type;\n  agent.memory(on);\n}", {
    let: "storage.type", channel: "variable.other", type: "variable.other", on: "variable.other",
    memory: "entity.name.function.member",
  });
  check("webhook w {\n  agent librarian\n}", { agent: "variable.other", librarian: "variable.other" });
  check("for x in xs { while y { break; } }", {
    for: "keyword.control", in: "keyword.control", while: "keyword.control", break: "keyword.control",
  });
  check("f(for: 1, return = 2); x.return", { for: "variable.other.property", return: "variable.other variable.other.property" });
});

test("texts, comments and secrets", () => {
  check('x = "a // b \\n \\u{41}" // c', {
    "\\n": "constant.character.escape", "\\u{41}": "constant.character.escape", "// c": "comment.line.double-slash",
  });
  check('x = """a "b"\n# c""" y', { 'a "b"': "string.quoted.triple", "# c": "string.quoted.triple", y: "variable.other" });
  check("/* a /* b */ c */ d", { c: "comment.block", d: "variable.other" });
  check('vault://a/b-c["d"] # e', { "vault://a/b-c": "string.other.link.secret", "# e": "comment.line.number-sign" });
});

test("numbers", () => {
  check("1_000 + 1.5e3 + 30s + 30.seconds + 30.max(1) + 2GiB + 1e0", {
    "1_000": "constant.numeric.integer", "1.5e3": "constant.numeric.float", "30s": "constant.numeric.quantity",
    "30.seconds": "constant.numeric.quantity", "30": "constant.numeric.integer", "2GiB": "constant.numeric.quantity",
    "1e0": "constant.numeric.float",
  });
});

test("what a program opens it also closes", () => {
  const folder = "../../crates/symbiont-dsl/test_data/programs";
  const programs = readdirSync(folder).filter((name) => name.endsWith(".symbi"));
  assert.ok(programs.length > 10);
  for (const name of programs) {
    const source = readFileSync(join(folder, name), "utf8");
    const last = pieces(`${source}\nend`).at(-1);
    assert.deepEqual(last, { text: "end", scope: "variable.other.symbi", depth: 2 }, name);
  }
});
