/**
 * What node:path does with names of files, for names of any bytes (text.ts). Not every JavaScript runtime leaves lone surrogates as they
 * are there, so such a text is taken apart as bytes: what matters in a path is ASCII.
 */
import { posix } from "node:path";
import { bytesOf, textOf } from "./text.js";

const ESCAPED = /[\udc80-\udcff]/;

const asBytes = (path: string): string => bytesOf(path).toString("latin1");
const asText = (bytes: string): string => textOf(Buffer.from(bytes, "latin1"));

function ofOne(call: (path: string) => string): (path: string) => string {
  return (path) => (ESCAPED.test(path) ? asText(call(asBytes(path))) : call(path));
}

export const basename = ofOne((path) => posix.basename(path));
export const dirname = ofOne(posix.dirname);
export const normalize = ofOne(posix.normalize);

export function join(...parts: readonly string[]): string {
  return parts.some((part) => ESCAPED.test(part)) ? asText(posix.join(...parts.map(asBytes))) : posix.join(...parts);
}

/** `path` from the root of the file system. */
export function resolve(path: string): string {
  if (!ESCAPED.test(path)) return posix.resolve(path);
  return path.startsWith("/") ? normalize(path) : join(process.cwd(), path);
}
