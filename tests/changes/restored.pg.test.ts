/** The files of an older state take a server's place: it has the same name and timeline, and goes on differently. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, rename, rm } from "node:fs/promises";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { type EmbeddedPostgres, startPostgres } from "../../engine/embedded/postgres.ts";
import type { Lsn } from "../../engine/protocol.ts";
import { emptyCluster } from "../support/cluster.ts";
import { lowPort } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { engines, goesOn, healthSays, lsnOf, query, startsAnew, visit } from "./returning.ts";

for (const passed of [false, true])
  test(`older files of the server that are put in its place are another history, ${passed ? "also once it has passed" : "before it has reached"} the log's end`, async (t) => {
    const { url, putBack, ...server } = await restorable(t);
    const shop = await engines(url, "shop", t);
    await (await shop.start()).close();
    await server.copy();
    const first = await shop.start();
    await query(url, "insert into items values (2)");
    const visited = await visit(first);
    await first.close();
    await putBack();
    if (passed) await writeUntil(url, visited.left.position);
    await query(url, "insert into items values (3)");
    const second = await shop.start();
    await until(() => shop.logged.some((line) => /restored; clients load their rows again/.test(line)));
    await healthSays(second.url, /"live"/);
    const { cause, rows } = await startsAnew(second, visited);
    assert.deepEqual([cause.code, rows], ["history_changed", [["1"], ["3"]]]);
    const again = await visit(second);
    await query(url, "insert into items values (4)");
    assert.deepEqual(await goesOn(second, again, 1), [["4"]]);
    // What was sent again and met does not make a history: the next start is the same one.
    await second.close();
    assert.deepEqual(await goesOn(await shop.start(), again, 1), [["4"]]);
  });

test("where the engine's files are as old as the server's, or gone, a client shows it by being further than the WAL", async (t) => {
  const { url, putBack, ...server } = await restorable(t);
  const shop = await engines(url, "shop", t);
  await (await shop.start()).close();
  await server.copy();
  await cp(shop.dataDir, `${shop.dataDir}.old`, { recursive: true });
  t.after(() => rm(`${shop.dataDir}.old`, { recursive: true, force: true }));
  const first = await shop.start();
  await query(url, "insert into items values (2)");
  await query(url, "select pg_switch_wal()");
  await query(url, "insert into items values (3)");
  const visited = await visit(first);
  await first.close();
  await putBack();
  for (const [files, id, shown] of [
    ["as old", 4, [["1"]]],
    ["gone", 5, [["1"], ["4"]]],
  ] as const) {
    await rm(shop.dataDir, { recursive: true });
    if (files === "as old") await cp(`${shop.dataDir}.old`, shop.dataDir, { recursive: true });
    const engine = await shop.start();
    const { cause, rows } = await startsAnew(engine, visited);
    assert.deepEqual([cause.code, rows], ["history_changed", shown], files);
    const again = await visit(engine);
    await query(url, `insert into items values (${id})`);
    assert.deepEqual(await goesOn(engine, again, 1), [[String(id)]]);
    await engine.close();
  }
});

interface Restorable {
  readonly url: string;
  /** Takes a copy of the server's files. */
  copy(): Promise<void>;
  /** Puts the copy in their place. */
  putBack(): Promise<void>;
}

async function restorable(t: TestContext): Promise<Restorable> {
  const files = await emptyCluster();
  const copy = `${files}-copy`;
  const port = lowPort();
  const start = (): Promise<EmbeddedPostgres> => startPostgres({ dataDir: files, port, flags: { fsync: "off" } });
  let server = await start();
  t.after(async () => {
    await server.stop();
    for (const directory of [files, copy]) await rm(directory, { recursive: true, force: true });
  });
  await query(server.url, "create table items (id int primary key); insert into items values (1)");
  const meanwhile = async (work: () => Promise<unknown>): Promise<void> => {
    await server.stop();
    await work();
    server = await start();
  };
  return {
    url: server.url,
    copy: () => meanwhile(() => promisify(execFile)("cp", ["-a", files, copy])),
    putBack: () =>
      meanwhile(async () => {
        await rm(files, { recursive: true });
        await rename(copy, files);
      }),
  };
}

async function writeUntil(url: string, position: Lsn): Promise<void> {
  while ((await walEnd(url)) <= position)
    await query(url, "create table noise (v text); insert into noise values ('x'); drop table noise");
}

async function walEnd(url: string): Promise<Lsn> {
  const rows = await query(url, "select pg_current_wal_insert_lsn()::text as lsn");
  return lsnOf(rows[0]!.lsn as string);
}
