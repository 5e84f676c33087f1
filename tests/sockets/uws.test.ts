import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { WebSocket } from "ws";
import { mendGlibcNeed } from "../../engine/sockets/elf.ts";
import { needsNewerGlibc, privateCopy, uws } from "../../engine/sockets/uws.ts";

test("the library loads here and serves a WebSocket", async (t) => {
  const { port, close } = await echoServer();
  t.after(close);
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
  await once(socket, "open");
  socket.send(Buffer.from([1, 2, 3]));
  const [data] = (await once(socket, "message")) as [Buffer];
  assert.deepEqual([...data], [1, 2, 3]);
  socket.terminate();
});

test("mending changes a few names, their versions and one flag, and no length", async () => {
  for (const machine of ["x64", "arm64"]) {
    const original = await library(machine);
    const mended = mendGlibcNeed(original);
    const changed = mended.reduce((count, byte, i) => count + (byte === original[i] ? 0 : 1), 0);
    assert.equal(mended.length, original.length);
    // Three symbols on x64 and one on arm64, 4 bytes of name and 2 of version each, and 2 of flags; upper bytes may stay.
    assert.ok(changed >= 3 && changed <= 20, `${machine}: ${changed} bytes changed`);
  }
});

test("mending what is mended changes nothing, so a library that needs nothing is left alone", async () => {
  const mended = mendGlibcNeed(await library("x64"));
  assert.deepEqual(mendGlibcNeed(mended), mended);
});

test("mending leaves its input as it was", async () => {
  const original = await library("x64");
  const before = Uint8Array.from(original);
  mendGlibcNeed(original);
  assert.deepEqual(Uint8Array.from(original), before);
});

test("a file that is cut off anywhere is refused", async () => {
  const whole = await library("x64");
  const lengths = [
    0,
    3,
    4,
    17,
    63,
    64,
    4096,
    ...Array.from({ length: 60 }, (_, i) => Math.floor((whole.length * i) / 60)),
    whole.length - 1,
  ];
  for (const length of lengths) {
    assert.throws(() => mendGlibcNeed(whole.subarray(0, length)), { code: "config_invalid" }, `cut at ${length}`);
  }
});

const otherFiles: readonly (readonly [string, (bytes: Buffer) => void])[] = [
  ["32-bit", (bytes) => bytes.writeUInt8(1, 4)],
  ["big-endian", (bytes) => bytes.writeUInt8(2, 5)],
  ["another machine", (bytes) => bytes.writeUInt16LE(8, 18)],
  ["no ELF at all", (bytes) => bytes.write("MZ", 0)],
  ["section headers past the end", (bytes) => bytes.writeBigUInt64LE(BigInt(bytes.length), 40)],
  ["section headers beyond any file", (bytes) => bytes.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 40)],
  ["section headers of another size", (bytes) => bytes.writeUInt16LE(40, 58)],
  ["no section headers", (bytes) => bytes.writeUInt16LE(0, 60)],
  ["sections without dynamic symbols", (bytes) => bytes.writeUInt16LE(3, 60)],
  [
    "another name for a symbol of GLIBC_2.38",
    (bytes) => bytes.write("__isoc23_strtol_", bytes.indexOf("__isoc23_strtol\0"), "latin1"),
  ],
];

for (const [what, damage] of otherFiles) {
  test(`a file that is ${what} is refused`, async () => {
    const bytes = Buffer.from(await library("x64"));
    damage(bytes);
    assert.throws(() => mendGlibcNeed(bytes), {
      code: "config_invalid",
      message: /^mend the WebSocket library for an older glibc: expected/,
    });
  });
}

test("only the loader's refusal for want of GLIBC_2.38 is mended", () => {
  const refusal = (version: string) =>
    new Error(`/lib/x86_64-linux-gnu/libc.so.6: version \`${version}' not found (required by uws.node)`);
  assert.equal(needsNewerGlibc(refusal("GLIBC_2.38")), true);
  assert.equal(needsNewerGlibc(refusal("GLIBC_2.36")), false);
  assert.equal(needsNewerGlibc(new Error("Cannot find module './uws_linux_x64_999.node'")), false);
});

test("the private copy is made once, whole and for its owner alone, and again where it was changed", async (t) => {
  const directory = await emptyDirectory(t);
  const bytes = Buffer.from("a library");
  const path = privateCopy(bytes, directory);
  assert.equal(privateCopy(bytes, directory), path);
  assert.deepEqual(await readdir(directory), [path.slice(directory.length + 1)]);
  assert.equal((await stat(path)).mode & 0o777, 0o500);
  await rm(path);
  await writeFile(path, "something else");
  assert.equal(privateCopy(bytes, directory), path);
  assert.deepEqual(await readFile(path), bytes);
});

async function library(machine: string): Promise<Buffer> {
  const directory = dirname(createRequire(import.meta.url).resolve("uWebSockets.js"));
  return readFile(join(directory, `uws_linux_${machine}_137.node`));
}

async function emptyDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "walcast-uws-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function echoServer(): Promise<{ port: number; close: () => void }> {
  const app = uws.App().ws("/*", { message: (socket, message, isBinary) => void socket.send(message, isBinary) });
  const listening = Promise.withResolvers<number>();
  app.listen("127.0.0.1", 0, (socket) =>
    socket ? listening.resolve(uws.us_socket_local_port(socket)) : listening.reject(new Error("not listening")),
  );
  return { port: await listening.promise, close: () => void app.close() };
}
