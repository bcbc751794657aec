/** A program with a uprobe in it: refused by name, and with --allow-uprobes it goes on and the probe still counts. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { compileWorkload } from "../harness/compile.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

const event = `floe_${process.pid}`;
let tracing = "";

function mountTracing(): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "floe-tracefs-"));
  try {
    execFileSync("mount", ["-t", "tracefs", "none", folder], { stdio: "ignore" });
    readFileSync(join(folder, "uprobe_events"));
    return folder;
  } catch {
    rmdirSync(folder);
    return undefined;
  }
}

if (isRoot) tracing = mountTracing() ?? "";
const skip = !isRoot ? "needs root" : tracing === "" ? "this kernel has no uprobe events" : false;

function hits(): number {
  const line = readFileSync(join(tracing, "uprobe_profile"), "utf8")
    .split("\n")
    .find((l) => l.includes(event));
  return Number(line?.trim().split(/\s+/).at(-1) ?? 0);
}

describe("uprobes", { skip }, () => {
  before(async () => {
    const program = await compileWorkload("memory3/uprobe");
    const symbols = execFileSync("nm", [program], { encoding: "utf8" });
    const address = Number.parseInt(/^([0-9a-f]+) T probed$/m.exec(symbols)?.[1] ?? "", 16);
    appendFileSync(join(tracing, "uprobe_events"), `p:${event}/${event} ${program}:0x${address.toString(16)}\n`);
    writeFileSync(join(tracing, "events", event, "enable"), "1");
  });
  after(() => {
    writeFileSync(join(tracing, "events", event, "enable"), "0");
    appendFileSync(join(tracing, "uprobe_events"), `-:${event}/${event}\n`);
    execFileSync("umount", [tracing]);
    rmdirSync(tracing);
  });

  test("go on counting", () =>
    withSubject(Subject.withWorkload("memory3/uprobe"), async (subject) => {
      const refused = await subject.run(subject.dumpLine());
      assert.equal(refused.exit.code, 1, refused.text);
      for (const part of ["[MAPPING_UPROBES]", "[uprobes", "--allow-uprobes"]) assert.ok(refused.text.includes(part), refused.text);
      await subject.must(subject.dumpLine(["--allow-uprobes", "--leave-running"]));
      for (let round = 0; round < 2; round += 1) {
        await subject.dump(["--allow-uprobes"]);
        const earlier = hits();
        await subject.restore();
        await subject.until(() => hits() > earlier + 10, "the probe counts no more");
      }
      await subject.judge();
    }));
});
