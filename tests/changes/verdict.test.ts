/** What a log goes on with after a connection was made, as a table: what it holds, what the server says, what follows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Epoch, formatEpoch, leadsFrom, parseEpoch, parseTimelineHistory } from "../../engine/changes/epoch.ts";
import { formatHistory, judge, type Kept, type Served } from "../../engine/changes/verdict.ts";
import type { Lsn } from "../../engine/protocol.ts";

const lsn = (position: number): Lsn => BigInt(position) as Lsn;
const epoch = (timeline = 1, branch = ""): Epoch => ({ system: "7", database: "5", timeline, branch });
const kept = (given: Partial<Kept> = {}): Kept => ({
  history: formatHistory(epoch(), 100),
  end: lsn(50),
  recorded: lsn(60),
  ...given,
});
const served = (given: Partial<Served> = {}): Served => ({
  epoch: epoch(),
  ancestors: [],
  walEnd: lsn(1000),
  confirmed: lsn(60),
  publicationOid: 100,
  ...given,
});
/** A failover that left timeline 1 at `until`. */
const failedOver = (until: number, confirmed = until): Partial<Served> => ({
  epoch: epoch(2),
  ancestors: [{ timeline: 1, until: lsn(until) }],
  confirmed: lsn(confirmed),
});

const cases: readonly (readonly [what: string, kept: Kept, served: Served, then: string])[] = [
  ["the same history and the slot where it was acknowledged", kept(), served(), "continue 7:5:1"],
  ["a slot that a crash of Postgres set back", kept(), served({ confirmed: lsn(40) }), "continue 7:5:1"],
  ["a log that has just been made", kept({ history: undefined }), served(), "start 7:5:1"],
  ["a slot beyond what was recorded", kept(), served({ confirmed: lsn(61) }), "start 7:5:1"],
  [
    "a slot that moved within what was appended",
    kept({ end: lsn(70) }),
    served({ confirmed: lsn(65) }),
    "continue 7:5:1",
  ],
  ["another database", kept(), served({ epoch: { ...epoch(), database: "6" } }), "start 7:6:1"],
  ["another server", kept(), served({ epoch: { ...epoch(), system: "8" } }), "start 8:5:1"],
  ["a WAL that ends before the log", kept(), served({ walEnd: lsn(49), confirmed: lsn(40) }), "start 7:5:1:new"],
  [
    "a WAL that ends before what was recorded",
    kept(),
    served({ walEnd: lsn(59), confirmed: lsn(40) }),
    "start 7:5:1:new",
  ],
  ["other transactions than the log has", kept(), served({ contradicts: true }), "start 7:5:1:new"],
  ["a publication that was made anew", kept(), served({ publicationOid: 101 }), "start renew 7:5:1:new"],
  ["a failover after everything that the log has", kept(), served(failedOver(60)), "follow 60 7:5:2"],
  ["a failover that lost only what was quiet", kept(), served(failedOver(50)), "follow 50 7:5:2"],
  ["a failover that lost a commit", kept(), served(failedOver(49)), "start 7:5:2"],
  ["a failover without the slot, which was made anew", kept(), served(failedOver(60, 80)), "start 7:5:2"],
  ["a failover within the quiet, and the slot made anew there", kept(), served(failedOver(50, 55)), "start 7:5:2"],
  ["a timeline that the server never was on", kept(), served({ epoch: epoch(2) }), "start 7:5:2"],
  [
    "a branch goes on through a failover",
    kept({ history: formatHistory(epoch(1, "b"), 100) }),
    served(failedOver(60)),
    "follow 60 7:5:2:b",
  ],
];

for (const [what, log, server, then] of cases)
  test(`${what}: ${then}`, () => {
    const verdict = judge(log, server, () => "new");
    const { kind } = verdict;
    const detail = kind === "follow" ? ` ${verdict.until}` : kind === "start" && verdict.renew ? " renew" : "";
    assert.equal(`${kind}${detail} ${formatEpoch(verdict.epoch)}`, then);
    if (kind === "start" && log.history !== undefined) assert.notEqual(verdict.why, undefined);
  });

test("a client goes on if what it has seen is in the history that is streamed", () => {
  const lineage = {
    epoch: epoch(3),
    ancestors: [
      { timeline: 1, until: lsn(50) },
      { timeline: 2, until: lsn(80) },
    ],
  };
  const goesOn = (from: Epoch, position: number): boolean => leadsFrom(lineage, from, lsn(position));
  assert.deepEqual(
    [goesOn(epoch(3), 1_000), goesOn(epoch(2), 80), goesOn(epoch(1), 50)],
    [true, true, true],
    "where it left a timeline, or before",
  );
  assert.deepEqual([goesOn(epoch(2), 81), goesOn(epoch(1), 51), goesOn(epoch(4), 1)], [false, false, false]);
  assert.deepEqual(
    [goesOn({ ...epoch(3), system: "8" }, 1), goesOn({ ...epoch(3), database: "6" }, 1)],
    [false, false],
  );
  assert.equal(goesOn(epoch(3, "restored"), 1), false);
});

test("an epoch that a client sends is one, or nothing", () => {
  for (const one of [epoch(), epoch(12, "a1b2")]) assert.deepEqual(parseEpoch(formatEpoch(one)), one);
  for (const text of ["", "7", "7:5", "7:5:x", "7:5:1:", "7:5:1:A", "7:5:1:a:b", "-7:5:1", `7:5:1${" ".repeat(1e6)}`])
    assert.equal(parseEpoch(text), undefined);
});

test("a timeline history is read as Postgres writes it", () => {
  const content = "1\t0/3000158\tno recovery target specified\n\n# a comment\n2\t1/A0000028\tbefore 2000-01-01\n";
  assert.deepEqual(parseTimelineHistory(content), [
    { timeline: 1, until: 0x3000158n },
    { timeline: 2, until: 0x1_a000_0028n },
  ]);
});
