/**
 * Which program runs, its words, and what a user sees first.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { chooseFront } from "./front.js";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));

function run(...words: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", MAIN, ...words], { encoding: "utf8" });
  return { status, stdout, stderr };
}

test("the name or the first word chooses the front end", () => {
  assert.deepEqual(chooseFront("criu", ["dump"])[1], ["dump"]);
  assert.deepEqual(chooseFront("floe", ["criu", "dump"]), chooseFront("criu", ["dump"]));
  assert.deepEqual(chooseFront("floe", ["crit", "show"]), chooseFront("crit", ["show"]));
  assert.notEqual(chooseFront("floe", ["dump"])[0], chooseFront("criu", ["dump"])[0]);
});

test("criu --version begins as container engines expect", () => {
  const { status, stdout } = run("criu", "--version");
  assert.equal(status, 0);
  assert.match(stdout, /^Version: 4\.\d+(\.\d+)?\nFloe \d+\.\d+\.\d+\n$/);
});

test("criu without a command shows its usage and fails", () => {
  for (const words of [[], ["nonsense"]]) {
    const { status, stdout } = run("criu", ...words);
    assert.equal(status, 1);
    assert.match(stdout, /^\nUsage:\n {2}criu dump -t PID/);
  }
});

test("help fits a terminal and succeeds", () => {
  for (const words of [["criu", "--help"], ["--help"], ["help"]]) {
    const { status, stdout } = run(...words);
    assert.equal(status, 0);
    assert.deepEqual(
      stdout.split("\n").filter((line) => line.length > 80),
      [],
    );
  }
});

test("what is not built is refused by name with exit code 1", () => {
  for (const word of ["page-server", "lazy-pages", "service"]) {
    const { status, stderr } = run("criu", word);
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`does not have the command ${word}.*COMMAND_NOT_BUILT`, "s"));
  }
  assert.match(run("criu", "dump", "-t", "1", "--lazy-pages").stderr, /--lazy-pages.*OPTION_NOT_BUILT/s);
});

test("commands that are missing something say what", () => {
  assert.match(run("dump").stderr, /OPERAND_MISSING/);
  assert.match(run("dump", "x1").stderr, /PID_BAD/);
  assert.match(run("thaw", "x").stderr, /COMMAND_UNKNOWN/);
  assert.match(run("show", "/nonexistent").stderr, /IMAGES_DIR_UNUSABLE/);
  assert.match(run("criu", "dump").stderr, /TREE_MISSING/);
  assert.match(run("criu", "pre-dump").stderr, /TREE_MISSING/);
  assert.match(run("criu", "dump", "dump").stderr, /OPERAND_EXCESSIVE/);
});
