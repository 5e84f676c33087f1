import assert from "node:assert/strict";
import { resolve } from "node:path";
import { test } from "node:test";
import { resolveConfig, ruleFor, sql } from "../engine/config.ts";

const databaseUrl = "postgresql://app:hunter2@db.example/shop";

test("a URL is all that a config needs; everything else has a default", () => {
  const config = resolveConfig({ databaseUrl });
  const { host, port, publication, slot, dataDir } = config;
  assert.deepEqual(
    { host, port, publication, slot, dataDir },
    { host: "127.0.0.1", port: 4437, publication: "walcast", slot: "walcast", dataDir: resolve(".walcast") },
  );
  assert.ok(Object.values(config.limits).every((limit) => limit > 0));
});

test("flags win over the environment, which wins over the file", () => {
  const file = { databaseUrl, host: "10.0.0.1", port: 1, slot: "from_file" };
  const env = { WALCAST_HOST: "10.0.0.2", WALCAST_PORT: "2", WALCAST_POSITION_EVERY_MS: "250" };
  const config = resolveConfig(file, { env, flags: { port: "3" } });
  const { host, port, slot, positionEveryMs } = config;
  assert.deepEqual(
    { host, port, slot, positionEveryMs },
    { host: "10.0.0.2", port: 3, slot: "from_file", positionEveryMs: 250 },
  );
});

test("the environment is not read unless it is handed in", () => {
  process.env.WALCAST_SLOT = "elsewhere";
  assert.equal(resolveConfig({ databaseUrl }).slot, "walcast");
  delete process.env.WALCAST_SLOT;
});

test("a limit that is given takes the place of its default and leaves the others", () => {
  const { limits } = resolveConfig({ databaseUrl, limits: { connections: 7 } });
  assert.equal(limits.connections, 7);
  assert.equal(limits.helloMs, resolveConfig({ databaseUrl }).limits.helloMs);
});

test("without auth, everybody is nobody", async () => {
  assert.deepEqual(await resolveConfig({ databaseUrl }).auth.verify("anything"), { claims: {}, scopes: [] });
});

test("a table is found by what its name means, and what is not named is not served", () => {
  const rule = { read: true } as const;
  const config = resolveConfig({ databaseUrl, tables: { Orders: rule, '"a.b"."c"': rule } });
  assert.equal(ruleFor(config, { schema: "public", name: "orders" }), rule);
  assert.equal(ruleFor(config, { schema: "a.b", name: "c" }), rule);
  assert.equal(ruleFor(config, { schema: "a", name: "b.c" }), undefined);
  assert.equal(ruleFor(config, { schema: "public", name: "__proto__" }), undefined);
  assert.equal(ruleFor(resolveConfig({ databaseUrl }), { schema: "public", name: "orders" }), undefined);
});

test("every table is served on a loopback address only", () => {
  for (const host of ["127.0.0.1", "127.1.2.3", "localhost", "::1"]) {
    assert.deepEqual(ruleFor(resolveConfig({ databaseUrl, host, tables: "all" }), { schema: "x", name: "y" }), {
      read: true,
    });
  }
  for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.com"]) {
    assert.throws(() => resolveConfig({ databaseUrl, host, tables: "all" }), {
      code: "config_invalid",
      message: /expected a loopback address/,
    });
  }
});

