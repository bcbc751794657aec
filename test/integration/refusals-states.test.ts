/** States of processes, machines and images that are refused by name: the process goes on, or nothing is made. */
import assert from "node:assert/strict";
import { rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { ipcShmEntry } from "../../src/resources/ipc/shm.schema.js";
import { mmEntry } from "../../src/resources/memory/mm.schema.js";
import { coreEntry } from "../../src/resources/tasks/core.schema.js";
import { ImageFolder } from "../harness/images.js";
import { refusedDump, withPython } from "../harness/python.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

const skip = isRoot ? false : "needs root";

/** The numbers of calls on x86-64, and seccomp's: asm/unistd_64.h, linux/seccomp.h. */
const PYTHON_CALLS = [
  "libc = ctypes.CDLL(None, use_errno=True); libc.syscall.restype = ctypes.c_long",
  "def call(*args):",
  "    got = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])",
  "    if got < 0: raise OSError(ctypes.get_errno(), str(args))",
  "    return got",
  "def program(*code):",
  "    text = b''.join(struct.pack('<HBBI', *one) for one in code); held.append(ctypes.create_string_buffer(text))",
  "    held.append(ctypes.create_string_buffer(struct.pack('<HxxxxxxQ', len(code), ctypes.addressof(held[-1])))); return held[-1]",
  "held = []",
].join("\n");

/** A later thread's descriptor that is sent and not received. */
const SENT_THREAD = `import threading
number = []
threading.Thread(target=lambda: (number.append(threading.get_native_id()), time.sleep(1000)), daemon=True).start()
while not number: time.sleep(0.01)
a, b = socket.socketpair()
fd = call(434, number[0], os.O_EXCL)
socket.send_fds(a, [b"x"], [fd]); os.close(fd)`;

/** A counter as large as a program can make it, and one more by the kernel, for a request of asynchronous I/O. */
const OVERFLOWN = `event = os.eventfd(0, os.EFD_NONBLOCK); os.eventfd_write(event, 0xfffffffffffffffe)
open("file", "w").write("x"); fd = os.open("file", os.O_RDONLY); os.unlink("file")
context = ctypes.c_ulong(0); call(206, 1, ctypes.byref(context))
room = ctypes.create_string_buffer(16)
request = ctypes.create_string_buffer(struct.pack("<QIiHhIQQqQII", 0, 0, 0, 0, 0, fd, ctypes.addressof(room), 1, 0, 0, 1, event))
call(209, context, 1, ctypes.byref(ctypes.pointer(request)))
events = ctypes.create_string_buffer(32); call(208, context, 1, 1, events, None)
call(207, context); os.close(fd)`;

describe("refused states of processes", { skip, concurrency: 2 }, () => {
  const states: readonly { code: string; script: string; options?: readonly string[] }[] = [
    {
      code: "SECCOMP_SUPERVISED",
      // The supervisor may be anybody: here it is the process itself.
      script:
        "libc.prctl(38, 1, 0, 0, 0)\nos.close(call(317, 1, 8, program((0x20, 0, 0, 0), (0x15, 0, 1, 111), (6, 0, 0, 0x7fc00000), (6, 0, 0, 0x7fff0000))))",
    },
    {
      code: "FILE_LOCK_UNSUPPORTED",
      script: "import fcntl\nf = open('leased', 'w'); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK); os.unlink('leased')",
      options: ["--file-locks"],
    },
    {
      code: "MAPPING_SYSV",
      script:
        "ours = os.open('/proc/self/ns/ipc', os.O_RDONLY); call(272, 0x08000000)\ncall(30, call(29, 0, 4096, 0o600), 0, 0); call(308, ours, 0); os.close(ours)",
    },
    { code: "EVENTFD_OVERFLOWN", script: OVERFLOWN },
    { code: "PIDFD_OF_THREAD", script: SENT_THREAD },
  ];
  for (const { code, script, options } of states) {
    test(code, () => withPython(`${PYTHON_CALLS}\n${script}`, (subject) => refusedDump(subject, code, { options })));
  }

  test("SECCOMP_NOT_SUSPENDED, of dumps and restores by who is under a filter", () =>
    withSubject(Subject.withWorkload("seccomp/filters", ["chain"]), async (subject) => {
      const script = `import ctypes, os, struct, sys\n${PYTHON_CALLS}\nlibc.prctl(38, 1, 0, 0, 0); call(317, 1, 0, program((6, 0, 0, 0x7fff0000)))\nos.execvp(sys.argv[1], sys.argv[1:])`;
      const by = ["python3", "-c", script];
      await refusedDump(subject, "SECCOMP_NOT_SUSPENDED", { by });
      await subject.dump();
      const { exit, text } = await subject.run([...by, ...subject.restoreLine()]);
      assert.ok(exit.code === 1 && text.includes("[SECCOMP_NOT_SUSPENDED]"), text);
      await subject.untilAlone([]);
      await subject.restore();
      await subject.judge();
    }));
});

describe("refused images", { skip, concurrency: 2 }, () => {
  const refused = async (subject: Subject, code: string, by: readonly string[] = []): Promise<void> => {
    const { exit, text } = await subject.run([...by, ...subject.restoreLine()]);
    assert.equal(exit.code, 1, text);
    assert.ok(text.includes(`[${code}]`), `no ${code} in: ${text}`);
    await subject.untilAlone([]);
  };
  const intact = (subject: Subject) => new ImageFolder(subject.images, join(subject.folder, "intact"));

  test("of mappings, files and processors that cannot be", () =>
    withSubject(Subject.withWorkload("tree/single"), async (subject) => {
      await subject.dump();
      const images = intact(subject);
      const edited = async (code: string) => {
        await refused(subject, code);
        images.reset();
      };
      const mm = { kind: "MM", ids: [subject.pid], type: mmEntry } as const;
      images.edit(mm, ([one]) => (one === undefined ? [] : [{ ...one, vmas: one.vmas.map((vma) => ({ ...vma, end: vma.end + 1n })) }]));
      await edited("IMAGE_BAD_MAPPING");
      images.edit(mm, (all) => all.map((one) => ({ ...one, exe_file_id: 4711 })));
      await edited("MAPPING_NOT_RESTORABLE");
      const core = { kind: "CORE", ids: [subject.pid], type: coreEntry } as const;
      const lastOf = Buffer.alloc(128);
      lastOf[127] = 0x80;
      images.edit(core, (all) =>
        all.map((one) => ({ ...one, ...(one.thread_core && { thread_core: { ...one.thread_core, cpu_affinity: lastOf } }) })),
      );
      await edited("NO_SUCH_PROCESSOR");
      await subject.restore();
      await subject.judge();
    }));

  test("of a deleted file, cut off", () =>
    withSubject(Subject.withWorkload("files2/deleted"), async (subject) => {
      await subject.dump();
      const images = intact(subject);
      for (const name of images.names().filter((one) => one.startsWith("ghost-file-")))
        truncateSync(join(subject.images, name), images.intact(name).length - 1);
      await refused(subject, "IMAGE_BAD_GHOST");
    }));

  test("of a System V segment whose number is another's now", () =>
    withSubject(Subject.withWorkload("memory3/segments"), async (subject) => {
      // The segment stays when its users die.
      await subject.must(subject.dumpLine());
      const images = intact(subject);
      const [number] = images.names().flatMap((name) => /^ipcns-shm-(\d+)\.img$/.exec(name)?.[1] ?? []);
      images.edit({ kind: "IPCNS_SHM", ids: [Number(number)], type: ipcShmEntry }, (all) =>
        all.map((one) => ({ ...one, desc: { ...one.desc, key: one.desc.key ^ 1 } })),
      );
      const { exit, text } = await subject.run(subject.restoreLine());
      assert.ok(exit.code === 1 && text.includes("[SEGMENT_TAKEN]"), text);
    }));

  test("of a terminal whose number is another's now", () =>
    withSubject(Subject.withWorkload("ttys/pty", ["new"]), async (subject) => {
      await subject.dump();
      const holder = "import os, pty, subprocess, sys\nends = pty.openpty()\nsys.exit(subprocess.run(sys.argv[1:]).returncode)";
      await refused(subject, "TERMINAL_TAKEN", ["python3", "-c", holder]);
      await subject.restore();
      await subject.judge();
    }));

  test("of watches on files that are gone", () =>
    withPython(
      "open('watched', 'w').close()\nlibc = ctypes.CDLL(None)\nassert libc.inotify_add_watch(libc.inotify_init(), b'watched', 4) == 1",
      async (subject) => {
        await subject.dump();
        rmSync(join(subject.folder, "work", "watched"));
        await refused(subject, "WATCHED_FILE_GONE");
      },
    ));
});
