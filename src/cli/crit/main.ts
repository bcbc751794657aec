/**
 * `crit`: images as JSON and back, and what a directory of images holds.
 */
import { readFileSync, readSync, writeFileSync, writeSync } from "node:fs";
import { UsageError } from "../../errors.js";
import { reportError } from "../report.js";
import { CRIU_VERSION, floeVersion } from "../version.js";
import { explore } from "./explore.js";
import { countEntries, decodeImage, encodeImage } from "./image-json.js";
import { type JsonValue, parseJson, writeJson } from "./json.js";
import { type CritRequest, critHelp, readWords } from "./words.js";

const STDIN = 0;
const STDOUT = 1;
const READ_BYTES = 1 << 16;

/** Runs crit with its words and gives the exit code: 1 when the work failed, 2 when the words are wrong. */
export function crit(words: readonly string[]): number {
  try {
    const request = readWords(words);
    if (request.help) writeOut(critHelp(request.command));
    else if (request.command === undefined) writeOut(`${CRIU_VERSION}\nFloe ${floeVersion()}\n`);
    else run(request);
    return 0;
  } catch (error) {
    reportError(error);
    return error instanceof UsageError && error.code.startsWith("CRIT_WORDS_") ? 2 : 1;
  }
}

function run(request: CritRequest): void {
  const { input, output } = request;
  const file = input ?? "standard input";
  switch (request.command) {
    case "decode":
      writeJsonText(decodeImage(readInput(input), { file, pretty: request.pretty, noPayload: request.noPayload }), request);
      break;
    case "show":
      writeJsonText(decodeImage(readInput(input), { file, pretty: true, noPayload: request.noPayload }), request);
      break;
    case "encode":
      writeTo(output, encodeImage(parseJson(readInput(input).toString("utf8"), file), file));
      break;
    case "info": {
      const info = countEntries(readInput(input), file);
      writeJsonText(new Map<string, JsonValue>(Object.entries(info)), request);
      break;
    }
    case "x": {
      const lines = explore(input ?? ".", request.explorer);
      writeTo(output, lines.map((line) => `${line}\n`).join(""));
    }
  }
}

/** Standard output gets a line break at the end; files hold the JSON alone. */
function writeJsonText(json: JsonValue, { pretty, output }: CritRequest): void {
  writeTo(output, writeJson(json, pretty) + (output === undefined ? "\n" : ""));
}

function readInput(input: string | undefined): Buffer {
  try {
    return input === undefined ? readStandardInput() : readFileSync(input);
  } catch (cause) {
    throw new UsageError({ code: "CRIT_FILE_UNUSABLE", message: `Cannot read "${input ?? "standard input"}": ${textOf(cause)}`, cause });
  }
}

/** All of it; a pipe that its writer made non-blocking has nothing to read at times. */
function readStandardInput(): Buffer {
  const parts: Buffer[] = [];
  for (;;) {
    const part = Buffer.allocUnsafe(READ_BYTES);
    try {
      const length = readSync(STDIN, part);
      if (length === 0) return Buffer.concat(parts);
      parts.push(part.subarray(0, length));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      waitABit();
    }
  }
}

function writeTo(output: string | undefined, content: string | Buffer): void {
  try {
    if (output === undefined) writeOut(content);
    else writeFileSync(output, content);
  } catch (cause) {
    throw new UsageError({ code: "CRIT_FILE_UNUSABLE", message: `Cannot write "${output ?? "standard output"}": ${textOf(cause)}`, cause });
  }
}

/** All of it, however slowly the reader of a pipe takes it. A reader that went away wants no more, and no error. */
function writeOut(content: string | Buffer): void {
  let rest = typeof content === "string" ? Buffer.from(content) : content;
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(STDOUT, rest));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPIPE") return;
      if (code !== "EAGAIN") throw error;
      waitABit();
    }
  }
}

function waitABit(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
}

const textOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));
