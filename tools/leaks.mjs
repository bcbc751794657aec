/** What a test run may have left on the machine: processes, mounts, System V objects, files in /tmp. */
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";

import { root } from "./setup.mjs";

/** Every process of a test run has this variable, restored ones too: the environment is part of their memory. */
const markName = "FLOE_TEST_RUN";

function readOr(path, otherwise) {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return otherwise;
  }
}

function markedProcesses(mark) {
  const found = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    if (!readOr(`/proc/${pid}/environ`, "").split("\0").includes(`${markName}=${mark}`)) continue;
    found.push(`process ${pid} (${readOr(`/proc/${pid}/comm`, "gone").trim()})`);
  }
  return found;
}

const lines = (path) =>
  readOr(path, "")
    .split("\n")
    .filter((line) => line !== "");
const mounts = () => lines("/proc/self/mountinfo").map((line) => line.split(" ")[4]);
const ipcObjects = () =>
  ["shm", "sem", "msg"].flatMap((kind) =>
    lines(`/proc/sysvipc/${kind}`)
      .slice(1)
      .map((line) => `System V ${kind} ${line.trim().split(/\s+/)[1]}`),
  );
const temporaryFiles = () =>
  readdirSync(tmpdir())
    .filter((name) => name.startsWith("floe"))
    .map((name) => `${tmpdir()}/${name}`);

function added(before, after) {
  const known = new Set(before);
  return after.filter((one) => !known.has(one));
}

/** Looks at the machine now; `leaks()` says what came since. Other people's new mounts and objects are `doubtful`. */
export function watchForLeaks() {
  const mark = `${process.pid}-${Date.now()}`;
  const before = { mounts: mounts(), ipc: ipcObjects(), files: temporaryFiles() };
  return {
    env: { [markName]: mark },
    leaks() {
      const newMounts = added(before.mounts, mounts());
      const isOurs = (path) => path.startsWith(root) || path.startsWith(`${tmpdir()}/floe`);
      const certain = [...markedProcesses(mark), ...newMounts.filter(isOurs).map((path) => `mount ${path}`)];
      const doubtful = [
        ...newMounts.filter((path) => !isOurs(path)).map((path) => `mount ${path}`),
        ...added(before.ipc, ipcObjects()),
        ...added(before.files, temporaryFiles()),
      ];
      return { certain, doubtful };
    },
  };
}
