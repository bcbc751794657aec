/**
 * `crit`: nothing of an image is lost on the way to JSON and back; the JSON is the peer's, byte for byte; bad images and
 * bad JSON are named, never a crash.
 */
import assert from "node:assert/strict";
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { after, describe, it } from "node:test";

import { countEntries, decodeImage, encodeImage } from "../../src/cli/crit/image-json.js";
import { parseJson, writeJson } from "../../src/cli/crit/json.js";
import { ImageError, UsageError } from "../../src/errors.js";
import { encode } from "../../src/images/codec/encode.js";
import { IMAGE_KINDS, type ImageKindName } from "../../src/images/kinds.js";
import { IMAGE_MESSAGES } from "../../src/resources/image-kinds.js";
import { unixSkEntry } from "../../src/resources/sockets/unix.schema.js";
import { utsnsEntry } from "../../src/resources/namespaces/uts.schema.js";
import { Lane } from "../harness/lane.js";
import { PeerCrit } from "../harness/peer-crit.js";
import { findTool, floeOfFile } from "../harness/tool.js";
import { casePatienceMs, patienceMs } from "../harness/patience.js";
import { KINDS, Values, magics, syntheticImage } from "./crit-images.js";

const scratch = mkdtempSync(join(tmpdir(), "floe-crit-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const peer = findTool("criu");
const peerCrit = "missing" in peer ? undefined : join(dirname(peer.command[0] ?? ""), "crit");
const noPeer = "missing" in peer ? peer.missing : !existsSync(peerCrit ?? "") ? `${peerCrit} is not there` : false;

const server = noPeer === false ? new PeerCrit(peerCrit ?? "") : undefined;
after(() => server?.close());
const peerDecodes = (file: string, options: readonly string[]): Promise<string> =>
  server?.decode(file, options) ?? Promise.reject(new Error("there is no peer"));

const text = (bytes: Buffer, pretty = false): string => `${writeJson(decodeImage(bytes, { file: "test.img", pretty }), pretty)}\n`;
const back = (json: string): Buffer => encodeImage(parseJson(json, "test.json"), "test.json");

function assertLossless(bytes: Buffer): void {
  for (const pretty of [false, true]) {
    // Not assert.deepEqual: it would print both images.
    assert.ok(back(text(bytes, pretty)).equals(bytes), `${pretty ? "readable" : "plain"} JSON gives another image`);
  }
}

describe("crit: every field of every kind of image survives decode and encode", () => {
  for (const kind of KINDS) {
    it(kind, () => {
      for (let seed = 1; seed <= 20; seed++) assertLossless(syntheticImage(kind, seed));
    });
  }
});

/** The peer has no decoder for these, though the format has them. */
const UNKNOWN_TO_PEER: readonly ImageKindName[] = ["BINFMT_MISC", "BINFMT_MISC_OLD", "PIDFD", "SIGNAL", "PSIGNAL"];

describe("crit: every field of every kind of image as the peer shows it", { skip: noPeer, concurrency: 2 }, () => {
  for (const kind of KINDS) {
    // Each case has a file of its own: both may run at a time.
    const file = (name: string): string => join(scratch, `${kind}.${name}.img`);
    const isOwn = kind.startsWith("FLOE_");
    const skip = isOwn ? "the peer: an image of Floe's own" : UNKNOWN_TO_PEER.includes(kind) ? "the peer has no decoder for it" : false;
    const bytes = isOwn ? Buffer.alloc(0) : syntheticImage(kind, 7, { forPeer: true });
    it(`${kind}, plain`, { skip }, async () => {
      writeFileSync(file("plain"), bytes);
      assert.equal(text(bytes), await peerDecodes(file("plain"), []));
    });
    it(`${kind}, readable`, { skip }, async () => {
      writeFileSync(file("readable"), bytes);
      assert.equal(text(bytes, true), await peerDecodes(file("readable"), ["--pretty"]));
    });
  }
});

const SHELL = `
exec 5>gone; echo deleted content >&5; rm gone
sleep 1000 | sleep 1000 &
(sleep 1000; true) &
echo ready
wait`;

const PYTHON = `
import fcntl, mmap, os, select, signal, socket, threading, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
for _ in range(3): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
r, w = os.pipe(); os.write(w, b"in the pipe" * 300)
a, b = socket.socketpair(); a.send(b"in the socket" * 20)
listening = socket.socket(socket.AF_UNIX); listening.bind("\\0crit test.\\1" + str(os.getpid())); listening.listen(5)
gone = open("gone", "w+"); gone.write("deleted content\\n" * 1000); gone.flush(); os.unlink("gone")
kept = open("gr\\u00f6\\u00dfe", "w+"); kept.write("kept"); kept.flush(); fcntl.flock(kept, fcntl.LOCK_EX)
os.mkfifo("fifo"); fifo = os.open("fifo", os.O_RDWR); os.write(fifo, b"in the fifo")
memfd = os.memfd_create("crit"); os.ftruncate(memfd, 8192)
epoll = select.epoll(); epoll.register(r, select.EPOLLIN)
if hasattr(os, "eventfd"): event = os.eventfd(5)
shared = mmap.mmap(-1, 65536); shared[0:5] = b"hello"
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 1000, 5)
there = os.pipe()
if os.fork() == 0:
    if os.fork() == 0: os.write(there[1], b"1"); time.sleep(1000)
    os.setsid(); os.write(there[1], b"2"); time.sleep(1000)
os.kill(os.getpid(), signal.SIGUSR1)
while len(there) < 4: there += (os.read(there[0], 1),)
print("ready", flush=True)
time.sleep(1000)`;

const TARGETS: readonly (readonly [name: string, argv: readonly [string, ...string[]]])[] = [
  ["sh", ["sh", "-c", SHELL]],
  ["python3", ["python3", "-c", PYTHON]],
];

/** Lets the peer dump a program; the directory of its images. */
async function dumpByPeer(name: string, argv: readonly string[]): Promise<string> {
  const folder = join(scratch, name);
  const images = join(folder, "images");
  mkdirSync(images, { recursive: true });
  const lane = await Lane.open();
  try {
    const output = join(folder, "out");
    writeFileSync(output, "");
    const pid = await lane.spawn({ argv, cwd: folder, output, session: true });
    const readiness = () => readFileSync(output, "utf8");
    for (const until = Date.now() + patienceMs; Date.now() < until && !readiness().includes("ready"); ) await sleep(20);
    assert.match(readiness(), /ready/, "the program did not start");
    const dump = [
      ...("missing" in peer ? [] : peer.command),
      "dump",
      "-t",
      String(pid),
      "-D",
      images,
      "-o",
      "dump.log",
      "-v4",
      "--file-locks",
    ];
    const exit = await lane.run({ argv: dump, cwd: folder, output }, patienceMs);
    const errors = readFileSync(join(images, "dump.log"), "utf8")
      .split("\n")
      .filter((line) => line.includes("Error"));
    assert.equal(exit.code, 0, `the peer's dump failed:\n${errors.join("\n")}`);
    return images;
  } finally {
    await lane.close();
  }
}

const run = (command: readonly string[], input?: Buffer): SpawnSyncReturns<string> =>
  spawnSync(command[0] ?? "", command.slice(1), {
    encoding: "utf8",
    maxBuffer: 1 << 28,
    timeout: casePatienceMs,
    ...(input === undefined ? {} : { input }),
  });

let ours: string[] | undefined;

/** Runs our crit as it is shipped. */
function crit(words: readonly string[], input?: Buffer): SpawnSyncReturns<string> {
  if (ours === undefined) {
    const floe = floeOfFile();
    assert.ok(!("missing" in floe));
    ours = [...floe.command.slice(0, -1), "crit"];
  }
  return run([...ours, ...words], input);
}

const noDump = process.getuid?.() === 0 ? noPeer : "needs root";

/** Two images of a kind: running the peer takes long. */
function fewOfEachKind(files: readonly string[]): string[] {
  const seen = new Map<string, number>();
  return files.filter((file) => {
    const kind = file.replace(/\d+/, "");
    seen.set(kind, (seen.get(kind) ?? 0) + 1);
    return (seen.get(kind) ?? 0) <= 2;
  });
}

describe("crit: images of real processes", { skip: noDump }, () => {
  for (const [name, argv] of TARGETS) {
    const skip = run(["which", name]).status === 0 ? false : `${name} is not installed`;
    it(`of ${name}, as the peer shows them`, { skip, timeout: 2 * casePatienceMs }, async () => {
      const images = await dumpByPeer(name, argv);
      const files = readdirSync(images).filter((file) => /^stats-|\.img$/.test(file) && !file.startsWith("pages-"));
      assert.ok(files.length > 10, `only ${files.length} images`);
      for (const file of fewOfEachKind(files)) {
        const path = join(images, file);
        const bytes = readFileSync(path);
        assertLossless(bytes);
        const [plain, readable] = await Promise.all([peerDecodes(path, []), peerDecodes(path, ["--pretty"])]);
        assert.equal(text(bytes), plain, file);
        assert.equal(text(bytes, true), readable, file);
      }
      for (const what of ["ps", "fds", "mems", "rss"]) {
        const mine = crit(["x", images, what]);
        assert.equal(mine.stdout, run([peerCrit ?? "", "x", images, what]).stdout, what);
        assert.deepEqual([mine.status, mine.stderr], [0, ""], what);
      }
    });
  }
});

describe("crit keeps what JSON and the schemas have no place for", () => {
  const uts = (bytes: Buffer): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length, 0);
    return Buffer.concat([magics(IMAGE_KINDS.UTSNS), length, bytes]);
  };
  const known = encode(utsnsEntry, { nodename: "host", domainname: "domain" });

  it("fields that are not in the schema", () => assertLossless(uts(Buffer.concat([known, Buffer.from("c83e05d23e026869", "hex")]))));
  it("strings that are not UTF-8", () => assertLossless(uts(Buffer.from("0a04ff61c3281203eda080", "hex"))));
  it("line breaks of both sorts in the name of a socket", () => {
    const socket = { ...new Values(1).message(unixSkEntry, "all"), name: Buffer.from("a\r\nb\nc\rd\n\r") };
    const bytes = encode(unixSkEntry, socket as never);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length, 0);
    assertLossless(Buffer.concat([magics(IMAGE_KINDS.UNIXSK), length, bytes]));
  });
  it("images of version 1.0, which have one magic", () => {
    for (const kind of KINDS) if (IMAGE_KINDS[kind].framing === "plain") assertLossless(syntheticImage(kind, 3).subarray(4));
  });
  it("images without entries", () => assertLossless(magics(IMAGE_KINDS.PSTREE)));
  it("filling bytes that are not zero", () => {
    const image = syntheticImage("IPCNS_SEM", 0);
    const from = back(text(image));
    assert.deepEqual([...from.subarray(-3)], [0, 0, 0], "no filling bytes");
    for (let at = from.length - 1; at > from.length - 4; at--) from[at] = 0xee;
    assertLossless(from);
  });
});

