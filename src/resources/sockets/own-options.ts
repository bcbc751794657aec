/**
 * Options of sockets that CRIU's images have no field for: kept by their numbers where they differ from those of a socket
 * that nobody has touched.
 *
 * Read from   getsockopt(2)
 * Made with   setsockopt(2)
 */
import { closeSync } from "node:fs";
import { type SocketOption, getsockoptInt, setsockopt, setsockoptInt } from "../../linux/sockets.js";
import type { Fd } from "../part.js";
import { type Asked, type SocketKind, askedDirectly } from "./asked.js";
import type { FloeOption, FloeOptionBytes } from "./options.schema.js";
import { socketOf } from "./raw.js";

/** Longer than any value that is kept: a routing header with some hundred addresses. */
const MAX_BYTES = 2048;

/** The value, or undefined where the socket does not know the option. */
export function tryGet(fd: Fd, option: SocketOption): number | undefined {
  try {
    return getsockoptInt(fd, option);
  } catch {
    return undefined;
  }
}

/** Values of a socket nobody has touched, by kind, level and name. */
const fresh = new Map<string, Map<number, number | Buffer | undefined>>();
const keyOf = ({ level, name }: SocketOption) => level * 0x10000 + name;

function freshValues(
  kind: SocketKind,
  options: readonly SocketOption[],
  read: (asked: Asked, option: SocketOption) => number | Buffer | undefined,
) {
  const key = `${kind.family}/${kind.type}/${kind.proto}`;
  const values = fresh.get(key) ?? new Map<number, number | Buffer | undefined>();
  fresh.set(key, values);
  const unknown = options.filter((o) => !values.has(keyOf(o)));
  if (unknown.length > 0) {
    const fd = socketOf(kind);
    for (const o of unknown) values.set(keyOf(o), read(askedDirectly(fd), o));
    closeSync(fd);
  }
  return values;
}

/** Integer options that are not as they were in the beginning. */
export function changedNumbers(asked: Asked, kind: SocketKind, options: readonly SocketOption[]): FloeOption[] {
  const before = freshValues(kind, options, (of, o) => of.int(o));
  const changed: FloeOption[] = [];
  for (const o of options) {
    const first = before.get(keyOf(o));
    // What a fresh socket of the kind does not know, none does.
    const value = first === undefined ? undefined : asked.int(o);
    if (value !== undefined && value !== first) changed.push({ level: o.level, name: o.name, value });
  }
  return changed;
}

/** The same for options of other types. */
export function changedBytes(asked: Asked, kind: SocketKind, options: readonly SocketOption[]): FloeOptionBytes[] {
  const before = freshValues(kind, options, (of, o) => of.bytes(o, MAX_BYTES));
  const changed: FloeOptionBytes[] = [];
  for (const o of options) {
    const first = before.get(keyOf(o));
    const value = first === undefined ? undefined : asked.bytes(o, MAX_BYTES);
    if (value !== undefined && !(Buffer.isBuffer(first) && first.equals(value))) changed.push({ level: o.level, name: o.name, value });
  }
  return changed;
}

export function setNumbers(fd: Fd, options: readonly FloeOption[]): void {
  for (const { level, name, value } of options) setsockoptInt(fd, { level, name }, value);
}

export function setBytes(fd: Fd, options: readonly FloeOptionBytes[]): void {
  for (const { level, name, value } of options) setsockopt(fd, { level, name }, value);
}
