/** What a page loads of the client: bundled, minified and compressed as a server would, without PGlite, Kysely and React. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build, defaultClientConditions, type Rolldown } from "vite";

const external = [/^@electric-sql\//, /^kysely/, /^react/];

async function gzippedKilobytes(file: string): Promise<number> {
  const root = fileURLToPath(new URL("../../client-sdk", import.meta.url));
  const built = (await build({
    root,
    configFile: false,
    logLevel: "error",
    resolve: { conditions: ["@walcast/source", ...defaultClientConditions] },
    worker: { format: "es", rolldownOptions: { external } },
    build: {
      write: false,
      target: "es2023",
      rolldownOptions: { input: `${root}/${file}`, preserveEntrySignatures: "strict", external },
    },
  })) as Rolldown.RolldownOutput;
  const chunks = built.output.filter((part) => part.type === "chunk");
  return gzipSync(chunks.map(({ code }) => code).join("")).length / 1024;
}

const limits: readonly (readonly [what: string, limit: number, file: string])[] = [
  ["@walcast/client/stored, in the page", 25, "stored.ts"],
  ["@walcast/client/react", 3, "react.ts"],
  ["@walcast/client, with all that the worker has", 60, "index.ts"],
];

for (const [what, limit, file] of limits)
  test(`${what}: at most ${limit} KB`, async (t) => {
    const found = await gzippedKilobytes(file);
    t.diagnostic(`${found.toFixed(1)} KB`);
    assert.ok(found <= limit, `expected at most ${limit} KB, found ${found.toFixed(1)}`);
  });
