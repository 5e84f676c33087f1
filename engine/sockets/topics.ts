/**
 * Which messages a client may have. A topic that the config does not name does not exist, and one whose rule says no is
 * refused. Scopes are those of the verified token: what a client says of itself is not asked for. A key of a table is for those
 * who may read the table; what any other key means only those know who publish it.
 */
import type { Table } from "../changes/table.ts";
import type { Auth, Config, TopicRule } from "../config.ts";
import { ruleFor, topicRuleFor } from "../config.ts";
import { unknownTable } from "../changes/catalog.ts";
import { isPostgresAway } from "../changes/connection.ts";
import { messageBounds } from "../../migrations/0003_messages.ts";
import { type MessagesRequest, WalcastError } from "../protocol.ts";
import { MessageShape } from "../shapes/message-shape.ts";
import { parseTableName } from "../shapes/name.ts";
import { type AccessServices, allowedBy } from "./access.ts";

export interface TopicServices extends Pick<AccessServices, "tables"> {
  readonly config: Pick<Config, "tables" | "topics">;
}

/** Of a key that stands for a table: the rest is its name, as in SQL. */
const tablePrefix = "table:";

export async function messagesFor(
  services: TopicServices,
  { topic, keys = [] }: MessagesRequest,
  auth: Auth,
): Promise<MessageShape> {
  if (topic !== undefined) {
    await requireTopic(services.config, topic, "read", auth);
    return new MessageShape({ topic }, auth.scopes);
  }
  requireNames(keys);
  const named = keys.filter((key) => key.startsWith(tablePrefix));
  const tables = await Promise.all(
    named.map(async (key) => ({ key, table: await tableOf(services, key.slice(tablePrefix.length), auth) })),
  );
  return new MessageShape({ keys, tables }, auth.scopes);
}

/** Throws where the config does not let this client do that with the topic. */
export async function requireTopic(
  config: Pick<Config, "topics">,
  topic: string,
  what: "read" | "publish",
  auth: Auth,
): Promise<void> {
  const rule = topicRuleFor(config, topic);
  if (!rule) throw unknownTopic(topic);
  if (await isAllowed(rule, what, auth, topic)) return;
  throw new WalcastError("forbidden", `${what} ${shown(topic)}: the topic's rule refuses this client`);
}

async function isAllowed(rules: TopicRule, what: "read" | "publish", auth: Auth, topic: string): Promise<boolean> {
  const rule = rules[what] ?? false;
  if (typeof rule === "boolean") return rule;
  try {
    // A config may be JavaScript: what is no boolean allows nothing.
    const allowed: unknown = await rule(auth);
    return allowed === true;
  } catch (cause) {
    if (cause instanceof WalcastError || isPostgresAway(cause)) throw cause;
    throw new WalcastError("forbidden", `${what} ${shown(topic)}: the topic's rule cannot be applied`, {
      hint: "the engine's log says why",
      cause,
    });
  }
}

async function tableOf({ config, tables }: TopicServices, text: string, auth: Auth): Promise<Table> {
  const name = parseTableName(text);
  const rule = ruleFor(config, name);
  if (!rule) throw unknownTable(name.schema, name.name);
  await allowedBy(rule, name, auth);
  return tables.get(name.schema, name.name, rule.replicaIdentity !== "keep");
}

function requireNames(keys: readonly string[]): void {
  if (keys.length === 0 || keys.length > messageBounds.names)
    throw new WalcastError("too_many", `listen: expected from 1 to ${messageBounds.names} keys, found ${keys.length}`);
  if (keys.some((key) => key === "" || Buffer.byteLength(key) > messageBounds.nameBytes))
    throw new WalcastError("too_large", `listen: expected keys of 1 to ${messageBounds.nameBytes} bytes`);
}

function unknownTopic(topic: string): WalcastError {
  return new WalcastError("unknown_topic", `listen: there is no topic ${shown(topic)}`, {
    hint: "name it in `topics` of the engine's config, with a rule who may read it",
  });
}

function shown(topic: string): string {
  return JSON.stringify(topic.slice(0, 80));
}
