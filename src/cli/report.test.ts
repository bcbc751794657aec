/**
 * How errors are told.
 */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ImageError, KernelError, Problems, Refusal, UsageError } from "../errors.js";
import { describeError } from "./report.js";

const refusal = new Refusal({
  code: "GHOST_FILE_TOO_LARGE",
  process: { pid: 4120, comm: "nginx" },
  resource: 'fd 12, the deleted file "/tmp/upload"',
  because: "it has 3 GiB, the limit is 1 MiB",
  remedy: ["--ghost-limit 4G", "Let the process close the file first"],
});
const refusalText = [
  'Cannot dump process 4120 (nginx): fd 12, the deleted file "/tmp/upload": it has 3 GiB, the limit is 1 MiB',
  "  Try: --ghost-limit 4G",
  "       Let the process close the file first   [GHOST_FILE_TOO_LARGE]",
].join("\n");

test("a refusal names process, resource, reason, remedies and code", () => {
  assert.equal(describeError(refusal), refusalText);
});

test("several problems are all told", () => {
  const image = new ImageError({ code: "IMAGE_MISSING", place: { file: "mm-7.img" }, because: "there is no such file" });
  const text = describeError(new Problems([refusal, image]));
  assert.ok(text.startsWith(`${refusalText}\nCannot read image "mm-7.img": there is no such file   [IMAGE_MISSING]\n`));
  assert.ok(text.endsWith("2 problems were found; nothing was done"));
});

test("what helps against several problems in a row is told once", () => {
  const lost = (comm: string, remedy: string) =>
    new Refusal({ code: "X", process: { pid: 1, comm }, resource: "it", because: "so", remedy: [remedy] });
  assert.deepEqual(describeError(new Problems([lost("a", "this"), lost("b", "this"), lost("c", "that")])).split("\n"), [
    "Cannot dump process 1 (a): it: so   [X]",
    "Cannot dump process 1 (b): it: so",
    "  Try: this   [X]",
    "Cannot dump process 1 (c): it: so",
    "  Try: that   [X]",
    "3 problems were found; nothing was done",
  ]);
});

test("only a bug of ours shows a stack", () => {
  assert.equal(describeError(new UsageError({ code: "X", message: "Cannot do it" })), "Cannot do it   [X]");
  assert.match(describeError(new TypeError("oops")), /This is a bug of Floe.*TypeError: oops\n {4}at /s);
  assert.match(describeError("text"), /This is a bug of Floe.*text/s);
});

test("every error code has a heading in docs/errors.md", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter(
    (path) => path.endsWith(".ts") && !path.endsWith(".test.ts"),
  );
  const headings = new Set(readFileSync(join(root, "docs/errors.md"), "utf8").match(/(?<=^### )\w+$/gm));
  const missing = sources.flatMap((path) => {
    const codes = readFileSync(join(root, "src", path), "utf8").match(/(?<=code: |refuse\(|bad\()"[A-Z]+(?:_[A-Z]+)+"/g) ?? [];
    return codes
      .map((code) => code.slice(1, -1))
      .filter((code) => !headings.has(code))
      .map((code) => `${path}: ${code}`);
  });
  assert.deepEqual(missing, []);
});

test("a system call that failed is told with its arguments, and what it was for", () => {
  const error = new KernelError({ call: 'openat(-100, "/x")', errno: 13, errnoText: "EACCES (permission denied)", doing: "opening it" });
  assert.equal(describeError(error), 'opening it: openat(-100, "/x"): EACCES (permission denied)   [KERNEL_CALL_FAILED]');
});
