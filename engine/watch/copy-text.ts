/** COPY's text format, line by line. https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS */

/** Whole lines → rows: a column's text, or null for NULL. */
export function parseCopyText(bytes: Uint8Array): (string | null)[][] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => line.split("\t").map(valueOf));
}

function valueOf(written: string): string | null {
  if (written === "\\N") return null;
  return written.includes("\\") ? written.replace(/\\(.)/g, (_, letter: string) => escapes[letter] ?? letter) : written;
}

const escapes: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };
