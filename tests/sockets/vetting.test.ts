import assert from "node:assert/strict";
import { afterEach, before, test } from "node:test";
import { pino } from "pino";
import { compileWhere, loadParser } from "../../engine/shapes/where.ts";
import { FairQueue } from "../../engine/sockets/fair-queue.ts";
import { Vetting } from "../../engine/sockets/vetting.ts";
import { column, tableOf } from "../shapes/table.ts";

const table = tableOf([column("id", "int4"), column("secret", "text")]);
const log = pino({ level: "silent" });
const asker = {};
const long = `id IN (${Array.from({ length: 8_000 }, (_, i) => i).join()})`;

const opened: Vetting[] = [];
function vetting(bounds?: ConstructorParameters<typeof Vetting>[1]): Vetting {
  const one = new Vetting(log, bounds);
  opened.push(one);
  return one;
}

before(loadParser);
afterEach(() => Promise.all(opened.splice(0).map((one) => one.close())));

test("while a long condition is read, others are served", async () => {
  let turns = 0;
  let over = false;
  const turn = (): void => {
    turns++;
    if (!over) setImmediate(turn);
  };
  const vetted = vetting().vet(asker, { table: "orders", where: long }, table, undefined);
  turn();
  await vetted;
  over = true;
  assert.ok(turns > 100, `${turns} turns of the event loop`);
  assert.equal(compileWhere(long, [], table).columns.length, 1);
});

const refusals: readonly (readonly [where: string, params: readonly unknown[], code: string, position?: number])[] = [
  [`${long} OR nothing = 1`, [], "unknown_column", long.length + 4],
  [`${long} OR secret = 'x'`, [], "unknown_column", long.length + 4],
  [`${long} OR`, [], "where_syntax", long.length + 3],
  [`${long} OR pg_sleep(10) IS NULL`, [], "where_unsupported", long.length + 4],
  [`${long} OR id = ''`, [], "where_type", long.length + 9],
  [long, [1], "where_params"],
  ["id = ANY($1)", [Array.from({ length: 20_000 }, () => 1)], "where_unsupported", 9],
];
for (const [where, params, code, position] of refusals) {
  test(`${where.slice(long.length) || where.slice(0, 20)}, and what is long, is refused with ${code}`, async () => {
    const vetted = vetting().vet(asker, { table: "orders", where, params }, table, ["id"]);
    await assert.rejects(vetted, { code, position });
  });
}

test("what takes more memory or time than it may is refused, and the next is read", async () => {
  for (const bounds of [{ heapMiB: 14 }, { readMsMax: 1 }]) {
    const one = vetting(bounds);
    const request = { table: "orders", where: `id * 2 IN (${Array.from({ length: 9_000 }, (_, i) => i).join()})` };
    await assert.rejects(one.vet(asker, request, table, undefined), {
      code: "where_unsupported",
      hint: "Write a shorter one.",
    });
    if ("readMsMax" in bounds) continue;
    await one.vet(asker, { table: "orders", where: "id = 1" }, table, undefined);
  }
});

test("who has most waiting is refused first, and who is gone waits for nothing", async () => {
  const one = vetting({ waitingMax: 2 });
  const request = { table: "orders", where: long };
  const [greedy, other] = [{}, {}];
  const asked = [greedy, greedy, greedy, other].map((asker) =>
    one.vet(asker, request, table, undefined).then(
      () => "passed",
      ({ code }: { code: string }) => code,
    ),
  );
  one.forget(greedy);
  assert.deepEqual(await Promise.all(asked), ["passed", "going_away", "too_many", "passed"]);
});

test("nothing is read after the end", async () => {
  const one = vetting();
  const waiting = one.vet(asker, { table: "orders", where: long }, table, undefined);
  const refused = assert.rejects(waiting, { code: "going_away" });
  await one.close();
  await refused;
  await assert.rejects(one.vet(asker, { table: "orders", where: long }, table, undefined), { code: "going_away" });
});

test("what its tokens alone refuse needs no thread", async () => {
  const one = vetting();
  await one.close();
  for (const where of [`${long} OR (SELECT true)`, "(".repeat(3_000), "NOT ".repeat(2_000)])
    await assert.rejects(one.vet(asker, { table: "orders", where }, table, undefined), { code: "where_unsupported" });
});

test("turns go round", () => {
  const queue = new FairQueue<string, number>(5);
  for (const [i, asker] of ["a", "a", "a", "b", "c"].entries()) assert.equal(queue.add(asker, i), undefined);
  assert.equal(queue.add("d", 5), 2);
  assert.equal(queue.next(), 0);
  queue.add("b", 6);
  assert.deepEqual(queue.remove("c"), [4]);
  assert.deepEqual([queue.next(), queue.next(), queue.next(), queue.next(), queue.next()], [3, 5, 1, 6, undefined]);
});
