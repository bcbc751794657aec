/**
 * Packets that come in at a network device as if it had received them.
 *
 * bpf_clone_redirect(3bpf) with BPF_F_INGRESS gives a packet to a device's way in; the program that calls it is run by hand
 * (BPF_PROG_TEST_RUN) and attached to nothing. Needs CAP_BPF and CAP_NET_ADMIN. Source: uapi/linux/bpf.h.
 */
import { closeSync } from "node:fs";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

const BPF_PROG_LOAD = 5;
const BPF_PROG_TEST_RUN = 10;
const BPF_PROG_TYPE_SCHED_CLS = 3;
const BPF_FUNC_clone_redirect = 13;
const BPF_F_INGRESS = 1;
const ATTR_BYTES = 128;
const INSTRUCTION_BYTES = 8;
/** struct __sk_buff: its size, and where the words are that belong to the program. */
const CONTEXT_BYTES = 192;
const CB_AT = 48;

/** struct bpf_insn: code, registers (source above destination), offset, immediate. */
const INSTRUCTIONS = [
  [0x61, 0x12, CB_AT, 0], // r2 = the number of the device
  [0xb7, 0x03, 0, BPF_F_INGRESS], // r3
  [0x85, 0, 0, BPF_FUNC_clone_redirect],
  [0x95, 0, 0, 0],
] as const;

const bpf = (command: number, attr: Buffer) => syscallNumber(SYS.bpf, command, attr, attr.length);

/** An Ethernet frame's type: 0x0800 for IPv4, 0x86dd for IPv6. */
const ETHERTYPE = { 4: 0x0800, 6: 0x86dd } as const;
const ETHERNET_BYTES = 14;
/** What BPF_PROG_TEST_RUN takes is a page, less what the kernel needs of it. */
export const MOST_FRAME_BYTES = 3072;

export class PacketEntry {
  readonly #program: number;

  private constructor(program: number) {
    this.#program = program;
  }

  /** Undefined where the kernel cannot, or does not let us. */
  static open(): PacketEntry | undefined {
    const code = Buffer.alloc(INSTRUCTIONS.length * INSTRUCTION_BYTES);
    INSTRUCTIONS.forEach(([operation, registers, offset, immediate], i) => {
      code.writeUInt8(operation, i * INSTRUCTION_BYTES);
      code.writeUInt8(registers, i * INSTRUCTION_BYTES + 1);
      code.writeInt16LE(offset, i * INSTRUCTION_BYTES + 2);
      code.writeInt32LE(immediate, i * INSTRUCTION_BYTES + 4);
    });
    const license = Buffer.from("Dual MIT/GPL\0");
    const attr = Buffer.alloc(ATTR_BYTES);
    attr.writeUInt32LE(BPF_PROG_TYPE_SCHED_CLS, 0);
    attr.writeUInt32LE(INSTRUCTIONS.length, 4);
    attr.writeBigUInt64LE(addressOf(code), 8);
    attr.writeBigUInt64LE(addressOf(license), 16);
    attr.write("floe_enter", 48, "latin1");
    const program = bpf(BPF_PROG_LOAD, attr);
    return program < 0 ? undefined : new PacketEntry(program);
  }

  /** A packet of IPv4 or IPv6 comes in at a device, addressed to hardware address `to`. False: it could not be given to it. */
  enter(packet: Buffer, { ifindex, to }: { ifindex: number; to: Uint8Array }): boolean {
    const head = Buffer.alloc(ETHERNET_BYTES);
    head.set(to.subarray(0, 6), 0);
    head.writeUInt16BE((packet[0] ?? 0) >> 4 === 6 ? ETHERTYPE[6] : ETHERTYPE[4], 12);
    const frame = Buffer.concat([head, packet]);
    if (frame.length > MOST_FRAME_BYTES) return false;
    const context = Buffer.alloc(CONTEXT_BYTES);
    context.writeUInt32LE(ifindex, CB_AT);
    const attr = Buffer.alloc(ATTR_BYTES);
    attr.writeUInt32LE(this.#program, 0);
    attr.writeUInt32LE(frame.length, 8);
    attr.writeBigUInt64LE(addressOf(frame), 16);
    attr.writeUInt32LE(context.length, 40);
    attr.writeBigUInt64LE(addressOf(context), 48);
    return bpf(BPF_PROG_TEST_RUN, attr) >= 0 && attr.readUInt32LE(4) === 0;
  }

  close(): void {
    closeSync(this.#program);
  }
}
