/** What the README, docs/auth.md, docs/sse.md and docs/ssr.md show compiles as it stands there, against the packages as they are. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = dirname(import.meta.dirname);

test("the TypeScript that is shown compiles", async (t) => {
  const pages = await Promise.all(
    ["README.md", "docs/auth.md", "docs/sse.md", "docs/ssr.md"].map((page) => readFile(join(root, page), "utf8")),
  );
  const blocks = pages.flatMap(codeBlocks);
  assert.deepEqual(
    blocks.map(({ language }) => language),
    ["ts", "tsx", "ts", "ts", "ts", "ts", "ts", "ts", "ts"],
  );
  // Below the root, so that the packages are found as in an application's folder.
  const folder = join(root, "node_modules", ".cache", `readme-${process.pid}`);
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(folder, { recursive: true });
  for (const [i, { language, code }] of blocks.entries()) await writeFile(join(folder, `block-${i}.${language}`), code);
  const options = { extends: relative(folder, join(root, "tsconfig.json")), include: ["*"], exclude: [] };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(options));
  const tsc = join(dirname(fileURLToPath(import.meta.resolve("typescript/package.json"))), "bin", "tsc");
  const { stdout } = await promisify(execFile)(process.execPath, [tsc, "-p", folder]).catch(
    (error: { stdout: string }) => error,
  );
  assert.equal(stdout, "");
});

function codeBlocks(markdown: string): { language: string; code: string }[] {
  return [...markdown.matchAll(/^```(tsx?)\n(.*?)^```$/gms)].map(([, language, code]) => ({
    language: language!,
    code: code!,
  }));
}
