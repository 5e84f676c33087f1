/**
 * Whose connection it is: what the token that was verified last says, until it ends. A connection never has more rights than
 * its newest token, and none after its last one's time.
 */
import type { Logger } from "pino";
import type { Auth, Authenticator } from "../authenticate.ts";
import { closeCodes, WalcastError } from "../protocol.ts";
import type { Tally } from "./bounds.ts";

export interface CredentialsOptions {
  readonly authenticator: Authenticator;
  /** How many connections each has, by the claim `sub`. */
  readonly users: Tally;
  readonly log: Logger;
  /** Ends the connection. */
  readonly refuse: (error: WalcastError, closeCode: number) => void;
}

// setTimeout counts to 2^31 ms; a connection that old is looked at again.
const timerMsMax = 2 ** 31 - 1;

export class Credentials {
  auth: Auth = { claims: {}, scopes: [] };
  private readonly options: CredentialsOptions;
  private timer: NodeJS.Timeout | undefined;
  private over = false;
  private user: string | undefined;
  /** The user has one connection less. */
  private release: () => void = () => {};

  constructor(options: CredentialsOptions) {
    this.options = options;
  }

  /** Whether the token holds and the connection is still there; where it does not hold, the connection was ended. */
  async take(token: string | undefined): Promise<boolean> {
    try {
      const auth = await this.options.authenticator.verify(token);
      if (this.over) return false;
      this.auth = auth;
      this.watch();
      this.count();
      return true;
    } catch (error) {
      if (!this.over) this.refused(error, token);
      return false;
    }
  }

  /** As in a `welcome`. */
  get expiry(): { expiresInMs?: number } {
    const { expiresAt } = this.auth;
    return expiresAt === undefined ? {} : { expiresInMs: Math.max(0, Math.round(expiresAt - Date.now())) };
  }

  /** The connection is gone. */
  end(): void {
    this.over = true;
    this.uncount();
    clearTimeout(this.timer);
  }

  private count(): void {
    const user = userOf(this.auth);
    if (user === this.user) return;
    const { users } = this.options;
    this.uncount();
    this.user = user;
    if (user === undefined) return;
    const release = users.take(user);
    if (!release)
      throw new WalcastError("too_many", `greet: expected at most ${users.max} connections of one user`, {
        hint: "share a connection between tabs, or raise limits.connectionsPerUser",
      });
    this.release = release;
  }

  private uncount(): void {
    this.release();
    this.release = () => {};
  }

  private watch(): void {
    clearTimeout(this.timer);
    const { expiresInMs } = this.expiry;
    if (expiresInMs === undefined) return;
    this.timer = setTimeout(
      () => (this.expiry.expiresInMs === 0 ? this.expired() : this.watch()),
      Math.min(expiresInMs, timerMsMax),
    );
  }

  private expired(): void {
    this.options.refuse(new WalcastError("token_expired", "the token has expired"), closeCodes.unauthenticated);
  }

  private refused(error: unknown, token = ""): void {
    const { log, refuse } = this.options;
    const refusal =
      error instanceof WalcastError
        ? error
        : new WalcastError("unauthenticated", "verify a token: the config's auth failed", { cause: error });
    if (refusal.cause !== undefined) log.info({ reason: withoutToken(refusal, token) }, "a token was refused");
    refuse(refusal, closeCodeOf(refusal));
  }
}

/** Undefined where the token names nobody. */
export function userOf({ claims: { sub } }: Auth): string | undefined {
  return typeof sub === "string" || typeof sub === "number" ? String(sub) : undefined;
}

function closeCodeOf({ code }: WalcastError): number {
  if (code === "auth_unavailable") return closeCodes.goingAway;
  return code === "too_many" ? closeCodes.tooMany : closeCodes.unauthenticated;
}

/** Whoever wrote the config has to hear of what failed in it; but an error of theirs may repeat what it was given. */
function withoutToken({ message, cause }: WalcastError, token: string): string {
  const reason = `${message}: ${cause instanceof Error ? `${cause.name}: ${cause.message}` : "no reason was given"}`;
  return token === "" ? reason : reason.replaceAll(token, "…");
}
