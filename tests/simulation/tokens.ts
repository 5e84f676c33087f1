/**
 * The tokens of one client: what it may read now, what it will may read when it asks for a token again, and what it may have
 * been shown since it was last told that all is as its token says.
 */
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
  private readonly changed: (access: Access) => void;

  constructor(access: Access, random: Random, changed: (access: Access) => void) {
    this.access = this.wanted = access;
    this.random = random;
    this.changed = changed;
  }

  /** What a client is given for `token`. */
  readonly next = (): Promise<string> => {
    if (String(this.access) !== String(this.wanted)) {
      this.access = this.wanted;
      this.changes++;
      this.changed(this.access);
    }
    return tokenFor(this.access, this.random.chance(0.08) ? shortLifeSeconds : lifeSeconds);
  };
}
