/**
 * The page, built when it is missing or older than what it is made of. The result replaces the old one in one step,
 * so that a server which is already running never serves half of it.
 */
import { mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("..", import.meta.url));
const repository = join(here, "..", "..");

/** Everything that ends up in the page, dependencies by way of their lock file. */
const sources = [
  join(here, "index.html"),
  join(here, "vite.config.ts"),
  join(here, "page"),
  join(repository, "client-sdk"),
  join(repository, "engine", "protocol.ts"),
  join(repository, "engine", "errors.ts"),
  join(repository, "package-lock.json"),
];

/** Where the built page lies. */
export const dist = join(here, "dist");

export async function isBuilt(): Promise<boolean> {
  const built = await changedAt(join(dist, "index.html"));
  const changed = await Promise.all(sources.map(changedAt));
  return built > Math.max(...changed);
}

export async function buildPage(): Promise<void> {
  const { build } = await import("vite");
  const outDir = await mkdtemp(join(here, ".building-"));
  try {
    await build({ configFile: join(here, "vite.config.ts"), logLevel: "error", build: { outDir } });
    await rm(dist, { recursive: true, force: true });
    await rename(outDir, dist).catch(unlessTaken);
  } finally {
    await rm(outDir, { recursive: true, force: true });
  }
}

/** Somebody else built at the same time, from the same sources. */
function unlessTaken(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
}

/** The newest change in a file or under a directory; long ago where there is nothing. */
async function changedAt(path: string): Promise<number> {
  const found = await stat(path).catch(() => undefined);
  if (!found) return 0;
  if (!found.isDirectory()) return found.mtimeMs;
  const inside = await readdir(path, { withFileTypes: true });
  const kept = inside.filter((entry) => entry.name !== "dist" && entry.name !== "node_modules");
  return Math.max(0, ...(await Promise.all(kept.map((entry) => changedAt(join(path, entry.name))))));
}
