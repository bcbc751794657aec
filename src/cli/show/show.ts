/**
 * `floe show DIR`: what a directory of images holds, for people or, with --json, for programs.
 */
import { print } from "../output.js";
import { DirectorySource } from "../../images/source.js";
import type { Settings } from "../options/spec.js";
import { readDump } from "./processes.js";
import { dumpText } from "./text.js";

export function show(directory: string, settings: Settings): number {
  const source = new DirectorySource(directory);
  try {
    const dump = readDump(source);
    print(settings.json ? `${JSON.stringify(dump, undefined, 2)}\n` : dumpText(dump));
    return 0;
  } finally {
    source.close();
  }
}
