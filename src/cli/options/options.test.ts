/**
 * The command line: what is understood, what is refused and how.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { UsageError } from "../../errors.js";
import { criuOpts } from "../../rpc/rpc.schema.js";
import { defaultSettings } from "./defaults.js";
import { splitWords } from "./config-files.js";
import { refuseUnbuilt } from "./evaluate.js";
import { readSettings } from "./read.js";
import { argumentOf } from "./spec.js";
import { OPTIONS } from "./table.js";
import { parseNumber, parseSize } from "./values.js";

const NO_ENV = { env: {} };
const read = (...words: string[]) => readSettings([...words, "--no-default-config"], NO_ENV);
const code = (expected: string) => (error: unknown) => error instanceof UsageError && error.code === expected;

test("a dump as runc calls it is understood", () => {
  const { settings, operands } = read("dump", "-t", "12", "-D", "/img", "-o", "dump.log", "-v4", "--leave-running", "--shell-job");
  assert.deepEqual(operands, ["dump"]);
  assert.equal(settings.tree, 12);
  assert.equal(settings.imagesDir, "/img");
  assert.equal(settings.logFile, "dump.log");
  assert.equal(settings.verbosity, 4);
  assert.equal(settings.leaveRunning, true);
  assert.equal(settings.shellJob, true);
});

test("options and the command may stand in any order", () => {
  const { settings, operands } = read("-D", "a", "restore", "-dj");
  assert.deepEqual(operands, ["restore"]);
  assert.deepEqual([settings.imagesDir, settings.restoreDetached, settings.shellJob], ["a", true, true]);
});

test("values may be attached, follow after = or be the next word", () => {
  for (const words of [["-t7"], ["-t", "7"], ["--tree=7"], ["--tree", "7"], ["--tre", "7"], ["-Rt7"], ["-t0x7"]]) {
    assert.equal(read(...words).settings.tree, 7, words.join(" "));
  }
});

test("a --no- form takes a switch back, also when shortened", () => {
  assert.equal(read("--shell-job", "--no-shell-job").settings.shellJob, false);
  assert.equal(read("-j", "--no-shell").settings.shellJob, false);
  assert.equal(read("--no-shell-job", "-j").settings.shellJob, true);
});

test("verbosity counts up from warnings, or is set", () => {
  const levels: [string[], number | undefined][] = [
    [[], undefined],
    [["-v"], 3],
    [["-vv"], 4],
    [["-v", "-v"], 4],
    [["-v0"], 0],
    [["-v4"], 4],
    [["-v1"], 1],
    [["-v9"], 4],
    [["--verbosity=3"], 3],
    [["--verbosity"], 3],
  ];
  for (const [words, level] of levels) assert.equal(read(...words).settings.verbosity, level, words.join(" "));
});

test("an optional value is never the next word", () => {
  const { settings, operands } = read("--manage-cgroups", "dump");
  assert.equal(settings.manageCgroups, "soft");
  assert.deepEqual(operands, ["dump"]);
  assert.equal(read("--manage-cgroups=strict").settings.manageCgroups, "strict");
  assert.deepEqual(read("-x[12,13]", "-x14").settings.extUnixSkInodes, [12, 13, 14]);
});

test("words after -- are kept for --exec-cmd", () => {
  const { settings, rest } = readSettings(["restore", "--no-default-config", "--exec-cmd", "--", "sh", "-c", "x"], NO_ENV);
  assert.equal(settings.execCmd, true);
  assert.deepEqual(rest, ["sh", "-c", "x"]);
});

test("bad command lines are refused with a code", () => {
  const bad: [string, ...string[]][] = [
    ["OPTION_UNKNOWN", "--nonsense"],
    ["OPTION_UNKNOWN", "-Q"],
    ["OPTION_UNKNOWN", "--no-tree"],
    ["OPTION_AMBIGUOUS", "--t", "4"],
    ["OPTION_NEEDS_VALUE", "--no-default-config", "-t"],
    ["OPTION_TAKES_NO_VALUE", "--leave-running=1"],
    ["OPTION_BAD_VALUE", "-t", "abc"],
    ["OPTION_BAD_VALUE", "-t", "0"],
    ["OPTION_BAD_VALUE", "-t", "-5"],
    ["OPTION_BAD_VALUE", "-t", "4294967297"],
    ["OPTION_BAD_VALUE", "-t", "1 2"],
    ["OPTION_BAD_VALUE", "--ghost-limit", "1Q"],
    ["OPTION_BAD_VALUE", "--ghost-limit", "4G"],
    ["OPTION_BAD_VALUE", "--network-lock", "foo"],
    ["OPTION_BAD_VALUE", "--network-lock", "constructor"],
    ["OPTION_BAD_VALUE", "--manage-cgroups=foo"],
    ["OPTION_BAD_VALUE", "--file-validation", ""],
    ["OPTION_BAD_VALUE", "--pre-dump-mode", "x"],
    ["OPTION_BAD_VALUE", "--cpu-cap=gpu"],
    ["OPTION_BAD_VALUE", "-xfoo"],
    ["OPTION_BAD_VALUE", "--port", "70000"],
    ["OPTION_BAD_VALUE", "--close", "x"],
    ["OPTION_BAD_VALUE", "-vfoo"],
  ];
  for (const [expected, ...words] of bad) assert.throws(() => readSettings(words, NO_ENV), code(expected), words.join(" "));
});

test("an ambiguous name is answered with what it may stand for", () => {
  assert.throws(() => read("--cgroup-p", "x"), /--cgroup-props, --cgroup-props-file/);
  assert.deepEqual(read("--cgroup-props", "x").settings.cgroupProps, "x");
});

test("sizes take K, M and G", () => {
  assert.deepEqual(["0", "10", "10K", "3m", "1G", "0x10", "", "K", "-1", "1KB", "4G"].map(parseSize), [
    0,
    10,
    10_240,
    3 << 20,
    1 << 30,
    16,
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test("numbers are those of strtol", () => {
  assert.deepEqual(["10", "010", "0x1f", "-3", "08", "1.5", "", "1e3"].map(parseNumber), [
    10,
    8,
    31,
    -3,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test("what is not built is refused by name, all of it at once", () => {
  const [one = "", other = ""] = OPTIONS.filter(({ kind, built }) => kind === "flag" && built === false).map(({ name }) => `--${name}`);
  assert.throws(() => refuseUnbuilt(read(one, other).settings), new RegExp(`${one}, ${other}`));
  assert.doesNotThrow(() => refuseUnbuilt(read("--no-tls", "-R", "--network-lock", "none").settings));
});

test("every option is in the table once, and asks for nothing when not given", () => {
  for (const field of ["name", "short"] as const) {
    const names = OPTIONS.map((spec) => spec[field]).filter((name) => name !== undefined);
    assert.equal(new Set(names).size, names.length);
  }
  assert.doesNotThrow(() => refuseUnbuilt(defaultSettings()));
  for (const spec of OPTIONS) assert.equal(argumentOf(spec) === "none", spec.argumentName === undefined, spec.name);
});

test("fields named for RPC exist in criu_opts", () => {
  const fields = Object.keys(criuOpts.fields());
  for (const { rpc, name } of OPTIONS) if (rpc !== undefined) assert.ok(fields.includes(rpc), `${name}: ${rpc}`);
});

/** A directory with files, gone at the end of the test. */
function withFiles(files: Readonly<Record<string, string>>, action: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), "floe-config-"));
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(directory, name, ".."), { recursive: true });
      writeFileSync(join(directory, name), text);
    }
    action(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("configuration files: home, then environment, then --config; the command line wins", () => {
  const files = {
    ".criu/default.conf": "# mine\nshell-job\nghost-limit 2K\n\ttimeout 5 # seconds\n",
    "env.conf": "ghost-limit 3K\nleave-running\n",
    "named.conf": 'ghost-limit "4K"\nimages-dir "a \\"b\\" c"\n',
  };
  withFiles(files, (dir) => {
    const env = { HOME: dir, CRIU_CONFIG_FILE: join(dir, "env.conf") };
    const both = readSettings(["dump"], { env }).settings;
    assert.deepEqual([both.shellJob, both.timeoutS, both.ghostLimitBytes, both.leaveRunning], [true, 5, 3072, true]);
    const named = readSettings(["dump", "--config", join(dir, "named.conf")], { env }).settings;
    assert.deepEqual([named.shellJob, named.ghostLimitBytes, named.leaveRunning, named.imagesDir], [false, 4096, true, 'a "b" c']);
    assert.equal(readSettings(["dump", "--no-shell-job", "--ghost-limit=9"], { env }).settings.ghostLimitBytes, 9);
    assert.equal(readSettings(["dump", "--no-shell-job"], { env }).settings.shellJob, false);
    assert.equal(readSettings(["dump", "--no-default-config"], { env }).settings.shellJob, false);
    assert.equal(readSettings(["dump", "--config", join(dir, "none")], { env: {} }).settings.ghostLimitBytes, undefined);
  });
});

test("a bad configuration file is refused with file and line, but not in the way of help", () => {
  const bad: [string, string][] = [
    ["nonsense", "OPTION_UNKNOWN"],
    ["feature", "CONFIG_FILE_BAD"],
    ["feature a b", "CONFIG_FILE_BAD"],
    ["shell-job yes", "CONFIG_FILE_BAD"],
    ['images-dir "a', "CONFIG_FILE_BAD"],
    ["tree zz", "OPTION_BAD_VALUE"],
  ];
  for (const [line, expected] of bad) {
    withFiles({ "c.conf": `\n${line}\n` }, (dir) => {
      const words = ["dump", "--config", join(dir, "c.conf")];
      assert.throws(() => readSettings(words, NO_ENV), code(expected), line);
      assert.throws(() => readSettings(words, NO_ENV), /c\.conf, line 2/);
      assert.equal(readSettings([...words, "--help"], NO_ENV).settings.help, true);
    });
  }
});

test("words of a configuration line", () => {
  assert.deepEqual(splitWords("  a  b # c", "f"), ["a", "b"]);
  assert.deepEqual(splitWords('a "b # c" d', "f"), ["a", "b # c", "d"]);
  assert.deepEqual(splitWords('feature="x y"', "f"), ["feature=x y"]);
  assert.deepEqual(splitWords("# all", "f"), []);
});
