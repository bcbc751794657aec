/**
 * nftables(8) by netlink: tables that drop every segment of TCP connections, and their removal.
 *
 * Source: uapi/linux/netfilter/nf_tables.h, nfnetlink.h.
 */
import { KernelError } from "../errors.js";
import { ERRNO } from "./errno.js";
import { close } from "./files.js";
import { type AddressBytes, type Connection, connectionsOf, elements, keyBytes } from "./nft-sets.js";
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
const NEWSET = 9;
const NEWSETELEM = 12;
const GETSETELEM = 13;
const DELSETELEM = 14;
const NESTED = 0x8000;

const HOOKS = { input: 1, output: 3 } as const;
const REGISTER = 1;
/** NFT_REG32_00: the first of sixteen registers of four bytes each, which make up the others. */
const FIRST_WORD = 8;
const VERDICT_REGISTER = 0;
const NF_DROP = 0;
const NF_ACCEPT = 1;
const META_NFPROTO = 15;
const META_L4PROTO = 16;
const NETWORK_HEADER = 1;
const TRANSPORT_HEADER = 2;
const IPPROTO_TCP = 6;

const text = (type: number, value: string) => attribute(type, Buffer.from(`${value}\0`));
const nested = (type: number, ...parts: Buffer[]) => attribute(type | NESTED, Buffer.concat(parts));

function number(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0, 0);
  return attribute(type, bytes);
}

/** NFTA_LIST_ELEM holding NFTA_EXPR_NAME and NFTA_EXPR_DATA. */
const expression = (name: string, ...data: Buffer[]) => nested(1, text(1, name), nested(2, ...data));
const equals = (value: Buffer) => expression("cmp", number(1, REGISTER), number(2, 0), nested(3, attribute(1, value)));
const meta = (key: number, value: number) => [expression("meta", number(1, REGISTER), number(2, key)), equals(Buffer.from([value]))];
const load = (base: number, at: { offset: number; bytes: number; into: number }) =>
  expression("payload", number(1, at.into), number(2, base), number(3, at.offset), number(4, at.bytes));
const drop = () => expression("immediate", number(1, VERDICT_REGISTER), nested(2, nested(2, number(1, NF_DROP))));

