/**
 * Names that crit shows in place of numbers. They are part of its JSON: scripts read them, and `encode` takes them back.
 */

/** Bits and their names, in the order in which they are shown. */
export type BitNames = readonly (readonly [name: string, bit: number])[];

export const BIT_NAMES: Readonly<Record<string, BitNames>> = {
  // include/uapi/asm-generic/fcntl.h, as on x86_64
  "rfile.flags": [
    ["O_WRONLY", 0o1],
    ["O_RDWR", 0o2],
    ["O_CREAT", 0o100],
    ["O_EXCL", 0o200],
    ["O_NOCTTY", 0o400],
    ["O_TRUNC", 0o1000],
    ["O_APPEND", 0o2000],
    ["O_NONBLOCK", 0o4000],
    ["O_DSYNC", 0o10000],
    ["FASYNC", 0o20000],
    ["O_DIRECT", 0o40000],
    ["O_LARGEFILE", 0o100000],
    ["O_DIRECTORY", 0o200000],
    ["O_NOFOLLOW", 0o400000],
    ["O_NOATIME", 0o1000000],
    ["O_CLOEXEC", 0o2000000],
  ],
  "pmap.flags": [
    ["PE_PARENT", 1],
    ["PE_LAZY", 2],
    ["PE_PRESENT", 4],
  ],
  // include/uapi/asm-generic/mman-common.h
  "mmap.prot": [
    ["PROT_READ", 1],
    ["PROT_WRITE", 2],
    ["PROT_EXEC", 4],
  ],
  "mmap.flags": [
    ["MAP_SHARED", 0x1],
    ["MAP_PRIVATE", 0x2],
    ["MAP_ANON", 0x20],
    ["MAP_GROWSDOWN", 0x100],
  ],
  "mmap.status": [
    ["VMA_AREA_REGULAR", 1 << 0],
    ["VMA_AREA_STACK", 1 << 1],
    ["VMA_AREA_VSYSCALL", 1 << 2],
    ["VMA_AREA_VDSO", 1 << 3],
    ["VMA_AREA_HEAP", 1 << 5],
    ["VMA_FILE_PRIVATE", 1 << 6],
    ["VMA_FILE_SHARED", 1 << 7],
    ["VMA_ANON_SHARED", 1 << 8],
    ["VMA_ANON_PRIVATE", 1 << 9],
    ["VMA_AREA_SYSVIPC", 1 << 10],
    ["VMA_AREA_SOCKET", 1 << 11],
    ["VMA_AREA_VVAR", 1 << 12],
    ["VMA_AREA_AIORING", 1 << 13],
    ["VMA_AREA_MEMFD", 1 << 14],
    ["VMA_AREA_SHSTK", 1 << 15],
    ["VMA_UNSUPP", 0x8000_0000],
  ],
  // include/uapi/linux/fcntl.h
  "seals.flags": [
    ["F_SEAL_SEAL", 1],
    ["F_SEAL_SHRINK", 2],
    ["F_SEAL_GROW", 4],
    ["F_SEAL_WRITE", 8],
    ["F_SEAL_FUTURE_WRITE", 16],
  ],
};

export const VALUE_NAMES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  task_state: { Alive: 1, Zombie: 3, Stopped: 6 },
  // include/linux/net.h
  "sk.type": { STREAM: 1, DGRAM: 2, RAW: 3, SEQPACKET: 5, PACKET: 10 },
  // include/net/tcp_states.h
  "sk.state": {
    ESTABLISHED: 1,
    SYN_SENT: 2,
    SYN_RECV: 3,
    FIN_WAIT1: 4,
    FIN_WAIT2: 5,
    TIME_WAIT: 6,
    CLOSE: 7,
    CLOSE_WAIT: 8,
    LAST_ACK: 9,
    LISTEN: 10,
  },
  // include/linux/socket.h
  "sk.family": { UNIX: 1, INET: 2, INET6: 10, NETLINK: 16, PACKET: 17 },
  // include/uapi/linux/in.h
  "sk.proto": { IP: 0, TCP: 6, UDP: 17, UDPLITE: 136 },
};
