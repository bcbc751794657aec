import assert from "node:assert/strict";
import { test } from "node:test";

import { checkFile } from "./layers.mjs";

const problemsOf = (path, ...lines) => checkFile(path, lines.join("\n"));

test("a lower layer importing a higher one is a problem, in every form of import", () => {
  const forms = [
    'import { x } from "../engine/dump.js";',
    'import type { X } from "../engine/dump.js";',
    'export { x } from "../engine/dump.js";',
    'import "../engine/dump.js";',
    'const x = await import("../engine/dump.js");',
    'import {\n  x,\n} from "../engine/dump.js";',
  ];
  for (const form of forms) {
    assert.match(problemsOf("src/target/a.ts", form)[0] ?? `nothing for ${form}`, /target may not import engine/);
  }
});

test("images and target do not know each other", () => {
  assert.equal(problemsOf("src/images/a.ts", 'import { x } from "../target/run.js";').length, 1);
  assert.equal(problemsOf("src/target/a.ts", 'import { x } from "../images/sink.js";').length, 1);
});

test("what a layer may import is no problem", () => {
  const fine = ['import { x } from "node:fs";', 'import { Refusal } from "../errors.js";', 'import { y } from "../linux/errno.js";'];
  assert.deepEqual(problemsOf("src/images/a.ts", ...fine), []);
  assert.deepEqual(problemsOf("src/images/a.ts", '// import { x } from "../target/run.js";', '/* import "../target/b.js" */'), []);
});

test("only src/linux/ffi imports koffi, and nothing else comes from a package", () => {
  assert.deepEqual(problemsOf("src/linux/ffi/a.unsafe.ts", 'import koffi from "koffi";'), []);
  assert.match(problemsOf("src/linux/a.ts", 'import koffi from "koffi";')[0], /a\.ts:1: only src\/linux\/ffi/);
  assert.match(problemsOf("src/engine/a.ts", "", 'import x from "esbuild";')[0], /a\.ts:2: .*"esbuild"/);
});

test("what takes long to load is not loaded by every command", () => {
  assert.match(problemsOf("src/linux/a.ts", 'import { createHash } from "node:crypto";')[0], /takes milliseconds/);
  assert.deepEqual(problemsOf("src/linux/a.ts", 'import type { Hash } from "node:crypto";'), []);
  assert.deepEqual(problemsOf("src/linux/a.test.ts", 'import { createServer } from "node:net";'), []);
});

test("raw calls are not for resources", () => {
  assert.equal(problemsOf("src/resources/tasks/a.ts", 'import { syscall } from "../../linux/ffi/native.unsafe.js";').length, 1);
});

test("a unit test may use the harness, other sources may not", () => {
  const text = 'import { x } from "../../test/harness/lane.js";';
  assert.deepEqual(problemsOf("src/target/a.test.ts", text), []);
  assert.equal(problemsOf("src/target/a.ts", text).length, 1);
});

test("a schema imports schemas only", () => {
  assert.deepEqual(problemsOf("src/resources/a/a.schema.ts", 'import { message } from "../../images/codec/schema.js";'), []);
  assert.equal(problemsOf("src/resources/a/a.schema.ts", 'import { x } from "./a.js";').length, 1);
});

test("a file of more than 600 lines is a problem", () => {
  assert.deepEqual(problemsOf("src/linux/a.ts", "\n".repeat(600)), []);
  assert.match(problemsOf("src/linux/a.ts", "\n".repeat(601))[0], /601 lines/);
});
