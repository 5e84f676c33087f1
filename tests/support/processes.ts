/**
 * Node's flags for a process that a test starts. Engines have `--liftoff-only` as the program `walcast` does, and clients that live
 * for a second spend half of it on making PGlite's WebAssembly faster without it.
 */
export const processFlags = ["--conditions=@walcast/source", "--liftoff-only"] as const;
