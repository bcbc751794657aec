import assert from "node:assert/strict";
import test from "node:test";
import { parseSmaps } from "../../linux/proc/maps.js";
import type { DumpTask } from "../part.js";
import { refusalOf } from "./mappings.js";

const task = { comm: "shows", traced: { pid: 12 } } as unknown as DumpTask;

/** A page of a device, which no device of most machines lets a program map: its lines in smaps. */
function mapping(flags: string) {
  const text = `7f0000000000-7f0000001000 rw-s e0000000 00:05 42                         /dev/fb0\nSize:                  4 kB\nKernelPageSize:        4 kB\nVmFlags: ${flags} \n`;
  const [vma] = parseSmaps(Buffer.from(text), "/proc/12/smaps");
  assert.ok(vma !== undefined);
  return vma;
}

test("memory of a device is refused, with mapping and remedy", () => {
  for (const flags of ["rd wr sh mr mw me ms pf io de dd", "rd sh mr pf"]) {
    const refusal = refusalOf(task, mapping(flags), "file");
    assert.equal(refusal?.code, "MAPPING_DEVICE");
    assert.match(refusal.message, /process 12 \(shows\): mapping 7f0000000000-7f0000001000 \(\/dev\/fb0\)/);
    assert.ok(refusal.remedy.length > 0);
  }
  assert.equal(refusalOf(task, mapping("rd wr sh mr mw me ms"), "file"), undefined);
});
