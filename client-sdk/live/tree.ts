/**
 * Reads the node trees that Postgres writes of a query it has parsed: `{TAG :field value …}`, lists in parentheses, `<>`
 * for nothing. https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-DEBUG-PRINT-PARSE
 */
export interface TreeNode {
  readonly tag: string;
  readonly fields: Readonly<Record<string, TreeValue>>;
}

/** A field of several words (a constant's bytes) reads as a list of them. */
export type TreeValue = string | TreeNode | readonly TreeValue[];

export const nothing = "<>";

export function readTree(text: string): TreeNode {
  const value = new TreeReader(text).value();
  if (!isNode(value)) throw new Error(`expected a node tree, found ${text.slice(0, 40)}`);
  return value;
}

export function isNode(value: TreeValue | undefined): value is TreeNode {
  return typeof value === "object" && "tag" in value;
}

export function wordOf(value: TreeValue | undefined): string {
  return typeof value === "string" ? value : "";
}

export function nodesIn(value: TreeValue | undefined): TreeNode[] {
  return Array.isArray(value) ? value.filter(isNode) : isNode(value) ? [value] : [];
}

class TreeReader {
  private readonly tokens: readonly string[];
  private at = 0;

  constructor(text: string) {
    this.tokens = text.match(/[(){}]|(?:\\[^]|[^\s(){}\\])+/g) ?? [];
  }

  value(): TreeValue {
    const token = this.tokens[this.at++] ?? nothing;
    if (token === "{") return this.node();
    return token === "(" ? this.until(")") : token;
  }

  private node(): TreeNode {
    const tag = this.tokens[this.at++] ?? "";
    const fields: Record<string, TreeValue> = {};
    while (this.at < this.tokens.length && this.tokens[this.at] !== "}") {
      const name = this.tokens[this.at++]!.slice(1);
      const values = this.until("}", ":");
      fields[name] = values.length === 1 ? values[0]! : values;
    }
    this.at++;
    return { tag, fields };
  }

  /** A closing parenthesis is taken; a brace, or what begins the next field, is left. */
  private until(end: string, next?: string): TreeValue[] {
    const values: TreeValue[] = [];
    while (this.at < this.tokens.length) {
      const token = this.tokens[this.at]!;
      if (token === end || (next !== undefined && token.startsWith(next))) break;
      values.push(this.value());
    }
    if (end === ")") this.at++;
    return values;
  }
}
