/** Starting a PGlite costs seconds: tests share one, and each begins as if it were new. */
import type { PGlite } from "@electric-sql/pglite";

/** Everything that is not Postgres' own. */
export const forgetEverything = `
  BEGIN READ WRITE;
  DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
      EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
  END $$;
  CREATE SCHEMA public;
  COMMIT`;

export async function emptied(pglite: PGlite): Promise<PGlite> {
  await pglite.exec(forgetEverything);
  return pglite;
}
