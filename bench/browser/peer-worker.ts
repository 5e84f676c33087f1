/** The worker of peer.ts. */
import { PGlite } from "@electric-sql/pglite";
import { worker } from "@electric-sql/pglite/worker";
import { emptyFiles } from "./contender.ts";

void worker({ init: async ({ dataDir, meta }) => PGlite.create(dataDir, await emptyFiles(meta === true)) });
