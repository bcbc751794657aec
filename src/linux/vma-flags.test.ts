import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";

import { readSmaps } from "./proc/read.js";
import { prepareMappingFlags, readMappings } from "./vma-flags.js";

test("mappings are the same whichever way they are read", async () => {
  const child = spawn("sh", ["-c", "echo; read line"], { stdio: ["pipe", "pipe", "inherit"] });
  try {
    await once(child.stdout, "data");
    const pid = child.pid ?? 0;
    prepareMappingFlags();
    const [fast, slow] = [readMappings(pid), readSmaps(pid)];
    assert.ok(slow.length > 5);
    const plain = (vma: (typeof slow)[number]) => ({ ...vma, flags: [...vma.flags].sort() });
    assert.deepEqual(fast.map(plain), slow.map(plain));
  } finally {
    child.kill("SIGKILL");
  }
});
