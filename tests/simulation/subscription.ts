/** One shape of a client under observation: which tokens' rows it may show, and when its rows had to come again. */
import type { Shape } from "../../client-sdk/index.ts";
import type { Lsn } from "../../engine/protocol.ts";
import type { Access, Asked } from "./filter.ts";
import type { ObservedShape } from "./observer.ts";

export class Subscription {
  readonly asked: Asked;
  readonly handle: Shape;
  leaving = false;
  /** The rows that it shows are of one of these. */
  access: readonly Access[];
  /** As an earlier life left it: it may have become complete before its end, and nobody heard. */
  formerlyFrom: Lsn | undefined;
  private from: Lsn | undefined;

  /**
   * `refetched`: called when rows that were complete have come again, with where the client was when they stopped to be.
   * `isWelcomed`: whether the connection was greeted with the last token.
   */
  constructor(
    asked: Asked,
    handle: Shape,
    access: readonly Access[],
    position: () => Lsn,
    refetched: (from: Lsn) => void,
    isWelcomed: () => boolean,
  ) {
    this.asked = asked;
    this.handle = handle;
    this.access = access;
    handle.ready.catch(() => {});
    this.countRefetches(position, refetched);
    // What is described on a connection has been allowed on it.
    handle.on("progress", ({ rows }) => {
      if (rows === 0 && isWelcomed()) this.access = this.access.slice(-1);
    });
  }

  /** Where the client was when its rows stopped to be complete, perhaps in an earlier life. */
  get incompleteFrom(): Lsn | undefined {
    return this.from ?? this.formerlyFrom;
  }

  /** The client has another token. */
  mayShow(access: Access): void {
    if (access !== this.access.at(-1)) this.access = [...this.access, access];
  }

  /**
   * The replica has its rows from an earlier life, up to here: they need not come. Where they do, what made them come may be
   * ahead of where the client is when they begin to: the engine asks Postgres what the table is, and streams it later.
   */
  expectNoRows(completeAt: Lsn): void {
    const { handle } = this;
    // The description that precedes rows says that they come.
    const stop = handle.on("progress", () => {
      this.from = completeAt;
      stop();
    });
    handle.on("status", (status) => {
      if (status === "ready") stop();
    });
  }

  observed(mayBeEmpty: boolean): ObservedShape {
    // Its rows leave in a turn of their own, or have been left as they were.
    const status = this.leaving ? "error" : this.handle.status;
    return { ...this.asked, access: unique(this.access), status, mayBeEmpty };
  }

  private countRefetches(position: () => Lsn, refetched: (from: Lsn) => void): void {
    this.handle.on("status", (status) => {
      if (status === "resyncing") this.from ??= this.formerlyFrom ?? position();
      if (status !== "ready") return;
      if (this.from !== undefined) refetched(this.from);
      this.from = this.formerlyFrom = undefined;
    });
  }
}

export function unique(accesses: readonly Access[]): readonly Access[] {
  return [...new Map(accesses.map((access) => [String(access), access])).values()];
}
