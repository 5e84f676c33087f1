/**
 * The socket of a replication connection. All that it reads goes into one buffer: for each read Node would otherwise
 * allocate 64 KiB and pass them on through a stream, which for one row takes longer than finding out who wants it.
 */
import { Socket } from "node:net";

const readBytes = 64 * 1024;

/** What one read brought: the first `length` of these bytes, valid only during the call. */
type OnRead = (bytes: Buffer, length: number) => void;

export class ReplicationSocket extends Socket {
  /** Until it is set, listeners to "data" get copies. */
  onRead: OnRead | undefined;

  constructor() {
    const reading: { socket?: ReplicationSocket } = {};
    const buffer = Buffer.allocUnsafeSlow(readBytes);
    super({ onread: { buffer, callback: (length) => reading.socket!.took(buffer, length) } });
    reading.socket = this;
  }

  private took(buffer: Buffer, length: number): boolean {
    if (this.onRead) this.onRead(buffer, length);
    else this.emit("data", Buffer.from(buffer.subarray(0, length)));
    return true;
  }
}

/** Under TLS the bytes come from the stream around the socket, which reads by itself. */
export function replicationSocket({ ssl }: { readonly ssl?: unknown }): Socket {
  return ssl ? new Socket() : new ReplicationSocket();
}

/** From here on whatever is read goes there, and listeners get nothing. */
export function readInto(socket: Socket, onRead: OnRead): void {
  if (socket instanceof ReplicationSocket) socket.onRead = onRead;
  else socket.removeAllListeners("data").on("data", (bytes: Buffer) => onRead(bytes, bytes.length));
}
