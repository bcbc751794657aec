/**
 * Labels of security modules: the AppArmor profile or SELinux context of a thread, and the context for sockets it makes.
 *
 * Read from   /proc/PID/task/TID/attr/ (proc_pid_attr(5)); the kinds of file systems tell which module is active
 * Made with   writes to /proc/thread-self/attr/ inside the thread, the only one who may
 * Refused     AppArmor profiles of namespaces and stacks: LSM_STACKED; labels of a module that is not active here: LSM_ABSENT
 */
import { readFileSync } from "node:fs";
import { inventoryEntry } from "../../images/inventory.schema.js";
import { SYS } from "../../linux/syscalls.js";
import { Refusal } from "../../errors.js";
import type { Program } from "../../target/program.js";
import type { CoreEntry } from "../tasks/core.schema.js";
import type { CredsEntry } from "../tasks/credentials.schema.js";
import type { DumpTask, Problem, RestoreSession, RestoreTask, ThreadPart } from "../part.js";

/** lsmtype of the image format. */
export const LSM = { NONE: 0, SELINUX: 1, APPARMOR: 2 } as const;
export type Lsm = (typeof LSM)[keyof typeof LSM];

const NAMES = { [LSM.NONE]: "no security module", [LSM.SELINUX]: "SELinux", [LSM.APPARMOR]: "AppArmor" } as const;
const AT_FDCWD = -100;
const O_WRONLY = 1;

let known: Lsm | undefined;

/** Which module labels processes on this machine. */
export function activeLsm(): Lsm {
  known ??= look();
  return known;
}

function look(): Lsm {
  if (textOf("/sys/module/apparmor/parameters/enabled") === "Y") return LSM.APPARMOR;
  // The kernel registers the file system when SELinux is switched on, whether or not anybody has mounted it.
  const isSelinux = /\tselinuxfs$/m.test(textOf("/proc/filesystems"));
  return isSelinux && textOf("/proc/self/attr/current") !== "" ? LSM.SELINUX : LSM.NONE;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1").replace(/[\0\n]+$/, "");
  } catch {
    return "";
  }
}

/** What a thread's attributes say, as images hold it. `unconfined` is no label. */
export function labelOf(lsm: Lsm, current: string): string | undefined {
  if (lsm === LSM.SELINUX) return current === "" ? undefined : current;
  const profile = current.replace(/ \((enforce|complain|kill|unconfined|mixed|prompt|user)\)$/, "");
  return profile === "" || profile === "unconfined" ? undefined : profile;
}

/** Profiles of a policy namespace (`:ns:name`), and several at once (`a//&b`), need policies to be loaded first. */
export function isStacked(profile: string): boolean {
  return profile.startsWith(":") || profile.includes("//&");
}

/** For {@link isStacked}. */
export function stacked(task: Pick<DumpTask, "pid" | "comm">, tid: number, profile: string): Refusal {
  return new Refusal({
    code: "LSM_STACKED",
    process: { pid: task.pid, comm: task.comm },
    resource: `the AppArmor profile of thread ${tid}`,
    because: `it is "${profile}", of a policy namespace or a stack, whose policies Floe does not carry`,
    remedy: ["Run the program under a profile of the machine's own policy"],
  });
}

/** A profile given for a restore, `TYPE:NAME`; undefined: the saved one. */
function givenLabel(session: RestoreSession): { lsm: Lsm; label: string } | undefined {
  const text = session.options.lsmProfile;
  if (text === undefined) return undefined;
  const colon = text.indexOf(":");
  return { lsm: text.startsWith("apparmor:") ? LSM.APPARMOR : LSM.SELINUX, label: text.slice(colon + 1) };
}

function savedLsm(session: RestoreSession): number {
  return session.images.single("INVENTORY", [], inventoryEntry).lsmtype ?? LSM.NONE;
}

function absent(task: RestoreTask, lsm: number, label: string): Problem {
  const name = NAMES[lsm as Lsm] ?? `security module ${lsm}`;
  return new Refusal(
    {
      code: "LSM_ABSENT",
      process: { pid: task.pid, comm: task.comm },
      resource: `its label "${label}"`,
      because: `it is one of ${name}, and this machine has ${NAMES[activeLsm()]} active: the process would not be confined`,
      remedy: [`Restore on a machine with ${name}`, "Name another profile with --lsm-profile TYPE:NAME"],
    },
    "restore",
  );
}

function write(program: Program, name: string, text: string): void {
  const path = program.cstring(`/proc/thread-self/attr/${name}`);
  const fd = program.call(SYS.openat, AT_FDCWD, path, O_WRONLY, 0).must("opening the security attributes");
  program.call(SYS.write, fd, program.bytes(Buffer.from(text)), Buffer.byteLength(text)).must(`giving the thread its security label`);
  program.call(SYS.close, fd).must();
}

const labels = new WeakMap<CoreEntry, Pick<CredsEntry, "lsm_profile" | "lsm_sockcreate">>();

/** Labels that were read of a thread, for the message about its credentials. */
export function labelsOf(core: CoreEntry): Pick<CredsEntry, "lsm_profile" | "lsm_sockcreate"> {
  return labels.get(core) ?? {};
}

export const lsmLabels: ThreadPart = {
  name: "security/lsm",
  rows: ["cred.apparmor", "cred.selinux"],
  stage: "last",

  dump({ session, task, thread, core }) {
    const lsm = activeLsm();
    if (lsm === LSM.NONE) return undefined;
    return () => {
      const folder = `/proc/${task.traced.pid}/task/${thread.tid}/attr`;
      const label = labelOf(lsm, textOf(`${folder}/current`));
      const sockets = lsm === LSM.SELINUX ? textOf(`${folder}/sockcreate`) : "";
      if (label !== undefined && lsm === LSM.APPARMOR && isStacked(label)) session.refuse(stacked(task, thread.nsTid, label));
      labels.set(core, { ...(label === undefined ? {} : { lsm_profile: label }), ...(sockets === "" ? {} : { lsm_sockcreate: sockets }) });
    };
  },

  check(task, session) {
    const saved = task.threads.flatMap(({ core }) => core.thread_core?.creds?.lsm_profile ?? []);
    const given = givenLabel(session);
    const label = given?.label ?? saved[0];
    if (label === undefined) return [];
    const lsm = given?.lsm ?? savedLsm(session);
    return lsm === activeLsm() ? [] : [absent(task, lsm, label)];
  },

  restore({ session, program, core }) {
    const lsm = activeLsm();
    if (lsm === LSM.NONE) return undefined;
    const { lsm_profile, lsm_sockcreate } = core.thread_core?.creds ?? {};
    const label = givenLabel(session)?.label ?? lsm_profile;
    if (lsm_sockcreate !== undefined) write(program, "sockcreate", lsm_sockcreate);
    if (label !== undefined) write(program, "current", lsm === LSM.APPARMOR ? `changeprofile ${label}` : label);
    return undefined;
  },
};
