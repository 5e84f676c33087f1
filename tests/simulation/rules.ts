/**
 * Who may read what: as in a config of an application's own, a rule over claims for each name that a table can have, and
 * tokens with such claims.
 */
import { SignJWT } from "jose";
import { type Auth, jwt, sql, type WalcastConfig } from "../../engine/index.ts";
import type { Random } from "../splice/random.ts";
import { regions } from "./columns.ts";
import { type Access, everything } from "./filter.ts";
import { everyName } from "./schema.ts";

const secret = "the secret of a simulation, longer than 32 bytes";
const key = new TextEncoder().encode(secret);

/** For an engine's config. */
export const rules: Pick<WalcastConfig, "tables" | "auth"> = {
  tables: Object.fromEntries(everyName.map((name) => [name, { read }])),
  auth: jwt({ secret }),
};

function read({ claims }: Auth): true | ReturnType<typeof sql> {
  return claims.role === "staff" ? true : sql`region = any(${claims.regions})`;
}

/** A claim that the rule reads and the token does not have denies. */
export async function tokenFor(access: Access, lifeSeconds: number): Promise<string> {
  const isStaff = access.length === everything.length;
  const claims = isStaff ? { role: "staff" } : access.length === 0 ? {} : { regions: access };
  return (
    new SignJWT(claims)
      .setProtectedHeader({ alg: "HS256" })
      // One person, whose rights change.
      .setSubject("somebody")
      .setExpirationTime(Math.floor(Date.now() / 1_000) + lifeSeconds)
      .sign(key)
  );
}

export function randomAccess(random: Random): Access {
  const chance = random.next();
  if (chance < 0.3) return everything;
  if (chance < 0.35) return [];
  const without = random.pick(regions);
  return chance < 0.65 ? [without] : regions.filter((region) => region !== without);
}
