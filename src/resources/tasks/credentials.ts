/**
 * Credentials of a thread: user and group ids, supplementary groups, capability sets, securebits, no_new_privs.
 *
 * Read from   /proc/PID/task/TID/status (Uid, Gid, Groups, Cap…, NoNewPrivs); prctl(PR_GET_SECUREBITS) inside
 * Made with   capset(2), setresuid(2) and relatives, prctl(2), in an order in which every step still has its right
 *
 * Restored last of all that needs a right: what comes after runs with the task's own credentials.
 */
import { SYS } from "../../linux/syscalls.js";
import { readStatus } from "../../linux/proc/read.js";
import type { Program } from "../../target/program.js";
import type { TracedThread } from "../../target/thread.js";
import { labelsOf } from "../security/lsm.js";
import type { RestoreSession, ThreadPart } from "../part.js";
import type { CredsEntry } from "./credentials.schema.js";

/** uapi/linux/prctl.h, uapi/linux/securebits.h, uapi/linux/capability.h */
const PR_CAPBSET_DROP = 24;
const PR_GET_SECUREBITS = 27;
const PR_SET_SECUREBITS = 28;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_RAISE = 2;
const SECBIT_NO_SETUID_FIXUP = 1 << 2;
const LINUX_CAPABILITY_VERSION_3 = 0x20080522;
/** Highest capability any kernel has had so far, with room: bits beyond are checked against what the kernel knows. */
const CAP_LIMIT = 64;

/** A 64-bit capability set as the image holds it: two words, low one first. */
function words(set: bigint): number[] {
  return [Number(set & 0xffffffffn), Number(set >> 32n)];
}

function fromWords(list: readonly number[]): bigint {
  return BigInt(list[0] ?? 0) | (BigInt(list[1] ?? 0) << 32n);
}

/** struct __user_cap_header_struct and two struct __user_cap_data_struct. */
function capset(program: Program, sets: { effective: bigint; permitted: bigint; inheritable: bigint }, doing: string): void {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(LINUX_CAPABILITY_VERSION_3, 0);
  const data = Buffer.alloc(24);
  [sets.effective, sets.permitted, sets.inheritable].forEach((set, i) => {
    data.writeUInt32LE(Number(set & 0xffffffffn), i * 4);
    data.writeUInt32LE(Number(set >> 32n), 12 + i * 4);
  });
  program.call(SYS.capset, program.bytes(header), program.bytes(data)).must(doing);
}

function restoreIds(program: Program, creds: CredsEntry): void {
  const groups = Buffer.alloc(Math.max(4, creds.groups.length * 4));
  creds.groups.forEach((gid, i) => groups.writeUInt32LE(gid, i * 4));
  program.call(SYS.setgroups, creds.groups.length, program.bytes(groups)).must("setting supplementary groups");
  // With this bit the kernel leaves capabilities alone when user ids change.
  program.call(SYS.prctl, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0).must("preparing a change of user ids");
  program.call(SYS.setresgid, creds.gid, creds.egid, creds.sgid).must("setting group ids");
  program.call(SYS.setfsgid, creds.fsgid);
  program.call(SYS.setresuid, creds.uid, creds.euid, creds.suid).must("setting user ids");
  // The first of them so that something changes: that makes the dumpable flag what fs.suid_dumpable says.
  program.call(SYS.setfsuid, creds.fsuid + 1);
  program.call(SYS.setfsuid, creds.fsuid);
}

interface Rights {
  readonly permitted: bigint;
  readonly bounding: bigint;
}

const rights = new WeakMap<RestoreSession, Rights>();

/** What all threads of a restore have until now: that of the seed, from which they were made. */
function seedRights(session: RestoreSession, { task, tid }: TracedThread): Rights {
  let known = rights.get(session);
  if (known === undefined) {
    const { capPrm, capBnd } = readStatus(task.pid, tid);
    known = { permitted: capPrm, bounding: capBnd };
    rights.set(session, known);
  }
  return known;
}

export const credentials: ThreadPart = {
  name: "tasks/credentials",
  rows: ["cred.ids-groups", "cred.caps", "cred.no-new-privs"],
  stage: "last",
  uniform: "later",

  dump({ session, status, program, core }) {
    const securebits = program.call(SYS.prctl, PR_GET_SECUREBITS, 0, 0, 0, 0).must("reading securebits");
    // All that it needs is known by then; taking status apart is no work for the time of the freeze.
    const save = () => {
      if (core.thread_core === undefined) return;
      const [uid, euid, suid, fsuid] = status.uids;
      const [gid, egid, sgid, fsgid] = status.gids;
      core.thread_core.creds = {
        uid,
        gid,
        euid,
        egid,
        suid,
        sgid,
        fsuid,
        fsgid,
        cap_inh: words(status.capInh),
        cap_prm: words(status.capPrm),
        cap_eff: words(status.capEff),
        cap_bnd: words(status.capBnd),
        secbits: Number(securebits.value),
        groups: [...status.groups],
        cap_amb: words(status.capAmb),
        ...(status.noNewPrivs ? { no_new_privs: 1 } : {}),
        ...labelsOf(core),
      };
    };
    return () => session.later(save);
  },

  restore({ session, program, core, thread }) {
    const creds = core.thread_core?.creds;
    if (creds === undefined) return undefined;
    const own = seedRights(session, thread);
    const want = {
      effective: fromWords(creds.cap_eff),
      permitted: fromWords(creds.cap_prm),
      inheritable: fromWords(creds.cap_inh),
    };
    const bounding = fromWords(creds.cap_bnd);
    const ambient = fromWords(creds.cap_amb);
    restoreIds(program, creds);
    capset(
      program,
      { effective: own.permitted, permitted: own.permitted, inheritable: want.inheritable },
      "setting inheritable capabilities",
    );
    // Nearly always there is none of either, in any of a thousand threads.
    const changed = (own.bounding & ~bounding) | ambient;
    for (let cap = 0; changed !== 0n && cap < CAP_LIMIT; cap++) {
      const bit = 1n << BigInt(cap);
      if ((own.bounding & bit) !== 0n && (bounding & bit) === 0n) {
        program.call(SYS.prctl, PR_CAPBSET_DROP, cap, 0, 0, 0).must(`dropping capability ${cap} from the bounding set`);
      }
      if ((ambient & bit) !== 0n) {
        program.call(SYS.prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0).must(`raising ambient capability ${cap}`);
      }
    }
    program.call(SYS.prctl, PR_SET_SECUREBITS, creds.secbits, 0, 0, 0).must("setting securebits");
    capset(program, { ...want, permitted: want.permitted & own.permitted }, "setting capabilities");
    if (creds.no_new_privs === 1) program.call(SYS.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).must("setting no_new_privs");
    return undefined;
  },
};
