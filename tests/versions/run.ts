/**
 * `npm run test:versions`: what depends on Postgres most, on every older major. What runs on the newest is the whole
 * suite; here are the setup, the catalog, the publication, the stream, schema changes, the splice of snapshot and stream, and every type.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const core = [
  "tests/changes/{acknowledge,catalog,large-transactions,publication,setup,snapshot,tables,text-forms}.pg.test.ts",
  "tests/schema/schema.pg.test.ts",
  "tests/shapes/registry.pg.test.ts",
  "tests/splice/out-of-line.pg.test.ts",
  "tests/sockets/lane.pg.test.ts",
  "tests/types/every-type.pg.test.ts",
];

const runner = fileURLToPath(new URL("../run.ts", import.meta.url));

for (const major of [14, 15, 16, 17]) {
  console.log(`\nPostgres ${major}`);
  const { status } = spawnSync(
    process.execPath,
    ["--conditions=@walcast/source", runner, `--postgres=${major}`, "--test-reporter=dot", ...core],
    { stdio: "inherit" },
  );
  if (status !== 0) process.exitCode = 1;
}
