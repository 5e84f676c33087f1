/**
 * Constants of type bytea in the form that Postgres prints: \x and two lower case digits for each byte, of which the texts'
 * order is the bytes' own. https://www.postgresql.org/docs/current/datatype-binary.html
 */

/** undefined where the type does not accept the text. */
export function parseBytea(text: string): string | undefined {
  return text.startsWith("\\x") ? fromHex(text.slice(2)) : fromEscapes(text);
}

/** White space is free between two bytes. */
function fromHex(digits: string): string | undefined {
  return /^(?:[ \t\n\r]*[0-9a-fA-F]{2})*[ \t\n\r]*$/.test(digits)
    ? `\\x${digits.replace(/[ \t\n\r]/g, "").toLowerCase()}`
    : undefined;
}

/** A backslash is written twice, any byte as three octal digits behind one, and every other character as itself. */
function fromEscapes(text: string): string | undefined {
  const parts: Buffer[] = [];
  for (const part of text.matchAll(/\\\\|\\([0-3][0-7]{2})|[^\\]+|\\/g)) {
    if (part[0] === "\\") return undefined;
    if (part[1] !== undefined) parts.push(Buffer.from([parseInt(part[1], 8)]));
    else parts.push(Buffer.from(part[0] === "\\\\" ? "\\" : part[0]));
  }
  return `\\x${Buffer.concat(parts).toString("hex")}`;
}
