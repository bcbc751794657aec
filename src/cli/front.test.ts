/**
 * Which program runs, its words, and what a user sees first.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { Refusal, UsageError } from "../errors.js";
import { chooseFront } from "./front.js";
import { OPTIONS } from "./options/table.js";

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

test("what is not built is refused by name with exit code 1", async () => {
  for (const word of ["service"]) {
    const { status, stderr } = run("criu", word);
    assert.equal(status, 1);
    assert.match(stderr, new RegExp(`does not have the command ${word}.*COMMAND_NOT_BUILT`, "s"));
  }
  const [option] = OPTIONS.filter(({ kind, built }) => kind === "flag" && built === false).map(({ name }) => `--${name}`);
  // No process can have this pid, should the option be built by now.
  if (option !== undefined) assert.match(await refusal("criu", "dump", "-t", "4194305", option), /--.*OPTION_NOT_BUILT/s);
});

/** What a command line is refused with: the code, and the whole text. Without a process of its own, as nothing is begun. */
async function refusal(...words: readonly string[]): Promise<string> {
  const [front, rest] = chooseFront("floe", words);
  try {
    await front(rest);
  } catch (error) {
    assert.ok(error instanceof Refusal || error instanceof UsageError, String(error));
    return `${error.message} ${error.remedy.join(" ")} ${error.code}`;
  }
  assert.fail(`"${words.join(" ")}" was not refused`);
}

test("commands that are gone name what has taken their place, and a dump takes nothing that only a restore can use", async () => {
  assert.match(await refusal("criu", "exec"), /Use compel.*COMMAND_GONE/s);
  assert.match(await refusal("criu", "show"), /Use crit.*COMMAND_GONE/s);
  assert.match(await refusal("criu", "dump", "-t", "4194305", "--inherit-fd", "fd[0]:x"), /--inherit-fd.*OPTION_ONLY_FOR_RESTORE/s);
  assert.match(await refusal("criu", "restore", "-D", "/nonexistent"), /that a dump has filled.*IMAGES_DIR_UNUSABLE/s);
  assert.match(await refusal("criu", "dump", "-t", "4194305", "-D", "/nonexistent"), /mkdir -p \/nonexistent.*IMAGES_DIR_UNUSABLE/s);
});

test("options of other commands are accepted, and the log says that they have no effect", () => {
  const { status, stderr } = run("criu", "restore", "--force-irmap", "--ghost-limit", "9M", "--shell-job", "-D", "/");
  assert.equal(status, 1);
  assert.match(stderr, /no effect here: --force-irmap, --ghost-limit\n/);
});

test("commands that are missing something say what", async () => {
  assert.match(run("dump").stderr, /OPERAND_MISSING/);
  assert.match(await refusal("dump", "x1"), /PID_BAD/);
  assert.match(await refusal("thaw", "x"), /COMMAND_UNKNOWN/);
  assert.match(await refusal("show", "/nonexistent"), /IMAGES_DIR_UNUSABLE/);
  assert.match(await refusal("criu", "dump"), /TREE_MISSING/);
  assert.match(await refusal("criu", "pre-dump"), /TREE_MISSING/);
  assert.match(await refusal("criu", "dump", "dump"), /OPERAND_EXCESSIVE/);
});
