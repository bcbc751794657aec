/**
 * Images with every field of every message, made from the schemas: for kinds that no program at hand would give us.
 */
import { compile, compiledSub, type CompiledField, type MessageType } from "../../src/images/codec/schema.js";
import { encode } from "../../src/images/codec/encode.js";
import { COMMON_MAGIC, IMAGE_KINDS, type ImageKind, type ImageKindName, SERVICE_MAGIC } from "../../src/images/kinds.js";
import { BIT_NAMES, VALUE_NAMES } from "../../src/cli/crit/names.js";
import { IMAGE_MESSAGES } from "../../src/resources/image-kinds.js";
import { ipcMsg } from "../../src/resources/ipc/msg.schema.js";

type Value = Record<string, unknown>;

/**
 * Fields that the peer shows otherwise: those of CRIU 4.2, which 4.1 does not know, and registers of another processor,
 * which we show in hexadecimal and the peer does not.
 */
const PEER_DIFFERS = ["nr_pages", "allow_uprobes"];

/** Values of our own in enumerations of the format, which begin at a thousand; two of the format's are as high. */
function isOwnValue(name: string, value: number): boolean {
  return value >= 1000 && name !== "CTL_TTY" && name !== "AUTOFS_PIPE";
}

/** How many of the optional fields a message has. */
export type Filling = "all" | "none" | "some";

const MAX_DEPTH = 5;
const TEXTS = ["", "a", "/tmp/größe 🧊", 'quote " back \\ slash / \t\n\u0001\u007f', "x".repeat(300), "\u2028\ue000\uffff", "init"];
const NAMES = [
  "",
  "\0abstract=1",
  "/run/a b .",
  "line\nbreak ",
  "tab\t",
  ".",
  "\r\n",
  "a\r\nb\r\n",
  "=".repeat(60),
  "ü".repeat(40),
  "z".repeat(75),
  "z".repeat(76),
];

/** Values that are the same every time for the same seed. */
export class Values {
  #state: number;

  readonly #forPeer: boolean;

  constructor(seed: number, { forPeer = false } = {}) {
    this.#state = seed >>> 0;
    this.#forPeer = forPeer;
  }

  below(limit: number): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * limit);
  }

  one<T>(list: readonly T[]): T {
    const item = list[this.below(list.length)];
    if (item === undefined) throw new Error("nothing to choose from");
    return item;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }

  message(type: MessageType<object>, filling: Filling, depth = 0): Value {
    const out: Value = {};
    for (const field of compile(type as MessageType<unknown>).ordered) {
      if (this.#forPeer && (field.options.floe === true || PEER_DIFFERS.includes(field.name))) continue;
      const wanted = filling === "all" || (filling === "some" && this.below(2) === 0);
      // Messages that contain themselves end somewhere.
      const possible = wanted && (field.kind !== "message" || depth < MAX_DEPTH);
      if (field.repeated)
        out[field.name] = Array.from({ length: possible ? this.count(field) : 0 }, () => this.field(field, filling, depth));
      else if (field.label === "required" || possible) out[field.name] = this.field(field, filling, depth);
    }
    return out;
  }

  /** One and four are the lengths of internet addresses; the peer takes no others. */
  count(field: CompiledField): number {
    return field.options.ipadd === true ? this.one([1, 4, 4]) : 1 + this.below(2);
  }

  field(field: CompiledField, filling: Filling, depth: number): unknown {
    const { options } = field;
    switch (field.kind) {
      case "message":
        return this.message({ name: "", fields: fieldsOf(field) }, filling, depth + 1);
      case "string":
        return this.one(TEXTS);
      case "bytes":
        return options.conv === undefined ? this.bytes(this.one([0, 1, 2, 3, 56, 57, 58, 200])) : this.name();
      case "bool":
        return this.below(2) === 1;
      case "enum":
        return this.one(
          Object.entries(field.enumeration?.().values ?? { none: 0 }).flatMap(([name, value]) => (isOwnValue(name, value) ? [] : [value])),
        );
      default:
        return this.number(field);
    }
  }

  name(): Buffer {
    return this.below(3) === 0 ? this.bytes(this.below(100)) : Buffer.from(this.one(NAMES));
  }

  number({ kind, options }: CompiledField): number | bigint {
    const wide = kind.endsWith("64");
    const bits = wide ? 64 : 32;
    let n = this.one([
      0n,
      1n,
      2n,
      127n,
      128n,
      255n,
      256n,
      0xfffffn,
      0x100001n,
      0x7fffffffn,
      0x12345678n,
      0xffffffffn,
      (1n << 53n) + 1n,
      -1n,
      1n << 63n,
    ]);
    const table = options.dict === undefined ? undefined : VALUE_NAMES[options.dict];
    if (table !== undefined && this.below(4) > 0) n = BigInt(this.one(Object.values(table)));
    for (const [, bit] of BIT_NAMES[options.flags ?? ""] ?? []) if (this.below(3) === 0) n |= BigInt(bit);
    const signed = kind === "int32" || kind === "sint32" || kind === "int64" || kind === "sint64";
    const fit = signed ? BigInt.asIntN(bits, n) : BigInt.asUintN(bits, n);
    return wide ? fit : Number(fit);
  }
}

