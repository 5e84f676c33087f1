/** What storage.browser.test.ts can have done to a client, in the page or in a worker. */
import type { ClientOptions } from "../../../client-sdk/index.ts";
import { WalcastClient } from "../../../client-sdk/client.ts";

let client: WalcastClient<unknown, string> | undefined;

let refusals = 0;

interface FileHandle {
  createSyncAccessHandle(): Promise<unknown>;
}

export const commands = {
  open(options: ClientOptions): void {
    countRefusals();
    client = new WalcastClient(options);
  },
  async preload(): Promise<void> {
    await client!.preload();
  },
  query: (sql: string) => client!.query(sql),
  inspect: () => client!.inspect(),
  flush: () => client!.flush(),
  awaitPosition: (position: string) => client!.awaitPosition(position, { timeoutMs: 60_000 }),
  close: () => client!.close(),
  /** How many files this worker was not given. */
  refusals: () => refusals,
  /** As a browser that opens no more files than that. */
  allowFiles(count: number): void {
    const { prototype } = FileSystemFileHandle as unknown as { prototype: FileHandle };
    const create = prototype.createSyncAccessHandle;
    prototype.createSyncAccessHandle = async function (): Promise<unknown> {
      if (count-- <= 0) throw new DOMException("too many", "InvalidStateError");
      return create.call(this);
    };
  },
} satisfies Record<string, (argument: never) => unknown>;

function countRefusals(): void {
  const { prototype } = FileSystemFileHandle as unknown as { prototype: Partial<FileHandle> };
  const create = prototype.createSyncAccessHandle;
  if (!create) return;
  prototype.createSyncAccessHandle = function (): Promise<unknown> {
    const handle = create.call(this as FileHandle);
    handle.catch(() => refusals++);
    return handle;
  };
}

export type Commands = typeof commands;

export interface Call {
  readonly id: number;
  readonly name: keyof Commands;
  readonly argument: unknown;
}

export async function run({ name, argument }: Call): Promise<unknown> {
  return (commands[name] as (argument: unknown) => unknown)(argument);
}
