/** Images of confined processes on a machine without their security module: refused, never restored without confinement. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { inventoryEntry } from "../../src/images/inventory.schema.js";
import { DirectorySink } from "../../src/images/sink.js";
import { DirectorySource } from "../../src/images/source.js";
import { activeLsm, LSM } from "../../src/resources/security/lsm.js";
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
