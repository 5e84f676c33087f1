/** The list of codes and the page that explains them are one. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { errorCodes, WalcastError } from "../engine/errors.ts";

const page = readFileSync(new URL("../docs/errors.md", import.meta.url), "utf8");
const sections = page.split(/^### /m).slice(1);

test("the page explains every code, in the list's order, and no other", () => {
  assert.deepEqual(
    sections.map((section) => section.split("\n")[0]),
    errorCodes.map((code) => `\`${code}\``),
  );
});

test("every explanation says what to do about it", () => {
  for (const section of sections) assert.match(section, /\*[^*]+[.:]\*/, section);
});

test("an error leaves without its cause and its stack, and without what it does not have", () => {
  const cause = new Error("a secret");
  const plain = new WalcastError("closed", "over", { cause });
  assert.deepEqual(JSON.parse(JSON.stringify(plain)), { code: "closed", message: "over" });
  assert.equal(plain.cause, cause);
  const full = new WalcastError("where_syntax", "no", { position: 0, hint: "yes" });
  assert.deepEqual(JSON.parse(JSON.stringify(full)), { code: "where_syntax", message: "no", position: 0, hint: "yes" });
});
