/**
 * What the extension decides: which program is the server, what it is asked, and what is said about
 * it. Nothing in here knows of the editor or touches the machine.
 */

/** What a decision needs to know of the host. */
export interface Host {
  readonly windows: boolean;
  /** The variable `PATH`. */
  readonly path: string;
  /** Where a setting's `~` leads. */
  readonly home: string;
  /** Whether this is a file that can be run. */
  isProgram(path: string): boolean;
}

export type Located =
  | { readonly program: string }
  | { readonly missing: string };

const INSTALL =
  "Install it with `cargo install --path crates/symbiont-cli` in the Symbiont repository, or say where it is in the setting `symbiont.path`.";

/** Finds the program that the setting `symbiont.path` names. */
export function locate(setting: string, host: Host): Located {
  const name = setting.trim() || "symbiont";
  const separator = host.windows ? "\\" : "/";
  const endings = host.windows && !/\.(exe|cmd|bat)$/i.test(name) ? [".exe", ""] : [""];
  const isPath = name.includes("/") || (host.windows && name.includes("\\"));
  if (isPath) {
    const path = name.startsWith("~/") ? host.home + name.slice(1) : name;
    const program = endings.map((ending) => path + ending).find((path) => host.isProgram(path));
    return program
      ? { program }
      : { missing: `There is no program at \`${path}\`, where the setting \`symbiont.path\` points.` };
  }
  for (const folder of host.path.split(host.windows ? ";" : ":")) {
    // An empty entry would be the folder that the editor happens to be in.
    if (folder === "") continue;
    for (const ending of endings) {
      const program = folder + separator + name + ending;
      if (host.isProgram(program)) return { program };
    }
  }
  return { missing: `There is no program \`${name}\` on the path. ${INSTALL}` };
}

/** The arguments of `symbiont check`. */
export function checkArguments(file: string): string[] {
  return ["check", "--", file];
}

/** The arguments of `symbiont run`; an input of nothing but white space is none. */
export function runArguments(file: string, input: string): string[] {
  const given = input.trim() === "" ? [] : ["--input", input];
  return ["run", ...given, "--", file];
}

/** What is wrong with an input, if something is. */
export function inputFault(input: string): string | undefined {
  if (input.trim() === "") return undefined;
  try {
    JSON.parse(input);
    return undefined;
  } catch (error) {
    return `This is no JSON: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** How the server is. */
export type State =
  | { readonly kind: "starting" }
  | { readonly kind: "running"; readonly program: string; readonly version: string | undefined }
  | { readonly kind: "stopped" }
  | { readonly kind: "missing"; readonly reason: string }
  | { readonly kind: "failed"; readonly reason: string };

/** What the status says of a state. */
export interface Status {
  readonly text: string;
  readonly detail: string;
  readonly busy: boolean;
  readonly severity: "information" | "warning" | "error";
}

export function status(state: State): Status {
  const calm = { busy: false, severity: "information" } as const;
  switch (state.kind) {
    case "starting":
      return { text: "Symbiont", detail: "starting", busy: true, severity: "information" };
    case "running":
      return { text: `Symbiont ${state.version ?? ""}`.trimEnd(), detail: state.program, ...calm };
    case "stopped":
      return { text: "Symbiont", detail: "stopped", ...calm };
    case "missing":
      return { text: "Symbiont: not found", detail: state.reason, busy: false, severity: "warning" };
    case "failed":
      return { text: "Symbiont: failed", detail: state.reason, busy: false, severity: "error" };
  }
}
