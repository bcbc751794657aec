import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { LSM, isStacked, labelOf, stacked } from "./lsm.js";

describe("labels of security modules", () => {
  it("AppArmor's are names without their mode", () => {
    assert.equal(labelOf(LSM.APPARMOR, "/usr/sbin/cupsd (enforce)"), "/usr/sbin/cupsd");
    assert.equal(labelOf(LSM.APPARMOR, "my (own) profile (complain)"), "my (own) profile");
    assert.equal(labelOf(LSM.APPARMOR, "unconfined"), undefined);
    assert.equal(labelOf(LSM.APPARMOR, ""), undefined);
  });

  it("SELinux's are contexts as they are", () => {
    assert.equal(labelOf(LSM.SELINUX, "system_u:system_r:init_t:s0"), "system_u:system_r:init_t:s0");
    assert.equal(labelOf(LSM.SELINUX, "unconfined"), "unconfined");
  });

  it("stacks and namespaces are told from plain profiles", () => {
    assert.ok(isStacked("a//&:ns://unconfined"));
    assert.ok(isStacked(":ns:a"));
    assert.ok(!isStacked("/usr/bin/a//child"));
    const refusal = stacked({ pid: 7, comm: "guest" }, 8, ":ns:a");
    assert.equal(refusal.code, "LSM_STACKED");
    assert.match(refusal.message, /process 7 \(guest\): the AppArmor profile of thread 8: it is ":ns:a"/);
  });
});
