/** Runs files of node:test, each in a process of its own, and gathers what every test said. */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join, relative } from "node:path";

import { root, say } from "./setup.mjs";

const reporter = join(root, "tools", "test-reporter.mjs");
const resultsFolder = join(root, "build", "test-results");
/** How long a file that was told to end may take until it is killed. */
const graceMs = 5_000;

/** Node's own test runner must not think it was started by another one, and needs no colours in a file. */
function environment(extra) {
  const env = { ...process.env, ...extra };
  delete env.NODE_TEST_CONTEXT;
  return env;
}

function readResults(path) {
  let text;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return [];
  }
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return []; // The last line of a file that was killed while it wrote.
    }
  });
}

function killGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Gone already.
  }
}

/** Runs one file; resolves to { file, seconds, tests, problem } where problem is what went wrong beside failed tests. */
function runFile(file, { timeoutMs, env }) {
  const name = relative(root, file);
  const results = join(resultsFolder, `${name.replaceAll("/", "__")}.jsonl`);
  rmSync(results, { force: true });
  const args = ["--import", "tsx", `--test-reporter=${reporter}`, `--test-reporter-destination=${results}`, file];
  return new Promise((resolve) => {
    const started = Date.now();
    // A process group of its own, so that a file that hangs is killed with what it started.
    const child = spawn(process.execPath, args, { cwd: root, env: environment(env), detached: true, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let late = false;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data) => {
        output = (output + data).slice(-20_000);
      });
    }
    const timer = setTimeout(() => {
      late = true;
      killGroup(child, "SIGTERM");
      setTimeout(() => killGroup(child, "SIGKILL"), graceMs).unref();
    }, timeoutMs);
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      // What the file left in its group would keep our end of its output open.
      killGroup(child, "SIGKILL");
      const tests = readResults(results);
      const failed = tests.some((test) => test.outcome === "failed");
      let problem;
      if (late) problem = `not finished within ${Math.round(timeoutMs / 1000)} s: killed`;
      else if (signal !== null) problem = `killed by ${signal}`;
      else if (code !== 0 && !failed) problem = `exited with ${code}`;
      else if (tests.length === 0) problem = "no tests ran";
      resolve({ file: name, seconds: (Date.now() - started) / 1000, tests, problem, output });
    });
  });
}

function describe(result) {
  const count = (outcome) => result.tests.filter((test) => test.outcome === outcome).length;
  const bad = result.problem !== undefined || count("failed") > 0;
  const parts = [`${count("passed")} passed`];
  if (count("failed") > 0) parts.push(`${count("failed")} FAILED`);
  if (count("skipped") > 0) parts.push(`${count("skipped")} skipped`);
  if (result.problem !== undefined) parts.push(result.problem.toUpperCase());
  const lines = [`  ${bad ? "✗" : "✓"} ${result.file}: ${parts.join(", ")} (${result.seconds.toFixed(1)} s)`];
  for (const test of result.tests.filter((one) => one.outcome === "failed")) {
    lines.push(
      `      FAILED ${test.name}`,
      ...test.message
        .split("\n")
        .slice(0, 30)
        .map((line) => `        ${line}`),
    );
  }
  const crashed = result.problem !== undefined && result.output.trim() !== "";
  if (crashed)
    lines.push(
      ...result.output
        .trim()
        .split("\n")
        .slice(-30)
        .map((line) => `        | ${line}`),
    );
  return lines.join("\n");
}

/** Runs the files, some at a time, and says how each went. After `deadline` (ms since 1970) no further file starts. */
export async function runFiles(files, { parallel = 2, timeoutMs = 120_000, deadline = Infinity, env = {} } = {}) {
  mkdirSync(resultsFolder, { recursive: true });
  const waiting = [...files];
  const results = [];
  async function lane() {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const left = deadline - Date.now();
      const notRun = { file: relative(root, file), seconds: 0, tests: [], problem: "not run: time is up", output: "" };
      const result = left <= 0 ? notRun : await runFile(file, { timeoutMs: Math.min(timeoutMs, left), env });
      results.push(result);
      say(describe(result));
    }
  }
  await Promise.all(Array.from({ length: parallel }, lane));
  return results;
}

/** Numbers over several files. */
export function totals(results) {
  const tests = results.flatMap((result) => result.tests);
  const count = (outcome) => tests.filter((test) => test.outcome === outcome).length;
  const brokenFiles = results.filter((result) => result.problem !== undefined);
  const reasons = new Map();
  for (const test of tests.filter((one) => one.outcome === "skipped")) {
    reasons.set(test.reason, (reasons.get(test.reason) ?? 0) + 1);
  }
  return {
    files: results.length,
    tests: tests.length,
    passed: count("passed"),
    failed: count("failed"),
    skipped: count("skipped"),
    brokenFiles,
    reasons,
    ok: count("failed") === 0 && brokenFiles.length === 0 && tests.length > count("skipped"),
  };
}
