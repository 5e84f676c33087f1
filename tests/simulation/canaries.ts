/**
 * Looks for words in the bytes that a connection brings to a client, wherever these are cut. Which words may not be there
 * depends on its token, and on an open connection on the newest of which the server has said that it has taken it.
 */
import { longMark, regions } from "./columns.ts";
import type { Access } from "./filter.ts";
import type { Taste } from "./predicates.ts";

const taken = `"kind":"authenticated"`;

export class Canaries {
  /** What was found that may not be there. */
  readonly found: string[] = [];
  /** Looked at for something. */
  bytes = 0;

  /** For the bytes of one connection, in order. `access`: by the token that was handed out last. */
  watch(whose: string, taste: Taste, access: () => Access): (bytes: Buffer) => void {
    let possible = [access()];
    let rest = Buffer.alloc(0);
    const look = (bytes: Buffer): void => {
      const joined = Buffer.concat([rest, bytes]);
      rest = joined.subarray(-overlap);
      const words = forbidden(possible.flat(), taste);
      if (words.length > 0) this.bytes += bytes.length;
      for (const word of words) if (joined.includes(word)) this.note(whose, word, joined);
    };
    return (bytes) => {
      if (access() !== possible.at(-1)) possible.push(access());
      const end = bytes.indexOf(taken) + taken.length;
      if (end < taken.length) return look(bytes);
      look(bytes.subarray(0, end));
      possible = [access()];
      rest = Buffer.alloc(0);
      look(bytes.subarray(end));
    };
  }

  private note(whose: string, word: string, bytes: Buffer): void {
    const at = bytes.indexOf(word);
    const around = bytes.subarray(Math.max(0, at - 150), at + 50).toString("latin1");
    this.found.push(`${whose} was sent ${word}, which is not for it: ${JSON.stringify(around)}`);
  }
}

/** One less than the longest word. */
const overlap = Math.max(...[...regions, longMark].map(({ length }) => length)) - 1;

function forbidden(allowed: Access, taste: Taste): string[] {
  return [...regions.filter((region) => !allowed.includes(region)), ...(taste === "nothing long" ? [longMark] : [])];
}
