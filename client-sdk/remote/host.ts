/**
 * Serves any number of guests from one core.
 *
 *     guest ◀─port─▶ Session ─▶ Sources ─▶ core
 *                       └─▶ Transactions ─▶ core
 *
 * All guests are pages of one user: who they are is settled before they get here.
 */
import { WalcastError } from "../../engine/protocol.ts";
import { Deferred } from "../listeners.ts";
import type { Port, ToGuest, ToHost } from "./messages.ts";
import { Session } from "./session.ts";
import { type Core, Sources } from "./sources.ts";

/** What `client.inspect()` of a guest gives is at most this old. */
const INSPECT_MS = 100;
/** A page that is frozen never answers; another one may. */
const ANSWER_MS = 3_000;

export interface HostOptions {
  /** There is no replica any more: the guests have to find another host. */
  readonly failed?: (error: WalcastError) => void;
  /** How long a guest may hold a transaction open without a word. */
  readonly silenceMs?: number;
}

export class Host {
  private readonly silenceMs: number | undefined;
  private readonly core: Core;
  private readonly sources: Sources;
  /** The one that was heard last is the last. */
  private readonly sessions = new Set<Session>();
  private someoneCame = new Deferred<void>();
  private inspecting: ReturnType<typeof setTimeout> | undefined;
  private isClosed = false;

  /** The core asks for its token through the function that it is created with. */
  constructor(createCore: (token: () => Promise<string>) => Core, { failed = () => {}, silenceMs }: HostOptions = {}) {
    this.silenceMs = silenceMs;
    this.core = createCore(() => this.askToken() as Promise<string>);
    this.sources = new Sources(this.core);
    this.core.onStatus(() => this.changed());
    this.core.onPosition(() => this.changed());
    this.core.onFailure((error) => {
      this.fail(error);
      failed(error);
    });
  }

  /** Returns what is to be called when the guest is gone without a word. */
  addGuest(port: Port<ToGuest, ToHost>): () => void {
    const session = new Session(port, this.core, this.sources, {
      heard: (heard) => this.heard(heard),
      tokenChanged: (changed) => this.tokenChanged(changed),
      left: (left) => this.remove(left),
      silenceMs: this.silenceMs,
    });
    this.sessions.add(session);
    this.someoneCame.resolve();
    this.inspectSoon();
    return () => this.remove(session);
  }

  /** Resolves when what is shown outlives this process. */
  flush(): Promise<void> {
    return this.core.flush();
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.inspecting);
    for (const session of this.sessions) session.close();
    this.sessions.clear();
    this.sources.close();
    this.someoneCame.reject(new WalcastError("closed", "ask for a token: the replica was closed"));
    await this.core.close();
  }

  private fail(error: WalcastError): void {
    this.isClosed = true;
    clearTimeout(this.inspecting);
    for (const session of this.sessions) session.fail(error);
    this.sessions.clear();
  }

  private changed(): void {
    for (const session of this.sessions) session.changed();
    this.inspectSoon();
  }

  private heard(session: Session): void {
    if (this.sessions.delete(session)) this.sessions.add(session);
    this.inspectSoon();
  }

  private remove(session: Session): void {
    if (!this.sessions.delete(session)) return;
    session.close();
    if (this.sessions.size === 0 && !this.isClosed) this.someoneCame = new Deferred();
  }

  private inspectSoon(): void {
    if (this.isClosed) return;
    this.inspecting ??= setTimeout(() => {
      this.inspecting = undefined;
      const inspection = this.core.inspection;
      for (const session of this.sessions) session.inspected(inspection);
    }, INSPECT_MS);
  }

  // ── Tokens: their function lives in the pages ──────────────────────────────────────────────────────────────────────

  private tokenChanged(session: Session): void {
    this.heard(session);
    this.core.setToken(() => this.askToken() as Promise<string>);
  }

  /** Of the page that was heard last; of another one where it does not answer. Undefined where the pages have none. */
  private async askToken(): Promise<string | undefined> {
    for (;;) {
      await this.someoneCame.promise;
      for (const session of [...this.sessions].reverse()) {
        const answer = await this.askTokenOf(session);
        if (answer) return answer.token;
      }
      if (this.sessions.size > 0) throw new WalcastError("connection_lost", "ask for a token: no page answers");
    }
  }

  private async askTokenOf(session: Session): Promise<{ token: string | undefined } | undefined> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tooLong = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), ANSWER_MS);
    });
    const answer = session.askToken().then(
      (token) => ({ token }),
      (error: unknown) => {
        if (error instanceof WalcastError && error.code === "closed") return undefined;
        throw error;
      },
    );
    try {
      return await Promise.race([answer, tooLong]);
    } finally {
      clearTimeout(timer);
    }
  }
}
