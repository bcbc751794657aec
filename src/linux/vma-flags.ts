/**
 * The mappings of a process with their flags, without the walk over all page tables that /proc/PID/smaps takes: 13 ms for
 * each GiB of small pages, during which the process would have to stand still.
 *
 * Read from  /proc/PID/maps, and the flags by a BPF iterator (`bpf-iter.ts`)
 *
 * Which bit is which of smaps' letters is tried on mappings of our own. A bit that has not been met there, huge pages, or a
 * kernel that has or allows no such program: then smaps is read.
 */
import { closeSync } from "node:fs";
import { KernelError } from "../errors.js";
import { VMA_WORDS, loadVmaProgram, readVmaWords } from "./bpf-iter.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import * as memory from "./memory.js";
import type { Vma } from "./proc/maps.js";
import { type ReadText, readMapsAgain, readSmaps, readSmapsAgain } from "./proc/read.js";
import { SYS } from "./syscalls.js";
import {
  UFFDIO_REGISTER_MODE_WP,
  UFFD_FEATURE_PAGEFAULT_FLAG_WP,
  UFFD_USER_MODE_ONLY,
  uffdioApi,
  uffdioRegister,
  userfaultfd,
} from "./userfaultfd.js";

type Flags = Vma["flags"];

/** include/linux/mm.h, and the letters that fs/proc/task_mmu.c has for them; believed only as far as our own mappings show it. */
const LOW_BITS: readonly (readonly [bit: number, letters: string])[] = [
  [0, "rd"],
  [1, "wr"],
  [2, "ex"],
  [3, "sh"],
  [4, "mr"],
  [5, "mw"],
  [6, "me"],
  [7, "ms"],
  [8, "gd"],
  [10, "pf"],
  [12, "uw"],
  [13, "lo"],
  [14, "io"],
  [15, "sr"],
  [16, "rr"],
  [17, "dc"],
  [18, "de"],
  [19, "lf"],
  [20, "ac"],
  [21, "nr"],
  [22, "ht"],
  [25, "wf"],
  [26, "dd"],
  [27, "sd"],
  [28, "mm"],
  [29, "hg"],
  [30, "nh"],
  [31, "mg"],
];
const HUGETLB_BIT = 1 << 22;
const HIGH = 1n << 32n;
const PAGE = 4096n;
const EXAMPLE_PAGES = 3n;

/** What flags mean in letters, learnt from our own mappings. */
interface Reader {
  readonly program: number;
  /** Bits above the 32nd: their letters, by what they are. */
  readonly highBits: ReadonlyMap<bigint, readonly string[]>;
  /** Letters by flags, as they come up. */
  readonly known: Map<bigint, Flags>;
}

let reader: Reader | undefined;
let wasTried = false;

/** Tries once whether flags can be read this way; takes some 20 ms. */
export function prepareMappingFlags(): void {
  if (wasTried) return;
  wasTried = true;
  const program = loadVmaProgram();
  if (program === undefined) return;
  try {
    reader = learn(program);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
  }
  if (reader === undefined) closeSync(program);
}

/** Mappings with flags, and the bytes that they were taken from. */
export interface KnownMappings {
  readonly vmas: readonly Vma[];
  /** Of maps, or, without words, of smaps. */
  readonly text: ReadText<Vma[]>;
  readonly words: Buffer | undefined;
}

/** Mappings with flags: fast after {@link prepareMappingFlags}, where the kernel has what it takes, otherwise from smaps. */
export function readMappings(pid: number): readonly Vma[] {
  return readMappingsAgain(pid).vmas;
}

/** {@link readMappings}; the same object as `before` when nothing has changed. */
export function readMappingsAgain(pid: number, before?: KnownMappings): KnownMappings {
  const fast = reader === undefined ? undefined : readFast(reader, pid, before);
  if (fast !== undefined) return fast;
  const known = before?.words === undefined ? before : undefined;
  const text = readSmapsAgain(pid, known?.text);
  return known !== undefined && text === known.text ? known : { vmas: text.value, text, words: undefined };
}

/** Whether mappings can be read without a walk over the page tables. */
export function areMappingsReadFast(): boolean {
  return reader !== undefined;
}

function readFast(by: Reader, pid: number, before: KnownMappings | undefined): KnownMappings | undefined {
  let words: BigUint64Array;
  try {
    words = readVmaWords(by.program, pid);
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  }
  const bytes = Buffer.from(words.buffer, words.byteOffset, words.byteLength);
  const known = before?.words?.equals(bytes) === true ? before : undefined;
  const text = readMapsAgain(pid, known?.text);
  if (known !== undefined && text === known.text) return known;
  const vmas: { -readonly [K in keyof Vma]: Vma[K] }[] = text.value;
  let at = 0;
  for (const vma of vmas) {
    // The kernel adds this one to every process; it is no mapping of it, and has this flag alone.
    if (vma.name === "[vsyscall]") {
      vma.flags = VSYSCALL;
    } else {
      if (words[at] !== vma.start || words[at + 1] !== vma.end) return undefined; // it changes: it does not stand still
      const flags = lettersOf(by, words[at + 2] ?? 0n);
      if (flags === undefined) return undefined;
      vma.flags = flags;
      at += VMA_WORDS;
    }
    vma.kernelPageSizeKib = 4;
  }
  return at === words.length ? { vmas, text, words: Buffer.from(bytes) } : undefined;
}

