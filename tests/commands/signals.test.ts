import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";

const module = JSON.stringify(new URL("../../engine/signals.ts", import.meta.url).href);

/** A process that never manages to stop. Its clock moves by `stepMs` each time it is read. */
function stubborn(stepMs: number): string {
  return `let now = 0;
    performance.now = () => (now += ${stepMs});
    const { onStopSignal } = await import(${module});
    onStopSignal((signal) => console.log(signal));
    process.on("SIGTERM", () => console.log("again"));
    setInterval(() => undefined, 1000);
    console.log("ready");`;
}

test("a second signal later on ends at once", async () => {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", stubborn(1000)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  assert.equal((await lines.next()).value, "ready");
  child.kill("SIGINT");
  assert.equal((await lines.next()).value, "SIGINT");
  child.kill("SIGINT");
  assert.deepEqual(await once(child, "exit"), [130, null]);
});

test("the same wish told twice is one", async () => {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", stubborn(1)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  assert.equal((await lines.next()).value, "ready");
  child.kill("SIGINT");
  assert.equal((await lines.next()).value, "SIGINT");
  child.kill("SIGTERM");
  assert.equal((await lines.next()).value, "again");
  child.kill("SIGKILL");
  assert.deepEqual(await once(child, "exit"), [null, "SIGKILL"]);
});
