import { createHash } from "node:crypto";

const length = 22;

/** Equal for equal texts, and for no others that anybody can find: 132 bits. */
export function digestOf(text: string): string {
  const digest = createHash("sha256").update(text).digest("base64url");
  // A slice of a string keeps the whole of it, and there may be a million digests.
  return Buffer.from(digest, "latin1").toString("latin1", 0, length);
}
