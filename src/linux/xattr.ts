/**
 * Extended attributes, xattr(7), of the very file that a path leads to; through /proc/self/fd/N also of one without a name.
 *
 * Limits: uapi/linux/limits.h (XATTR_LIST_MAX, XATTR_SIZE_MAX).
 */
import { ERRNO, checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";
import { cstring, textOf } from "./text.js";

const XATTR_SIZE_MAX = 64 << 10;

/** An attribute: its name with the class in front, and its value. */
export interface Xattr {
  readonly name: string;
  readonly value: Buffer;
}

/** ssize_t listxattr(…), getxattr(…) — all attributes that may be read; none where the file system has no such things. */
export function readXattrs(path: string): Xattr[] {
  const names = Buffer.alloc(XATTR_SIZE_MAX);
  const length = syscallNumber(SYS.listxattr, cstring(path), names, names.length);
  if (length === -ERRNO.ENOTSUP) return [];
  checked(length, () => `listxattr("${path}")`);
  const text = textOf(names.subarray(0, length));
  const found: Xattr[] = [];
  for (const name of text.split("\0").filter((one) => one !== "")) {
    const value = Buffer.alloc(XATTR_SIZE_MAX);
    const size = syscallNumber(SYS.getxattr, cstring(path), cstring(name), value, value.length);
    if (size >= 0) found.push({ name, value: Buffer.from(value.subarray(0, size)) });
  }
  return found;
}

/** int setxattr(…). */
export function setXattr(path: string, { name, value }: Xattr): void {
  checked(syscallNumber(SYS.setxattr, cstring(path), cstring(name), value, value.length, 0), () => `setxattr("${path}", "${name}")`);
}

const PROTOCOL_BYTES = 64;

/** The name of the protocol of a socket, as in "UDP" (system.sockprotoname); undefined: it is none. */
export function socketProtocol(path: string): string | undefined {
  const value = Buffer.alloc(PROTOCOL_BYTES);
  const size = syscallNumber(SYS.getxattr, cstring(path), cstring("system.sockprotoname"), value, value.length);
  return size < 0 ? undefined : value.toString("latin1", 0, size).replace(/\0.*$/s, "");
}
