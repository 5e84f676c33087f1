/** What clients send, parsed once at the edge: JSON text → ClientMessage, or `malformed_message`. */
import { WalcastError } from "../errors.ts";
import {
  type ClientMessage,
  type LoadPart,
  type MessagesRequest,
  parseLsn,
  type ShapeRequest,
  type Told,
} from "../protocol.ts";

const clientKinds = [
  "hello",
  "authenticate",
  "subscribe",
  "listen",
  "resume",
  "unsubscribe",
  "await",
  "audited",
  "meet",
  "say",
  "track",
  "part",
  "ping",
];

/** JSON that is deeper than `depthMax`, or has more arrays and objects than any message needs, is refused before it is parsed. */
export function parseClientMessage(text: string, depthMax: number): ClientMessage {
  const message = asObject(parseJson(text, depthMax), "a message");
  switch (message["kind"]) {
    case "hello":
      return {
        kind: "hello",
        ...optional("token", message["token"], asText),
        ...optional("epoch", message["epoch"], asText),
        ...optional("position", message["position"], asLsn),
      };
    case "authenticate":
      return { kind: "authenticate", token: asText(message["token"], "token") };
    case "subscribe":
      return {
        kind: "subscribe",
        id: asId(message["id"]),
        ...asSubscription(asId(message["id"]), message),
      };
    case "listen":
      return { kind: "listen", id: asId(message["id"]), ...asListening(asId(message["id"]), message) };
    case "resume":
      return { kind: "resume" };
    case "unsubscribe":
      return { kind: "unsubscribe", id: asId(message["id"]) };
    case "await":
      return {
        kind: "await",
        id: asId(message["id"]),
        ...optional("position", message["position"], asText),
        ...optional("xid", message["xid"], asXid),
      };
    case "meet":
      return { kind: "meet", topic: asText(message["topic"], "topic"), secret: asText(message["secret"], "secret") };
    case "say":
      if (message["payload"] === undefined) throw malformed("expected a payload, found nothing");
      return { kind: "say", topic: asText(message["topic"], "topic"), payload: message["payload"] };
    case "track":
      return { kind: "track", topic: asText(message["topic"], "topic"), ...optional("state", message["state"], same) };
    case "part":
      return { kind: "part", topic: asText(message["topic"], "topic") };
    case "audited":
      return { kind: "audited", id: asId(message["id"]), matches: asBoolean(message["matches"], "matches") };
    case "ping":
      return { kind: "ping" };
    default:
      throw malformed(`expected kind ${clientKinds.join(", ")}, found ${shown(message["kind"])}`);
  }
}

/** The id is known, so what is wrong with the rest is the end of this subscription alone. */
export class MalformedSubscription extends WalcastError {
  readonly subscription: number;

  constructor(subscription: number, { message }: WalcastError) {
    super("malformed_message", message);
    this.subscription = subscription;
  }
}

function asSubscription(
  id: number,
  message: Record<string, unknown>,
): Pick<Extract<ClientMessage, { kind: "subscribe" }>, "shape" | "changes" | "identity" | "load" | "shown" | "after"> {
  try {
    return {
      shape: asShape(message["shape"]),
      ...optional("changes", message["changes"], asBoolean),
      ...optional("identity", message["identity"], asText),
      ...optional("load", message["load"], asLoad),
      ...optional("shown", message["shown"], asText),
      ...optional("after", message["after"], asTold),
    };
  } catch (error) {
    throw error instanceof WalcastError ? new MalformedSubscription(id, error) : error;
  }
}

function asListening(
  id: number,
  message: Record<string, unknown>,
): Pick<Extract<ClientMessage, { kind: "listen" }>, "messages" | "identity"> {
  try {
    return { messages: asMessages(message["messages"]), ...optional("identity", message["identity"], asText) };
  } catch (error) {
    throw error instanceof WalcastError ? new MalformedSubscription(id, error) : error;
  }
}

function asMessages(value: unknown): MessagesRequest {
  const messages = asObject(value, "messages");
  const request = {
    ...optional("topic", messages["topic"], asText),
    ...optional("keys", messages["keys"], asNames),
    ...optional("since", messages["since"], asLsn),
    ...optional("epoch", messages["epoch"], asText),
    ...optional("limit", messages["limit"], asCount),
  };
  if ((request.topic === undefined) === (request.keys === undefined))
    throw malformed("expected messages with a topic or with keys");
  return request;
}

