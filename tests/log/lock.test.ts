/** The lock of a log's directory, among several processes. */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { processFlags } from "../support/processes.ts";

const program = fileURLToPath(new URL("./lock-process.ts", import.meta.url));
const contenders = 3;
const directoryCount = 300;

test("of several processes that come at once one has a directory, whoever held it before, and nothing else is left in it", async (t) => {
  const parent = await mkdtemp(path.join(tmpdir(), "walcast-locks-"));
  t.after(() => rm(parent, { recursive: true, force: true }));
  const directories = Array.from({ length: directoryCount }, (_, i) => path.join(parent, String(i)));
  for (const [i, directory] of directories.entries()) {
    await mkdir(directory);
    // Every other one was left by a process that is no more.
    if (i % 2 === 1) await writeFile(path.join(directory, "lock"), "999999999 1\n");
  }
  const children = Array.from({ length: contenders }, () =>
    fork(program, directories, { execArgv: [...processFlags] }),
  );
  t.after(() => children.forEach((child) => child.kill()));
  await Promise.all(children.map((child) => said(child)));
  const answers = children.map((child) => said<string[]>(child));
  for (const child of children) child.send("go");
  const winners = (await Promise.all(answers)).flat();
  assert.deepEqual(winners.sort(), directories.sort());
  for (const directory of directories) assert.deepEqual(await readdir(directory), ["lock"]);
});

async function said<Message>(child: ChildProcess): Promise<Message> {
  const [message] = (await once(child, "message")) as [Message];
  return message;
}
