/**
 * Image messages: criu_page_server_info, criu_veth_pair, ext_mount_map, join_namespace, inherit_fd, cgroup_root, unix_sk, criu_opts, criu_dump_resp, criu_restore_resp, criu_notify, criu_features, criu_req, criu_resp, criu_version, criu_cg_mode, criu_network_lock_method, criu_pre_dump_mode, criu_req_type.
 */
import { type Infer, enumeration, message, optional, repeated, required } from "../images/codec/schema.js";

export const criuCgMode = enumeration("criu_cg_mode", {
  IGNORE: 0,
  CG_NONE: 1,
  PROPS: 2,
  SOFT: 3,
  FULL: 4,
  STRICT: 5,
  DEFAULT: 6,
});

export const criuNetworkLockMethod = enumeration("criu_network_lock_method", {
  IPTABLES: 1,
  NFTABLES: 2,
  SKIP: 3,
});

export const criuPreDumpMode = enumeration("criu_pre_dump_mode", {
  SPLICE: 1,
  VM_READ: 2,
});

export const criuReqType = enumeration("criu_req_type", {
  EMPTY: 0,
  DUMP: 1,
  RESTORE: 2,
  CHECK: 3,
  PRE_DUMP: 4,
  PAGE_SERVER: 5,
  NOTIFY: 6,
  CPUINFO_DUMP: 7,
  CPUINFO_CHECK: 8,
  FEATURE_CHECK: 9,
  VERSION: 10,
  WAIT_PID: 11,
  PAGE_SERVER_CHLD: 12,
  SINGLE_PRE_DUMP: 13,
});

export const criuPageServerInfo = message("criu_page_server_info", () => ({
  address: optional.string(1),
  port: optional.int32(2),
  pid: optional.int32(3),
  fd: optional.int32(4),
}));
export type CriuPageServerInfo = Infer<typeof criuPageServerInfo>;

export const criuVethPair = message("criu_veth_pair", () => ({
  if_in: required.string(1),
  if_out: required.string(2),
}));
export type CriuVethPair = Infer<typeof criuVethPair>;

export const extMountMap = message("ext_mount_map", () => ({
  key: required.string(1),
  val: required.string(2),
}));
export type ExtMountMap = Infer<typeof extMountMap>;

export const joinNamespace = message("join_namespace", () => ({
  ns: required.string(1),
  ns_file: required.string(2),
  extra_opt: optional.string(3),
}));
export type JoinNamespace = Infer<typeof joinNamespace>;

export const inheritFd = message("inherit_fd", () => ({
  key: required.string(1),
  fd: required.int32(2),
}));
export type InheritFd = Infer<typeof inheritFd>;

export const cgroupRoot = message("cgroup_root", () => ({
  ctrl: optional.string(1),
  path: required.string(2),
}));
export type CgroupRoot = Infer<typeof cgroupRoot>;

export const unixSk = message("unix_sk", () => ({
  inode: required.uint32(1),
}));
export type UnixSk = Infer<typeof unixSk>;

