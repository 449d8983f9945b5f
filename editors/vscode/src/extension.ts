/**
 * The extension: it starts `symbiont lsp`, shows how that is, and runs `symbiont` on files.
 *
 * At most one server runs. Starting and stopping happen one after the other, in the order in which
 * they were asked for. Without the program there are still colours, folding and snippets, which
 * need no code.
 */

import { accessSync, constants, statSync } from "node:fs";
import { homedir } from "node:os";
import * as vscode from "vscode";
import {
  CloseAction, ErrorAction, type ErrorHandler, LanguageClient, State as ClientState,
} from "vscode-languageclient/node";

import {
  checkArguments, type Host, inputFault, locate, runArguments, type State, status,
} from "./decide";

const LANGUAGE = "symbi";

const host: Host = {
  windows: process.platform === "win32",
  get path() { return process.env["PATH"] ?? ""; },
  home: homedir(),
  isProgram(path) {
    try {
      accessSync(path, constants.X_OK);
      return statSync(path).isFile();
    } catch {
      return false;
    }
  },
};

let server: Server | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const output = vscode.window.createOutputChannel("Symbiont", { log: true });
  server = new Server(output);
  const command = vscode.commands.registerCommand;
  context.subscriptions.push(
    output,
    server,
    command("symbiont.restart", () => server?.restart()),
    command("symbiont.output", () => output.show()),
    command("symbiont.check", () => inTerminal("check", async (file) => checkArguments(file))),
    command("symbiont.run", () => inTerminal("run", async (file) => {
      const input = await vscode.window.showInputBox({
        title: "The run's input",
        prompt: "JSON; leave it empty for a run without input",
        validateInput: inputFault,
      });
      return input === undefined ? undefined : runArguments(file, input);
    })),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("symbiont.path")) void server?.restart();
    }),
  );
  await server.restart();
}

export async function deactivate(): Promise<void> {
  await server?.stop();
  server = undefined;
}

function setting(): string {
  return vscode.workspace.getConfiguration("symbiont").get<string>("path", "symbiont");
}

/**
 * The client of the language server. As long as it starts, what goes wrong is only logged and
 * nothing is tried again: whoever starts it tells of the failure, once.
 */
class Client extends LanguageClient {
  starting = true;

  constructor(program: string, outputChannel: vscode.LogOutputChannel) {
    const later: { handler?: ErrorHandler } = {};
    super("symbiont", "Symbiont", { command: program, args: ["lsp"] }, {
      documentSelector: [{ language: LANGUAGE, scheme: "file" }, { language: LANGUAGE, scheme: "untitled" }],
      outputChannel,
      initializationFailedHandler: () => false,
      errorHandler: {
        error: (...words) => later.handler?.error(...words) ?? { action: ErrorAction.Shutdown, handled: true },
        closed: () => later.handler?.closed() ?? { action: CloseAction.DoNotRestart, handled: true },
      },
    });
    const usual = this.createDefaultErrorHandler();
    Object.defineProperty(later, "handler", { get: () => this.starting ? undefined : usual });
  }

  override error(message: string, data?: unknown, notify?: boolean | "force"): void {
    super.error(message, data, this.starting ? false : notify);
  }
}

/** The one language server. */
class Server implements vscode.Disposable {
  private client: LanguageClient | undefined;
  private turn: Promise<void> = Promise.resolve();
  private readonly item = vscode.languages.createLanguageStatusItem("symbiont.server", { language: LANGUAGE });

  constructor(private readonly output: vscode.LogOutputChannel) {
    this.item.name = "Symbiont language server";
    this.item.command = { command: "symbiont.restart", title: "Restart" };
    this.show({ kind: "stopped" });
  }

  dispose(): void {
    this.item.dispose();
  }

  restart(): Promise<void> {
    return this.then(async () => {
      await this.end();
      await this.begin();
    });
  }

  stop(): Promise<void> {
    return this.then(() => this.end());
  }

  private then(work: () => Promise<void>): Promise<void> {
    this.turn = this.turn.then(work);
    return this.turn;
  }

  private async begin(): Promise<void> {
    this.show({ kind: "starting" });
    const located = locate(setting(), host);
    if ("missing" in located) {
      this.output.warn(located.missing);
      this.show({ kind: "missing", reason: located.missing });
      offer(vscode.window.showWarningMessage(located.missing, "Open Settings", "Try Again"));
      return;
    }
    const { program } = located;
    const client = new Client(program, this.output);
    client.onDidChangeState(({ newState }) => {
      if (this.client !== client) return;
      if (newState === ClientState.Running) {
        const version = client.initializeResult?.serverInfo?.version;
        this.show({ kind: "running", program, version });
      } else if (newState === ClientState.Stopped) {
        this.show({ kind: "stopped" });
      }
    });
    this.client = client;
    try {
      await client.start();
      client.starting = false;
    } catch (error) {
      this.client = undefined;
      const reason = `\`${program} lsp\` did not start: ${error instanceof Error ? error.message : String(error)}`;
      this.output.error(reason);
      this.show({ kind: "failed", reason });
      offer(vscode.window.showErrorMessage(reason, "Show Output", "Try Again"));
    }
  }

  private async end(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    try {
      await client?.dispose();
    } catch (error) {
      // It ended by itself, or did not answer; either way it is gone.
      this.output.warn(`the server did not end as it should: ${String(error)}`);
    }
    this.show({ kind: "stopped" });
  }

  private show(state: State): void {
    const { text, detail, busy, severity } = status(state);
    const severities = {
      information: vscode.LanguageStatusSeverity.Information,
      warning: vscode.LanguageStatusSeverity.Warning,
      error: vscode.LanguageStatusSeverity.Error,
    };
    Object.assign(this.item, { text, detail, busy, severity: severities[severity] });
  }
}

/** Does what somebody chooses, whenever that is; nothing waits for it. */
function offer(choice: Thenable<string | undefined>): void {
  const actions: Record<string, string> = {
    "Open Settings": "workbench.action.openSettings",
    "Show Output": "symbiont.output",
    "Try Again": "symbiont.restart",
  };
  void choice.then((chosen) => {
    const action = chosen === undefined ? undefined : actions[chosen];
    if (action) return vscode.commands.executeCommand(action, "symbiont.path");
    return undefined;
  });
}

/** Runs `symbiont` on the file in the editor, as a task with a terminal of its own. */
async function inTerminal(
  name: string,
  ask: (file: string) => Promise<string[] | undefined>,
): Promise<void> {
  const document = vscode.window.activeTextEditor?.document;
  if (document?.languageId !== LANGUAGE || document.uri.scheme !== "file") {
    void vscode.window.showInformationMessage("Open a `.symbi` file first.");
    return;
  }
  const located = locate(setting(), host);
  if ("missing" in located) {
    offer(vscode.window.showWarningMessage(located.missing, "Open Settings"));
    return;
  }
  const words = await ask(document.uri.fsPath);
  if (words === undefined || !(await document.save())) return;
  const folder = vscode.workspace.getWorkspaceFolder(document.uri);
  const task = new vscode.Task(
    { type: "symbiont", task: name },
    folder ?? vscode.TaskScope.Workspace,
    name,
    "symbiont",
    // A process and no shell: what is in a path or an input is nothing but text.
    new vscode.ProcessExecution(located.program, words),
  );
  task.presentationOptions = { clear: true, focus: false, reveal: vscode.TaskRevealKind.Always };
  await vscode.tasks.executeTask(task);
}
