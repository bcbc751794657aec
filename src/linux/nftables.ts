/**
 * nftables(8) by netlink: a table that drops every segment of one TCP connection, and its removal.
 *
 * Source: uapi/linux/netfilter/nf_tables.h, nfnetlink.h.
 */
import { KernelError } from "../errors.js";
import { ERRNO } from "./errno.js";
import { close } from "./files.js";
import { attributes } from "./sock-diag.js";
import { NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, attribute, encodeMessage, exchange, openNetlink } from "./netlink.js";

const NETLINK_NETFILTER = 12;
const BATCH_BEGIN = 16;
const BATCH_END = 17;
const SUBSYSTEM = 10;
const NFPROTO_INET = 1;
const NEWTABLE = 0;
const GETTABLE = 1;
const DELTABLE = 2;
const TABLE_NAME = 1;
const TABLE_F_OWNER = 2;
/** struct nfgenmsg. */
const GENERIC_BYTES = 4;
const NEWCHAIN = 3;
const NEWRULE = 6;
const NESTED = 0x8000;

const HOOKS = { input: 1, output: 3 } as const;
const REGISTER = 1;
const VERDICT_REGISTER = 0;
const NF_DROP = 0;
const NF_ACCEPT = 1;
const META_NFPROTO = 15;
const META_L4PROTO = 16;
const NETWORK_HEADER = 1;
const TRANSPORT_HEADER = 2;
const IPPROTO_TCP = 6;

/** One end of a connection; 4 or 16 bytes of address. */
export interface TcpEnd {
  readonly address: Buffer;
  readonly port: number;
}

const text = (type: number, value: string) => attribute(type, Buffer.from(`${value}\0`));
const nested = (type: number, ...parts: Buffer[]) => attribute(type | NESTED, Buffer.concat(parts));

function number(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0, 0);
  return attribute(type, bytes);
}

function port(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value, 0);
  return bytes;
}

/** NFTA_LIST_ELEM holding NFTA_EXPR_NAME and NFTA_EXPR_DATA. */
const expression = (name: string, ...data: Buffer[]) => nested(1, text(1, name), nested(2, ...data));
const equals = (value: Buffer) => expression("cmp", number(1, REGISTER), number(2, 0), nested(3, attribute(1, value)));
const meta = (key: number, value: number) => [expression("meta", number(1, REGISTER), number(2, key)), equals(Buffer.from([value]))];
const payload = (base: number, offset: number, value: Buffer) => [
  expression("payload", number(1, REGISTER), number(2, base), number(3, offset), number(4, value.length)),
  equals(value),
];
const drop = () => expression("immediate", number(1, VERDICT_REGISTER), nested(2, nested(2, number(1, NF_DROP))));

/** Matches segments from one end to the other. */
function segments(from: TcpEnd, to: TcpEnd): Buffer[] {
  const is6 = from.address.length === 16;
  const [source, destination] = is6 ? [8, 24] : [12, 16];
  return [
    ...meta(META_NFPROTO, is6 ? 10 : 2),
    ...payload(NETWORK_HEADER, source, from.address),
    ...payload(NETWORK_HEADER, destination, to.address),
    ...meta(META_L4PROTO, IPPROTO_TCP),
    ...payload(TRANSPORT_HEADER, 0, port(from.port)),
    ...payload(TRANSPORT_HEADER, 2, port(to.port)),
  ];
}

interface Command {
  readonly type: number;
  readonly flags?: number;
  readonly attributes: readonly Buffer[];
}

/** Several commands at once: all of them happen, or none. */
function batch(commands: readonly Command[], doing: string, owner?: number): void {
  const header = (family: number, resource: number) => Buffer.from([family, 0, resource >> 8, resource & 0xff]);
  const messages = commands.map(({ type, flags = 0, attributes }, i) =>
    encodeMessage({
      type: (SUBSYSTEM << 8) | type,
      flags: NLM_F_REQUEST | NLM_F_ACK | flags,
      sequence: i + 2,
      body: Buffer.concat([header(NFPROTO_INET, 0), ...attributes]),
    }),
  );
  const edge = (type: number, sequence: number) => encodeMessage({ type, flags: NLM_F_REQUEST, sequence, body: header(0, SUBSYSTEM) });
  const fd = owner ?? openFilter();
  try {
    exchange(fd, Buffer.concat([edge(BATCH_BEGIN, 1), ...messages, edge(BATCH_END, commands.length + 2)]), doing);
  } finally {
    if (owner === undefined) close(fd);
  }
}

/** A socket to talk to nf_tables with. */
export function openFilter(): number {
  return openNetlink(NETLINK_NETFILTER);
}

/** Names of tables that match. */
export function tablesNamed(pattern: RegExp): string[] {
  const fd = openFilter();
  try {
    const body = Buffer.from([NFPROTO_INET, 0, 0, 0]);
    const bytes = encodeMessage({ type: (SUBSYSTEM << 8) | GETTABLE, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence: 1, body });
    return exchange(fd, bytes, "asking for nftables tables")
      .filter((answer) => answer.type === ((SUBSYSTEM << 8) | NEWTABLE))
      .map((answer) => attributes(answer.body.subarray(GENERIC_BYTES)).get(TABLE_NAME)?.toString("latin1").replace(/\0.*$/s, "") ?? "")
      .filter((name) => pattern.test(name));
  } finally {
    close(fd);
  }
}

/**
 * Makes the table `name`, which holds back every segment between the two ends. `owner`: a socket to which the table belongs:
 * it goes when that is closed (since 5.12).
 */
export function silence(name: string, { here, there }: { here: TcpEnd; there: TcpEnd }, owner?: number): void {
  const chain = (hook: keyof typeof HOOKS): Command => ({
    type: NEWCHAIN,
    flags: NLM_F_CREATE,
    attributes: [text(1, name), text(3, hook), nested(4, number(1, HOOKS[hook]), number(2, 0)), number(5, NF_ACCEPT), text(7, "filter")],
  });
  const rule = (hook: string, from: TcpEnd, to: TcpEnd): Command => ({
    type: NEWRULE,
    flags: NLM_F_CREATE,
    attributes: [text(1, name), text(2, hook), nested(4, ...segments(from, to), drop())],
  });
  batch(
    [
      { type: NEWTABLE, flags: NLM_F_CREATE, attributes: [text(1, name), ...(owner === undefined ? [] : [number(2, TABLE_F_OWNER)])] },
      chain("input"),
      chain("output"),
      rule("input", there, here),
      rule("output", here, there),
    ],
    `holding back the segments of a connection (nftables table ${name})`,
    owner,
  );
}

/** Removes the table `name`; false: there is none. */
export function unsilence(name: string): boolean {
  try {
    batch([{ type: DELTABLE, attributes: [text(1, name)] }], `removing the nftables table ${name}`);
    return true;
  } catch (error) {
    if (error instanceof KernelError && error.errno === ERRNO.ENOENT) return false;
    throw error;
  }
}
