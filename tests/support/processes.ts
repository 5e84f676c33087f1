/**
 * Node's flags for a process of the tests, and for those it starts. Engines have `--liftoff-only` as the program `walcast` does, and
 * whoever has a replica for a second spends half of it on making PGlite's WebAssembly faster without it.
 */
export const processFlags = ["--conditions=@walcast/source", "--liftoff-only"] as const;
