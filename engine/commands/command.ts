/** What every command is given, and how it finds its config: a file, then the environment, then flags. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { type TextKey, type WalcastConfig, withSources } from "../config.ts";
import { WalcastError } from "../errors.ts";

export interface CommandLine {
  readonly configFile: string | undefined;
  readonly flags: Readonly<Partial<Record<TextKey, string>>>;
  readonly dropSlot: boolean;
  /** A file to write to. */
  readonly out: string | undefined;
}

/** Not yet checked: `resolveConfig` does that. */
export async function readConfig({ configFile, flags }: CommandLine): Promise<WalcastConfig> {
  const { env } = process;
  const path = configFile ?? (env.WALCAST_CONFIG || fileNames.find((name) => existsSync(name)));
  return withSources(path === undefined ? {} : await load(resolve(path)), { env, flags });
}

const fileNames = ["walcast.config.ts", "walcast.config.js", "walcast.config.mjs"];

async function load(path: string): Promise<WalcastConfig> {
  if (!existsSync(path)) throw new WalcastError("config_invalid", `read the config: there is no file ${path}`);
  try {
    const module = (await import(pathToFileURL(path).href)) as { default?: WalcastConfig };
    if (typeof module.default === "object") return module.default;
  } catch (cause) {
    throw new WalcastError("config_invalid", `read the config ${path}: ${(cause as Error).message}`, { cause });
  }
  throw new WalcastError("config_invalid", `read the config ${path}: expected \`export default defineConfig({ … })\``);
}