/** What `work` threw; fails when it is no error of `type`. */
function errorOf<T extends Error>(type: new (...args: never[]) => T, work: () => unknown): T | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof type) return error;
    throw error;
  }
}

describe("crit names what is wrong with an image", () => {
  const decoded = (bytes: Buffer): ImageError | undefined =>
    errorOf(ImageError, () => decodeImage(bytes, { file: "bad.img", pretty: true }));
  const assertPlaced = (error: ImageError | undefined, size: number): void => {
    if (error === undefined) return;
    assert.match(error.message, /"bad\.img" at byte \d+/);
    assert.ok((error.place.offsetBytes ?? -1) <= size);
  };

  it("that is cut off anywhere", () => {
    for (const kind of KINDS) {
      const image = syntheticImage(kind, 5);
      const values = new Values(5);
      for (let i = 0; i < 40; i++) {
        const size = values.below(image.length);
        assertPlaced(decoded(image.subarray(0, size)), size);
      }
      for (const size of [0, 3, 7]) assert.ok(decoded(image.subarray(0, size)) !== undefined, `${kind}: ${size} bytes are no image`);
    }
  });

  it("with damaged bytes", () => {
    for (const kind of KINDS) {
      const values = new Values(6);
      for (let i = 0; i < 30; i++) {
        const image = Buffer.from(syntheticImage(kind, i % 3));
        for (let hits = 0; hits <= values.below(4); hits++)
          image[values.below(image.length)] = values.one([0, 0x7f, 0x80, 0xff, values.below(256)]);
        const error = decoded(image);
        assertPlaced(error, image.length);
        errorOf(ImageError, () => countEntries(image, "bad.img"));
      }
    }
  });

  it("with lengths that cannot be", () => {
    for (const kind of KINDS) {
      const { extra } = IMAGE_KINDS[kind] as { extra?: string };
      if (extra === undefined || extra === "ghost") continue;
      const { entry } = IMAGE_MESSAGES[kind] ?? {};
      assert.ok(entry !== undefined);
      const most = {
        bytes: 0xffffffff,
        length: 0xffffffff,
        keys_bytes: 0xffffffff,
        values_bytes: 0xffffffff,
        inq_len: 0xffffffff,
        outq_len: 0xffffffff,
      };
      const message = { ...new Values(1).message(entry, "all"), ...most, nsems: 0xffffffff, qnum: 0xffffffff, in_pagemaps: false };
      const huge = extra === "shm" ? { ...message, size: (1n << 64n) - 1n } : message;
      const bytes = encode(entry, huge);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length, 0);
      const error = decoded(Buffer.concat([magics(IMAGE_KINDS[kind]), length, bytes]));
      assert.match(error?.message ?? "no error", /bad\.img" at byte \d+.* are left/, kind);
    }
  });
});

