/** The tokens of one client: what it may read by the last one, and what by the next one that it asks for. */
import type { Random } from "../splice/random.ts";
import type { Access } from "./filter.ts";
import { tokenFor } from "./rules.ts";

/** Some end while they are in use. */
const shortLifeSeconds = 2;
const lifeSeconds = 3_600;

export class Tokens {
  /** What the token says that was handed out last. */
  access: Access;
  /** What the next one will say. */
  wanted: Access;
  /** Times that a token was handed out which says something else than the one before. */
  changes = 0;
  private readonly random: Random;
  private readonly handedOut: (access: Access) => void;

  constructor(access: Access, random: Random, handedOut: (access: Access) => void) {
    this.access = this.wanted = access;
    this.random = random;
    this.handedOut = handedOut;
  }

  /** What a client is given for `token`. */
  readonly next = (): Promise<string> => {
    if (String(this.access) !== String(this.wanted)) this.changes++;
    this.access = this.wanted;
    this.handedOut(this.access);
    return tokenFor(this.access, this.random.chance(0.08) ? shortLifeSeconds : lifeSeconds);
  };
}
