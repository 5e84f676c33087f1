/** From what a registry routed to frames: a connection's sections together, in frames of about `frameBytes`. */
import type { Transaction } from "../changes/transaction.ts";
import type { SectionOut } from "../protocol.ts";
import type { Registry, Routed } from "../shapes/registry.ts";
import type { Feed } from "./feed.ts";
import type { Lane } from "./lane.ts";

/** What one connection gets of one commit, or of several: the last of its frames carries the boundary. */
export type FrameSections = readonly SectionOut[];

/** What one connection gets, frame by frame. Those that get the same have the same lists. */
export interface Outgoing {
  readonly feed: Feed;
  readonly frames: readonly FrameSections[];
}

interface Gathered {
  readonly feed: Feed;
  sections: SectionOut[];
  isShared: boolean;
}

export function framesByFeed(changed: Routed<Lane>["changed"], frameBytes: number): readonly Outgoing[] {
  let sections: readonly SectionOut[] | undefined;
  let frames: readonly FrameSections[] = [];
  return gather(changed).map((one) => {
    if (one.sections !== sections) frames = cut((sections = one.sections), frameBytes);
    return { feed: one.feed, frames };
  });
}

let rounds = 0;

/**
 * The sections of each connection. Thousands may have the same shape, mostly under the same number: to them goes one list. So where a
 * connection is among those found is noted in itself, which is quicker than to look it up.
 */
function gather(changed: Routed<Lane>["changed"]): readonly Gathered[] {
  const round = ++rounds;
  const found: Gathered[] = [];
  for (const { entry, payloads } of changed) {
    let number: number | undefined;
    let sections: SectionOut[] = [];
    for (const { feed, id: subscription } of entry.subscribers) {
      if (subscription !== number) sections = payloads.map((payload) => ({ subscription, payload }));
      number = subscription;
      if (feed.isFirstIn(round, found.length)) found.push({ feed, sections, isShared: true });
      else add(found[feed.place]!, sections);
    }
  }
  return found;
}

function add(one: Gathered, sections: readonly SectionOut[]): void {
  if (one.isShared) one.sections = [...one.sections];
  one.isShared = false;
  for (const section of sections) one.sections.push(section);
}

function cut(sections: readonly SectionOut[], frameBytes: number): readonly FrameSections[] {
  if (sections.length === 1) return [sections];
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
export function runs(transactions: readonly Transaction[]): readonly (readonly Transaction[])[] {
  if (transactions.length === 1) return [transactions];
  const all: Transaction[][] = [];
  let bytes = Infinity;
  for (const transaction of transactions) {
    const isOwn = transaction.large || transaction.schemaChanges.length > 0;
    if (isOwn || bytes + transaction.bytes.length > runBytesMax) {
      all.push([]);
      bytes = 0;
    }
    all.at(-1)!.push(transaction);
    bytes += transaction.large ? Infinity : transaction.bytes.length;
  }
  return all;
}

const nobody: ReadonlySet<Feed> = new Set();

/** Brings shapes whose table changes in place to its new form. The last frame of the transaction makes it so at the client. */
export function alter(registry: Registry<Lane>, transaction: Transaction): ReadonlySet<Feed> {
  if (transaction.schemaChanges.length === 0) return nobody;
  const feeds = new Set<Feed>();
  for (const { entry, added } of registry.alter(transaction))
    for (const lane of entry.subscribers) {
      lane.feed.alter(lane, entry.shape, added);
      feeds.add(lane.feed);
    }
  return feeds;
}
