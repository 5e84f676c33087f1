/**
 * The text of an array, as Postgres prints it and as it is given in a constant: '{1,NULL,"a b"}', '[0:1]={a,b}'.
 * https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
 */

export interface ArrayText {
  /** One for each dimension; none of an empty array. */
  readonly bounds: readonly Bound[];
  /** In the order in which they are written, whatever the dimensions; null for NULL. */
  readonly elements: readonly (Buffer | null)[];
}

export interface Bound {
  readonly lower: number;
  readonly length: number;
}

/** undefined where the text is not that of an array. */
export function parseArray(text: Buffer): ArrayText | undefined {
  return new ArrayReader(text).read();
}

/** As Postgres prints it. */
export function printArray({ bounds, elements }: ArrayText): string {
  const isPlain = bounds.every(({ lower }) => lower === 1);
  const prefix = isPlain ? "" : bounds.map(({ lower, length }) => `[${lower}:${lower + length - 1}]`).join("") + "=";
  let texts = elements.map(printElement);
  for (const { length } of bounds.toReversed()) texts = grouped(texts, length);
  return prefix + (texts[0] ?? "{}");
}

/** A list is an array of one dimension. */
export function printList(elements: readonly (string | null)[]): string {
  const bytes = elements.map((element) => (element === null ? null : Buffer.from(element)));
  return printArray({ bounds: boundsOf(elements.length), elements: bytes });
}

export function boundsOf(length: number): readonly Bound[] {
  return length === 0 ? [] : [{ lower: 1, length }];
}

function grouped(texts: readonly string[], length: number): string[] {
  const groups: string[] = [];
  for (let at = 0; at < texts.length; at += length) groups.push(`{${texts.slice(at, at + length).join(",")}}`);
  return groups;
}

function printElement(element: Buffer | null): string {
  if (element === null) return "NULL";
  const text = element.toString();
  const isBare = text !== "" && !/[ \t\n\v\f\r"\\{},]/.test(text) && text.toUpperCase() !== "NULL";
  return isBare ? text : `"${text.replace(/["\\]/g, "\\$&")}"`;
}

const dimensionsMax = 6;
const lowerMin = -(2 ** 31);
/** One more has to be a number as well. */
const upperMax = 2 ** 31 - 2;

class ArrayReader {
  private readonly text: Buffer;
  private at = 0;
  private readonly elements: (Buffer | null)[] = [];
  /** How many parts each dimension has, from the first part that is complete. */
  private readonly lengths: number[] = [];
  private depth: number | undefined;

  constructor(text: Buffer) {
    this.text = text;
  }

  read(): ArrayText | undefined {
    this.skipSpace();
    const bounds = this.text[this.at] === BRACKET ? this.readBounds() : [];
    if (!bounds || !this.readPart(0)) return undefined;
    this.skipSpace();
    if (this.at !== this.text.length) return undefined;
    if (bounds.length === 0)
      return { bounds: this.lengths.map((length) => ({ lower: 1, length })), elements: this.elements };
    const isMeant =
      bounds.length === this.lengths.length && bounds.every(({ length }, i) => length === this.lengths[i]);
    return isMeant ? { bounds, elements: this.elements } : undefined;
  }

  /** [1:2][0:3]= */
  private readBounds(): Bound[] | undefined {
    const end = this.text.indexOf("=", this.at);
    const written = this.text.toString("latin1", this.at, Math.max(end, this.at));
    if (!/^(?:\[-?\d{1,10}:-?\d{1,10}\]){1,6}$/.test(written)) return undefined;
    this.at = end + 1;
    const bounds = [...written.matchAll(/(-?\d+):(-?\d+)/g)].map(([, lower, upper]) => ({
      lower: Number(lower),
      length: Number(upper) - Number(lower) + 1,
    }));
    const isPossible = bounds.every(
      ({ lower, length }) => lower >= lowerMin && length > 0 && lower + length - 1 <= upperMax,
    );
    return isPossible ? bounds : undefined;
  }

  /** From a brace to the one that closes it. */
  private readPart(depth: number): boolean {
    if (this.text[this.at] !== OPEN || depth === dimensionsMax) return false;
    this.at++;
    this.skipSpace();
    if (depth === 0 && this.text[this.at] === CLOSE) return this.at++ > 0;
    let count = 0;
    for (let more = true; more; count++) {
      if (!this.readItem(depth)) return false;
      this.skipSpace();
      const next = this.text[this.at++];
      if (next !== COMMA && next !== CLOSE) return false;
      more = next === COMMA;
    }
    return (this.lengths[depth] ??= count) === count;
  }

  private readItem(depth: number): boolean {
    this.skipSpace();
    if (this.text[this.at] === OPEN) return this.readPart(depth + 1);
    if ((this.depth ??= depth) !== depth) return false;
    // The first element is reached before any part is complete: what is filled in later goes from the inside out.
    return this.text[this.at] === QUOTE ? this.readQuoted() : this.readBare();
  }

  private readQuoted(): boolean {
    const start = ++this.at;
    let escapes = 0;
    for (; this.text[this.at] !== QUOTE; this.at++) {
      if (this.text[this.at] === BACKSLASH) [this.at, escapes] = [this.at + 1, escapes + 1];
      if (this.at >= this.text.length) return false;
    }
    this.elements.push(unescaped(this.text.subarray(start, this.at++), escapes));
    return true;
  }

  /** White space at its end does not belong to it, unless it is escaped. */
  private readBare(): boolean {
    const start = this.at;
    let [end, escapes] = [start, 0];
    for (; !endsBare(this.text[this.at]); this.at++) {
      if (this.at >= this.text.length) return false;
      if (this.text[this.at] === BACKSLASH) [this.at, escapes] = [this.at + 1, escapes + 1];
      else if (isSpace(this.text[this.at])) continue;
      end = this.at + 1;
    }
    const bytes = this.text.subarray(start, end);
    const isNull = bytes.length === 4 && bytes.toString("latin1").toUpperCase() === "NULL";
    this.elements.push(isNull ? null : unescaped(bytes, escapes));
    return end > start && end <= this.text.length;
  }

  private skipSpace(): void {
    while (isSpace(this.text[this.at])) this.at++;
  }
}

function unescaped(bytes: Buffer, escapes: number): Buffer {
  if (escapes === 0) return bytes;
  const plain = Buffer.allocUnsafe(bytes.length - escapes);
  for (let from = 0, to = 0; to < plain.length; from++, to++) {
    if (bytes[from] === BACKSLASH) from++;
    plain[to] = bytes[from]!;
  }
  return plain;
}

/** None of these can stand in a bare element. */
function endsBare(byte: number | undefined): boolean {
  return byte === COMMA || byte === CLOSE || byte === QUOTE || byte === OPEN;
}

/** Not all that Unicode calls a space. */
function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || (byte !== undefined && byte >= 0x09 && byte <= 0x0d);
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const OPEN = 0x7b;
const CLOSE = 0x7d;
