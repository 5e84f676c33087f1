/** From what a registry routed to frames: a connection's sections together, in frames of about `frameBytes`. */
import type { Transaction } from "../changes/transaction.ts";
import type { SectionOut } from "../protocol.ts";
import type { Routed } from "../shapes/registry.ts";
import type { Feed } from "./feed.ts";
import type { Lane } from "./lane.ts";

/** What one connection gets of one commit, or of several: the last of its frames carries the boundary. */
export type FrameSections = readonly SectionOut[];

export function framesByFeed(changed: Routed<Lane>["changed"], frameBytes: number): Map<Feed, FrameSections[]> {
  const sections = new Map<Feed, SectionOut[]>();
  for (const { entry, payloads } of changed)
    for (const { feed, id } of entry.subscribers) {
      let list = sections.get(feed);
      if (!list) sections.set(feed, (list = []));
      for (const payload of payloads) list.push({ subscription: id, payload });
    }
  return new Map(sections.entries().map(([feed, list]) => [feed, cut(list, frameBytes)]));
}

function cut(sections: readonly SectionOut[], frameBytes: number): FrameSections[] {
  const frames: SectionOut[][] = [];
  let bytes = Infinity;
  for (const section of sections) {
    if (bytes + section.payload.bytes.length > frameBytes) {
      frames.push([]);
      bytes = 0;
    }
    frames.at(-1)!.push(section);
    bytes += section.payload.bytes.length;
  }
  return frames;
}

/** Routed in one go without holding up anything else. */
const runBytesMax = 1 << 20;

/** Transactions in order, in pieces that can each be routed at once: ordinary ones together, a large one alone. */
export function* runs(transactions: readonly Transaction[]): Iterable<readonly Transaction[]> {
  let run: Transaction[] = [];
  let bytes = 0;
  for (const transaction of transactions) {
    if (run.length > 0 && (transaction.large || bytes + transaction.bytes.length > runBytesMax)) {
      yield run;
      run = [];
      bytes = 0;
    }
    run.push(transaction);
    bytes += transaction.large ? Infinity : transaction.bytes.length;
  }
  if (run.length > 0) yield run;
}

/** Whether a transaction may have rows of these tables, or change their form. */
export function touches({ relations, schemaChanges }: Transaction, tables: ReadonlySet<number>): boolean {
  return relations.some(({ oid }) => tables.has(oid)) || schemaChanges.some(({ tableOid }) => tables.has(tableOid));
}
