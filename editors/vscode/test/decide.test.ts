import assert from "node:assert/strict";
import { test } from "node:test";

import { checkArguments, type Host, inputFault, locate, runArguments, status } from "../src/decide";

function check(setting: string, host: Partial<Host> & { programs: string[] }, want: string): void {
  const { programs, ...rest } = host;
  const located = locate(setting, {
    windows: false, path: "", home: "/home/ada", isProgram: (path) => programs.includes(path), ...rest,
  });
  const got = "program" in located ? located.program : `! ${located.missing}`;
  assert.ok(got === want || (want.endsWith("...") && got.startsWith(want.slice(0, -3))), got);
}

test("a name is looked for on the path, and a path is taken as it is", () => {
  const programs = ["/b/symbiont", "/c/symbiont", "/home/ada/bin/symbiont"];
  check("symbiont", { programs, path: "/a:/b:/c" }, "/b/symbiont");
  check("  ", { programs, path: "/c" }, "/c/symbiont");
  check("/c/symbiont", { programs }, "/c/symbiont");
  check("~/bin/symbiont", { programs }, "/home/ada/bin/symbiont");
  check("symbiont", { programs: ["/symbiont"], path: "::" }, "! There is no program `symbiont` on the path. Install it...");
  check("/x/symbiont", { programs }, "! There is no program at `/x/symbiont`, where the setting `symbiont.path` points.");
});

test("on Windows programs have an ending", () => {
  const windows = true;
  check("symbiont", { windows, programs: ["C:\\b\\symbiont.exe"], path: "C:\\a;C:\\b" }, "C:\\b\\symbiont.exe");
  check("C:\\c\\symbiont", { windows, programs: ["C:\\c\\symbiont.exe"] }, "C:\\c\\symbiont.exe");
  check("C:\\c\\s.exe", { windows, programs: ["C:\\c\\s.exe"] }, "C:\\c\\s.exe");
});

test("a file is never taken for an option, and an empty input is none", () => {
  assert.deepEqual(checkArguments("-x.symbi"), ["check", "--", "-x.symbi"]);
  assert.deepEqual(runArguments("a b.symbi", " "), ["run", "--", "a b.symbi"]);
  assert.deepEqual(runArguments("a.symbi", '{"x": 1}'), ["run", "--input", '{"x": 1}', "--", "a.symbi"]);
});

test("an input is JSON", () => {
  assert.equal(inputFault(""), undefined);
  assert.equal(inputFault('{"a": [1]}'), undefined);
  assert.match(inputFault("{a: 1}") ?? "", /^This is no JSON: /);
});

test("the status says what is wrong", () => {
  assert.deepEqual(status({ kind: "running", program: "/b/symbiont", version: "0.1.0" }), {
    text: "Symbiont 0.1.0", detail: "/b/symbiont", busy: false, severity: "information",
  });
  assert.equal(status({ kind: "starting" }).busy, true);
  assert.equal(status({ kind: "missing", reason: "why" }).detail, "why");
  assert.equal(status({ kind: "failed", reason: "why" }).severity, "error");
});