describe("crit names what is wrong with JSON", () => {
  const encoded = (json: string): UsageError | undefined => errorOf(UsageError, () => back(json));

  for (const [json, wanted] of [
    ["", /at byte 0/],
    ["[]", /an object is needed/],
    ['{"magic": "NOTHING", "entries": []}', /NOTHING/],
    ['{"magic": "PSTREE"}', /entries/],
    ['{"magic": "PSTREE", "entries": [{"pid": 1}]}', /image\.entries\[0\]\.ppid/],
    ['{"magic": "PSTREE", "entries": [{"pid": 4294967296, "ppid": 0, "pgid": 1, "sid": 1}]}', /4294967296 does not fit/],
    ['{"magic": "PSTREE", "entries": [', /at byte 32/],
    [`${"[".repeat(100_000)}`, /levels/],
  ] as const) {
    it(json.slice(0, 80), () => assert.match(encoded(json)?.message ?? "no error", wanted));
  }

  it("damaged anywhere", () => {
    for (const kind of KINDS) {
      const json = text(syntheticImage(kind, 8));
      const values = new Values(8);
      for (let i = 0; i < 40; i++) {
        const at = values.below(json.length);
        encoded(
          json.slice(0, at) +
            values.one(['"', "-", "{", "[", "}", "1", "null", "true", '"x"', ",", ""]) +
            json.slice(at + values.below(12)),
        );
      }
    }
  });
});

