/**
 * What the README and the pages of docs/ show compiles as it stands there, against the packages as they are. Where a page leaves something to its
 * reader, it is declared here.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { exampleFolder, examplesOf } from "./support/examples.ts";

const root = dirname(import.meta.dirname);

/** By page: how many examples it has. Svelte's own language and Solid's JSX, another than React's, are compiled by the bindings' tests only. */
const pages = {
  "README.md": 2,
  "docs/auth.md": 4,
  "docs/client.md": 6,
  "docs/frameworks.md": 2,
  "docs/live-queries.md": 2,
  "docs/offline.md": 3,
  "docs/revalidation.md": 2,
  "docs/shapes.md": 1,
  "docs/sse.md": 1,
  "docs/ssr.md": 2,
  "docs/topics.md": 6,
};

const given: Readonly<Record<string, string>> = {
  App: `declare const App: import("vue").Component;`,
  Order: "interface Order { id: number; status: string; amount: string }",
  Toast: "interface Toast { text: string }",
  client: `declare const client: import("@walcast/client").Client;`,
  createClient: `import { createClient } from "@walcast/client";`,
  createApp: `import { createApp } from "vue";`,
  db: `declare const db: import("kysely").Kysely<{ orders: { id: number; status: string } }>;`,
  draw: "declare function draw(...values: unknown[]): void;",
  engine: `declare const engine: import("@walcast/engine").Engine;`,
  fetchToken: "declare function fetchToken(): Promise<string>;",
  hide: "declare function hide(code: string): void;",
  lastPosition: "declare const lastPosition: string;",
  log: "declare function log(...values: unknown[]): void;",
  note: "declare const note: string;",
  notify: "declare function notify(row: unknown): void;",
  orderId: "declare const orderId: number;",
  queryClient: `declare const queryClient: import("@tanstack/query-core").QueryClient;`,
  queryFn: "declare function queryFn(): Promise<unknown>;",
  ref: `import { ref } from "vue";`,
  reload: "declare function reload(): void;",
  render: "declare function render(rows: unknown): void;",
  root: `declare const root: import("react-dom/client").Root;`,
  session: "declare const session: { userId: string };",
  shapes: `declare const shapes: { orders: import("@walcast/client").ShapeOptions };`,
  show: "declare function show(payload: Toast): void;",
  showAvatars: "declare function showAvatars(members: unknown): void;",
  toast: "declare function toast(text: string): void;",
  url: "declare const url: string;",
  useQuery: `declare function useQuery(options: import("@tanstack/query-core").QueryObserverOptions): unknown;`,
};

test("the TypeScript that is shown compiles", async (t) => {
  const folder = await exampleFolder(t, "readme");
  const counts: Record<string, number> = {};
  for (const page of Object.keys(pages)) {
    const examples = await examplesOf(page);
    const compiled = page === "docs/frameworks.md" ? examples.filter(({ language }) => language === "ts") : examples;
    counts[page] = compiled.length;
    for (const [i, { language, code }] of compiled.entries())
      await writeFile(join(folder, `${page.replaceAll("/", "-")}-${i + 1}.${language}`), completed(code));
  }
  assert.deepEqual(counts, pages);
  const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false };
  const options = {
    extends: relative(folder, join(root, "tsconfig.json")),
    compilerOptions,
    include: ["*"],
    exclude: [],
  };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(options));
  const tsc = join(dirname(fileURLToPath(import.meta.resolve("typescript/package.json"))), "bin", "tsc");
  const { stdout } = await promisify(execFile)(process.execPath, [tsc, "-p", folder]).catch(
    (error: { stdout: string }) => error,
  );
  assert.equal(stdout, "");
});

/** A module, with what it leaves to its reader. */
function completed(code: string): string {
  const whole = code.startsWith("topics: ")
    ? `import { defineConfig } from "@walcast/engine";\nexport default defineConfig({ ${code} });\n`
    : code;
  const missing = Object.keys(given).filter((name) => uses(whole, name) && !declares(whole, name));
  // What the toast is belongs to the function that shows it.
  if (missing.includes("show") && !missing.includes("Toast")) missing.push("Toast");
  return `${missing.map((name) => given[name]!).join("\n")}\n${whole}\nexport {};\n`;
}

function uses(code: string, name: string): boolean {
  return new RegExp(`(?<![.\\w"/])${name}\\b(?!:)`).test(code);
}

function declares(code: string, name: string): boolean {
  return new RegExp(`(?:const|let|interface|function|class) ${name}\\b|import [^;]*\\b${name}\\b[^;]* from`).test(code);
}
