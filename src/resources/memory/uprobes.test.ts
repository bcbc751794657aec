import assert from "node:assert/strict";
import { test } from "node:test";
import { differsInBreakpointsOnly } from "./uprobes.js";

test("breakpoints and calls in the place of nops are no change of the code, everything else is", () => {
  const original = Buffer.from("554889e50f1f440000c39090", "hex");
  const differs = (hex: string) => !differsInBreakpointsOnly(Buffer.from(hex, "hex"), original);
  assert.ok(!differs("554889e50f1f440000c39090"));
  assert.ok(!differs("cc4889e50f1f440000cc9090"));
  assert.ok(!differs("554889e5e811223344c39090"));
  assert.ok(differs("904889e50f1f440000c39090"));
  assert.ok(differs("e811223344" + "1f440000c39090"), "a call where there was no nop");
});