describe("crit as a command", () => {
  const image = join(scratch, "command.img");
  const bytes = syntheticImage("PIPES_DATA", 2);
  writeFileSync(image, bytes);

  it("decodes and encodes files", () => {
    const [json, again] = [join(scratch, "command.json"), join(scratch, "again.img")];
    assert.deepEqual([crit(["decode", "-i", image, "-o", json]).status, crit(["encode", "--in", json, "--out", again]).status], [0, 0]);
    assert.equal(`${readFileSync(json, "utf8")}\n`, text(bytes), "a file has no line break at its end");
    assert.ok(readFileSync(again).equals(bytes));
  });
  it("decodes standard input", () => assert.equal(crit(["decode", "--pretty"], bytes).stdout, text(bytes, true)));
  it("shows", () => {
    assert.equal(crit(["show", image]).stdout, text(bytes, true));
    assert.match(crit(["show", "--nopl", image]).stdout, /"extra": "\.\.\. <\d+B>"/);
  });
  it("counts entries", () => assert.equal(crit(["info", image]).stdout, '{\n    "magic": "PIPES_DATA",\n    "count": 6\n}\n'));
  it("tells its version and its use", () => {
    assert.match(crit(["--version"]).stdout, /^\d+\.\d+/);
    for (const words of [["--help"], ["decode", "--help"], ["x", "-h"]]) assert.match(crit(words).stdout, /^Usage:/);
  });
  it("ends with 1 for a bad image and says where", () => {
    const bad = join(scratch, "bad.img");
    writeFileSync(bad, bytes.subarray(0, bytes.length - 1));
    for (const words of [
      ["decode", "-i", bad],
      ["show", bad],
      ["info", bad],
    ]) {
      const { status, stdout, stderr } = crit(words);
      assert.deepEqual([status, stdout], [1, ""]);
      assert.match(stderr, /bad\.img" at byte \d+: /);
    }
    assert.equal(crit(["decode", "-i", join(scratch, "nowhere.img")]).status, 1);
    assert.equal(crit(["x", scratch, "ps"]).status, 1);
  });
  it("ends with 2 for words it does not know", () => {
    for (const words of [["recode"], ["decode", "--nothing"], ["info"], ["x", scratch, "nothing"]])
      assert.equal(crit(words).status, 2, words.join(" "));
  });
});
