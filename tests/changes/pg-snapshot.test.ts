/** Which transactions a snapshot sees, and which one pgoutput's 32 bits mean. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parsePgSnapshot, sees, widenXid } from "../../engine/changes/pg-snapshot.ts";

test("a snapshot reads as Postgres writes it", () => {
  assert.deepEqual(parsePgSnapshot("10:20:10,14,15"), { xmin: 10n, xmax: 20n, xip: new Set([10n, 14n, 15n]) });
  assert.deepEqual(parsePgSnapshot("4294967300:4294967300:"), { xmin: 4294967300n, xmax: 4294967300n, xip: new Set() });
});

for (const text of ["", "10", "10:20", "a:b:", "10:20:1,", " 10:20:", "10:20:x", "10:20:1;2"]) {
  test(`${JSON.stringify(text)} is no snapshot`, () => {
    assert.throws(() => parsePgSnapshot(text), { code: "malformed_message" });
  });
}

const seen: readonly (readonly [number, boolean, string])[] = [
  [9, true, "before xmin"],
  [10, false, "in progress"],
  [11, true, "between, and ended"],
  [14, false, "in progress"],
  [19, true, "the last that ended"],
  [20, false, "xmax itself"],
  [21, false, "after xmax"],
];
for (const [xid, expected, what] of seen) {
  test(`transaction ${xid}, ${what}, is ${expected ? "seen" : "not seen"} by 10:20:10,14`, () => {
    assert.equal(sees(parsePgSnapshot("10:20:10,14"), BigInt(xid)), expected);
  });
}

test("32 bits are widened to the transaction nearest to a recent one, across each wraparound, both ways", () => {
  const far = 2n ** 31n - 1n;
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 40n), fc.bigInt(-far, far), (recent, distance) => {
      const xid = recent + distance;
      fc.pre(xid >= 3n);
      assert.equal(widenXid(Number(xid & 0xffffffffn), recent), xid);
    }),
    {
      numRuns: 2_000,
      examples: [
        [2n ** 32n, -1n],
        [2n ** 32n - 1n, 1n],
        [2n ** 33n + 5n, -10n],
        [2n ** 33n - 5n, 10n],
        [700n, 3n],
      ],
    },
  );
});

test("in the first epoch nothing is widened to before the beginning", () => {
  assert.equal(widenXid(0xffff_fff0, 5n), 0xffff_fff0n);
});