const VSYSCALL: Flags = new Set(["ex"]);

/** undefined: bits that are not known, or whose mappings have pages of another size. */
function lettersOf({ known, highBits }: Reader, flags: bigint): Flags | undefined {
  const before = known.get(flags);
  if (before !== undefined) return before;
  const low = lowLetters(Number(flags % HIGH));
  const high = highBits.get(flags / HIGH);
  if (low === undefined || high === undefined) return undefined;
  const letters: Flags = new Set([...low, ...high]);
  known.set(flags, letters);
  return letters;
}

function lowLetters(low: number): string[] | undefined {
  if ((low & HUGETLB_BIT) !== 0) return undefined;
  const letters: string[] = [];
  let rest = low;
  for (const [bit, name] of LOW_BITS) {
    const value = 2 ** bit;
    if (Math.floor(low / value) % 2 === 0) continue;
    letters.push(name);
    rest -= value;
  }
  return rest === 0 ? letters : undefined;
}

/** Compares both sources for our own mappings; undefined when they do not say the same. */
function learn(program: number): Reader | undefined {
  const examples = makeExamples();
  try {
    const smaps = new Map(readSmaps(process.pid).map((vma) => [vma.start, vma]));
    const words = readVmaWords(program, process.pid);
    const highBits = new Map<bigint, readonly string[]>([[0n, []]]);
    let seen = 0;
    for (let at = 0; at < words.length; at += VMA_WORDS) {
      const [start = 0n, end = 0n, flags = 0n] = words.subarray(at, at + VMA_WORDS);
      const vma = smaps.get(start);
      const low = lowLetters(Number(flags % HIGH));
      const isExample = start >= examples.start && end <= examples.end;
      if (vma?.end !== end || low === undefined) {
        if (isExample) return undefined;
        continue; // our own memory changes
      }
      if (isExample) seen++;
      const high = [...vma.flags].filter((letters) => !low.includes(letters));
      const isSame = low.every((letters) => vma.flags.has(letters)) && (highBits.get(flags / HIGH)?.join() ?? high.join()) === high.join();
      if (!isSame && isExample) return undefined;
      if (isSame) highBits.set(flags / HIGH, high);
    }
    return seen >= examples.count ? { program, highBits, known: new Map() } : undefined;
  } finally {
    examples.close();
  }
}

interface Examples {
  readonly start: bigint;
  readonly end: bigint;
  readonly count: number;
  close(): void;
}

/** Mappings of our own with every flag that can be had: kinds, advice, locks, tracking. */
function makeExamples(): Examples {
  const { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE } = memory;
  const plain = MAP_PRIVATE | MAP_ANONYMOUS;
  const advice = [1, 2, 10, 12, 14, 15, 16, 18].map((number) => (address: bigint) => syscallNumber(SYS.madvise, address, PAGE, number));
  const kinds = [
    plain,
    plain | memory.MAP_NORESERVE,
    plain | memory.MAP_GROWSDOWN,
    MAP_SHARED | MAP_ANONYMOUS,
    memory.MAP_DROPPABLE | MAP_ANONYMOUS,
  ];
  const changes = [
    ...advice,
    (address: bigint) => syscallNumber(SYS.mlock2, address, PAGE, 0),
    (address: bigint) => syscallNumber(SYS.mlock2, address, PAGE, memory.MLOCK_ONFAULT),
  ];
  const count = kinds.length + changes.length + 1;
  const sizeBytes = BigInt(count) * EXAMPLE_PAGES * PAGE;
  const start = memory.mmap({ sizeBytes, protection: PROT_NONE, flags: plain | memory.MAP_NORESERVE });
  const place = (i: number) => start + (BigInt(i) * EXAMPLE_PAGES + 1n) * PAGE;
  const map = (i: number, flags: number) => syscallNumber(SYS.mmap, place(i), PAGE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0);
  kinds.forEach((flags, i) => map(i, flags));
  changes.forEach((change, i) => {
    map(kinds.length + i, plain);
    change(place(kinds.length + i)); // what this kernel does not know is no example
  });
  map(count - 1, plain);
  const uffd = trackExample({ address: place(count - 1), sizeBytes: PAGE });
  const close = () => {
    if (uffd !== undefined) closeSync(uffd);
    memory.munmap({ address: start, sizeBytes });
  };
  return { start, end: start + sizeBytes, count, close };
}

function trackExample(range: memory.MemoryRange): number | undefined {
  let uffd: number | undefined;
  try {
    uffd = userfaultfd(UFFD_USER_MODE_ONLY);
    uffdioApi(uffd, UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    uffdioRegister(uffd, range, UFFDIO_REGISTER_MODE_WP);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
  }
  return uffd;
}
