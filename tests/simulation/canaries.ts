/** Looks for words in the bytes that a connection brings, wherever these are cut. */
export class Canaries {
  /** What was found that may not be there. */
  readonly found: string[] = [];
  /** Looked at for something. */
  bytes = 0;

  /** For the bytes of one connection, in order. */
  lookFor(words: readonly string[], whose: string): (bytes: Buffer) => void {
    const overlap = Math.max(0, ...words.map((word) => word.length - 1));
    let rest = Buffer.alloc(0);
    return (bytes) => {
      if (words.length === 0) return;
      this.bytes += bytes.length;
      const joined = Buffer.concat([rest, bytes]);
      for (const word of words) if (joined.includes(word)) this.note(whose, word, joined);
      rest = joined.subarray(Math.max(0, joined.length - overlap));
    };
  }

  private note(whose: string, word: string, bytes: Buffer): void {
    const at = bytes.indexOf(word);
    const around = bytes.subarray(Math.max(0, at - 150), at + 50).toString("latin1");
    this.found.push(`${whose} was sent ${word}, which is not for it: ${JSON.stringify(around)}`);
  }
}
