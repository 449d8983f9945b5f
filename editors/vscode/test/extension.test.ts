// The built extension with a stand-in for the editor that has only what it registers.

import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import Module, { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";

const load = createRequire(join(process.cwd(), "test/"));
const manifest = JSON.parse(readFileSync("package.json", "utf8"));

/** What the extension said and asked for. */
interface Seen {
  commands: Map<string, (...words: unknown[]) => unknown>;
  messages: string[];
  executed: unknown[][];
  tasks: { execution: { process: string; args: string[] } }[];
  status: { text: string; detail: string };
  logged: string[];
}

/** A class or function for whatever the language client's code extends or calls when it is loaded. */
function anything(): unknown {
  return new Proxy(class { static dispose() {} }, {
    get: (target, key) => key in target ? Reflect.get(target, key) : key === "then" ? undefined : anything(),
    apply: () => anything(),
  });
}

function editor(settings: Record<string, unknown>, answers: { choice?: string; input?: string; file?: string }): [object, Seen] {
  const seen: Seen = {
    commands: new Map(), messages: [], executed: [], tasks: [], logged: [],
    status: { text: "", detail: "" },
  };
  const say = async (message: string) => {
    seen.messages.push(message);
    const { choice } = answers;
    delete answers.choice;
    return choice;
  };
  const log = (...words: unknown[]) => void seen.logged.push(words.join(" "));
  const parts: Record<string, object> = {
    window: {
      createOutputChannel: () => new Proxy({}, { get: () => log }),
      showWarningMessage: say, showErrorMessage: say, showInformationMessage: say,
      showInputBox: async () => answers.input,
      activeTextEditor: answers.file === undefined ? undefined : {
        document: {
          languageId: "symbi", uri: { scheme: "file", fsPath: answers.file }, save: async () => true,
        },
      },
    },
    commands: {
      registerCommand: (name: string, work: () => unknown) => {
        seen.commands.set(name, work);
        return { dispose() {} };
      },
      executeCommand: async (...words: unknown[]) => void seen.executed.push(words),
    },
    languages: { createLanguageStatusItem: () => Object.assign(seen.status, { dispose() {} }) },
    workspace: {
      getConfiguration: () => ({ get: (key: string, otherwise: unknown) => settings[key] ?? otherwise }),
      onDidChangeConfiguration: () => ({ dispose() {} }),
      getWorkspaceFolder: () => undefined,
      workspaceFolders: undefined,
    },
    tasks: { executeTask: async (task: never) => void seen.tasks.push(task) },
  };
  const classes = {
    version: "1.91.0",
    EventEmitter: class { event = () => ({ dispose() {} }); fire() {} dispose() {} },
    Task: class { constructor(_: unknown, __: unknown, ___: unknown, ____: unknown, readonly execution: unknown) {} },
    ProcessExecution: class { constructor(readonly process: string, readonly args: string[]) {} },
  };
  const part = (known: object) => new Proxy(known, {
    get: (target, key) => Reflect.get(target, key) ?? (key in target ? undefined : anything()),
  });
  const whole = Object.fromEntries(Object.entries(parts).map(([name, known]) => [name, part(known)]));
  // The bundle copies a module's own parts, and its prototype as it is.
  return [Object.create(part({ ...classes, ...whole })), seen];
}

let deactivate: (() => Promise<void>) | undefined;

afterEach(async () => {
  await deactivate?.();
  deactivate = undefined;
});

async function activate(settings: Record<string, unknown>, answers = {}): Promise<Seen> {
  const [vscode, seen] = editor(settings, answers);
  const modules = Module as unknown as { _load: (request: string, ...rest: unknown[]) => unknown };
  const original = modules._load;
  modules._load = (request, ...rest) => request === "vscode" ? vscode : original.call(Module, request, ...rest);
  try {
    const path = load.resolve("../out/extension.js");
    delete load.cache[path];
    const extension = load(path);
    deactivate = extension.deactivate;
    await extension.activate({ subscriptions: [] });
  } finally {
    modules._load = original;
  }
  return seen;
}

/** A program that does as little as it says. */
function program(text: string): string {
  const path = join(mkdtempSync(join(tmpdir(), "symbiont-")), "symbiont");
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

test("every command of the manifest is there, and no other", async () => {
  const seen = await activate({ path: "/no/such/program" });
  const named = manifest.contributes.commands.map(({ command }: { command: string }) => command);
  assert.deepEqual([...seen.commands.keys()].sort(), named.sort());
});

test("where the program is missing, one is told what to do", async () => {
  const seen = await activate({ path: "/no/such/program" }, { choice: "Open Settings" });
  const message = "There is no program at `/no/such/program`, where the setting `symbiont.path` points.";
  assert.deepEqual(seen.messages, [message]);
  assert.equal(seen.status.detail, message);
  assert.deepEqual(seen.executed, [["workbench.action.openSettings", "symbiont.path"]]);
});

test("a program that ends at once is a failure with its reason", { skip: process.platform === "win32" }, async () => {
  const path = program("exit 2");
  const seen = await activate({ path });
  assert.deepEqual(seen.messages.length, 1, seen.messages.join("\n"));
  assert.ok(seen.messages[0]!.startsWith(`\`${path} lsp\` did not start: `), seen.messages[0]);
  assert.equal(seen.status.text, "Symbiont: failed");
});

test("files are checked and run without a shell", { skip: process.platform === "win32" }, async () => {
  const path = program("exit 2");
  const seen = await activate({ path }, { file: "/x/a b.symbi", input: '{"n": 1}' });
  await seen.commands.get("symbiont.check")!();
  await seen.commands.get("symbiont.run")!();
  assert.deepEqual(seen.tasks.map(({ execution }) => [execution.process, ...execution.args]), [
    [path, "check", "--", "/x/a b.symbi"],
    [path, "run", "--input", '{"n": 1}', "--", "/x/a b.symbi"],
  ]);
});

test("without a file there is nothing to run", async () => {
  const seen = await activate({ path: "/no/such/program" });
  await seen.commands.get("symbiont.run")!();
  assert.equal(seen.messages.at(-1), "Open a `.symbi` file first.");
});
