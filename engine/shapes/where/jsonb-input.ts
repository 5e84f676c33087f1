/**
 * A jsonb constant as Postgres would print it: each key once, with its last value, shorter keys first; numbers written out;
 * strings with no more escapes than they need.
 * https://www.postgresql.org/docs/current/datatype-json.html
 */
import { WalcastError } from "../../errors.ts";
import { canStandInSql } from "../name.ts";
import { numericScale, parseNumeric } from "./number.ts";
import { numericOf, textOf, withScale } from "./numeric.ts";

/** undefined where the text is no JSON, or such as Postgres does not keep. */
export function parseJsonb(text: string): string | undefined {
  const reader = new JsonReader(text);
  const value = reader.value(0);
  if (value !== undefined && value.length > printedLengthMax)
    throw new WalcastError(
      "where_unsupported",
      `read a jsonb constant: expected at most ${printedLengthMax} characters once it is written out`,
    );
  return value !== undefined && reader.isAtEnd() ? value : undefined;
}

const depthMax = 200;
/** A number such as 1e999 takes a thousand. */
const printedLengthMax = 100_000;
const tokens = {
  space: /[ \t\n\r]*/y,
  mark: /[{}[\],:]/y,
  string: /"(?:[^"\\\p{Cc}]|[\u007f-\u009f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy,
  number: /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y,
  word: /true|false|null/y,
};

class JsonReader {
  private readonly text: string;
  private at = 0;

  constructor(text: string) {
    this.text = text;
  }

  isAtEnd(): boolean {
    this.take("space");
    return this.at === this.text.length;
  }

  /** Its printed form. */
  value(depth: number): string | undefined {
    if (depth > depthMax)
      throw new WalcastError("where_unsupported", `read a jsonb constant: expected at most ${depthMax} levels`);
    this.take("space");
    switch (this.text[this.at]) {
      case "{":
        return this.object(depth);
      case "[":
        return this.array(depth);
      case '"':
        return this.string();
      default:
        return this.take("word") ?? this.number();
    }
  }

  private object(depth: number): string | undefined {
    const members = new Map<string, string>();
    const isComplete = this.list("}", () => {
      const key = this.string();
      if (key === undefined || this.mark() !== ":") return false;
      const value = this.value(depth + 1);
      if (value !== undefined) members.set(key, value);
      return value !== undefined;
    });
    if (!isComplete) return undefined;
    const sorted = [...members].sort(([a], [b]) => inKeyOrder(JSON.parse(a) as string, JSON.parse(b) as string));
    return `{${sorted.map(([key, value]) => `${key}: ${value}`).join(", ")}}`;
  }

  private array(depth: number): string | undefined {
    const items: string[] = [];
    const isComplete = this.list("]", () => {
      const value = this.value(depth + 1);
      if (value !== undefined) items.push(value);
      return value !== undefined;
    });
    return isComplete ? `[${items.join(", ")}]` : undefined;
  }

  /** From the mark that opens it to the one that closes it. */
  private list(close: string, item: () => boolean): boolean {
    this.mark();
    this.take("space");
    if (this.text[this.at] === close) return this.mark() === close;
    for (let more = true; more;) {
      this.take("space");
      if (!item()) return false;
      const mark = this.mark();
      if (mark !== "," && mark !== close) return false;
      more = mark === ",";
    }
    return true;
  }

  private string(): string | undefined {
    const written = this.take("string");
    if (written === undefined) return undefined;
    const value = JSON.parse(written) as string;
    return canStandInSql(value) ? JSON.stringify(value) : undefined;
  }

  private number(): string | undefined {
    const written = this.take("number");
    const value = written && parseNumeric(written);
    return value ? textOf(withScale(numericOf(value), numericScale(written))) : undefined;
  }

  private mark(): string | undefined {
    this.take("space");
    return this.take("mark");
  }

  private take(kind: keyof typeof tokens): string | undefined {
    const token = tokens[kind];
    token.lastIndex = this.at;
    const found = token.exec(this.text)?.[0];
    if (found !== undefined) this.at += found.length;
    return found;
  }
}

function inKeyOrder(a: string, b: string): number {
  return Buffer.byteLength(a) - Buffer.byteLength(b) || Buffer.compare(Buffer.from(a), Buffer.from(b));
}