const refusals: readonly (readonly [given: object, message: RegExp])[] = [
  [{}, /databaseUrl is missing; give --database-url/],
  [{ databaseUrl: "mysql://db/shop" }, /databaseUrl: expected a form like postgresql:/],
  [{ databaseUrl: "hunter2" }, /databaseUrl: expected a form like postgresql:/],
  [{ databseUrl: "x" }, /there is no key "databseUrl"; the nearest is "databaseUrl"/],
  [{ mutators: "./mutators.ts" }, /mutators are not there yet/],
  [{ tabels: {} }, /there is no key "tabels"; the nearest is "tables"/],
  [{ ["__proto__"]: { port: 1 } }, /there is no key "__proto__"/],
  [{ limits: { conections: 1 } }, /read limits: there is no key "conections"; the nearest is "connections"/],
  [{ limits: { connections: 0 } }, /limits\.connections: expected a whole number from 1 to \d+, found 0/],
  [{ limits: 3 }, /limits: expected an object, found 3/],
  [{ log: { tailbytes: 1 } }, /the nearest is "tailBytes"/],
  [{ log: { retentionHours: 0 } }, /log\.retentionHours: expected a number of hours from 0 to a year, found 0/],
  [{ log: { maxBytes: 1000 } }, /log\.maxBytes: expected a whole number from 1048576/],
  [{ log: { tailBytes: "1GB" } }, /log\.tailBytes: expected a whole number/],
  [{ port: 65_536 }, /port: expected a whole number from 0 to 65535, found 65536/],
  [{ port: Number.NaN }, /port: expected a whole number/],
  [{ host: "" }, /host: expected a text that is not empty/],
  [{ slot: "My-Slot" }, /slot: expected at most 63 of a-z, 0-9 and _, as Postgres allows, found "My-Slot"/],
  [{ logLevel: "loud" }, /logLevel: expected fatal, error, warn, info, debug, trace, silent, found "loud"/],
  [{ auth: {} }, /auth: expected a function, or an object with verify\(\)/],
  [
    { auth: { secret: "hunter2" } },
    /auth: expected a function, or an object with verify\(\), such as [^{]*\{ secret \}\), found undefined$/,
  ],
  [{ origins: "https://a.example" }, /origins: expected a list of origins/],
  [{ origins: ["https://a.example/"] }, /origins: expected a list of origins/],
  [{ origins: ["a.example"] }, /origins: expected a list of origins/],
  [{ tokenCookie: "session" }, /tokenCookie: expected a list of origins beside it/],
  [{ tokenCookie: "session", origins: ["*"] }, /tokenCookie: expected a list of origins beside it/],
  [{ tokenCookie: "a b", origins: ["https://a.example"] }, /tokenCookie: expected a name without spaces/],
  [{ limits: { idleMs: 1000 } }, /limits\.idleMs: expected a whole number from 8000/],
  [{ tables: { orders: { read: { text: "true", params: [] } } } }, /\.read: expected true, sql`…` or a function/],
  [{ app: "app.ts" }, /app: expected a function from Request to Response/],
  [{ tables: [] }, /tables: expected an object of rules by table name/],
  [{ tables: { orders: true } }, /tables\["orders"\]: expected a rule such as \{ read: true \}, found true/],
  [{ tables: { orders: {} } }, /\.read: expected true, sql`…` or a function, found undefined/],
  [{ tables: { orders: { read: "true" } } }, /\.read: expected true, sql`…` or a function, found "true"/],
  [{ tables: { orders: { read: false } } }, /\.read: expected true/],
  [{ tables: { orders: { read: true, column: ["id"] } } }, /there is no key "column"; the nearest is "columns"/],
  [{ tables: { orders: { read: true, columns: [] } } }, /columns: expected a list of different column names/],
  [{ tables: { orders: { read: true, columns: ["id", "id"] } } }, /columns: expected a list of different column names/],
  [{ tables: { orders: { read: true, replicaIdentity: "nothing" } } }, /replicaIdentity: expected "full" or "keep"/],
  [{ tables: { orders: { read: true }, "public.orders": { read: true } } }, /names "public"\."orders" twice/],
];

for (const [given, message] of refusals) {
  test(`a config is refused: ${message.source}`, () => {
    const config = Object.keys(given).length === 0 ? {} : { databaseUrl, ...given };
    assert.throws(() => resolveConfig(config), { code: "config_invalid", message });
  });
}

test("a table's name that is none is refused", () => {
  assert.throws(() => resolveConfig({ databaseUrl, tables: { "a.b.c": { read: true } } }), { code: "unknown_table" });
});

test("a password never gets into a refusal", () => {
  assert.throws(
    () => resolveConfig({ databaseUrl: "postgre://app:hunter2@db/shop" }),
    (error: Error) => !error.message.includes("hunter2"),
  );
});

test("sql keeps values out of its text, whatever they are", () => {
  const rule = sql`customer_id = ${"'; drop table orders; --"} and amount < ${10}`;
  assert.equal(rule.text, "customer_id = $1 and amount < $2");
  assert.deepEqual(rule.params, ["'; drop table orders; --", 10]);
});

test("pieces of sql go into one another, their parameters renumbered and their literals untouched", () => {
  const mine = sql`owner = ${"me"} and note <> '$1'`;
  const rule = sql`tenant = ${3} and (${mine} or ${sql`shared`}) and kind = ${"a"}`;
  assert.equal(rule.text, "tenant = $1 and (owner = $2 and note <> '$1' or shared) and kind = $3");
  assert.deepEqual(rule.params, [3, "me", "a"]);
});

test("a claim that the token does not have denies, and null is a value", () => {
  const claims: Record<string, unknown> = {};
  assert.throws(() => sql`customer_id = ${1} or customer_id = ${claims.sub}`, {
    code: "forbidden",
    message: /value 2 of its sql is undefined/,
  });
  assert.deepEqual(sql`customer_id = ${null}`.params, [null]);
});
