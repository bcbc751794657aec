/**
 * Which program we are: `floe`, `criu` or `crit`.
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { parseStrings } from "../linux/proc/strings.js";

/** Runs a front end with its words, and gives the exit code. */
export type Front = (words: readonly string[]) => Promise<number>;

const criu: Front = async (words) => (await import("./criu.js")).criu(words);
const crit: Front = async (words) => (await import("./crit/main.js")).crit(words);
const floe: Front = async (words) => (await import("./floe.js")).floe(words);

/** The name that we were called by; an executable that carries its program inside finds it nowhere but in the kernel. */
export function calledAs(): string {
  const script = process.argv[1] ?? "";
  const isEmbedded = script === "" || script.startsWith("/$bunfs/");
  const path = isEmbedded ? (readFileSync("/proc/self/cmdline", "utf8").split("\0")[0] ?? "") : script;
  return basename(path).replace(/\.[cm]?[jt]s$/, "");
}

/** The words behind the name. Those that are no UTF-8 come as text.ts has them, which takes another look. */
export function wordsGiven(): readonly string[] {
  const words = process.argv.slice(2);
  if (!words.some((word) => word.includes("\ufffd"))) return words;
  return parseStrings(readFileSync("/proc/self/cmdline")).slice(-words.length);
}

/** The front end and its words. */
export function chooseFront(name: string, words: readonly string[]): readonly [Front, readonly string[]] {
  if (name === "criu") return [criu, words];
  if (name === "crit") return [crit, words];
  if (words[0] === "criu") return [criu, words.slice(1)];
  if (words[0] === "crit") return [crit, words.slice(1)];
  return [floe, words];
}
