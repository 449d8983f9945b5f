// Bundles the tests and runs them. The extension itself has to be built before.

import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";

const folder = "out/test";
rmSync(folder, { recursive: true, force: true });
const tests = readdirSync("test").filter((name) => name.endsWith(".test.ts"));
await build({
  entryPoints: tests.map((name) => `test/${name}`),
  outdir: folder,
  bundle: true,
  platform: "node",
  target: "node20",
  // It finds its WebAssembly beside itself.
  external: ["vscode-oniguruma"],
  sourcemap: "inline",
  logLevel: "warning",
});
const files = tests.map((name) => `${folder}/${name.replace(/ts$/, "js")}`);
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit" });
process.exit(status ?? 1);
