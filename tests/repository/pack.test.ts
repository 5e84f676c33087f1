import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build, type Rolldown } from "vite";
import { isThorough } from "../support/thorough.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const execute = promisify(execFile);

const consumer = `
import { createClient } from "@walcast/client";
import { mountInspector } from "@walcast/client/inspector";
import { WalcastProvider } from "@walcast/client/react";
import { createEngine, defineConfig, jwt, sql, type Engine } from "@walcast/engine";

export const config = defineConfig({
  tables: { orders: { read: (auth) => sql\`customer_id = \${auth.claims.sub}\`, columns: ["id", "status"] } },
  auth: jwt({ secret: "a secret that is thirty-two bytes" }),
});
export const start: () => Promise<Engine> = () => createEngine(config);
export const url: string = "ws://localhost:4437";
export const parts = [createClient, mountInspector, WalcastProvider] as const;
// @ts-expect-error: a port is a number, so the types are really there
defineConfig({ port: "4437" });
`;

test(
  "both packages, packed and installed in an empty folder, import and type-check",
  // As long as all else of this folder, and it concerns few changes.
  { skip: isThorough ? false : "npm run check does it" },
  async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "walcast-pack-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    await npm(
      repository,
      "pack",
      "--silent",
      "--workspace=@walcast/engine",
      "--workspace=@walcast/client",
      `--pack-destination=${folder}`,
    );
    const packed = (await readdir(folder)).filter((name) => name.endsWith(".tgz")).map((name) => `./${name}`);
    assert.equal(packed.length, 2);
    await writeFile(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
    await npm(
      folder,
      "install",
      "--silent",
      "--prefer-offline",
      "--fetch-retries=5",
      "--no-audit",
      "--no-fund",
      ...packed,
      "react@19",
      `@types/react@19`,
    );
    await t.test("import", () => imports(folder));
    await t.test("the thread that reads long conditions", () => thread(folder));
    await t.test("the command", () => commands(folder));
    await t.test("types", () => types(folder));
    await t.test("a page and its worker, bundled", () => bundles(folder));
    await t.test("what is inside", () => contents(folder));
  },
);

async function imports(folder: string): Promise<void> {
  const script = `const [engine, client, react, inspector] = await Promise.all([import("@walcast/engine"), import("@walcast/client"), import("@walcast/client/react"), import("@walcast/client/inspector")]);
    console.log(typeof engine.createEngine, typeof engine.jwt, typeof client.createClient, typeof react.useLiveQuery, typeof inspector.mountInspector);`;
  const { stdout } = await execute(process.execPath, ["--input-type=module", "--eval", script], { cwd: folder });
  assert.equal(stdout.trim(), "function function function function function");
}

/** What it says of a condition that is none shows that it runs. */
async function thread(folder: string): Promise<void> {
  const script = `const { Vetting } = await import("./node_modules/@walcast/engine/dist/engine/sockets/vetting.js");
    const vetting = new Vetting({ log: { warn: console.log }, msPerMinute: 500 });
    await vetting.vet({ client: 1, asker: {} }, { table: "t", where: ")" }, { columns: [] }).catch(({ code }) => console.log(code));
    await vetting.close();`;
  const { stdout } = await execute(process.execPath, ["--input-type=module", "--eval", script], { cwd: folder });
  assert.equal(stdout.trim(), "where_syntax");
}

async function commands(folder: string): Promise<void> {
  const { stdout } = await execute(process.execPath, [join(folder, "node_modules/.bin/walcast"), "--version"], {
    cwd: folder,
  });
  const { version } = JSON.parse(await readFile(join(repository, "engine/package.json"), "utf8")) as {
    version: string;
  };
  assert.equal(stdout.trim(), version);
}

async function types(folder: string): Promise<void> {
  await writeFile(join(folder, "consumer.ts"), consumer);
  const flags = [
    "--noEmit",
    "--strict",
    "--target",
    "esnext",
    "--module",
    "nodenext",
    "--skipLibCheck",
    "--jsx",
    "react-jsx",
  ];
  const tsc = join(repository, "node_modules/typescript/bin/tsc");
  await execute(process.execPath, [tsc, ...flags, "consumer.ts"], { cwd: folder }).catch((error: { stdout: string }) =>
    assert.fail(error.stdout),
  );
}

/** The worker is found by where the client's own file names it. */
async function bundles(folder: string): Promise<void> {
  const page = `import { createClient } from "@walcast/client/stored"; globalThis.client = createClient({ url: "ws://localhost", replica: "idb://shop" });`;
  await writeFile(join(folder, "page.js"), page);
  const built = (await build({
    root: folder,
    configFile: false,
    logLevel: "error",
    worker: { format: "es" },
    build: { write: false, target: "es2023", rolldownOptions: { input: join(folder, "page.js") } },
  })) as Rolldown.RolldownOutput;
  const worker = built.output.find(({ fileName }) => /^assets\/worker-.*\.js$/.test(fileName));
  assert.ok(worker, "the worker is a file of its own");
  const code = "code" in worker ? worker.code : String(worker.source);
  assert.match(code, /locks\.request/);
  const [entry] = built.output;
  assert.ok(entry.code.includes(worker.fileName), "which the page names");
}

/** Neither source, which would be read instead of what was built, nor anything that belongs to this machine. */
async function contents(folder: string): Promise<void> {
  for (const name of ["engine", "client"]) {
    const root = join(folder, "node_modules/@walcast", name);
    const files = (await readdir(root, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    const unexpected = files
      .map((entry) => join(entry.parentPath, entry.name))
      .filter(
        (path) =>
          !/(\.js|\.d\.ts|\.tar\.gz|package\.json|\.md|LICENSE)$/.test(path) &&
          !path.includes("/node_modules/", root.length),
      );
    assert.deepEqual(unexpected, []);
  }
}

function npm(cwd: string, ...args: string[]): Promise<unknown> {
  // npm hands its own settings to scripts, and the run of this test may be one.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^npm_(config_(prefix|workspace|local_prefix|json)|package_|lifecycle_)/i.test(name),
    ),
  );
  return execute("npm", args, { cwd, env: { ...env, NODE_OPTIONS: "" } });
}
