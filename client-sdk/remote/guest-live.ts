/** A live query that runs in the host, as a page sees it. */
import { errorFromJson, WalcastError } from "../../engine/protocol.ts";
import { call, Listeners } from "../listeners.ts";
import type { Delta, LiveQuery, LiveStatus } from "../live.ts";
import type { Row } from "../row.ts";
import type { Handle } from "./link.ts";
import type { LiveEvent } from "./messages.ts";
import { applyPatch, type Changes, differenceOf } from "./patch.ts";
import { Readiness } from "./readiness.ts";

type Callback = (rows: readonly Row[], delta: Delta<Row>) => void;

interface Listener {
  readonly callback: Callback;
  wasCalled: boolean;
}

export class GuestLive implements LiveQuery<Row>, Handle<LiveEvent> {
  rows: readonly Row[] = [];
  status: LiveStatus = "loading";
  error: WalcastError | undefined;
  private position = "0/0";
  private hasRows = false;
  private readonly isReady = new Readiness<readonly Row[]>();
  private readonly listeners = new Set<Listener>();
  private readonly changeListeners = new Listeners<[]>();
  private readonly isBehind: () => boolean;
  private readonly end: () => Promise<void>;
  /** What the host has. */
  private held: { readonly rows: readonly Row[]; readonly position: string } | undefined;

  constructor(isBehind: () => boolean, open: (live: GuestLive) => () => Promise<void>) {
    this.isBehind = isBehind;
    this.end = open(this);
  }

  get ready(): Promise<readonly Row[]> {
    return this.isReady.promise;
  }

  subscribe(callback: Callback): () => void {
    const listener: Listener = { callback, wasCalled: false };
    this.listeners.add(listener);
    // Not before the caller has what we return.
    queueMicrotask(() => this.callFirst(listener));
    return () => void this.listeners.delete(listener);
  }

  onChange(listener: () => void): () => void {
    return this.changeListeners.add(listener);
  }

  close(): void {
    this.abandon(new WalcastError("closed", "wait for a live query: it was closed"));
    this.end().catch(() => {});
  }

  abandon(error: WalcastError): void {
    this.isReady.reject(error);
    this.listeners.clear();
    this.changeListeners.clear();
  }

  apply(event: LiveEvent): () => void {
    switch (event.kind) {
      case "state":
        return this.setStatus(event.status, event.error && errorFromJson(event.error));
      case "rows":
        return this.hold(event.position, event.rows);
      case "patch":
        return this.held
          ? this.hold(event.position, applyPatch(this.held.rows, event.patch).rows)
          : this.show(event.position, applyPatch(this.rows, event.patch));
    }
  }

  /** The host is where the one before was. Returns what tells the application. */
  caughtUp(): () => void {
    const { held } = this;
    if (!held) return () => {};
    this.held = undefined;
    const { rows, position } = held;
    const all = { rows, changes: { inserted: rows, updated: [], deleted: [] } };
    return this.show(position, this.hasRows ? differenceOf(this.rows, rows) : all);
  }

  failed(error: WalcastError): () => void {
    return this.setStatus("error", error);
  }

  again(): undefined {
    this.isReady.begin();
  }

  /** What is shown does not go back, to what a host has that took over with less. */
  private hold(position: string, rows: readonly Row[]): () => void {
    this.held = { position, rows };
    return this.hasRows && this.isBehind() ? () => {} : this.caughtUp();
  }

  /** Once ready it stays so while the next host gets there. */
  private setStatus(status: LiveStatus, error: WalcastError | undefined): () => void {
    if (status === "loading" && this.hasRows) return () => {};
    this.status = status;
    this.error = error;
    if (error) this.isReady.reject(error);
    return () => this.changeListeners.emit();
  }

  private show(position: string, difference: { rows: readonly Row[]; changes: Changes } | undefined): () => void {
    const isDifferent = difference !== undefined || this.status !== "ready";
    if (difference) this.rows = difference.rows;
    this.position = position;
    this.hasRows = true;
    this.status = "ready";
    this.error = undefined;
    this.isReady.resolve(this.rows);
    const { rows } = this;
    return () => {
      if (difference) this.tell(rows, { position, ...difference.changes });
      if (isDifferent) this.changeListeners.emit();
    };
  }

  private tell(rows: readonly Row[], delta: Delta<Row>): void {
    for (const listener of [...this.listeners]) {
      if (listener.wasCalled) call(listener.callback, [rows, delta]);
      else this.callFirst(listener);
    }
  }

  private callFirst(listener: Listener): void {
    if (!this.hasRows || listener.wasCalled || !this.listeners.has(listener)) return;
    listener.wasCalled = true;
    call(listener.callback, [this.rows, { position: this.position, inserted: this.rows, updated: [], deleted: [] }]);
  }
}
