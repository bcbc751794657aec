/**
 * The names of `check --feature`, and what a probe says.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { UsageError } from "../../errors.js";
import { EXPERIMENTAL, EXTRA, FEATURES, REQUIRED, checkFeature, tryProbe } from "./check.js";
import { Lacking, expect } from "./probe.js";

/** Names that scripts know from CRIU. */
const KNOWN = `mnt_id mem_dirty_track aio_remap timerfd tun tun_ns userns fdinfo_lock seccomp_suspend seccomp_filters loginuid
  cgroupns autofs tcp_half_closed compat_cr uffd uffd-noncoop can_map_vdso sk_ns sk_unix_file net_diag_raw nsid link_nsid
  kcmp_epoll timens external_net_ns clone3_set_tid newifindex nftables has_ipt_legacy pidfd_store ns_pid apparmor_stacking
  network_lock_nftables sockopt_buf_lock memfd_hugetlb move_mount_set_group openat2 get_rseq_conf ipv6_freebind pagemap_scan
  timer_cr_ids overlayfs_maps breakpoints pagemap_scan_guard_pages`.split(/\s+/);

test("every feature name of CRIU has a probe, and no other", () => {
  assert.deepEqual(FEATURES.map(({ name }) => name).sort(), KNOWN.sort());
});

test("categories do not overlap", () => {
  const names = [...REQUIRED, ...EXTRA, ...EXPERIMENTAL].map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
});

test("an unknown feature is refused by name", () => {
  assert.throws(
    () => checkFeature("mnt_id,tun"),
    (error) => error instanceof UsageError && error.code === "FEATURE_UNKNOWN",
  );
});

test("a probe that throws says why the feature is not there", () => {
  assert.deepEqual(tryProbe({ name: "x", attempt: () => expect(false, "it is not there") }), { name: "x", lacking: "it is not there" });
  assert.deepEqual(tryProbe({ name: "x", attempt: () => {} }), { name: "x", lacking: undefined });
  assert.throws(() => expect(false, "no"), Lacking);
});

test("features that every kernel has had for long are found", () => {
  for (const name of ["mnt_id", "timerfd", "fdinfo_lock", "openat2", "pidfd_store", "ns_pid"]) {
    assert.deepEqual(checkFeature(name), { name, lacking: undefined });
  }
});
