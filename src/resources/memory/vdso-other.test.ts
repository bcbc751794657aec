import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { SavedSpace } from "./saved-space.js";
import { adoptVdsos } from "./vdso-other.js";
import type { KernelPages } from "./vdso.js";

describe("a vdso of another build", () => {
  const kernel = {
    vdso: { offset: 0x4000n, length: 0x2000n },
    vvarBytes: 0x4000n,
    pages: [{ offset: 0n, length: 0x6000n }],
    code: () => Buffer.alloc(0x2000),
  } as unknown as KernelPages;

  it("is refused where the images do not have it", () => {
    const vdso = { start: 0x7000_0000n, end: 0x7000_3000n, pgoff: 0n, status: 0 };
    const space = { pid: 7, comm: "guest", isCompat: false, vdso, vvar: undefined, pages: { runs: [] }, mm: { vmas: [vdso] } };
    const [problem, ...others] = adoptVdsos([{ space: space as unknown as SavedSpace, threads: [] }], kernel);
    assert.equal(problem?.code, "OTHER_VDSO");
    assert.match(problem?.message ?? "", /process 7 \(guest\): its vdso: .* the images do not have its code/);
    assert.equal(others.length, 0);
  });
});
