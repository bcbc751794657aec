/** Sockets that are not carried, and those that cannot be made again here: refused by name. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { compileWorkload } from "../harness/compile.js";
import { floeOfFile } from "../harness/tool.js";
import { Subject, withSubject } from "../harness/subject.js";
import { casePatienceMs } from "../harness/patience.js";

const floe = floeOfFile();
const skip = process.getuid?.() !== 0 ? "needs root" : "missing" in floe ? floe.missing : false;

/** Runs `steps` in namespaces of its own. */
async function run(steps: string): Promise<string> {
  if ("missing" in floe) throw new Error(floe.missing);
  const workload = await compileWorkload("sockets/refused");
  const folder = mkdtempSync(join(tmpdir(), "floe-refused-"));
  const script = `
    cd ${folder}; mkdir images
    floe() { ${floe.command.join(" ")} "$1" -D images "\${@:2}"; }
    # A process with a socket of this kind.
    start() { rm -f out; setsid ${workload} none $1 </dev/null >out 2>&1 & S=$!; until grep -q "made\\|FAIL" out; do sleep 0.01; done; grep FAIL out; }
    # What its dump says, and whether it lives.
    refused() { start $1; floe dump -t $S -o dump.log; echo "$1: $?"; cat images/dump.log; kill -0 $S && echo "$1 lives"; kill -9 $S; wait $S 2>/dev/null; }
    ${steps}`;
  writeFileSync(join(folder, "script"), script);
  const done = spawnSync("unshare", ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", join(folder, "script")], {
    encoding: "utf8",
    timeout: casePatienceMs,
  });
  rmSync(folder, { recursive: true, force: true });
  return `${done.stdout}${done.stderr}`;
}

/** Kinds of socket, with code and words of the refusal. */
const REFUSED: readonly [kind: string, code: string, words: RegExp][] = [
  ["corked", "UDP_CORKED", /IPv4 UDP socket.*: it holds a datagram/],
  ["fanout", "SOCKET_OPTION_UNREADABLE", /packet raw socket.*: a program shares packets out/],
  ["mptcp", "SOCKET_UNSUPPORTED", /IPv4 MPTCP socket \(127.*: Multipath TCP/],
  ["vsock", "SOCKET_UNSUPPORTED", /vsock stream socket.*: sockets between virtual machines/],
  ["md5", "TCP_SIGNED", /IPv4 TCP socket \(listening.*TCP_MD5SIG/],
  ["unread", "NETLINK_UNREAD", /netlink raw socket.*: it holds messages of the kernel/],
  ["overrun", "NETLINK_UNREAD", /netlink raw.*socket.*: it holds messages/],
  ["ebpf", "SOCKET_OPTION_UNREADABLE", /IPv4 UDP socket.*eBPF filter/],
  ["ebpf-chooses", "SOCKET_OPTION_UNREADABLE", /IPv4 UDP socket.*eBPF program chooses/],
  ["policy", "SOCKET_OPTION_UNREADABLE", /IPv4 UDP socket.*policy of IPsec/],
  ["elsewhere", "SOCKET_OTHER_NETNS", /(belongs to another network namespace(.*\n)*.*){4}/],
  ["closed-ring", "MAPPING_SPECIAL", /\(socket:\[\d+\]\)/],
];

const UPPER = "/proc/sys/net/ipv4/tcp_available_ulp";
const noTls = skip !== false ? skip : existsSync(UPPER) && readFileSync(UPPER, "latin1").includes("tls") ? false : "the kernel has no TLS";

test("a connection with TLS in the kernel is refused", { skip: noTls }, async () => {
  assert.match(await run("refused tls"), /IPv4 TCP socket.*the protocol "tls"(.*\n)*.*\[TCP_ULP\](.*\n)*tls lives/);
});

const noTunnel = skip !== false ? skip : existsSync("/dev/net/tun") ? false : "the machine has no /dev/net/tun";

test("a connection that its client has not confirmed, but that was accepted, is refused", { skip: noTunnel }, async () => {
  assert.match(await run("refused fast-open"), /10\.9\.0\.1:7605.*SYN_RECV.*\n(.*\n)*.*\[TCP_CLOSING\](.*\n)*fast-open lives/);
});

test("sockets that are not carried are refused by name, and nothing happens to them", { skip }, async () => {
  const report = await run(`for kind in ${REFUSED.map(([kind]) => kind).join(" ")}; do refused $kind; done`);
  for (const [kind, code, words] of REFUSED) {
    const part = report.slice(report.indexOf(`${kind}: 1`), report.indexOf(`${kind} lives`));
    assert.match(part, new RegExp(`\\[${code}\\]`), report);
    assert.match(part, words, report);
  }
});

test("sk.udp: an error that is not read is left where it is, where the kernel's memory may not be looked at", { skip }, () =>
  withSubject(Subject.withWorkload("sockets/udp-errors", [], { namespaces: ["net"] }), async (subject) => {
    const types = "/sys/kernel/btf/vmlinux";
    await subject.must(["mount", "--bind", "/dev/null", types]);
    const { exit, text } = await subject.run(subject.dumpLine());
    await subject.must(["umount", types]);
    assert.equal(exit.code, 1, text);
    assert.equal(text.match(/\[UDP_ERROR_PENDING\]/g)?.length, 5, text);
    await subject.judge();
  }),
);

test("sk.raw-icmp: a restore says where no group may have ping sockets", { skip }, async () => {
  const report = await run(`
    start ping; floe dump -t $S -o dump.log || cat images/dump.log
    echo "1 0" >/proc/sys/net/ipv4/ping_group_range
    floe restore -d -o restore.log; echo "refused: $?"; cat images/restore.log
    echo "7 9" >/proc/sys/net/ipv4/ping_group_range
    floe restore -d -o restore.log && echo restored || cat images/restore.log; kill -9 $S`);
  assert.match(report, /^refused: 1$/m, report);
  assert.match(report, /ping socket.*\[PING_GROUPS\]|\[PING_GROUPS\]/, report);
  assert.match(report, /^restored$/m, report);
});

test("sk.packet: a restore says which device is missing, and takes no ring that is cut off", { skip }, async () => {
  const report = await run(`
    ip link add v0 type veth peer name v1; ip link set v0 up
    start device; floe dump -t $S -o dump.log || cat images/dump.log
    ip link del v0; floe restore -d -o restore.log; echo "device: $?"; cat images/restore.log
    rm -rf images; mkdir images
    start ring; floe dump -t $S -o dump.log || cat images/dump.log
    truncate -s 5000 images/floe-packet-ring-*.img
    floe restore -d -o restore.log; echo "ring: $?"; cat images/restore.log`);
  assert.match(report, /^device: 1\n(.*\n)*.*network device "v0"(.*\n)*.*\[DEVICE_MISSING\]/m, report);
  assert.match(report, /^ring: 1\n(.*\n)*.*it has 5000 bytes(.*\n)*.*\[IMAGE_BAD_VALUE\]/m, report);
});

test("sk.netlink: messages that are not read are dropped where the user says so", { skip }, async () => {
  const report = await run(`
    start unread; floe dump -t $S -o dump.log --netlink-policy drop -v4; echo "dump: $?"; cat images/dump.log
    floe restore -d -o restore.log && echo restored; kill -9 $S`);
  assert.match(report, /^dump: 0$/m, report);
  assert.match(report, /netlink raw socket.*has not read are dropped/, report);
  assert.match(report, /^restored$/m, report);
});
