/** `@walcast/engine`: what a config file and a program that embeds the engine use. */
export { type Auth, type Authenticator, type AuthFunction, jwt, type JwtOptions } from "./authenticate.ts";
export {
  type Config,
  defineConfig,
  type Limits,
  type Sql,
  sql,
  type TableRule,
  type TopicRule,
  type WalcastConfig,
} from "./config.ts";
export { type ErrorCode, WalcastError } from "./errors.ts";
export { createEngine, type Engine } from "./main.ts";
export type { EngineStats } from "./report.ts";
export type { Published, PublishOptions, PublishTransaction, RevalidateOptions } from "./topics/publisher.ts";
export type { Health } from "./sockets/http.ts";
export type { WatchOptions } from "./watch/engine-watch.ts";
export type { AnyQuery, Rows, TableQuery } from "./watch/query.ts";
export { sse, type SseEvent, type SseOptions } from "./watch/sse.ts";
export type { Seed, SeedShape } from "./protocol.ts";
