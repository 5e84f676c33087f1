/**
 * A client in plain JavaScript, written from docs/protocol.md and nothing else: no file of this repository is imported.
 * It keeps each subscription's rows in a Map and shows them only at a boundary. Whatever the page forgets to say is
 * missing here, and the test that runs it fails.
 */
const kinds = { 1: "commits", 2: "copy", 3: "catchUp", 4: "join", 5: "position" };
const utf8 = new TextDecoder();

export class PlainClient {
  /** id → { columns, key, rows (shown), staged, operations, joined } */
  subscriptions = new Map();
  position = 0n;
  number = 0;
  checksum = 0;
  listeners = new Set();

  /** `before`: the client of an earlier connection, whose rows and position this one goes on with. */
  constructor(url, before) {
    this.before = before;
    this.socket = new WebSocket(url, "walcast.v1");
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () =>
      this.send({ kind: "hello", epoch: before?.epoch, position: before && lsn(before.position) });
    this.socket.onmessage = ({ data }) =>
      typeof data === "string" ? this.control(JSON.parse(data)) : this.frame(new Uint8Array(data));
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  /** Resolves with the first thing that `accept` likes: a control message, or { frame: kind }. */
  next(accept) {
    return new Promise((resolve) => {
      const listener = (event) => accept(event) && (this.listeners.delete(listener), resolve(event));
      this.listeners.add(listener);
    });
  }

  tell(event) {
    for (const listener of [...this.listeners]) listener(event);
  }

  countUp(number) {
    if (number !== ++this.number) throw new Error(`expected message ${this.number}, found ${number}`);
  }

  control(message) {
    this.countUp(message.frame);
    if (message.kind === "welcome") this.welcomed(message);
    if (message.kind === "described") {
      const { columns, key, identity } = message.table;
      const known = this.subscriptions.get(message.id);
      const names = columns.map((column) => column.name);
      this.subscriptions.set(message.id, {
        identity,
        key: key.map((name) => names.indexOf(name)),
        rows: known?.rows ?? new Map(),
        staged: new Map(),
        operations: [],
        joined: false,
      });
    }
    if (message.kind === "resync") {
      const subscription = this.subscriptions.get(message.id);
      subscription.joined = false;
      subscription.operations = [];
      if (message.purge) subscription.rows = new Map();
    }
    if (message.kind === "altered") this.subscriptions.get(message.id).operations.push({ ...message, kind: "altered" });
    if (message.kind === "rewind")
      for (const subscription of this.subscriptions.values()) if (subscription.joined) subscription.operations = [];
    if (message.kind === "unsubscribed") this.subscriptions.delete(message.id);
    this.tell(message);
  }

  welcomed({ epoch, resumes }) {
    this.epoch = epoch;
    if (resumes) this.position = this.before.position;
  }

  /** Goes on with a subscription of the connection before, under a new id. */
  claim(id, shape, known) {
    this.subscriptions.set(id, { ...known, operations: [] });
    this.send({ kind: "subscribe", id, shape, identity: known.identity });
  }

  frame(bytes) {
    const view = new DataView(bytes.buffer);
    const kind = kinds[view.getUint8(0)];
    const sections = view.getUint16(2);
    this.countUp(view.getUint32(4));
    const head = new Uint8Array([...bytes.subarray(0, 8), ...bytes.subarray(12, 20 + 12 * sections)]);
    if (view.getUint32(8) !== (this.checksum = crc32(head, this.checksum)))
      throw new Error("the header's checksum is wrong");
    let start = 20 + 12 * sections;
    for (let i = 0; i < sections; i++) {
      const at = 20 + 12 * i;
      const payload = bytes.subarray(start, (start += view.getUint32(at + 4)));
      if (crc32(payload, 0) !== view.getUint32(at + 8)) throw new Error("a payload's checksum is wrong");
      const subscription = this.subscriptions.get(view.getUint32(at));
      if (subscription) this.section(kind, subscription, payload);
    }
    if (start !== bytes.length) throw new Error("bytes left over");
    if (bytes[1] & 1) this.boundary(view.getBigUint64(12));
    this.tell({ frame: kind });
  }

  section(kind, subscription, payload) {
    if (kind === "copy")
      for (const row of copyRows(utf8.decode(payload))) subscription.staged.set(keyOf(subscription, row), row);
    else subscription.operations.push(...readOperations(payload));
    if (kind !== "join") return;
    subscription.rows = subscription.staged;
    subscription.joined = true;
  }

  boundary(position) {
    if (position < this.position) throw new Error("the position went back");
    this.position = position;
    for (const subscription of this.subscriptions.values()) {
      if (!subscription.joined) continue;
      for (const operation of subscription.operations) apply(subscription, operation);
      subscription.operations = [];
    }
  }
}

function apply(subscription, operation) {
  if (operation.kind === "altered") return alter(subscription, operation);
  const { kind, old, row } = operation;
  const { rows, key } = subscription;
  if (kind === "T") return rows.clear();
  const before = old ? old.join("\0") : keyOf(subscription, row);
  if ((kind !== "I") !== rows.has(before))
    throw new Error(`${kind} of a row that is ${rows.has(before) ? "there" : "not there"}`);
  const known = rows.get(before);
  rows.delete(before);
  if (kind === "D") return;
  const whole = row.map((value, i) => (value === undefined ? known[i] : value));
  rows.set(key.map((i) => whole[i]).join("\0"), whole);
}

/** New columns come last. */
function alter(subscription, { table, added }) {
  for (const row of subscription.rows.values()) row.push(...added.map(({ value }) => value));
  subscription.identity = table.identity;
}

function keyOf({ key }, row) {
  return key.map((i) => row[i]).join("\0");
}

/** A position's text form. */
function lsn(position) {
  return `${(position >> 32n).toString(16)}/${(position & 0xffffffffn).toString(16)}`;
}

const escapes = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v", "\\": "\\" };

function copyRows(text) {
  const value = (field) => (field === "\\N" ? null : field.replace(/\\(.)/g, (_, letter) => escapes[letter]));
  return text
    .slice(0, -1)
    .split("\n")
    .map((line) => line.split("\t").map(value));
}

function* readOperations(payload) {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  let at = 0;
  const tuple = () => {
    const values = Array.from({ length: view.getUint16((at += 2) - 2) });
    return values.map(() => {
      const tag = String.fromCharCode(payload[at++]);
      if (tag === "n") return null;
      if (tag === "u") return undefined;
      const length = view.getUint32((at += 4) - 4);
      return utf8.decode(payload.subarray(at, (at += length)));
    });
  };
  while (at < payload.length) {
    at += 25; // 'C', position, time, xid
    for (let left = view.getUint32((at += 4) - 4); left > 0; left--) {
      const kind = String.fromCharCode(payload[at++]);
      const old = kind === "U" || kind === "D" ? payload[at++] : 0;
      yield { kind, old: old ? tuple() : undefined, row: kind === "I" || kind === "U" ? tuple() : undefined };
    }
  }
}

/** CRC-32 as in zlib. */
function crc32(bytes, seed) {
  let crc = ~seed;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  }
  return ~crc >>> 0;
}
