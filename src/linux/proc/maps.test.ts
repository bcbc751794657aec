import assert from "node:assert/strict";
import test from "node:test";
import { KernelError } from "../../errors.js";
import { parseMaps, parseSmaps } from "./maps.js";

const MAPS = `00400000-00401000 r--p 00000000 fd:01 1234                               /tmp/a b\\012c (deleted)
00401000-00402000 r-xp 00001000 fd:01 1234                               /tmp/a b\\012c (deleted)
7f0000000000-7f0000021000 rw-p 00000000 00:00 0 
7f0000021000-7f0004000000 ---s 00000000 00:01 18446744073709551615           /dev/zero (deleted)
7ffc0000e000-7ffc00010000 rw-s 100000000000 103:fffff 7                  /x\\101ü
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`;

function record(head: string, options: { size?: string; flags: string }): string {
  return `${head}\nSize:                  4 kB\nKernelPageSize:     ${options.size ?? "   4"} kB\nRss: 0 kB\nVmFlags:${options.flags} \n`;
}

test("maps: addresses, protections, devices and inodes of any size", () => {
  const [first, second, anonymous, zero, device, vsyscall] = parseMaps(Buffer.from(MAPS), "/proc/1/maps");
  assert.deepEqual(first, {
    start: 0x400000n,
    end: 0x401000n,
    read: true,
    write: false,
    exec: false,
    shared: false,
    offset: 0n,
    devMajor: 0xfd,
    devMinor: 1,
    inode: 1234n,
    name: "/tmp/a b\nc (deleted)",
    flags: new Set(),
    kernelPageSizeKib: 0,
  });
  assert.equal(second?.name, first?.name);
  assert.equal(second?.offset, 0x1000n);
  assert.equal(anonymous?.name, "");
  assert.equal(zero?.inode, 0xffff_ffff_ffff_ffffn);
  assert.equal(zero?.start, 0x7f0000021000n);
  assert.equal(zero?.shared, true);
  assert.equal(device?.offset, 0x100000000000n);
  assert.equal(device?.devMajor, 0x103);
  assert.equal(device?.devMinor, 0xfffff);
  assert.equal(vsyscall?.start, 0xffffffffff600000n);
  assert.equal(vsyscall?.name, "[vsyscall]");
});

test("maps: only a newline is escaped, and names are UTF-8", () => {
  assert.equal(parseMaps(Buffer.from(MAPS), "x")[4]?.name, "/x\\101ü");
});

test("maps of a zombie are no mappings", () => {
  assert.deepEqual(parseMaps(Buffer.alloc(0), "x"), []);
});

test("maps that are cut off anywhere are ESRCH or whole lines", () => {
  for (let length = 0; length < MAPS.length; length++) {
    try {
      parseMaps(Buffer.from(MAPS).subarray(0, length), "/proc/7/maps");
      assert.ok(length === 0 || MAPS[length - 1] === "\n" || Buffer.from(MAPS)[length - 1] === 10, `length ${length}`);
    } catch (error) {
      assert.ok(error instanceof KernelError);
      assert.equal(error.errno, 3);
      assert.match(error.message, /read\("\/proc\/7\/maps"\)/);
    }
  }
});

test("maps with nonsense in place of a number are a typed error", () => {
  for (const line of ["zz-400000 r--p 00000000 00:00 0\n", "0-1 r--p 00000000 00:00 x\n", "0-1\n", "\n"]) {
    assert.throws(() => parseMaps(Buffer.from(line), "x"), KernelError, line);
  }
});

test("smaps: flags and page size, whatever the widths of the columns", () => {
  const text =
    record("00400000-00401000 r--p 00000000 fd:01 1234     /a", { flags: " rd mr mw me" }) +
    record("7f0000000000-7f0000200000 rw-s 00000000 00:0f 9   /anon_hugepage (deleted)", { size: "2048", flags: " rd wr sh ht" }) +
    record("7f0000400000-7f0000401000 rw-p 00000000 00:00 0 ", { size: "         4", flags: " rd wr" });
  const vmas = parseSmaps(Buffer.from(text), "x");
  assert.deepEqual(
    vmas.map((vma) => [...vma.flags]),
    [
      ["rd", "mr", "mw", "me"],
      ["rd", "wr", "sh", "ht"],
      ["rd", "wr"],
    ],
  );
  assert.deepEqual(
    vmas.map((vma) => vma.kernelPageSizeKib),
    [4, 2048, 4],
  );
  for (let length = 1; length < text.length; length++) {
    const whole = text.slice(0, length).endsWith(" \n") && text.slice(0, length).split("\n").at(-2)?.startsWith("VmFlags");
    if (!whole) assert.throws(() => parseSmaps(Buffer.from(text.slice(0, length)), "x"), KernelError, `length ${length}`);
  }
});
