/** TLS around pages: certificates on both sides, with ourselves and with the peer. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { withTimeout } from "../harness/lane.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { findTool } from "../harness/tool.js";
import { patienceMs } from "../harness/patience.js";

const peer = findTool("criu");
const noPeer = "missing" in peer ? peer.missing : false;

function line(tool: "floe" | "criu"): readonly string[] {
  const found = findTool(tool);
  return "missing" in found ? [] : found.command;
}

const folder = mkdtempSync(join(tmpdir(), "floe-tls-"));

function openssl(...words: string[]): void {
  execFileSync("openssl", words, { cwd: folder, stdio: "ignore" });
}

/** An authority with two certificates, and a list that revokes the second. */
function makeAuthority(name: string): void {
  const subject = ["-subj", `/CN=${name}`];
  const extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,cRLSign"];
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...newKey, "-keyout", `${name}.key`, "-out", `${name}.pem`, "-days", "2", ...subject, ...extensions);
  writeFileSync(join(folder, "names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  mkdirSync(join(folder, `${name}.db`));
  const database = join(folder, `${name}.db`, "index.txt");
  appendFileSync(database, "");
  writeFileSync(
    join(folder, `${name}.cnf`),
    `[ca]\ndefault_ca=a\n[a]\ndatabase=${database}\ndefault_md=sha256\ndefault_crl_days=2\ncertificate=${name}.pem\nprivate_key=${name}.key\n`,
  );
  for (const own of ["one", "two"]) {
    const base = `${name}-${own}`;
    openssl("req", ...newKey, "-keyout", `${base}.key`, "-out", `${base}.csr`, "-subj", "/CN=localhost");
    const signed = ["-CA", `${name}.pem`, "-CAkey", `${name}.key`, "-CAcreateserial", "-days", "2", "-extfile", "names"];
    openssl("x509", "-req", "-in", `${base}.csr`, ...signed, "-out", `${base}.pem`);
  }
  openssl("ca", "-config", `${name}.cnf`, "-revoke", `${name}-two.pem`);
  openssl("ca", "-config", `${name}.cnf`, "-gencrl", "-out", `${name}.crl`);
}

/** Options for TLS: whom to trust, who we are, and whether the list is looked at. */
function tls(trusted: string, own: string, withList = false): string[] {
  const path = (name: string) => join(folder, name);
  const list = withList ? ["--tls-cacrl", path(`${trusted}.crl`)] : [];
  return ["--tls", "--tls-cacert", path(`${trusted}.pem`), "--tls-cert", path(`${own}.pem`), "--tls-key", path(`${own}.key`), ...list];
}

async function freePort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  return String(typeof address === "object" && address !== null ? address.port : 0);
}

function files(subject: Subject, log: string): string[] {
  return ["-D", subject.images, "-W", join(subject.folder, "logs"), "-o", log, "-v4"];
}

async function startServer(subject: Subject, tool: "floe" | "criu", options: readonly string[]): Promise<string[]> {
  const port = await freePort();
  const words = ["page-server", "-d", "--address", "127.0.0.1", "--port", port, ...files(subject, "server.log"), ...options];
  await subject.must([...line(tool), ...words]);
  return ["--page-server", "--address", "127.0.0.1", "--port", port];
}

describe("TLS", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  before(() => {
    makeAuthority("good");
    makeAuthority("other");
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const [dump, server] of [
    ["floe", "floe"],
    ["criu", "floe"],
    ["floe", "criu"],
  ] as const)
    test(`mode.tls: dumped by ${dump} to a server of ${server}`, { skip: (dump === "criu" || server === "criu") && noPeer }, () =>
      withSubject(Subject.withWorkload("memory/still", ["8"]), async (subject) => {
        const to = await startServer(subject, server, tls("good", "good-one", server === "floe"));
        const end = subject.lane.nextExit(subject.pid);
        const words = [
          "dump",
          "-t",
          String(subject.pid),
          ...files(subject, "dump.log"),
          ...to,
          ...tls("good", "good-one", dump === "floe"),
        ];
        await subject.must([...line(dump), ...words]);
        assert.equal((await withTimeout(end, patienceMs, "The end of the dumped process")).signal, 9);
        await subject.untilAlone([]);
        await subject.restore();
        await subject.judge();
      }),
    );

  test("mode.tls: pages are fetched over TLS, too", () =>
    withSubject(Subject.withWorkload("memory/still", ["8"]), async (subject) => {
      await subject.dump();
      const away = join(subject.folder, "away");
      await subject.must(["cp", "-a", subject.images, away]);
      const port = await freePort();
      const where = ["--address", "127.0.0.1", "--port", port, ...tls("good", "good-one")];
      const logs = ["-W", join(subject.folder, "logs"), "-v4"];
      await subject.must([...line("floe"), "page-server", "--lazy-pages", "-d", "-D", away, ...logs, "-o", "server.log", ...where]);
      await subject.must([...line("floe"), "lazy-pages", "-d", "--page-server", ...files(subject, "daemon.log"), ...where]);
      await subject.until(() => readdirSync(join(subject.folder, "logs")).includes("lazy-pages.socket"), "The daemon does not wait");
      await subject.restore(["--lazy-pages"]);
      await subject.untilAlone([subject.pid]);
      await subject.judge();
    }));

  test("mode.tls: whoever is of another authority, or revoked, is not let in, and nothing is harmed", () =>
    withSubject(Subject.withWorkload("memory/still", ["4"]), async (subject) => {
      const cases: [string, string[], string[]][] = [
        ["a server that is not trusted", tls("good", "other-one"), tls("good", "good-one")],
        ["a client that is not trusted", tls("good", "good-one"), tls("good", "other-one")],
        ["a server that is revoked", tls("good", "good-two"), tls("good", "good-one", true)],
        ["a client that is revoked", tls("good", "good-one", true), tls("good", "good-two")],
      ];
      for (const [what, serverTls, clientTls] of cases) {
        const to = await startServer(subject, "floe", serverTls);
        const { exit, text } = await subject.run(subject.dumpLine([...to, ...clientTls]));
        assert.equal(exit.code, 1, what);
        await subject.untilAlone([subject.pid]);
        const log = readFileSync(join(subject.folder, "logs", "server.log"), "utf8");
        assert.match(text, /TLS_FAILED|PAGE_PEER_LOST/, what);
        assert.match(log, /TLS_FAILED|PAGE_PEER_LOST/, what);
        assert.deepEqual(
          readdirSync(subject.images).filter((name) => name.startsWith("page")),
          [],
          what,
        );
      }
      const missing = await subject.run(
        subject.dumpLine([...(await startServer(subject, "floe", tls("good", "good-one"))), ...tls("good", "nobody")]),
      );
      assert.match(missing.text, /nobody\.pem.*TLS_FAILED/s);
      await subject.untilAlone([subject.pid]);
      await subject.judge();
    }));
});
