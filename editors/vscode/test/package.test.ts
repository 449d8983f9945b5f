import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const json = (path: string) => JSON.parse(readFileSync(path, "utf8"));

test("snippets are programs or parts of one, with balanced brackets", () => {
  for (const [name, snippet] of Object.entries<{ prefix: string; body: string[] }>(json("snippets/symbi.json"))) {
    const text = snippet.body.join("\n").replace(/\$\{\d+\|([^,|]*)[^}]*\}|\$\{\d+:?([^}]*)\}|\$\d/g, "$1$2");
    const count = (marks: RegExp) => text.match(marks)?.length ?? 0;
    assert.equal(count(/[{[(]/g), count(/[}\])]/g), `${name}: ${text}`);
    assert.ok(snippet.prefix.length > 0, name);
  }
});

test("the editor's rules for lines are patterns", () => {
  const { indentationRules, wordPattern } = json("language-configuration.json");
  const increase = new RegExp(indentationRules.increaseIndentPattern);
  for (const [line, want] of [
    ["agent a {", true], ["f(", true], ["let x = [ // why", true], ["x.map(y => {  # why", true],
    ["// {", false], ['let x = "{";', false], ["{ }", false], ["x", false], ['f("{", {', true],
  ] as const) {
    assert.equal(increase.test(line), want, line);
  }
  assert.deepEqual("größe + vault://a/b 30s".match(new RegExp(wordPattern.pattern, `g${wordPattern.flags}`)), ["größe", "vault://a/b", "30s"]);
});

test("the version is the project's", () => {
  const version = /\[workspace\.package\]\s*version = "([^"]*)"/.exec(readFileSync("../../Cargo.toml", "utf8"))?.[1];
  assert.equal(json("package.json").version, version);
});