export const criuOpts = message("criu_opts", () => ({
  images_dir_fd: required.int32(1, { default: -1 }),
  images_dir: optional.string(68),
  pid: optional.int32(2),
  leave_running: optional.bool(3),
  ext_unix_sk: optional.bool(4),
  tcp_established: optional.bool(5),
  evasive_devices: optional.bool(6),
  shell_job: optional.bool(7),
  file_locks: optional.bool(8),
  log_level: optional.int32(9, { default: 2 }),
  log_file: optional.string(10),
  ps: optional.message(11, () => criuPageServerInfo),
  notify_scripts: optional.bool(12),
  root: optional.string(13),
  parent_img: optional.string(14),
  track_mem: optional.bool(15),
  auto_dedup: optional.bool(16),
  work_dir_fd: optional.int32(17),
  link_remap: optional.bool(18),
  veths: repeated.message(19, () => criuVethPair),
  cpu_cap: optional.uint32(20, { default: 4294967295 }),
  force_irmap: optional.bool(21),
  exec_cmd: repeated.string(22),
  ext_mnt: repeated.message(23, () => extMountMap),
  manage_cgroups: optional.bool(24),
  cg_root: repeated.message(25, () => cgroupRoot),
  rst_sibling: optional.bool(26),
  inherit_fd: repeated.message(27, () => inheritFd),
  auto_ext_mnt: optional.bool(28),
  ext_sharing: optional.bool(29),
  ext_masters: optional.bool(30),
  skip_mnt: repeated.string(31),
  enable_fs: repeated.string(32),
  unix_sk_ino: repeated.message(33, () => unixSk),
  manage_cgroups_mode: optional.enum(34, () => criuCgMode),
  ghost_limit: optional.uint32(35, { default: 1048576 }),
  irmap_scan_paths: repeated.string(36),
  external: repeated.string(37),
  empty_ns: optional.uint32(38),
  join_ns: repeated.message(39, () => joinNamespace),
  cgroup_props: optional.string(41),
  cgroup_props_file: optional.string(42),
  cgroup_dump_controller: repeated.string(43),
  freeze_cgroup: optional.string(44),
  timeout: optional.uint32(45),
  tcp_skip_in_flight: optional.bool(46),
  weak_sysctls: optional.bool(47),
  lazy_pages: optional.bool(48),
  status_fd: optional.int32(49),
  orphan_pts_master: optional.bool(50),
  config_file: optional.string(51),
  tcp_close: optional.bool(52),
  lsm_profile: optional.string(53),
  tls_cacert: optional.string(54),
  tls_cacrl: optional.string(55),
  tls_cert: optional.string(56),
  tls_key: optional.string(57),
  tls: optional.bool(58),
  tls_no_cn_verify: optional.bool(59),
  cgroup_yard: optional.string(60),
  pre_dump_mode: optional.enum(61, () => criuPreDumpMode, { default: 1 }),
  pidfd_store_sk: optional.int32(62),
  lsm_mount_context: optional.string(63),
  network_lock: optional.enum(64, () => criuNetworkLockMethod, { default: 1 }),
  mntns_compat_mode: optional.bool(65),
  skip_file_rwx_check: optional.bool(66),
  unprivileged: optional.bool(67),
  leave_stopped: optional.bool(69),
  display_stats: optional.bool(70),
  log_to_stderr: optional.bool(71),
}));
export type CriuOpts = Infer<typeof criuOpts>;

export const criuDumpResp = message("criu_dump_resp", () => ({
  restored: optional.bool(1),
}));
export type CriuDumpResp = Infer<typeof criuDumpResp>;

export const criuRestoreResp = message("criu_restore_resp", () => ({
  pid: required.int32(1),
}));
export type CriuRestoreResp = Infer<typeof criuRestoreResp>;

export const criuNotify = message("criu_notify", () => ({
  script: optional.string(1),
  pid: optional.int32(2),
}));
export type CriuNotify = Infer<typeof criuNotify>;

export const criuFeatures = message("criu_features", () => ({
  mem_track: optional.bool(1),
  lazy_pages: optional.bool(2),
  pidfd_store: optional.bool(3),
}));
export type CriuFeatures = Infer<typeof criuFeatures>;

export const criuReq = message("criu_req", () => ({
  type: required.enum(1, () => criuReqType),
  opts: optional.message(2, () => criuOpts),
  notify_success: optional.bool(3),
  keep_open: optional.bool(4),
  features: optional.message(5, () => criuFeatures),
  pid: optional.uint32(6),
}));
export type CriuReq = Infer<typeof criuReq>;

export const criuResp = message("criu_resp", () => ({
  type: required.enum(1, () => criuReqType),
  success: required.bool(2),
  dump: optional.message(3, () => criuDumpResp),
  restore: optional.message(4, () => criuRestoreResp),
  notify: optional.message(5, () => criuNotify),
  ps: optional.message(6, () => criuPageServerInfo),
  cr_errno: optional.int32(7),
  features: optional.message(8, () => criuFeatures),
  cr_errmsg: optional.string(9),
  version: optional.message(10, () => criuVersion),
  status: optional.int32(11),
}));
export type CriuResp = Infer<typeof criuResp>;

export const criuVersion = message("criu_version", () => ({
  major_number: required.int32(1),
  minor_number: required.int32(2),
  gitid: optional.string(3),
  sublevel: optional.int32(4),
  extra: optional.int32(5),
  name: optional.string(6),
}));
export type CriuVersion = Infer<typeof criuVersion>;
