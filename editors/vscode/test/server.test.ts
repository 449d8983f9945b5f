// The real server, over its standard input and output, as the extension starts it.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import {
  createProtocolConnection, DidOpenTextDocumentNotification, DocumentFormattingRequest, ExitNotification,
  InitializedNotification, InitializeRequest, PublishDiagnosticsNotification, type PublishDiagnosticsParams,
  ShutdownRequest, StreamMessageReader, StreamMessageWriter,
} from "vscode-languageserver-protocol/node";

const program = process.env["SYMBIONT"] ?? "../../target/debug/symbiont";
const serves = spawnSync(program, ["lsp", "--help"]).status === 0;
const skip = serves ? false : `not run: \`${program} lsp\` is not there`;

/** Opens a text, and gives what the server first says of it and how it would format it. */
async function open(text: string): Promise<{ said: PublishDiagnosticsParams; edits: number; code: number | null }> {
  const child = spawn(program, ["lsp"], { stdio: ["pipe", "pipe", "ignore"] });
  const exit = new Promise<number | null>((done) => void child.on("exit", done));
  const connection = createProtocolConnection(new StreamMessageReader(child.stdout), new StreamMessageWriter(child.stdin));
  const first = new Promise<PublishDiagnosticsParams>((done) => {
    connection.onNotification(PublishDiagnosticsNotification.type, done);
  });
  connection.listen();
  const uri = "file:///x/a.symbi";
  const { capabilities } = await connection.sendRequest(InitializeRequest.type, {
    processId: process.pid, rootUri: null, capabilities: {},
  });
  await connection.sendNotification(InitializedNotification.type, {});
  await connection.sendNotification(DidOpenTextDocumentNotification.type, {
    textDocument: { uri, languageId: "symbi", version: 1, text },
  });
  const said = await first;
  const edits = capabilities.documentFormattingProvider === undefined ? null : await connection.sendRequest(
    DocumentFormattingRequest.type, { textDocument: { uri }, options: { tabSize: 4, insertSpaces: true } },
  );
  await connection.sendRequest(ShutdownRequest.type);
  await connection.sendNotification(ExitNotification.type);
  const code = await exit;
  connection.dispose();
  return { said, edits: edits?.length ?? 0, code };
}

test("a program without a fault has no diagnostics of errors", { skip }, async () => {
  const { said, code } = await open(readFileSync("../../agents/primes.symbi", "utf8"));
  assert.deepEqual(said.diagnostics.filter(({ severity }) => severity === 1), []);
  assert.equal(code, 0);
});

test("a fault is told where it is", { skip }, async () => {
  const { said, code } = await open("agent a {\n    with { let x = ; }\n}\n");
  assert.equal(said.diagnostics.find(({ severity }) => severity === 1)?.range.start.line, 1);
  assert.equal(code, 0);
});

test("a text is brought into form", { skip }, async () => {
  const { edits } = await open("agent a{with{return 1}}\n");
  assert.ok(edits > 0);
});
