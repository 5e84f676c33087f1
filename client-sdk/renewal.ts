/**
 * The token of an open connection: the next one is asked for before the one in use expires, and told to the server on the
 * connection; so is one that the application sets. The server is told one at a time.
 *
 *     none ─expires─▶ planned ─due─▶ asking ─got─▶ sent ─answered─▶ none, or asking again
 *       └────────────────┴─changed─────▲ │ └─failed, or the same token─▶ planned
 *                                        └─failed with a token that was set─▶ none, the connection is lost
 */
import type { Edge } from "./edge.ts";

export type Token = string | (() => string | Promise<string>);

/** `why`: it runs out, or the application has set another one. */
type Asking = { readonly kind: "asking"; readonly why: "expires" | "set" };
type RenewalState =
  | { readonly kind: "none" }
  | { readonly kind: "planned" }
  | Asking
  /** `again`: another one was set meanwhile. */
  | { readonly kind: "sent"; readonly again: boolean };

export interface RenewalHooks {
  /** It is sent to the server, which says `authenticated` or closes. */
  send(token: string): void;
  /** The server took it. `isNewest`: there is no newer one. */
  renewed(isNewest: boolean): void;
  /** The application set a token function that gives none. */
  failed(cause: unknown): void;
}

// Time for a slow network to fetch a token, unless the token lives so shortly that this would be most of its life.
const RENEW_BEFORE_MS = 30_000;
const RENEW_BEFORE_SHARE = 0.2;
const RENEW_MS_MIN = 100;
// A function that had no newer token is asked again when half of the time is left, but not in haste.
const ASK_AGAIN_MS_MIN = 1000;

export class Renewal {
  private readonly edge: Edge;
  private readonly hooks: RenewalHooks;
  private token: Token | undefined;
  private readonly timeoutMs: number;
  private state: RenewalState = { kind: "none" };
  private stopTimer: () => void = () => {};
  private expiresAtMs = Infinity;
  /** The last one that the server was told. */
  private told: string | undefined;

  constructor(token: Token | undefined, edge: Edge, timeoutMs: number, hooks: RenewalHooks) {
    this.token = token;
    this.edge = edge;
    this.timeoutMs = timeoutMs;
    this.hooks = hooks;
  }

  /** Whether another one can be had when it expires. */
  get isRenewable(): boolean {
    return typeof this.token === "function";
  }

  /** May reject, or take for ever. */
  async current(): Promise<string | undefined> {
    return typeof this.token === "function" ? this.token() : this.token;
  }

  /** For the connections to come. Returns whether it is another one. */
  set(token: Token): boolean {
    const isAnother = typeof token === "function" || token !== this.token;
    this.token = token;
    return isAnother;
  }

  /** The one that was set is for the connection that is open, too. */
  exchange(): void {
    if (this.state.kind === "sent") this.enter({ kind: "sent", again: true });
    else this.ask("set");
  }

  /** The server took `token`, and says how long it lasts. */
  began(token: string | undefined, expiresInMs: number | undefined): void {
    this.told = token;
    this.plan(expiresInMs);
  }

  /** The server took the one that was sent. */
  answered(expiresInMs: number | undefined): void {
    if (this.state.kind !== "sent") return;
    const { again } = this.state;
    this.enter({ kind: "none" });
    this.hooks.renewed(!again);
    if (again) this.ask("set");
    else this.plan(expiresInMs);
  }

  /** The connection is over. */
  end(): void {
    this.enter({ kind: "none" });
    this.expiresAtMs = Infinity;
  }

  private plan(expiresInMs: number | undefined): void {
    if (!this.isRenewable || expiresInMs === undefined || expiresInMs < RENEW_MS_MIN) return this.end();
    this.expiresAtMs = this.edge.now() + expiresInMs;
    this.planIn(Math.max(expiresInMs - RENEW_BEFORE_MS, expiresInMs * (1 - RENEW_BEFORE_SHARE)));
  }

  private planAgain(): void {
    const waitMs = (this.expiresAtMs - this.edge.now()) / 2;
    if (waitMs >= ASK_AGAIN_MS_MIN) this.planIn(waitMs);
    // It runs out, and the server closes: the next connection asks for one, as slowly as it must.
    else this.enter({ kind: "none" });
  }

  private planIn(ms: number): void {
    this.enter({ kind: "planned" });
    this.stopTimer = this.edge.after(ms, () => this.ask("expires"));
  }

  private ask(why: Asking["why"]): void {
    const asking: Asking = { kind: "asking", why };
    this.enter(asking);
    const late = (): void => this.failed(asking, new Error(`no answer within ${this.timeoutMs} ms`));
    this.stopTimer = this.edge.after(this.timeoutMs, late);
    this.current().then(
      (token) => this.got(asking, token),
      (error: unknown) => this.failed(asking, error),
    );
  }

  private got(asking: Asking, token: string | undefined): void {
    if (this.state !== asking) return;
    if (token === undefined) return this.failed(asking, new Error("there is none"));
    if (asking.why === "expires" && token === this.told) return this.planAgain();
    this.told = token;
    this.enter({ kind: "sent", again: false });
    this.hooks.send(token);
  }

  private failed(asking: Asking, cause: unknown): void {
    if (this.state !== asking) return;
    if (asking.why === "expires") return this.planAgain();
    this.enter({ kind: "none" });
    this.hooks.failed(cause);
  }

  private enter(state: RenewalState): void {
    this.stopTimer();
    this.stopTimer = () => {};
    this.state = state;
  }
}
