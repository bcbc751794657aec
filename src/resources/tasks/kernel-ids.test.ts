import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { after, before, test } from "node:test";
import { type KernelOrder, kernelIds, kernelOrder } from "./kernel-ids.js";

let children: ChildProcess[] = [];
let pids: number[] = [];

before(() => {
  children = Array.from({ length: 6 }, () => spawn("sleep", ["60"], { stdio: "ignore" }));
  pids = [process.pid, ...children.map((child) => child.pid as number)];
});
after(() => {
  for (const child of children) child.kill();
});

test("processes of their own have numbers of their own, in the order of the list", () => {
  const ids = kernelIds(pids, 2);
  assert.deepEqual(
    pids.map((pid) => ids.get(pid)),
    pids.map((_, i) => ({ vm: i + 2, files: i + 2, fs: i + 2, sighand: i + 2 })),
  );
});

test("an order found before gives the same numbers", () => {
  assert.deepEqual(kernelIds(pids, 2, kernelOrder(pids)), kernelIds(pids, 2));
});

test("an order that does not hold any more is not believed", () => {
  const order = kernelOrder(pids) as KernelOrder;
  const turned = { ...order, vm: [...order.vm].reverse(), files: order.files.map((group) => [...group, ...(order.files[0] ?? [])]) };
  assert.deepEqual(kernelIds(pids, 2, turned), kernelIds(pids, 2));
  const shared = { ...order, fs: [order.fs.flat()] };
  assert.deepEqual(kernelIds(pids, 2, shared), kernelIds(pids, 2));
  assert.deepEqual(kernelIds(pids, 2, kernelOrder(pids.slice(1))), kernelIds(pids, 2));
});

test("there is no order of processes that are gone", () => {
  assert.equal(kernelOrder([process.pid, 0x7ffffff0]), undefined);
});