function fieldsOf(field: CompiledField): MessageType<object>["fields"] {
  compiledSub(field);
  if (field.message === undefined) throw new Error(`${field.name} has no message type`);
  return field.message().fields;
}

function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value, 0);
  return out;
}

export function record(type: MessageType<object>, value: object): Buffer {
  const bytes = encode(type, value);
  return Buffer.concat([u32(bytes.length), bytes]);
}

export function magics(kind: ImageKind): Buffer {
  const first = kind.framing === "plain" ? [u32(COMMON_MAGIC)] : kind.framing === "service" ? [u32(SERVICE_MAGIC)] : [];
  return Buffer.concat([...first, u32(kind.magic)]);
}

/** Kinds that hold messages. */
export const KINDS = (Object.keys(IMAGE_MESSAGES) as ImageKindName[]).sort();

/** An image of `kind`: entries with all fields, one with the required ones only, some with some. */
export function syntheticImage(name: ImageKindName, seed: number, { forPeer = false } = {}): Buffer {
  const values = new Values(seed, { forPeer });
  const kind: ImageKind = IMAGE_KINDS[name];
  const messages = IMAGE_MESSAGES[name];
  if (messages === undefined) throw new Error(`${name} holds no messages`);
  if (kind.extra === "ghost") return ghostImage(values, seed);
  const parts = [magics(kind)];
  const fillings: Filling[] = ["all", "none", "some", "some", "some", "all"];
  if (messages.first !== undefined) parts.push(record(messages.first, values.message(messages.first, "all")));
  for (const [i, filling] of fillings.entries()) {
    const message = values.message(messages.entry, filling);
    const extra = extraOf(kind, { message, isLast: i === fillings.length - 1 }, values);
    parts.push(record(messages.entry, message), extra);
  }
  return Buffer.concat(parts);
}

/** Puts lengths into the message and makes the bytes behind it. */
function extraOf(kind: ImageKind, { message, isLast }: { message: Value; isLast: boolean }, values: Values): Buffer {
  const some = (): number => values.one([0, 1, 3, 4, 8, 57, 100]);
  switch (kind.extra) {
    case "bytes":
    case "length":
      message[kind.extra] = some();
      return values.bytes(Number(message[kind.extra]));
    case "keys-values":
      Object.assign(message, { keys_bytes: some(), values_bytes: some() });
      return values.bytes(Number(message["keys_bytes"]) + Number(message["values_bytes"]));
    case "tcp-queues":
      Object.assign(message, { inq_len: some(), outq_len: some() });
      return values.bytes(Number(message["inq_len"]) + Number(message["outq_len"]));
    case "shm": {
      const size = some();
      message["size"] = BigInt(size);
      // The peer reads content that is not there, and then goes wrong, unless the image ends.
      message["in_pagemaps"] = isLast;
      return isLast ? Buffer.alloc(0) : filled(values.bytes(size), 4);
    }
    case "sem": {
      const count = some();
      message["nsems"] = count;
      return filled(values.bytes(count * 2), 8);
    }
    case "msg": {
      const count = values.below(4);
      message["qnum"] = count;
      return Buffer.concat(Array.from({ length: count }, () => queuedMessage(values, some())));
    }
    default:
      return Buffer.alloc(0);
  }
}

function queuedMessage(values: Values, msize: number): Buffer {
  return Buffer.concat([record(ipcMsg, { mtype: BigInt(1 + values.below(1000)), msize }), filled(values.bytes(msize), 8)]);
}

function filled(bytes: Buffer, unit: number): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((unit - (bytes.length % unit)) % unit)]);
}

/** Content of a deleted file, in chunks or as one run. */
function ghostImage(values: Values, seed: number): Buffer {
  const { first, entry } = IMAGE_MESSAGES.GHOST_FILE ?? {};
  if (first === undefined || entry === undefined) throw new Error("GHOST_FILE has two messages");
  const chunks = seed % 2 === 0;
  const head = { ...values.message(first, "all"), chunks };
  const parts = [magics(IMAGE_KINDS.GHOST_FILE), record(first, head)];
  if (!chunks) return Buffer.concat([...parts, values.bytes(1000)]);
  for (const length of [1, 100, 57]) parts.push(record(entry, { len: BigInt(length), off: BigInt(length * 4096) }), values.bytes(length));
  return Buffer.concat(parts);
}
