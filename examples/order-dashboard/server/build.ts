/**
 * The page, built once for each state of its sources. Every build has a directory of its own, named after what it was
 * made of, so a server that is running goes on serving the page it started with while another one is being built.
 */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("..", import.meta.url));
const repository = join(here, "..", "..");
const dist = join(here, "dist");

/** Everything that ends up in the page, dependencies by way of their lock file. */
const sources = [
  join(here, "index.html"),
  join(here, "statuses.ts"),
  join(here, "vite.config.ts"),
  join(here, "page"),
  join(repository, "client-sdk"),
  join(repository, "engine", "protocol.ts"),
  join(repository, "engine", "protocol"),
  join(repository, "engine", "errors.ts"),
  join(repository, "package-lock.json"),
];

/** Builds that are kept: other servers may be serving them. */
const kept = 4;

/** The directory of the page as its sources are now; undefined where it has to be built. */
export async function builtPage(): Promise<string | undefined> {
  const directory = join(dist, await fingerprint());
  // Marks it as used, for the sake of `removeOldest`.
  return utimes(directory, new Date(), new Date()).then(
    () => directory,
    () => undefined,
  );
}

/** Builds it, and resolves with its directory. */
export async function buildPage(): Promise<string> {
  const { build } = await import("vite");
  await mkdir(dist, { recursive: true });
  const directory = join(dist, await fingerprint());
  const building = await mkdtemp(join(dist, ".building-"));
  try {
    await build({ configFile: join(here, "vite.config.ts"), logLevel: "error", build: { outDir: building } });
    await rename(building, directory).catch(unlessThere);
  } finally {
    await rm(building, { recursive: true, force: true });
  }
  await removeOldest();
  return directory;
}

/** Somebody else built the same at the same time. */
function unlessThere(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
}

/** Builds that nobody has started with lately, and what builds that were interrupted have left. */
async function removeOldest(): Promise<void> {
  const names = await readdir(dist);
  // One may be finished, or removed, by somebody else meanwhile.
  const usedAt = (name: string): Promise<number> =>
    stat(join(dist, name)).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    );
  const used = await Promise.all(names.map(async (name) => ({ name, at: await usedAt(name) })));
  const oldest = used.sort((a, b) => b.at - a.at).slice(kept);
  await Promise.all(oldest.map(({ name }) => rm(join(dist, name), { recursive: true, force: true })));
}

async function fingerprint(): Promise<string> {
  const files = (await Promise.all(sources.map(filesIn))).flat().sort();
  // What is gone by now was somebody's for a moment.
  const contents = await Promise.all(files.map((file) => readFile(file).catch(() => undefined)));
  const hash = createHash("sha256");
  for (const [i, content] of contents.entries())
    if (content) hash.update(`${relative(repository, files[i]!)}\n${content.length}\n`).update(content);
  return hash.digest("hex").slice(0, 16);
}

/** The file itself, or all files under the directory. */
async function filesIn(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const entries = await readdir(path, { withFileTypes: true });
  const inside = entries.filter(({ name }) => name !== "dist" && name !== "node_modules");
  const within = inside.map((entry) => {
    const found = join(path, entry.name);
    return entry.isDirectory() ? filesIn(found) : Promise.resolve([found]);
  });
  return (await Promise.all(within)).flat();
}
