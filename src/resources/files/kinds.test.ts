import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { fileKinds } from "../registry.js";

test("no kind takes a descriptor to find out that a plain file is none of its own", () => {
  const link = fileURLToPath(import.meta.url);
  const file = {
    link,
    stat: statSync(link, { bigint: true }),
    info: { pos: 0n, flags: 0, mntId: 1, ino: 1n, lines: [] },
    get local(): number {
      throw new Error("a descriptor was taken");
    },
  };
  const found = fileKinds.find((kind) => kind.isPathless !== true && kind.matches(file));
  assert.equal(found?.name, "files/regular");
});
