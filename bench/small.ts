/** Whether figures are worth nothing: then nothing is done only to make them better. */

/** Parts, which are processes of their own, are told by the environment. */
const small = "WALCAST_BENCH_SMALL";

export function runSmall(): void {
  process.env[small] = "1";
}

export function isSmall(): boolean {
  return process.env[small] !== undefined;
}
