import { WalcastError } from "../errors.ts";

/** What a frame holds is not what it should. */
export function malformed(found: string): WalcastError {
  return new WalcastError("malformed_message", `read a frame: ${found}`);
}
