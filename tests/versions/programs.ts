/**
 * Which Postgres the tests run on: the one that `npm install` brings, or an older major, named by `npm test -- --postgres=14`
 * and brought by `npm ci --prefix tests/versions`. Test files find the choice in WALCAST_TEST_POSTGRES_MAJOR.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const newest = 18;

/** The major that these tests run on. */
export function postgresMajor(): number {
  return Number(process.env.WALCAST_TEST_POSTGRES_MAJOR ?? newest);
}

export const isNewest = postgresMajor() === newest;

/** To be spread into startPostgres' options. */
export function programsOfMajor(): { readonly programs?: string } {
  const major = postgresMajor();
  if (major === newest) return {};
  const programs = fileURLToPath(
    new URL(`node_modules/${process.platform}-${process.arch}-${major}/native`, import.meta.url),
  );
  if (!existsSync(programs))
    throw new Error(`Postgres ${major} is not in ${programs}: run npm ci --prefix tests/versions`);
  return { programs };
}