function asShape(value: unknown): ShapeRequest {
  const shape = asObject(value, "a shape");
  return {
    table: asText(shape["table"], "table"),
    ...optional("where", shape["where"], asText),
    ...optional("params", shape["params"], asArray),
    ...optional("columns", shape["columns"], asNames),
  };
}

function asLoad(value: unknown): LoadPart {
  const load = asObject(value, "load");
  const { frames } = load;
  if (!Number.isSafeInteger(frames) || (frames as number) < 0)
    throw malformed(`expected load.frames as a whole number, found ${shown(frames)}`);
  return { id: asText(load["id"], "load.id"), frames: frames as number };
}

function asTold(value: unknown): Told {
  const { identity, epoch, position } = asObject(value, "after");
  return {
    identity: asText(identity, "after.identity"),
    epoch: asText(epoch, "after.epoch"),
    position: asLsn(position, "after.position"),
  };
}

function parseJson(text: string, depthMax: number): unknown {
  if (isLarger(text, depthMax))
    throw malformed(`expected at most ${depthMax} levels and ${containersMax} arrays and objects of JSON, found more`);
  try {
    return JSON.parse(text);
  } catch {
    throw malformed("expected JSON");
  }
}

// One for each parameter that is an array, and some. A mebibyte of empty ones takes thirty milliseconds to parse.
const containersMax = 10_000;

/** What stands in strings does not count. Text that is not JSON gets some answer, and is refused by the parser. */
function isLarger(text: string, depthMax: number): boolean {
  let depth = 0;
  let containers = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) at = endOfString(text, at);
    else if (code === closeBracket || code === closeBrace) depth--;
    else if (code === openBracket || code === openBrace) {
      depth++;
      containers++;
    }
    if (depth > depthMax || containers > containersMax) return true;
  }
  return false;
}

const quote = 0x22;
const backslash = 0x5c;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/** Of the string that begins there: its closing quote, or the text's end. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) return at;
    if (code === backslash) at++;
  }
  return at;
}

/** Leaves the property out where the value is missing: absent and undefined are not the same to a peer. */
function optional<K extends string, T>(
  name: K,
  value: unknown,
  parse: (value: unknown, name: string) => T,
): { [P in K]?: T } {
  return value === undefined ? {} : ({ [name]: parse(value, name) } as { [P in K]?: T });
}

function asObject(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw malformed(`expected ${what} as an object, found ${shown(value)}`);
}

/** Any JSON. */
function same(value: unknown): unknown {
  return value;
}

function asText(value: unknown, name: string): string {
  if (typeof value === "string") return value;
  throw malformed(`expected ${name} as text, found ${shown(value)}`);
}

function asLsn(value: unknown, name: string): string {
  const text = asText(value, name);
  parseLsn(text);
  return text;
}

function asXid(value: unknown, name: string): string {
  const text = asText(value, name);
  if (/^\d{1,20}$/.test(text)) return text;
  throw malformed(`expected ${name} as the decimal text of a 64-bit xid, found ${shown(value)}`);
}

function asBoolean(value: unknown, name: string): boolean {
  if (typeof value === "boolean") return value;
  throw malformed(`expected ${name} as true or false, found ${shown(value)}`);
}

function asArray(value: unknown, name: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw malformed(`expected ${name} as an array, found ${shown(value)}`);
}

function asNames(value: unknown, name: string): readonly string[] {
  return asArray(value, name).map((item) => asText(item, `each of ${name}`));
}

function asCount(value: unknown, name: string): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= earlierMax) return value as number;
  throw malformed(`expected ${name} as a whole number up to ${earlierMax}, found ${shown(value)}`);
}

/** Of earlier messages: for each of them their number is kept while they are counted. */
const earlierMax = 10_000;

function asId(value: unknown): number {
  if (Number.isInteger(value) && (value as number) > 0 && (value as number) <= 0xffffffff) return value as number;
  throw malformed(`expected id as an integer from 1 to 4294967295, found ${shown(value)}`);
}

/** Not what is inside: a value nested deep enough would exhaust the stack. */
function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  return JSON.stringify(value).slice(0, 40);
}

function malformed(found: string): WalcastError {
  return new WalcastError("malformed_message", `read a client's message: ${found}`);
}
