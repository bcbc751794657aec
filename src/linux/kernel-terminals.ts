/**
 * Whether output of a terminal is stopped, and by whom: no call tells. What a master in packet mode has not been told yet, and the
 * queues: reading tells, but takes them away. Read from the kernel's memory (`kernel-view.ts`).
 * Structures: linux/tty.h, linux/tty_port.h, linux/tty_buffer.h, drivers/tty/n_tty.c.
 */
import { KernelView, sightOf } from "./kernel-view.js";

/** By the character for it (^S), or by tcflow(3); each is undone by its own kind only. */
export type StoppedBy = "typing" | "call";

const STRUCTS = { tty_file_private: ["tty"], tty_struct: ["flow.stopped", "flow.tco_stopped"] } as const;
/** Of what waits to be read. */
const QUEUES = {
  tty_struct: ["ctrl.pktstatus", "disc_data", "port"],
  tty_port: ["buf"],
  tty_bufhead: ["head", "tail"],
  tty_buffer: ["commit", "read"],
  n_tty_data: ["read_head", "read_tail", "read_buf"],
} as const;
/** N_TTY_BUF_SIZE. */
const QUEUE_BYTES = 4096;

export class KernelTerminals {
  readonly #view: KernelView;

  private constructor(view: KernelView) {
    this.#view = view;
  }

  /** Undefined where the kernel has no type information, keeps it elsewhere (before Linux 5.15), or lets us read nothing. */
  static open(): KernelTerminals | undefined {
    const sight = sightOf(STRUCTS, QUEUES);
    return sight && new KernelTerminals(new KernelView(sight));
  }

  #terminal(fd: number): bigint | undefined {
    const own = this.#view.privateOf(fd);
    return own === undefined ? undefined : this.#view.pointer(own + BigInt(this.#view.at("tty_file_private", "tty")));
  }

  #member(start: bigint, struct: string, member: string): bigint {
    return start + BigInt(this.#view.at(struct, member));
  }

  /** Of a terminal of ours; undefined: it cannot be seen. */
  stopped(fd: number): StoppedBy | "not" | undefined {
    const tty = this.#terminal(fd);
    if (tty === undefined) return undefined;
    const flag = (member: string) => this.#view.read(this.#member(tty, "tty_struct", member), 1)?.readUInt8(0);
    const [isStopped, isByCall] = [flag("flow.stopped"), flag("flow.tco_stopped")];
    if (isStopped === undefined || isByCall === undefined || isStopped > 1 || isByCall > 1) return undefined;
    return isStopped === 0 ? "not" : isByCall === 0 ? "typing" : "call";
  }

  /** TIOCPKT_… bits about a slave of ours that its master has not read; undefined: they cannot be seen. */
  packetStatus(slave: number): number | undefined {
    if (!this.#view.has(...Object.keys(QUEUES))) return undefined;
    const tty = this.#terminal(slave);
    return tty === undefined ? undefined : this.#view.read(this.#member(tty, "tty_struct", "ctrl.pktstatus"), 1)?.readUInt8(0);
  }

  /** All that waits to be read from a terminal of ours; undefined: it cannot be seen, or there is more on its way there. */
  unread(fd: number): Buffer | undefined {
    const view = this.#view;
    const tty = view.has(...Object.keys(QUEUES)) ? this.#terminal(fd) : undefined;
    const [port, data] = tty === undefined ? [] : ["port", "disc_data"].map((name) => view.pointer(this.#member(tty, "tty_struct", name)));
    if (port === undefined || data === undefined || port === 0n || data === 0n || !this.#hasArrived(port)) return undefined;
    const [head, tail] = ["read_head", "read_tail"].map((name) => view.pointer(this.#member(data, "n_tty_data", name)));
    const bytes = view.read(this.#member(data, "n_tty_data", "read_buf"), QUEUE_BYTES);
    if (head === undefined || tail === undefined || bytes === undefined || head < tail || head - tail > BigInt(QUEUE_BYTES))
      return undefined;
    const [from, length] = [Number(tail % BigInt(QUEUE_BYTES)), Number(head - tail)];
    return Buffer.concat([bytes, bytes]).subarray(from, from + length);
  }

  /** Whether nothing is in the buffers between the two sides. */
  #hasArrived(port: bigint): boolean {
    const buffers = this.#member(port, "tty_port", "buf");
    const [head, tail] = ["head", "tail"].map((name) => this.#view.pointer(this.#member(buffers, "tty_bufhead", name)));
    if (head === undefined || head !== tail) return false;
    const [commit, read] = ["commit", "read"].map((name) => this.#view.read(this.#member(head, "tty_buffer", name), 4)?.readUInt32LE(0));
    return commit !== undefined && commit === read;
  }
}
