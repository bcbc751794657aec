/** Sessions with real servers that are frozen and thawed while something is under way: a transaction, a shell on another host. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { describe, test } from "node:test";
import { floeOfFile } from "../harness/tool.js";
import { casePatienceMs } from "../harness/patience.js";

const floe = floeOfFile();
const why = process.getuid?.() !== 0 ? "needs root" : "missing" in floe ? floe.missing : undefined;

/** Debian keeps programs of PostgreSQL out of the path. */
const postgres = (() => {
  const folder = "/usr/lib/postgresql";
  const versions = existsSync(folder) ? readdirSync(folder).filter((v) => existsSync(join(folder, v, "bin", "postgres"))) : [];
  return versions.length === 0 ? undefined : join(folder, versions.at(-1) ?? "", "bin");
})();

const path = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", ...(postgres === undefined ? [] : [postgres])];

function missing(...programs: string[]): string | undefined {
  const gone = programs.find((program) => !path.some((folder) => existsSync(join(folder, program))));
  return gone === undefined ? undefined : `there is no ${gone} on this machine`;
}

/** Runs `steps` in a folder and namespaces of their own. */
function run(steps: string): string {
  if ("missing" in floe) throw new Error(floe.missing);
  const folder = mkdtempSync(join(tmpdir(), "floe-session-"));
  chmodSync(folder, 0o755);
  const script = `
    cd ${folder}
    floe() { ${floe.command.join(" ")} $1 -D images --tcp-established "\${@:2}" >tool.out 2>&1 || { cat tool.out images/*.log; exit 8; }; }
    thaw() { rm -rf images; mkdir images; floe dump -t $S -o dump.log; sleep 0.2; floe restore -d -o restore.log; }
    until_line() { for i in $(seq 1200); do grep -q "$1" $2 && return; sleep 0.05; done; echo "no $1 in $2"; cat *.out; exit 9; }
    ip link set lo up || exit 7
    mkfifo in; exec 5<>in
    ${steps}`;
  writeFileSync(join(folder, "script"), script);
  const done = spawnSync("unshare", ["--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", join(folder, "script")], {
    encoding: "utf8",
    timeout: casePatienceMs,
    env: { ...process.env, PATH: path.join(delimiter) },
  });
  rmSync(folder, { recursive: true, force: true });
  return `${done.stdout}${done.stderr}`;
}

describe("sessions", { ...(why === undefined ? {} : { skip: why }) }, () => {
  test("tcp.established: PostgreSQL goes on in the midst of a transaction", {
    skip: missing("ip", "initdb", "postgres", "psql", "setpriv") ?? false,
  }, () => {
    const report = run(`
      mkdir data; chown postgres data
      as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
      as initdb -D data -A trust --no-sync --no-instructions >initdb.out 2>&1 || { cat initdb.out; exit 7; }
      setsid setpriv --reuid postgres --regid postgres --clear-groups postgres -D data -p 7505 -h 127.0.0.1 -k '' -F </dev/null >server.out 2>&1 & S=$!
      for i in $(seq 1200); do as psql -h 127.0.0.1 -p 7505 -c 'create table t(n int)' postgres >/dev/null 2>&1 && break; sleep 0.05; done
      as psql -h 127.0.0.1 -p 7505 -At postgres <&5 >client.out 2>&1 &
      echo "begin; insert into t select generate_series(1, 1000); select 'begun', count(*) from t;" >&5; until_line begun client.out
      for round in 1 2; do
        thaw
        echo "insert into t values (0); select 'round $round', count(*) from t;" >&5; until_line "round $round" client.out
      done
      as psql -h 127.0.0.1 -p 7505 -Atc "select 'another', count(*) from t" postgres
      echo "commit;" >&5; until_line COMMIT client.out
      as psql -h 127.0.0.1 -p 7505 -Atc "select 'afterwards', count(*), sum(n) from t" postgres
      cat client.out
      kill -INT $S; until_line "is shut down" server.out; echo "shut down"`);
    assert.match(report, /^begun\|1000\n(.*\n)*round 1\|1001\n(.*\n)*round 2\|1002$/m, report);
    // What is not committed nobody else sees.
    assert.match(report, /^another\|0$/m, report);
    assert.match(report, /^afterwards\|1002\|500500$/m, report);
    assert.match(report, /^shut down$/m, report);
  });

  for (const [kind, option, end] of [
    ["with pipes", "-T", ""],
    ["with a terminal", "-tt", "printf '\\004' >&5"],
  ] as const) {
    test(`tcp.established: a shell by ssh, ${kind}, goes on when the server does`, {
      skip: missing("ip", "sshd", "ssh", "ssh-keygen") ?? false,
    }, () => {
      const report = run(`
        ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -q -t ed25519 -N '' -f host
        printf '%s\\n' 'Port 7506' 'ListenAddress 127.0.0.1' "HostKey $PWD/host" "AuthorizedKeysFile $PWD/key.pub" 'PidFile none' \\
          'StrictModes no' 'UsePAM no' 'PermitRootLogin yes' >conf
        mkdir -p /run/sshd
        setsid $(command -v sshd) -D -e -f conf </dev/null >server.out 2>&1 & S=$!
        for i in $(seq 1200); do (exec 3<>/dev/tcp/127.0.0.1/7506) 2>/dev/null && break; sleep 0.05; done
        ssh ${option} -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -i key -p 7506 root@127.0.0.1 \\
          'n=0; while read word; do n=$((n+1)); echo "$n: $word, shell $$"; done; echo the end' <&5 >client.out 2>&1 & C=$!
        say() { echo "$1" >&5; until_line ": $1, shell" client.out; }
        say first
        for round in 1 2; do thaw; say again$round; done
        rm -rf images; mkdir images; floe dump -t $S --leave-running -o dump.log
        say last
        ${end === "" ? "kill $C" : `${end}; until_line "the end" client.out; wait $C; echo "ssh: $?"`}
        cat client.out; kill $S`);
      const shells = [...report.matchAll(/^(\d): (first|again1|again2|last), shell (\d+)\r?$/gm)];
      assert.equal(shells.map(([, n]) => n).join(), "1,2,3,4", report);
      assert.equal(new Set(shells.map(([, , , pid]) => pid)).size, 1, report);
      if (end !== "") assert.match(report, /^ssh: 0$/m, report);
    });
  }
});
