/**
 * What a page loads of the client: bundled, minified and compressed as a server would, without PGlite, Kysely and React. At first, that
 * is what the entry imports; later, what it imports once there is a replica to open.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build, defaultClientConditions, type Rolldown } from "vite";

const external = [/^@electric-sql\//, /^kysely/, /^react/];

async function bundled(file: string): Promise<Rolldown.OutputChunk[]> {
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
  return built.output.filter((part) => part.type === "chunk");
}

/** The entry, and what it cannot begin without. */
function initialOf(chunks: readonly Rolldown.OutputChunk[]): ReadonlySet<Rolldown.OutputChunk> {
  const found = new Set(chunks.filter(({ isEntry }) => isEntry));
  // A set that grows while it is walked is walked to its end.
  for (const { imports } of found) for (const chunk of chunks) if (imports.includes(chunk.fileName)) found.add(chunk);
  return found;
}

function kilobytes(chunks: Iterable<Rolldown.OutputChunk>): number {
  return Array.from(chunks, ({ code }) => gzipSync(code).length).reduce((sum, bytes) => sum + bytes, 0) / 1024;
}

interface Limit {
  readonly file: string;
  readonly first: number;
  readonly later: number;
}

const limits: Readonly<Record<string, Limit>> = {
  "@walcast/client": { file: "index.ts", first: 25, later: 48 },
  "@walcast/client/stored": { file: "stored.ts", first: 12, later: 0 },
  "@walcast/client/react": { file: "bindings/react.ts", first: 3, later: 0 },
};

for (const [what, { file, first, later }] of Object.entries(limits))
  test(`${what}: a page begins with at most ${first} KB, and loads at most ${later} KB later`, async (t) => {
    const chunks = await bundled(file);
    const initial = initialOf(chunks);
    const found = { first: kilobytes(initial), later: kilobytes(chunks.filter((chunk) => !initial.has(chunk))) };
    t.diagnostic(`${found.first.toFixed(1)} KB, later ${found.later.toFixed(1)} KB`);
    assert.ok(found.first <= first, `at first: expected at most ${first} KB, found ${found.first.toFixed(1)}`);
    assert.ok(found.later <= later, `later: expected at most ${later} KB, found ${found.later.toFixed(1)}`);
  });
