/**
 * `POST /v1/publish` and `/v1/revalidate`, for servers that are not in Node. The token needs the scope `walcast:publish`; without
 * it, a topic's `publish` rule may let a client publish, to everybody or to those whose scopes it has itself.
 */
import type { Auth, Config } from "../config.ts";
import { WalcastError } from "../errors.ts";
import { isRecord } from "../given.ts";
import type { Guest } from "../sockets/guest.ts";
import { requireTopic } from "../sockets/topics.ts";
import type { Publisher } from "./publisher.ts";

/** A token with it may publish anything to anybody. */
export const publishScope = "walcast:publish";

export interface PublishServices {
  readonly config: Pick<Config, "topics">;
  readonly publisher: Publisher;
}

export async function servePublish(guest: Guest, { config, publisher }: PublishServices): Promise<void> {
  const body = await bodyOf(guest, ["topic", "payload", "scopes", "producer", "key"]);
  const { topic, payload, producer, key } = body;
  if (typeof topic !== "string") throw malformed("expected topic as text");
  if (!("payload" in body)) throw malformed("expected a payload");
  const scopes = scopesOf(body);
  await requireRight(config, topic, scopes, guest.auth);
  if (producer === undefined && key === undefined)
    return guest.answer(await publisher.publish(topic, payload, { scopes }));
  if (typeof producer !== "string" || typeof key !== "string") throw malformed("expected producer and key as texts");
  guest.answer(await publisher.publish(topic, payload, { scopes, once: { producer, key } }));
}

export async function serveRevalidate(guest: Guest, { publisher }: PublishServices): Promise<void> {
  const body = await bodyOf(guest, ["keys", "scopes"]);
  if (!guest.auth.scopes.includes(publishScope)) throw lacksScope();
  if (!isTexts(body["keys"])) throw malformed("expected keys as a list of texts");
  guest.answer(await publisher.revalidate(body["keys"], { scopes: scopesOf(body) }));
}

/** By a rule alone, a client may not speak to those among whom it is not itself. */
export async function requireRight(
  config: Pick<Config, "topics">,
  topic: string,
  scopes: readonly string[] | null,
  auth: Auth,
): Promise<void> {
  if (auth.scopes.includes(publishScope)) return;
  await requireTopic(config, topic, "publish", auth);
  if (scopes?.some((scope) => !auth.scopes.includes(scope)))
    throw new WalcastError("forbidden", "publish: expected scopes that the token has", {
      hint: `with the scope ${publishScope} a token may publish to any`,
    });
}

function lacksScope(): WalcastError {
  return new WalcastError("forbidden", `revalidate: expected a token with the scope ${publishScope}`);
}

async function bodyOf(guest: Guest, known: readonly string[]): Promise<Record<string, unknown>> {
  const text = await guest.body();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw malformed("expected JSON");
  }
  if (!isRecord(body)) throw malformed("expected an object");
  const unknown = Object.keys(body).find((name) => !known.includes(name));
  if (unknown !== undefined) throw malformed(`expected ${known.join(", ")}, found another name`);
  return body;
}

function scopesOf({ scopes = null }: Record<string, unknown>): readonly string[] | null {
  if (scopes === null || isTexts(scopes)) return scopes;
  throw malformed("expected scopes as a list of texts, or null");
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}

function malformed(found: string): WalcastError {
  return new WalcastError("malformed_message", `read a request: ${found}`);
}
