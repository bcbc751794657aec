/**
 * What node:fs does with names of files, for names of any bytes: texts as in text.ts go in and come out.
 *
 * node:fs itself takes bytes; given a text it writes UTF-8, and what it reads it takes for UTF-8, where every other byte is
 * lost. The usual name costs one look at it. Descriptors are left to node:fs.
 */
import * as fs from "node:fs";
import { bytesOf, textOf } from "./text.js";

const LOST = "\ufffd";
const ESCAPED = /[\udc80-\udcff]/;

function named(path: fs.PathLike): fs.PathLike {
  return typeof path === "string" && ESCAPED.test(path) ? bytesOf(path) : path;
}

type ByName = (path: fs.PathLike, ...rest: never[]) => unknown;

/** `call` for names of any bytes. The casts keep its overloads: what follows the name is passed on as it is. */
function byName<Call extends ByName>(call: Call): Call {
  return ((path: fs.PathLike, ...rest: never[]) => call(named(path), ...rest)) as Call;
}

function byTwoNames<Call extends (one: fs.PathLike, other: fs.PathLike) => void>(call: Call) {
  return (one: fs.PathLike, other: fs.PathLike): void => call(named(one), named(other));
}

export const chmodSync = byName(fs.chmodSync);
export const chownSync = byName(fs.chownSync);
export const existsSync = byName(fs.existsSync);
export const lchownSync = byName(fs.lchownSync);
export const lstatSync = byName(fs.lstatSync as ByName) as typeof fs.lstatSync;
export const mkdirSync = byName(fs.mkdirSync as ByName) as typeof fs.mkdirSync;
export const openSync = byName(fs.openSync);
export const rmSync = byName(fs.rmSync);
export const rmdirSync = byName(fs.rmdirSync);
export const statSync = byName(fs.statSync as ByName) as typeof fs.statSync;
export const statfsSync = byName(fs.statfsSync as ByName) as typeof fs.statfsSync;
export const unlinkSync = byName(fs.unlinkSync);
export const writeFileSync = byName(fs.writeFileSync as ByName) as typeof fs.writeFileSync;
export const linkSync = byTwoNames(fs.linkSync);
export const renameSync = byTwoNames(fs.renameSync);
/** The target is any text. */
export const symlinkSync = byTwoNames(fs.symlinkSync);

export function readlinkSync(path: string): string {
  const text = fs.readlinkSync(named(path));
  return text.includes(LOST) ? textOf(fs.readlinkSync(named(path), { encoding: "buffer" })) : text;
}

export function readdirSync(path: string): string[] {
  const names = fs.readdirSync(named(path));
  return names.some((name) => name.includes(LOST)) ? fs.readdirSync(named(path), { encoding: "buffer" }).map(textOf) : names;
}

/** Makes a directory whose name begins with `prefix`. */
export function mkdtempSync(prefix: string): string {
  return ESCAPED.test(prefix) ? textOf(fs.mkdtempSync(bytesOf(prefix) as never, { encoding: "buffer" })) : fs.mkdtempSync(prefix);
}
