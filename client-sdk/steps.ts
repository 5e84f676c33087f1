/**
 * From what was received for one boundary to the steps that the replica takes inside one local transaction, and to what
 * channels are told afterwards. What was put aside comes back part by part, inside that same transaction.
 */
import { type Commit, decodeCommits } from "../engine/protocol.ts";
import type { Database } from "./database.ts";
import { readerOf } from "./event-reader.ts";
import type { Lane } from "./lane.ts";
import type { Alteration, Part, Segment } from "./pile.ts";
import type { Operation } from "../engine/protocol.ts";
import type { Change, Step } from "./table-writer.ts";
import { readSpilled } from "./staging.ts";

/** Told to a channel, in order, once the replica has what it speaks of. */
export type Telling =
  | { readonly kind: "commits"; readonly lane: Lane; readonly commits: readonly Commit[] }
  | { readonly kind: "spilled"; readonly lane: Lane; readonly number: number; readonly part: number }
  | { readonly kind: "altered"; readonly tell: () => void };

/** Decodes as it goes: only one part of what was put aside is in memory at a time. */
export function* stepsOf(segments: readonly Segment[], database: Database, tellings: Telling[]): Generator<Step> {
  for (const segment of joinedPayloads(segments)) {
    switch (segment.kind) {
      case "payloads":
        yield { kind: "changes", changes: changesOf(segment.parts, tellings) };
        break;
      case "spilled":
        yield* spilledSteps(segment, database, tellings);
        break;
      case "altered": {
        const { lane, table, added } = segment.alteration;
        if (lane.subscriber.changes) tellings.push(alterationOf(segment.alteration));
        else if (lane.isApplied) yield { kind: "altered", member: lane.subscriber.member, description: table, added };
      }
    }
  }
}

/** What channels are told of it where nothing was put aside. */
export function tellingsOf(segments: readonly Segment[]): Telling[] {
  const tellings: Telling[] = [];
  for (const segment of segments) {
    if (segment.kind === "payloads") changesOf(segment.parts, tellings);
    if (segment.kind === "altered") tellings.push(alterationOf(segment.alteration));
  }
  return tellings;
}

export function tellNow(telling: Telling): void {
  if (telling.kind === "altered") telling.tell();
  if (telling.kind === "commits") tellCommits(telling.lane, telling.commits);
}

export function tellCommits(lane: Lane, commits: readonly Commit[]): void {
  if (lane.stage !== "over") lane.subscriber.committed(commits);
}

function alterationOf({ lane, table }: Alteration): Telling {
  return { kind: "altered", tell: lane.subscriber.altered(table, readerOf) };
}

/** What happened to rows that are being loaded, in portions. */
export function* operationsOf(segments: readonly Segment[], database: Database): Generator<readonly Operation[]> {
  for (const segment of segments) {
    if (segment.kind === "payloads") yield segment.parts.flatMap(({ payload }) => operationsIn(payload));
    if (segment.kind !== "spilled") continue;
    for (let part = 0; part < segment.lanes.length; part++)
      yield operationsIn(readSpilled(database, segment.number, part));
  }
}

function* spilledSteps(
  { number, lanes }: Extract<Segment, { kind: "spilled" }>,
  database: Database,
  tellings: Telling[],
): Generator<Step> {
  for (const [part, lane] of lanes.entries()) {
    if (lane?.subscriber.changes) tellings.push({ kind: "spilled", lane, number, part });
    else if (lane?.isApplied)
      yield { kind: "changes", changes: [changeOf(lane, [readSpilled(database, number, part)])] };
  }
}

/** One change per shape, whatever number of transactions it comes from. */
function changesOf(parts: readonly Part[], tellings: Telling[]): Change[] {
  const byLane = Map.groupBy(parts, ({ lane }) => lane);
  const changes: Change[] = [];
  for (const [lane, own] of byLane) {
    const payloads = own.map(({ payload }) => payload);
    if (lane.subscriber.changes) tellings.push({ kind: "commits", lane, commits: payloads.flatMap(decodeCommits) });
    else if (lane.isApplied) changes.push(changeOf(lane, payloads));
  }
  return changes;
}

/** Decoded when it is looked at: not everything has to be. */
function changeOf({ subscriber: { member } }: Lane, payloads: readonly Uint8Array[]): Change {
  return {
    member,
    payloads,
    get operations() {
      return payloads.flatMap(operationsIn);
    },
  };
}

/** Neighbours in memory become one: a step has a price of its own. */
function joinedPayloads(segments: readonly Segment[]): Segment[] {
  const joined: Segment[] = [];
  for (const segment of segments) {
    const last = joined.at(-1);
    if (segment.kind === "payloads" && last?.kind === "payloads") last.parts.push(...segment.parts);
    else joined.push(segment.kind === "payloads" ? { kind: "payloads", parts: [...segment.parts] } : segment);
  }
  return joined;
}

function operationsIn(payload: Uint8Array): Operation[] {
  return decodeCommits(payload).flatMap(({ operations }) => operations);
}
