/** The policies of docs/auth.md, as they stand there, on a real Postgres: each token sees what the page says. */
import assert from "node:assert/strict";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { SignJWT } from "jose";
import type { WalcastConfig } from "../engine/index.ts";
import { rowsOf } from "./sockets/raw-client.ts";
import { type Running, running } from "./sockets/running.ts";

const secret = "a secret of thirty-two characters";
const root = dirname(import.meta.dirname);
const page = await readFile(join(root, "docs", "auth.md"), "utf8");
const policies = page
  .split(/^## /m)
  .filter((section) => section.includes("```ts\n"))
  .map((section) => ({
    name: section.slice(0, section.indexOf("\n")),
    sql: /^```sql\n(.*?)^```$/ms.exec(section)![1]!,
    config: /^```ts\n(.*?)^```$/ms.exec(section)![1]!,
    table: [...section.matchAll(/^\|(.*)\|$/gm)].map(([, cells]) => cells!.split("|").map((cell) => cell.trim())),
  }));

test("the page has its four policies", () => {
  assert.deepEqual(
    policies.map(({ name }) => name),
    ["Public catalogue", "Per customer", "Per tenant, with roles", "Staff sees all"],
  );
});

describe("docs/auth.md", () => {
  let server: Running;
  const folder = join(root, "node_modules", ".cache", `auth-page-${process.pid}`);
  before(async () => {
    process.env.JWT_SECRET = secret;
    await mkdir(folder, { recursive: true });
    const configs: WalcastConfig[] = [];
    for (const [i, { config }] of policies.entries()) {
      // Node takes no types out of files in there, where the packages are found as in an application's folder.
      const file = join(folder, `policy-${i}.mjs`);
      await writeFile(file, stripTypeScriptTypes(config));
      configs.push(((await import(file)) as { default: WalcastConfig }).default);
    }
    // All on one engine: no two of them name the same table.
    const tables = Object.assign({}, ...configs.map((config) => config.tables)) as WalcastConfig["tables"];
    const auth = configs.at(-1)!.auth;
    server = await running({ auth, tables }, policies.map(({ sql }) => sql).join("\n"));
  });
  after(async () => {
    await server.close();
    await rm(folder, { recursive: true, force: true });
  });

  for (const { name, table } of policies) {
    const [header, , ...rows] = table;
    for (const [token, ...cells] of rows) {
      test(`${name}: ${token}`, async () => {
        const client = await server.greeted(await signed(JSON.parse(unquoted(token!)) as Record<string, unknown>));
        for (const [i, expected] of cells.entries()) {
          const shape = { table: unquoted(header![i + 1]!) };
          const seen = expected === "forbidden" ? await refusal(i + 1, shape) : await ids(i + 1, shape);
          assert.equal(seen, expected, shape.table);
        }
        await client.close();

        async function refusal(id: number, shape: { table: string }): Promise<string> {
          client.subscribe(id, shape);
          return (await client.refused(id)).code;
        }
        async function ids(id: number, shape: { table: string }): Promise<string> {
          return rowsOf((await client.load(id, shape)).lines)
            .map(([first]) => first)
            .join(", ");
        }
      });
    }
  }

  test("a product that is withdrawn leaves, and its cost was never there", async () => {
    const client = await server.greeted(await signed({}));
    const { table } = await client.load(1, { table: "products" });
    assert.deepEqual(
      table.columns.map(({ name }) => name),
      ["id", "name"],
    );
    await server.transaction("update products set published = false where id = 1");
    assert.deepEqual((await client.commit(1)).operations, [{ kind: "delete", key: ["1"] }]);
    await client.close();
  });
});

function unquoted(cell: string): string {
  return cell.replace(/^`(.*)`$/, "$1");
}

function signed(claims: Record<string, unknown>): Promise<string> {
  return new SignJWT({ iss: "https://shop.example", aud: "shop", ...claims })
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime("1h")
    .sign(Buffer.from(secret));
}
