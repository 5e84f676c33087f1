/**
 * The part of pg-logical-replication that starts pgoutput. It hands the connection over before the first answer, and never gets to
 * parse anything: its own reading would make two strings and an event per message.
 */
import type { Socket } from "node:net";
import type pg from "pg";
import { PgoutputPlugin } from "pg-logical-replication";
import { WalcastError } from "../errors.ts";

// Before, a walsender that meets TRUNCATE, or a rewrite, in a transaction that is rolled back meanwhile often ends with "could
// not map filenode", seen on 14 and 15. There a transaction comes whole, and is staged here as it comes. Newer versions do
// so seldom; see `isDecodingFailure`.
const streamingSafeSince = 160_000;

export interface ReplicationConnection {
  readonly stream: Socket;
  once(event: "replicationStart", listener: () => void): unknown;
  sendCopyFromChunk(chunk: Buffer): void;
}

export interface DirectPluginOptions {
  readonly publication: string;
  /** Only transactions that have committed, none while it runs. */
  readonly committedOnly?: boolean;
}

export class DirectPlugin extends PgoutputPlugin {
  private readonly committedOnly: boolean;
  private readonly attach: (connection: ReplicationConnection) => void;

  constructor(
    { publication, committedOnly = false }: DirectPluginOptions,
    attach: (connection: ReplicationConnection) => void,
  ) {
    super({ protoVersion: 2, publicationNames: [publication] });
    this.committedOnly = committedOnly;
    this.attach = attach;
  }

  /** The package would not ask for transactions to be streamed while they run. */
  override async start(client: pg.Client, slot: string, lsn: string): Promise<unknown> {
    const { rows } = await client.query<{ server_version_num: string }>("show server_version_num");
    const isSafe = !this.committedOnly && Number(rows[0]!.server_version_num) >= streamingSafeSince;
    const streaming = isSafe ? "on" : "off";
    this.attach((client as unknown as { connection: ReplicationConnection }).connection);
    // Names in publication_names are identifiers inside a literal: both kinds of quotes are doubled.
    const publication = `"${this.options.publicationNames[0]!.replaceAll('"', '""').replaceAll("'", "''")}"`;
    const options = `proto_version '2', publication_names '${publication}', messages 'true', streaming '${streaming}'`;
    return client.query(`START_REPLICATION SLOT "${slot}" LOGICAL ${lsn} (${options})`);
  }

  override parse(): never {
    throw new WalcastError(
      "invariant",
      "pg-logical-replication handed a message to the plugin although its listener was taken off",
    );
  }
}
