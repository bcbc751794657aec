import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseOffsets } from "./clocks.js";

const saved = { monotonic: { tv_sec: 100n, tv_nsec: 5n }, boottime: { tv_sec: 200n, tv_nsec: 0n } };
const at = (seconds: bigint) => ({ monotonic: seconds * 1_000_000_000n, boottime: seconds * 1_000_000_000n });

test("the same boot keeps the offsets that there were", () => {
  const now = { host: at(500n), bootId: "a" };
  assert.deepEqual(chooseOffsets({ ...saved, boot_id: "a" }, now), { monotonic: 0n, boottime: 0n });
  const moved = { ...saved, boot_id: "a", monotonic_offset: -7n, boottime_offset: 9n };
  assert.deepEqual(chooseOffsets(moved, now), { monotonic: -7n, boottime: 9n });
});

test("on another boot clocks go on from the dump, whichever machine is older", () => {
  const older = chooseOffsets({ ...saved, boot_id: "a" }, { host: at(1000n), bootId: "b" });
  assert.deepEqual(older, { monotonic: -899_999_999_995n, boottime: -800_000_000_000n });
  const younger = chooseOffsets({ ...saved, boot_id: "a" }, { host: at(10n), bootId: "b" });
  assert.deepEqual(younger, { monotonic: 90_000_000_005n, boottime: 190_000_000_000n });
});

test("images that do not tell the boot get offsets only where a clock would jump back", () => {
  assert.deepEqual(chooseOffsets(saved, { host: at(300n), bootId: "b" }), { monotonic: 0n, boottime: 0n });
  assert.deepEqual(chooseOffsets(saved, { host: at(150n), bootId: "b" }), { monotonic: -49_999_999_995n, boottime: 50_000_000_000n });
});
