/** The server's messages that are text: parsed once, and trusted from then on. */
import { type ServerMessage, WalcastError } from "../engine/protocol.ts";

export function parseMessage(text: string): ServerMessage {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch (cause) {
    throw new WalcastError(
      "malformed_message",
      `read a message: expected JSON, found ${JSON.stringify(text.slice(0, 40))}`,
      { cause },
    );
  }
  const isMessage = typeof message === "object" && message !== null && "kind" in message && "frame" in message;
  if (!isMessage) throw new WalcastError("malformed_message", "read a message: expected an object with kind and frame");
  return message as ServerMessage;
}
