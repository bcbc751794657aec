/**
 * `crit`: images as JSON and back, and what a directory of images holds.
 */
import { readFileSync, writeFileSync, writeSync } from "node:fs";
import { UsageError } from "../../errors.js";
import { reportError } from "../report.js";
import { CRIU_VERSION, floeVersion } from "../version.js";
import { explore } from "./explore.js";
import { countEntries, decodeImage, encodeImage } from "./image-json.js";
import { type JsonValue, parseJson, writeJson } from "./json.js";
import { type CritRequest, critHelp, readWords } from "./words.js";

const STDIN = 0;
const STDOUT = 1;

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
  switch (request.command) {
    case "decode":
      return writeJsonText(decodeImage(readInput(input), { file: nameOf(input), pretty: request.pretty }), request);
    case "show":
      return writeJsonText(decodeImage(readInput(input), { file: nameOf(input), pretty: true, noPayload: request.noPayload }), request);
    case "encode":
      return writeTo(output, encodeImage(parseJson(readInput(input).toString("utf8"), nameOf(input)), nameOf(input)));
    case "info": {
      const { magic, count } = countEntries(readInput(input), nameOf(input));
      return writeJsonText(
        new Map<string, JsonValue>([
          ["magic", magic],
          ["count", count],
        ]),
        request,
      );
    }
    case "x":
      return writeTo(
        output,
        explore(input ?? ".", request.explorer)
          .map((line) => `${line}\n`)
          .join(""),
      );
    case undefined:
      return;
  }
}

const nameOf = (input: string | undefined): string => input ?? "standard input";

/** Standard output gets a line break at the end; files hold the JSON alone. */
function writeJsonText(json: JsonValue, { pretty, output }: CritRequest): void {
  writeTo(output, writeJson(json, pretty) + (output === undefined ? "\n" : ""));
}

function readInput(input: string | undefined): Buffer {
  try {
    return readFileSync(input ?? STDIN);
  } catch (cause) {
    throw new UsageError({ code: "CRIT_FILE_UNUSABLE", message: `Cannot read "${nameOf(input)}": ${textOf(cause)}`, cause });
  }
}

function writeTo(output: string | undefined, content: string | Buffer): void {
  if (output === undefined) return writeOut(content);
  try {
    writeFileSync(output, content);
  } catch (cause) {
    throw new UsageError({ code: "CRIT_FILE_UNUSABLE", message: `Cannot write "${output}": ${textOf(cause)}`, cause });
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
      if (code !== "EAGAIN") throw new UsageError({ code: "CRIT_FILE_UNUSABLE", message: `Cannot write: ${textOf(error)}`, cause: error });
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

const textOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));
