/** One engine per port, and as soon as one has stopped the next may have it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createEngine } from "../../engine/main.ts";
import { engines } from "../changes/returning.ts";
import { lowPort } from "../support/postgres.ts";
import { running } from "./running.ts";

test("an engine starts on the port that another has just left, with clients connected to it", async (t) => {
  const port = lowPort();
  const { engine, db, greeted, close } = await running({ port });
  await greeted();
  await engine.close();
  const next = await (await engines(db.url, db.name, t)).start({ port });
  assert.equal(next.url, engine.url);
  await next.close();
  await close();
});

test("a second engine on a port is refused, the first goes on", async () => {
  const port = lowPort();
  const { greeted, close } = await running({ port });
  const other = await running();
  const config = { databaseUrl: other.db.url, slot: `${other.db.name}_2`, tables: "all", port } as const;
  await assert.rejects(createEngine(config), { code: "port_in_use" });
  await greeted();
  await other.close();
  await close();
});
