/** Images that ask of the machine what it does not have: refused, never restored with less than there was. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { inventoryEntry } from "../../src/images/inventory.schema.js";
import { DirectorySink } from "../../src/images/sink.js";
import { DirectorySource } from "../../src/images/source.js";
import { activeLsm, LSM } from "../../src/resources/security/lsm.js";
import { hasShadowStacks } from "../../src/linux/shadow-stack.js";
import { coreEntry } from "../../src/resources/tasks/core.schema.js";
import { ImageFolder } from "../harness/images.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { join } from "node:path";

/** Writes into the images that the process had an AppArmor profile. */
function confine(images: string, pid: number): void {
  const source = new DirectorySource(images);
  const core = source.single("CORE", [pid], coreEntry);
  const inventory = source.single("INVENTORY", [], inventoryEntry);
  source.close();
  assert.ok(core.thread_core?.creds !== undefined);
  core.thread_core.creds.lsm_profile = "the-profile";
  const sink = new DirectorySink(images);
  sink.append("CORE", [pid], { type: coreEntry, value: core });
  sink.append("INVENTORY", [], { type: inventoryEntry, value: { ...inventory, lsmtype: LSM.APPARMOR } });
  sink.finish();
}

const skip = !isRoot ? "needs root" : activeLsm() === LSM.APPARMOR ? "AppArmor is active here" : false;

describe("labels of a security module that is not here", { skip }, () => {
  test("are refused, saved or asked for", () =>
    withSubject(Subject.withWorkload("tree/single"), async (subject) => {
      await subject.dump();
      const images = new ImageFolder(subject.images, join(subject.folder, "intact"));
      confine(subject.images, subject.pid);
      const saved = await subject.run(subject.restoreLine());
      assert.equal(saved.exit.code, 1, saved.text);
      for (const part of ["[LSM_ABSENT]", "the-profile", "AppArmor"])
        assert.ok(saved.text.includes(part), `"${part}" is not in: ${saved.text}`);
      images.reset();
      const asked = await subject.run(subject.restoreLine(["--lsm-profile", "apparmor:another"]));
      assert.ok(asked.exit.code === 1 && asked.text.includes("[LSM_ABSENT]") && asked.text.includes("another"), asked.text);
      const senseless = await subject.run(subject.restoreLine(["--lsm-profile", "another"]));
      assert.ok(senseless.exit.code !== 0 && senseless.text.includes("apparmor:NAME or selinux:CONTEXT"), senseless.text);
      await subject.restore();
      await subject.judge();
    }));
});

describe("shadow stacks", { skip: !isRoot ? "needs root" : hasShadowStacks() ? "this machine has them" : false }, () => {
  test("are refused where there are none", () =>
    withSubject(Subject.withWorkload("tree/single"), async (subject) => {
      await subject.dump();
      const images = new ImageFolder(subject.images, join(subject.folder, "intact"));
      const source = new DirectorySource(subject.images);
      const core = source.single("CORE", [subject.pid], coreEntry);
      source.close();
      assert.ok(core.thread_info?.fpregs.xsave !== undefined);
      core.thread_info.fpregs.xsave.cet = { cet: 1n, ssp: 0x7f0000000000n };
      const sink = new DirectorySink(subject.images);
      sink.append("CORE", [subject.pid], { type: coreEntry, value: core });
      sink.finish();
      const { exit, text } = await subject.run(subject.restoreLine());
      assert.ok(exit.code === 1 && text.includes("[SHADOW_STACK_ABSENT]"), text);
      images.reset();
      await subject.restore();
      await subject.judge();
    }));
});
