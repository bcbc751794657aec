/**
 * The bytes of stub.S, and the layout of the frame it works on. stub.test.ts assembles stub.S and compares.
 */

/** Position-independent code of the stub. */
export const STUB_CODE: Uint8Array = Buffer.from(
  "8b0385c07832488b7b08488b7310488b53184c8b53204c8b43284c8b4b300f0548894338f64304017408483d01f0ffff" +
    "73344883c340ebc883f8ff7429488b7308488b36488b7b1083f8fd74077209488937ebde8937ebda4885f675d5b8e700" +
    "000031ff0f0548895d28b8ea000000488b7d00488b7508488b55100f0531db48875d204885db0f8574ffffffb80e0000" +
    "00bf02000000488d751831d241ba080000000f05488bb5c000000085f67421b89d000000bf3b000000488b95c8000000" +
    "4c8b95d00000004c8b85d80000000f054c8b7d304c8b75384c8b6d404c8b65484c8b5d504c8b55584c8b4d604c8b4568" +
    "488b4d70488b5578488bb580000000488bbd88000000488b9d90000000488b85a0000000047f9e488b8598000000488d" +
    "ada8000000ffe5b8220000000f05ebf7",
  "hex",
);

/** Offset of the pause(2) loop in {@link STUB_CODE}: where a new task waits to be told what to do. */
export const STUB_PAUSE_OFFSET = 0x127;

/** Offset of the instruction behind the tgkill(2) that ends a program: where a stopped task's rip is. */
export const STUB_STOP_OFFSET = 0x7d;

/** Byte offsets inside a frame. */
export const FRAME = {
  tgid: 0,
  tid: 8,
  signal: 16,
  mask: 24,
  cleanup: 32,
  end: 40,
  registers: 48,
  rax: 152,
  flagWord: 160,
  trampoline: 168,
  dispatch: 192,
  sizeBytes: 256,
} as const;

/** The system-call instruction, which is also good for the one that unmaps the stub. */
export const STUB_SYSCALL_OFFSET = 0x1e;
