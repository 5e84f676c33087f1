/** The TypeScript that a page of the documentation shows: to be compiled, and to be run, as it stands there. */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { transformWithOxc } from "vite";
import type { Releasing } from "./postgres.ts";

const root = join(import.meta.dirname, "..", "..");

export interface Example {
  readonly language: "ts" | "tsx";
  readonly code: string;
}

/** `page`: its path from the repository's root. */
export async function examplesOf(page: string): Promise<Example[]> {
  const markdown = await readFile(join(root, page), "utf8");
  return [...markdown.matchAll(/^```(tsx?)\n(.*?)^```$/gms)].map(([, language, code]) => ({
    language: language as Example["language"],
    code: code!,
  }));
}

/** Below the root, so that the packages are found as in an application's folder. */
export async function exampleFolder(t: Releasing, name: string): Promise<string> {
  const folder = join(root, "node_modules", ".cache", `${name}-${process.pid}`);
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(folder, { recursive: true });
  return folder;
}

/** Its JavaScript. Throws where it does not contain what is `replaced`. */
export async function scriptOf(
  { language, code }: Example,
  replaced: Readonly<Record<string, string>> = {},
): Promise<string> {
  let script = code;
  for (const [from, to] of Object.entries(replaced)) {
    if (!script.includes(from)) throw new Error(`an example does not contain ${from}: ${script}`);
    script = script.replaceAll(from, to);
  }
  if (language === "ts") return stripTypeScriptTypes(script);
  return (await transformWithOxc(script, "example.tsx", { jsx: { runtime: "automatic" } })).code;
}

/** Runs it as a module. `given`: what it uses and the page leaves to the reader. Returns what it declares under these names. */
export async function runExample(
  script: string,
  file: string,
  given: Readonly<Record<string, unknown>>,
  ...declared: readonly string[]
): Promise<Record<string, unknown>> {
  Object.assign(globalThis, given);
  await writeFile(file, `${script}\nexport { ${declared.join(", ")} };\n`);
  return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
}
