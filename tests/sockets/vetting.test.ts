import assert from "node:assert/strict";
import { afterEach, before, mock, test } from "node:test";
import { pino } from "pino";
import type { WalcastError } from "../../engine/errors.ts";
import { compileVetted, compileWhere, loadParser, type Predicate, vetWhere } from "../../engine/shapes/where.ts";
import { FairQueue } from "../../engine/sockets/fair-queue.ts";
import { Shares } from "../../engine/sockets/shares.ts";
import { Vetting } from "../../engine/sockets/vetting.ts";
import { Conditions, Random, type SampleColumn, tupleOf } from "../shapes/generate.ts";
import { column, tableOf } from "../shapes/table.ts";

const table = tableOf([column("id", "int4"), column("secret", "text")]);
const log = pino({ level: "silent" });
const asker = { client: "a", asker: {} };
const long = `id IN (${Array.from({ length: 8_000 }, (_, i) => i).join()})`;

const opened: Vetting[] = [];
function vetting(
  bounds?: ConstructorParameters<typeof Vetting>[1],
  { msPerMinute = 60_000, now }: { msPerMinute?: number; now?: () => number } = {},
): Vetting {
  const one = new Vetting({ log, msPerMinute, ...(now ? { now } : {}) }, bounds);
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
  const text = await vetted;
  over = true;
  assert.ok(turns > 100, `${turns} turns of the event loop`);
  assert.equal(compileVetted(text, long, [], table).sql, compileWhere(long, [], table).sql);
});

const refusals: readonly (readonly [where: string, params: readonly unknown[], code: string, position?: number])[] = [
  [`${long} OR nothing = 1`, [], "unknown_column", long.length + 4],
  [`${long} OR secret = 'x'`, [], "unknown_column", long.length + 4],
  [`${long} OR`, [], "where_syntax", long.length + 3],
  [`${long} OR pg_sleep(10) IS NULL`, [], "where_unsupported", long.length + 4],
  [`${long} OR id = ''`, [], "where_type", long.length + 9],
  [long, [1], "where_params"],
  ["id = ANY($1)", [Array.from({ length: 20_000 }, () => 1)], "where_unsupported", 9],
  [`${long} OR (SELECT true)`, [], "where_unsupported", long.length + 5],
  ["(".repeat(3_000), [], "where_unsupported", 200],
  ["NOT ".repeat(2_000), [], "where_unsupported", 4_000],
  ["id * 2 = ANY($1)", [Array.from({ length: 2_000 }, (_, i) => i)], "where_unsupported", 7],
];
for (const [where, params, code, position] of refusals) {
  test(`${where.slice(long.length) || where.slice(0, 20)}, and what is long, is refused with ${code}`, async () => {
    const vetted = vetting().vet(asker, { table: "orders", where, params }, table, ["id"]);
    await assert.rejects(vetted, { code, position });
  });
}

test("what takes more memory or time than it may is refused, and the next is read", async () => {
  // To read a short one takes 10 MiB, most of it for what reads.
  for (const bounds of [{ heapMiB: 16 }, { readMsMax: 1 }]) {
    const one = vetting(bounds);
    const read = (where: string): Promise<string> => one.vet(asker, { table: "orders", where }, table, undefined);
    // For two bytes a column and an operator, which together take twice what a name in a list does.
    const large = `greatest(${`${"x+".repeat(99)}x,`.repeat(320)}x) = 1`;
    // Now and then V8 is rid of enough in time, and it is found that there is no such column.
    let refused: WalcastError | undefined;
    for (let tries = 0; tries < 50 && (refused?.code ?? "unknown_column") === "unknown_column"; tries++)
      refused = await read(large).then(
        () => assert.fail("it is refused"),
        (error: WalcastError) => error,
      );
    assert.deepEqual([refused?.code, refused?.hint], ["where_unsupported", "Write a shorter one."]);
    if ("readMsMax" in bounds) continue;
    await read("id = 1");
  }
});

test("who has most waiting is refused first, and who is gone waits for nothing", async () => {
  const one = vetting({ waitingMax: 2 });
  const request = { table: "orders", where: long };
  const [greedy, other] = [
    { client: "greedy", asker: {} },
    { client: "other", asker: {} },
  ];
  const asked = [greedy, greedy, greedy, other].map((asker) =>
    one.vet(asker, request, table, undefined).then(
      () => "passed",
      ({ code }: { code: string }) => code,
    ),
  );
  one.forget(greedy.asker);
  assert.deepEqual(await Promise.all(asked), ["passed", "going_away", "too_many", "passed"]);
});

test("who has nothing left of its share has short conditions read elsewhere, at once, if nobody asked for the same", async () => {
  let time = 0;
  const one = vetting({}, { msPerMinute: 1, now: () => (time += 2) });
  let here = 0;
  const ask = (where: string): Promise<string> =>
    one.vetShort(asker, { table: "orders", where }, table, undefined, () => {
      here++;
      return compileWhere(where, [], table).sql;
    });
  await assert.rejects(ask("nothing = 1"), { code: "unknown_column" });
  assert.equal(here, 1);
  await assert.rejects(ask("nothing = 2"), { code: "unknown_column" });
  assert.equal(here, 1, "it is the thread that refuses");
  assert.equal(await ask("id = 31"), compileWhere("id = 31", [], table).sql);
  await one.close();
  assert.equal(await ask("id = 31"), compileWhere("id = 31", [], table).sql);
  await assert.rejects(ask("id = 32"), { code: "going_away" });
});

