/**
 * Array literals, '{1,NULL,"a b"}', as they are given to = ANY. One dimension, no explicit bounds.
 * https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
 */

/** The elements' texts, null for NULL; undefined where the text is not such a literal. */
export function parseArrayLiteral(text: string): (string | null)[] | undefined {
  const body = /^\s*\{([^]*)\}\s*$/.exec(text)?.[1];
  if (body === undefined) return undefined;
  if (body.trim() === "") return [];
  const elements: (string | null)[] = [];
  element.lastIndex = 0;
  for (let more = true; more;) {
    const parts = element.exec(body);
    if (!parts) return undefined;
    elements.push(parts[1] !== undefined ? unescaped(parts[1]) : bareElement(parts[2]!));
    more = parts[3] === ",";
  }
  return element.lastIndex === body.length ? elements : undefined;
}

// A quoted element, or a bare one that begins and ends with something else than white space; then a comma or the end.
const element =
  /\s*(?:"((?:[^"\\]|\\[^])*)"|((?:[^\s"\\{},]|\\[^])(?:(?:[^"\\{},]|\\[^])*(?:[^\s"\\{},]|\\[^]))?))\s*(,|$)/y;

function bareElement(text: string): string | null {
  return text.toUpperCase() === "NULL" ? null : unescaped(text);
}

function unescaped(text: string): string {
  return text.replace(/\\([^])/g, "$1");
}
