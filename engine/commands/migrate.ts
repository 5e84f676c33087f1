/** `walcast migrate`: brings Walcast's own schema in the database up to date, for deployments where the engine may not. */
import { migrate } from "../changes/setup.ts";
import { resolveConfig } from "../config.ts";
import { type CommandLine, readConfig } from "./command.ts";

export async function migrateCommand(line: CommandLine): Promise<number> {
  const { databaseUrl } = resolveConfig(await readConfig(line));
  await migrate(databaseUrl);
  process.stdout.write("The schema walcast is up to date.\n");
  return 0;
}
