/** Real servers, frozen and thawed twice while a client outside of the dump checks every answer of one and the same connection. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { describe, test } from "node:test";
import { floeOfFile } from "../harness/tool.js";
import { casePatienceMs } from "../harness/patience.js";

const floe = floeOfFile();
const why = process.getuid?.() !== 0 ? "needs root" : "missing" in floe ? floe.missing : undefined;

const NGINX = `
user root; daemon off; pid nginx.pid; error_log error.log; worker_processes 2; events { worker_connections 64; }
http { access_log off; keepalive_requests 1000000000; server { listen 127.0.0.1:7501; root .; } }`;

interface Server {
  readonly name: string;
  /** Its program, and the client's word for it (test/programs/ask.mjs). */
  readonly program: string;
  readonly kind: string;
  readonly port: number;
  readonly files?: Readonly<Record<string, string>>;
  readonly before?: string;
  readonly command: string;
}

const servers: readonly Server[] = [
  {
    ...{ name: "redis: INCR goes on counting", program: "redis-server", kind: "redis", port: 7500 },
    command: 'redis-server --port 7500 --bind 127.0.0.1 --save "" --daemonize no',
  },
  {
    ...{ name: "nginx: a master, workers, and a connection that is kept alive", program: "nginx", kind: "http", port: 7501 },
    files: { "nginx.conf": NGINX, answer: "the answer\n" },
    command: "nginx -p $PWD -c nginx.conf",
  },
  {
    ...{ name: "memcached: threads and a counter", program: "memcached", kind: "memcached", port: 7502 },
    command: "memcached -u root -l 127.0.0.1 -p 7502 -U 0",
  },
  {
    ...{ name: "openssl s_server: a TLS session", program: "openssl", kind: "tls", port: 7503 },
    before: "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=test 2>req.log",
    command: "openssl s_server -accept 7503 -key key.pem -cert cert.pem -rev -quiet",
  },
  {
    ...{ name: "node: HTTP with a connection that is kept alive", program: "node", kind: "http", port: 7504 },
    files: {
      "server.mjs":
        'import http from "node:http"; http.createServer({ keepAliveTimeout: 60000 }, (q, a) => a.end("the answer\\n")).listen(7504, "127.0.0.1");',
    },
    // Its ring for I/O has workers in the kernel, which nobody can freeze.
    command: "env UV_USE_IO_URING=0 node server.mjs",
  },
];

function isThere(program: string): boolean {
  return (process.env["PATH"] ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));
}

function serve({ kind, port, files = {}, before = "", command }: Server): { report: string; folder: string } {
  if ("missing" in floe) throw new Error(floe.missing);
  const folder = mkdtempSync(join(tmpdir(), "floe-server-"));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const script = `
    cd ${folder}
    floe() { ${floe.command.join(" ")} $1 -D images -v4 --tcp-established \${@:2} >tool.out 2>&1 || { cat tool.out; exit 8; }; }
    ip link set lo up || exit 7
    ${before}
    setsid ${command} </dev/null >server.out 2>&1 & S=$!
    for i in $(seq 1200); do (exec 3<>/dev/tcp/127.0.0.1/${port}) 2>/dev/null && break; sleep 0.05; done
    node ${resolve("test/programs/ask.mjs")} ${kind} ${port} >client.out 2>&1 & C=$!
    for i in $(seq 1200); do grep -q ready client.out && break; sleep 0.05; done
    for round in 1 2; do
      rm -rf images; mkdir images
      floe dump -t $S -o dump.log
      sleep 0.2
      floe restore -d -o restore.log
      sleep 0.5
    done
    rm -rf images; mkdir images; floe dump -t $S --leave-running -o dump.log
    sleep 0.3
    kill -TERM $C; wait $C; echo "client: $?"; cat client.out server.out`;
  writeFileSync(join(folder, "script"), script);
  const run = spawnSync("unshare", ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", join(folder, "script")], {
    encoding: "utf8",
    timeout: casePatienceMs,
  });
  return { report: `${run.stdout}${run.stderr}`, folder };
}

describe("servers", { ...(why === undefined ? {} : { skip: why }) }, () => {
  for (const server of servers) {
    const missing = ["ip", server.program].find((program) => !isThere(program));
    test(`tcp.established: ${server.name}`, { skip: missing === undefined ? false : `there is no ${missing} on this machine` }, () => {
      const { report, folder } = serve(server);
      assert.match(report, /client: 0/, report);
      assert.match(report, /^\d+ answers$/m, report);
      rmSync(folder, { recursive: true, force: true });
    });
  }
});