/** Matches segments whose ends are in the set `name`. */
function segmentsIn(name: string, addressBytes: AddressBytes): Buffer[] {
  const words = addressBytes / 4;
  const [source, destination] = addressBytes === 16 ? [8, 24] : [12, 16];
  return [
    ...meta(META_NFPROTO, addressBytes === 16 ? 10 : 2),
    ...meta(META_L4PROTO, IPPROTO_TCP),
    load(NETWORK_HEADER, { offset: source, bytes: addressBytes, into: FIRST_WORD }),
    load(NETWORK_HEADER, { offset: destination, bytes: addressBytes, into: FIRST_WORD + words }),
    load(TRANSPORT_HEADER, { offset: 0, bytes: 4, into: FIRST_WORD + 2 * words }),
    expression("lookup", text(1, name), number(2, FIRST_WORD)),
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
      // A command that fails is answered in any case.
      flags: NLM_F_REQUEST | (i === commands.length - 1 ? NLM_F_ACK : 0) | flags,
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

/** Families of tables; uapi/linux/netfilter.h. */
export const FAMILY = { inet: NFPROTO_INET, ipv4: 2, ipv6: 10 } as const;

/** Names of tables that match. */
export function tablesNamed(pattern: RegExp, family: number = FAMILY.inet): string[] {
  const fd = openFilter();
  try {
    const body = Buffer.from([family, 0, 0, 0]);
    const bytes = encodeMessage({ type: (SUBSYSTEM << 8) | GETTABLE, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence: 1, body });
    return exchange(fd, bytes, "asking for nftables tables")
      .filter((answer) => answer.type === ((SUBSYSTEM << 8) | NEWTABLE))
      .map((answer) => attributes(answer.body.subarray(GENERIC_BYTES)).get(TABLE_NAME)?.toString("latin1").replace(/\0.*$/s, "") ?? "")
      .filter((name) => pattern.test(name));
  } finally {
    close(fd);
  }
}

/** Tables or connections that one batch is about: it has to fit into the socket's buffer. */
const AT_ONCE = 1000;
const FAMILIES: readonly AddressBytes[] = [4, 16];
const HOOK_NAMES = ["input", "output"] as const;
/** Name of a set of a table: of segments that come in, or go out. */
const setName = (hook: keyof typeof HOOKS, addressBytes: AddressBytes) => `${hook}${addressBytes === 4 ? 4 : 6}`;

/** What belongs to connections of one family of addresses. */
const ofFamily = (connections: readonly Connection[], addressBytes: AddressBytes) =>
  connections.filter(({ here }) => here.address.length === addressBytes);

/** Puts connections into the sets of a table, or takes them out. */
function elementCommands(type: number, name: string, connections: readonly Connection[]): Command[] {
  return FAMILIES.flatMap((bytes) => {
    const some = ofFamily(connections, bytes);
    if (some.length === 0) return [];
    return HOOK_NAMES.map(
      (hook): Command => ({
        type,
        flags: type === NEWSETELEM ? NLM_F_CREATE : 0,
        attributes: [text(1, name), text(2, setName(hook, bytes)), elements(hook === "input" ? "there" : "here", some, bytes)],
      }),
    );
  });
}

/** A set of one hook and family, and the rule that drops what is in it. */
function setCommands(name: string, hook: keyof typeof HOOKS, addressBytes: AddressBytes): Command[] {
  const set = setName(hook, addressBytes);
  const id = addressBytes + HOOKS[hook];
  const [flags, keyType, keyLength, setId] = [number(3, 0), number(4, 0), number(5, keyBytes(addressBytes)), number(10, id)];
  return [
    { type: NEWSET, flags: NLM_F_CREATE, attributes: [text(1, name), text(2, set), flags, keyType, keyLength, setId] },
    {
      type: NEWRULE,
      flags: NLM_F_CREATE,
      attributes: [text(1, name), text(2, hook), nested(4, ...segmentsIn(set, addressBytes), drop())],
    },
  ];
}

/**
 * Makes the table `name`, which holds back every segment between the two ends of connections. `owner`: a socket to which the table
 * belongs: it goes when that is closed (since 5.12).
 */
export function silence(name: string, connections: readonly Connection[], owner?: number): void {
  const chain = (hook: keyof typeof HOOKS): Command => ({
    type: NEWCHAIN,
    flags: NLM_F_CREATE,
    attributes: [text(1, name), text(3, hook), nested(4, number(1, HOOKS[hook]), number(2, 0)), number(5, NF_ACCEPT), text(7, "filter")],
  });
  const table: Command = {
    type: NEWTABLE,
    flags: NLM_F_CREATE,
    attributes: [text(1, name), ...(owner === undefined ? [] : [number(2, TABLE_F_OWNER)])],
  };
  const families = FAMILIES.filter((bytes) => ofFamily(connections, bytes).length > 0);
  const sets = families.flatMap((bytes) => HOOK_NAMES.flatMap((hook) => setCommands(name, hook, bytes)));
  for (let i = 0; i < connections.length; i += AT_ONCE) {
    const some = connections.slice(i, i + AT_ONCE);
    const doing = `holding back the segments of ${some.length} connections (nftables table ${name})`;
    const filling = elementCommands(NEWSETELEM, name, some);
    batch(i === 0 ? [table, chain("input"), chain("output"), ...sets, ...filling] : filling, doing, owner);
  }
}

/** The connections whose segments the table `name` holds back. */
export function silencedBy(name: string): Connection[] {
  return FAMILIES.flatMap((bytes) => {
    const fd = openFilter();
    try {
      const body = Buffer.concat([Buffer.from([NFPROTO_INET, 0, 0, 0]), text(1, name), text(2, setName("output", bytes))]);
      const request = encodeMessage({ type: (SUBSYSTEM << 8) | GETSETELEM, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence: 1, body });
      return exchange(fd, request, `asking for the connections of the nftables table ${name}`)
        .filter((answer) => answer.type === ((SUBSYSTEM << 8) | NEWSETELEM))
        .flatMap((answer) => connectionsOf(attributes(answer.body.subarray(GENERIC_BYTES)).get(3) ?? Buffer.alloc(0), bytes));
    } catch (error) {
      // There is no set for this family, or no such table any more.
      if (error instanceof KernelError && error.errno === ERRNO.ENOENT) return [];
      throw error;
    } finally {
      close(fd);
    }
  });
}

/** Lets some connections of the table `name` go. */
export function unsilenceSome(name: string, connections: readonly Connection[]): void {
  for (let i = 0; i < connections.length; i += AT_ONCE) {
    const some = connections.slice(i, i + AT_ONCE);
    batch(elementCommands(DELSETELEM, name, some), `letting ${some.length} connections go (nftables table ${name})`);
  }
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

/**
 * Removes tables that are there, many at once: the kernel waits some 15 ms for each batch, however much that removes. One that is
 * gone meanwhile is no error.
 */
export function unsilenceAll(names: readonly string[]): void {
  for (let i = 0; i < names.length; i += AT_ONCE) {
    const part = names.slice(i, i + AT_ONCE);
    try {
      batch(
        part.map((name) => ({ type: DELTABLE, attributes: [text(1, name)] })),
        `removing ${part.length} nftables tables`,
      );
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== ERRNO.ENOENT) throw error;
      for (const name of part) unsilence(name);
    }
  }
}
