/**
 * Whose rows a replica that lasts holds: one user's of one server. It is opened for nobody else: what it holds of another is
 * purged before the first query, also offline. So the token is asked for before anything is shown, unless the application
 * says who is there (`subject`).
 *
 * While another user's token has been given and the server has not yet said what it allows, the replica is nobody's: a
 * process that ends then leaves rows that nobody will see.
 */
import type { Token } from "./renewal.ts";

export interface OwnerOptions {
  readonly url: string;
  readonly token?: Token | undefined;
  readonly subject?: string | undefined;
}

export class Owner {
  private readonly options: OwnerOptions;
  private readonly changed: (owner: string | undefined) => void;
  private owner: string | undefined;
  private next: string | undefined;
  /** Asked for before the first connection, which needs not ask again. */
  private asked: { readonly token: string | undefined } | undefined;
  /** A connection that came first has asked for it. */
  private asking: { readonly source: Token; readonly token: string | Promise<string> } | undefined;
  private source: Token | undefined;

  /** `changed`: from now on the replica is that one's, or nobody's. */
  constructor(options: OwnerOptions, changed: (owner: string | undefined) => void) {
    this.options = options;
    this.changed = changed;
    this.source = options.token;
  }

  /** Rejects where the token function does. */
  async find(): Promise<string> {
    if (typeof this.source !== "function" || this.options.subject !== undefined)
      return (this.owner = this.ownerBy(typeof this.source === "string" ? this.source : undefined));
    const { source, asking } = this;
    this.asking = undefined;
    const isOurs = asking?.source !== source;
    const token = await (isOurs ? source() : asking.token);
    if (this.source !== source) return this.find();
    if (isOurs) this.asked = { token };
    return (this.owner = this.ownerBy(token));
  }

  /** The same token or token function, and every one that the connection gets is seen before the server has it. */
  watch(token: Token): Token;
  watch(token: Token | undefined): Token | undefined;
  watch(token: Token | undefined): Token | undefined {
    this.source = token;
    this.asked = undefined;
    if (typeof token === "string") this.saw(token);
    if (typeof token !== "function") return token;
    return async () => {
      const { asked } = this;
      this.asked = undefined;
      const given = asked && this.source === token ? asked.token : await this.ask(token);
      if (this.source === token) this.saw(given);
      // Where there is none there is none.
      return given as string;
    };
  }

  /** The server has said what the newest token allows, and what it does not allow is on its way out. */
  settled(): void {
    if (this.next === undefined) return;
    this.owner = this.next;
    this.next = undefined;
    this.changed(this.owner);
  }

  private ask(source: () => string | Promise<string>): string | Promise<string> {
    const token = source();
    if (this.owner === undefined) this.asking = { source, token };
    return token;
  }

  private saw(token: string | undefined): void {
    // Before it was found out there was nothing to show.
    if (this.owner === undefined && this.next === undefined) return;
    const owner = this.ownerBy(token);
    if (owner === (this.next ?? this.owner)) return;
    if (this.next === undefined) this.changed(undefined);
    this.next = owner;
  }

  private ownerBy(token: string | undefined): string {
    const { protocol, host, pathname } = new URL(this.options.url);
    const { subject } = this.options;
    const who = subject === undefined ? whoHas(token) : { subject };
    return JSON.stringify([`${protocol.replace(/^http/, "ws")}//${host}${pathname}`, who]);
  }
}

/** What a JWT says about itself, unverified: the server sees to that. One that names nobody is told by what else it claims. https://www.rfc-editor.org/rfc/rfc7519#section-4.1 */
export function whoHas(token: string | undefined): object | null {
  if (token === undefined) return null;
  try {
    const payload = atob(token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(payload, (character) => character.charCodeAt(0));
    const { iss, sub, ...others } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    if (typeof sub === "string") return { iss, sub };
    const lasting = Object.entries(others).filter(([name]) => !renewed.has(name));
    return { iss, claims: fnv1a(JSON.stringify(lasting)) };
  } catch {
    // It is no JWT.
  }
  return { token: fnv1a(token) };
}

/** Claims that are others in each of one user's tokens. */
const renewed = new Set(["exp", "iat", "nbf", "jti"]);

/**
 * A token that is no JWT stands for itself; it is not kept where the rows are. 64 bits tell one person's tokens from
 * another's, and of a secret that is any good they say nothing of use. http://www.isthe.com/chongo/tech/comp/fnv/
 */
function fnv1a(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16);
}