test("nothing is read after the end", async () => {
  const one = vetting();
  const waiting = one.vet(asker, { table: "orders", where: long }, table, undefined);
  const refused = assert.rejects(waiting, { code: "going_away" });
  await one.close();
  await refused;
  await assert.rejects(one.vet(asker, { table: "orders", where: long }, table, undefined), { code: "going_away" });
});

test("what the thread hands over means what reading it here means", () => {
  const samples: readonly SampleColumn[] = [
    { name: "id", type: "int4", family: "number", values: ["1", "2", "3"] },
    { name: "amount", type: "numeric", family: "number", values: ["1", "1.50", "NaN"] },
    { name: "name", type: "text", family: "text", values: ["", "a", "ä"] },
    { name: "paid", type: "bool", family: "boolean", values: ["t", "f"] },
  ];
  const orders = tableOf(samples.map(({ name, type }) => column(name, type)));
  const random = new Random(7);
  const conditions = new Conditions(random, samples);
  const written = Array.from({ length: 3_000 }, () => conditions.next());
  const lists = [
    "id IN (1,2,NULL) OR id = 3 OR id * 2 = 4 OR id IN (2,5)",
    "NOT (id NOT IN (1,2) AND lower(name COLLATE \"C\") = 'a')",
  ];
  let count = 0;
  for (const { where, params } of [...written, ...lists.map((where) => ({ where, params: [] }))]) {
    const here = accepted(() => compileWhere(where, params, orders));
    if (!here) continue;
    count++;
    const there = compileVetted(
      vetWhere(where, params, orders, () => true),
      where,
      params,
      orders,
    );
    assert.deepEqual([there.sql, there.columns, there.mayFail], [here.sql, here.columns, here.mayFail], where);
    const row = tupleOf(samples.map(({ values }) => values[random.below(values.length + 1)] ?? null));
    assert.equal(verdict(there, row), verdict(here, row), where);
  }
  assert.ok(count > 1_000, `${count} of them`);
});

function accepted(compile: () => Predicate): Predicate | undefined {
  try {
    return compile();
  } catch {
    return undefined;
  }
}

function verdict(predicate: Predicate, row: ReturnType<typeof tupleOf>): unknown {
  try {
    return predicate.matches(row);
  } catch (error) {
    return String(error);
  }
}

test("turns go round", () => {
  const queue = new FairQueue<string, number>(5);
  for (const [i, client] of ["a", "a", "a", "b", "c"].entries()) assert.equal(queue.add(client, i), undefined);
  assert.equal(queue.add("d", 5), 2);
  assert.equal(queue.next(), 0);
  queue.add("b", 6);
  queue.remove("c", 4);
  assert.deepEqual(queue.sizes, new Map(Object.entries({ b: 2, d: 1, a: 1 })));
  assert.deepEqual([queue.next(), queue.next(), queue.next(), queue.next(), queue.next()], [3, 5, 1, 6, undefined]);
});

test("who may not have a turn keeps it, and is in nobody's way", () => {
  const queue = new FairQueue<string, number>(5);
  for (const [i, client] of ["a", "a", "b"].entries()) queue.add(client, i);
  const butA = (client: string): boolean => client !== "a";
  assert.deepEqual([queue.next(butA), queue.next(butA), queue.next(), queue.removeAll()], [2, undefined, 0, [1]]);
});

test("a share of each minute may be taken at once, and what was taken beyond it is waited for", () => {
  const shares = new Shares<string>(500);
  const mayAt = (client: string): number => Math.max(shares.nextAt(client), 0);
  shares.charge("a", 400, 1_000);
  assert.equal(mayAt("a"), 0, "there is some left");
  shares.charge("a", 200, 1_000);
  assert.deepEqual([mayAt("a"), mayAt("b")], [1_000 + 100 * 120, 0]);
  shares.charge("a", 10, 13_000);
  assert.equal(mayAt("a"), 13_000 + 10 * 120, "then as much as comes back");
  shares.charge("a", 501, 1e6);
  assert.equal(mayAt("a"), 1e6 + 120, "nothing more is saved up");
  shares.charge("b", 1, 2e6);
  assert.equal(shares.size, 1, "who has all of it again is not known any more");
});

test("who has had its share waits for more, on every connection, until it is gone or the time has come; others do not", async (t) => {
  t.after(() => mock.timers.reset());
  mock.timers.enable({ apis: ["setTimeout"] });
  let nowMs = 1_000;
  const one = vetting({}, { msPerMinute: 1, now: () => nowMs });
  const request = { table: "orders", where: long };
  const ask = (client: string, asker = {}): Promise<string> => one.vet({ client, asker }, request, table, undefined);
  await ask("greedy");
  const leaving = {};
  const [left, waited] = [assert.rejects(ask("greedy", leaving), { code: "going_away" }), ask("greedy")];
  let isRead = false;
  void waited.then(() => (isRead = true));
  await ask("other");
  assert.deepEqual([isRead, ...one.waits], [false, ["turn", 0], ["share", 2]]);
  one.forget(leaving);
  await left;
  // Some ten milliseconds were taken, each of which is a minute's share.
  mock.timers.tick(60_000);
  await ask("a third");
  assert.equal(isRead, false);
  nowMs += 24 * 3_600_000;
  mock.timers.tick(60_000);
  await waited;
});
