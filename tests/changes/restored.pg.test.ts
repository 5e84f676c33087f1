/** The files of an older state take a server's place: it has the same name and timeline, and goes on differently. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { type EmbeddedPostgres, startPostgres } from "../../engine/embedded/postgres.ts";
import type { Lsn } from "../../engine/protocol.ts";
import { lowPort } from "../support/postgres.ts";
import { engines, goesOn, healthSays, lsnOf, query, startsAnew, visit } from "./returning.ts";

for (const passed of [false, true])
  test(`older files of the server that are put in its place are another history, ${passed ? "also once it has passed" : "before it has reached"} the log's end`, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), "walcast-test-"));
    await chmod(directory, 0o755);
    const [files, copy] = [join(directory, "files"), join(directory, "copy")];
    const start = (): Promise<EmbeddedPostgres> => startPostgres({ dataDir: files, port, flags: { fsync: "off" } });
    const port = lowPort();
    let server = await start();
    t.after(async () => {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    });
    const { url } = server;
    await query(url, "create table items (id int primary key); insert into items values (1)");
    const shop = await engines(url, "shop", t);
    await (await shop.start()).close();
    await server.stop();
    await promisify(execFile)("cp", ["-a", files, copy]);

    server = await start();
    const first = await shop.start();
    await query(url, "insert into items values (2)");
    const visited = await visit(first);
    await first.close();
    await server.stop();
    await rm(files, { recursive: true });
    await rename(copy, files);

    server = await start();
    if (passed) await writeUntil(url, visited.left.position);
    await query(url, "insert into items values (3)");
    const second = await shop.start();
    while (!shop.logged.some((line) => /restored; clients load their rows again/.test(line))) await setImmediate();
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

async function writeUntil(url: string, position: Lsn): Promise<void> {
  while ((await walEnd(url)) <= position)
    await query(url, "create table noise (v text); insert into noise values ('x'); drop table noise");
}

async function walEnd(url: string): Promise<Lsn> {
  const rows = await query(url, "select pg_current_wal_insert_lsn()::text as lsn");
  return lsnOf(rows[0]!.lsn as string);
}
