/** A query's text without its LIMIT. */

const tokens = new RegExp(
  [
    String.raw`[eE]'(?:\\[^]|''|[^'\\])*'`,
    String.raw`'(?:''|[^'])*'`,
    String.raw`"(?:""|[^"])*"`,
    String.raw`\$([\p{L}_][\p{L}\p{N}_]*)?\$[^]*?\$\1\$`,
    String.raw`--[^\n]*`,
    String.raw`/\*[^]*?\*/`,
    String.raw`[\p{L}_][\p{L}\p{N}_$]*`,
    String.raw`[^]`,
  ].join("|"),
  "gu",
);

/** Up to what follows ORDER BY. Where this rough reading of SQL errs, the two parses are not the same. */
export function untilLimit(sql: string): string {
  let depth = 0;
  for (const { 0: token, index } of sql.matchAll(tokens)) {
    if (token === "(") depth++;
    if (token === ")") depth--;
    if (depth === 0 && /^(limit|fetch|;)$/i.test(token)) return sql.slice(0, index);
  }
  return sql;
}
