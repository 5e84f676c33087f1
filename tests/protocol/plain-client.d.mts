export class PlainClient {
  constructor(url: string, before?: PlainClient);
  readonly socket: WebSocket;
  readonly position: bigint;
  readonly subscriptions: ReadonlyMap<
    number,
    {
      readonly rows: ReadonlyMap<string, readonly (string | null)[]>;
      readonly joined: boolean;
      readonly identity: string;
    }
  >;
  claim(id: number, shape: object, known: unknown): void;
  send(message: object): void;
  next(
    accept: (event: { kind?: string; frame?: string | number; id?: number; xid?: string }) => boolean,
  ): Promise<unknown>;
}
