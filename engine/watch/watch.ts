/** The rows of some shapes as they are, kept in memory once for everybody who follows the same. */
import type { WalcastError } from "../errors.ts";
import { formatLsn } from "../protocol.ts";
import type { Shape } from "../shapes/shape.ts";
import type { Hub } from "../sockets/hub.ts";
import { jsonOf, type RowAsJson } from "./json.ts";
import { type CommitChanges, Reader } from "./reader.ts";
import type { Row } from "./rows.ts";

/** Whoever follows. It is told of a state first; each commit follows on what was told before. */
export interface Follower {
  /** What is there now is to be taken as it is. */
  onState(watch: Watch): void;
  onCommit(watch: Watch, commit: CommitChanges): void;
}

interface Following {
  readonly follower: Follower;
  readonly end: (reason: WalcastError | undefined) => void;
}

export interface WatchOptions {
  readonly hub: Hub;
  readonly resolve: readonly (() => Promise<Shape>)[];
  /** It takes so many bytes more, or fewer. Gives why not, where that is more than there is room for. */
  readonly weigh: (bytes: number) => WalcastError | undefined;
  /** Nobody follows any more, or nothing follows any more. */
  readonly onOver: () => void;
}

export class Watch {
  private readonly reader: Reader;
  private readonly options: WatchOptions;
  private readonly followings = new Set<Following>();
  private isReady = false;
  private over = false;
  private weighed = 0;
  /** Counts what changed the rows: what was made of them before holds as long as it is the same. */
  version = 0;

  constructor(options: WatchOptions) {
    this.options = options;
    this.reader = new Reader(options.hub, options.resolve, {
      onLoading: () => void this.isTooLarge(),
      onReady: () => {
        this.isReady = true;
        this.stateChanged();
      },
      onCommit: (commit) => this.changed(commit),
      onAltered: () => this.stateChanged(),
      onOver: (reason) => this.end(reason),
    });
    this.reader.start();
  }

  /** It has no rows any more. */
  get isOver(): boolean {
    return this.over;
  }

  /** Text form of the commit's end that the rows are at. */
  get position(): string {
    return formatLsn(this.reader.position);
  }

  /** Of its shapes. */
  get indexes(): readonly number[] {
    return [...this.options.resolve.keys()];
  }

  rows(index: number): Iterable<Row> {
    return this.reader.rows(index).values();
  }

  asJson(index: number): RowAsJson {
    return jsonOf(this.shape(index));
  }

  shape(index: number): Shape {
    return this.reader.shape(index);
  }

  /** Resolves when nothing follows: with why, or with undefined when the signal said so. */
  follow(follower: Follower, signal: AbortSignal): Promise<WalcastError | undefined> {
    return new Promise((resolve) => {
      if (signal.aborted) return this.leave(undefined, resolve);
      const aborted = (): void => this.leave(following, resolve);
      const end = (reason: WalcastError | undefined): void => {
        signal.removeEventListener("abort", aborted);
        resolve(reason);
      };
      const following: Following = { follower, end };
      signal.addEventListener("abort", aborted, { once: true });
      this.followings.add(following);
      if (this.isReady) follower.onState(this);
    });
  }

  /** Everybody begins again, or is told why not. */
  end(reason: WalcastError): void {
    if (this.over) return;
    this.close();
    for (const { end } of this.followings) end(reason);
    this.followings.clear();
  }

  private leave(following: Following | undefined, resolve: (reason: undefined) => void): void {
    if (following) this.followings.delete(following);
    resolve(undefined);
    if (this.followings.size === 0) this.close();
  }

  private close(): void {
    if (this.over) return;
    this.over = true;
    this.reader.close();
    this.options.weigh(-this.weighed);
    this.options.onOver();
  }

  private stateChanged(): void {
    this.version++;
    if (this.isTooLarge()) return;
    for (const { follower } of [...this.followings]) follower.onState(this);
  }

  private changed(commit: CommitChanges): void {
    this.version++;
    if (this.isTooLarge()) return;
    for (const { follower } of [...this.followings]) follower.onCommit(this, commit);
  }

  private isTooLarge(): boolean {
    if (this.over) return true;
    const { bytes } = this.reader;
    const refusal = this.options.weigh(bytes - this.weighed);
    this.weighed = bytes;
    if (refusal) this.end(refusal);
    return refusal !== undefined;
  }
}
