import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ModelError, TreeModel } from "./tree-model.js";

/** 10 leads a session and has children 11 and 12; 11 has child 13. */
function family(init?: number): TreeModel {
  const model = new TreeModel(init);
  model.enter({ pid: 10, sid: 5, pgid: 5, leads: false });
  model.setsid(10);
  model.clone(10, 11);
  model.clone(10, 12);
  model.clone(11, 13);
  return model;
}

function refused(call: () => void, message: RegExp): void {
  assert.throws(call, (error) => error instanceof ModelError && message.test(error.message));
}

describe("TreeModel", () => {
  it("gives a new task its creator's session and group", () => {
    const { sid, pgid, ppid } = family().tasks.get(13) ?? {};
    assert.deepEqual({ sid, pgid, ppid }, { sid: 10, pgid: 10, ppid: 11 });
  });

  it("makes siblings with CLONE_PARENT, but none of init", () => {
    const model = family();
    model.clone(13, 14, true);
    assert.equal(model.tasks.get(14)?.ppid, 11);
    const init = new TreeModel(1);
    init.enter({ pid: 1, sid: 1, pgid: 1, leads: true });
    refused(() => init.clone(1, 2, true), /EINVAL/);
  });

  it("refuses setsid() to leaders of sessions, and where the group exists without its leader", () => {
    const model = family();
    refused(() => model.setsid(10), /EPERM/);
    model.setpgid(11, 11);
    model.setpgid(12, 11);
    model.setpgid(11, 10);
    refused(() => model.setsid(11), /EPERM/);
    model.setpgid(12, 10);
    model.setsid(11);
    assert.equal(model.tasks.get(11)?.sid, 11);
  });

  it("refuses setpgid() to session leaders, to groups that are not there, and across sessions", () => {
    const model = family();
    refused(() => model.setpgid(10, 10), /EPERM/);
    refused(() => model.setpgid(11, 12), /no such group/);
    model.setsid(12);
    refused(() => model.setpgid(11, 12), /session 12/);
  });

  it("hands orphans to the nearest subreaper, to init, or out of sight", () => {
    const outside = family();
    outside.exit(11);
    assert.equal(outside.tasks.get(13)?.ppid, 0);
    const toInit = family(10);
    toInit.exit(11);
    assert.equal(toInit.tasks.get(13)?.ppid, 10);
    const nested = family(10);
    nested.clone(13, 14);
    nested.setSubreaper(11, true);
    nested.exit(13);
    assert.equal(nested.tasks.get(14)?.ppid, 11);
  });

  it("keeps a number taken while a zombie, a session or a group has it", () => {
    const model = family();
    model.setsid(11);
    model.clone(11, 15);
    model.exit(11);
    refused(() => model.clone(10, 11), /EEXIST/);
    model.reap(11, 10);
    refused(() => model.clone(10, 11), /EEXIST/);
    model.exit(15);
    model.reap(15, 0);
    model.clone(10, 11);
  });

  it("lets only the parent reap, and only the dead", () => {
    const model = family();
    refused(() => model.reap(11, 10), /still lives/);
    model.exit(11);
    refused(() => model.reap(11, 12), /ECHILD/);
    refused(() => model.clone(11, 20), /zombie/);
  });
});
