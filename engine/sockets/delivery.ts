/** From what a registry routed to frames: a connection's sections together, in frames of about `frameBytes`. */
import type { Transaction } from "../changes/transaction.ts";
import type { SectionOut } from "../protocol.ts";
import type { Registry, Routed } from "../shapes/registry.ts";
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

/**
 * Transactions in order, in pieces that can each be routed at once: ordinary ones together, a large one alone, and one that
 * changes a table's form at the beginning of its piece.
 */
export function* runs(transactions: readonly Transaction[]): Iterable<readonly Transaction[]> {
  let run: Transaction[] = [];
  let bytes = 0;
  for (const transaction of transactions) {
    const isOwn = transaction.large || transaction.schemaChanges.length > 0;
    if (run.length > 0 && (isOwn || bytes + transaction.bytes.length > runBytesMax)) {
      yield run;
      run = [];
      bytes = 0;
    }
    run.push(transaction);
    bytes += transaction.large ? Infinity : transaction.bytes.length;
  }
  if (run.length > 0) yield run;
}

/** Brings shapes whose table changes in place to its new form. The last frame of the transaction makes it so at the client. */
export function alter(registry: Registry<Lane>, transaction: Transaction): Set<Feed> {
  const feeds = new Set<Feed>();
  if (transaction.schemaChanges.length === 0) return feeds;
  for (const { entry, added } of registry.alter(transaction))
    for (const lane of entry.subscribers) {
      lane.feed.alter(lane, entry.shape, added);
      feeds.add(lane.feed);
    }
  return feeds;
}
