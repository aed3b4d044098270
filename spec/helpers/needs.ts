/** What tests need of the machine besides Node, and which Debian packages provide it. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

interface Need {
  /** The Debian packages that provide it. */
  readonly packages: readonly string[];
  /** Names of programs, or absolute paths of files, all required. */
  readonly files: readonly string[];
  /** Whether only the tests of packages need it, which `npm test` does not run. Default: no. */
  readonly isForPackages?: boolean;
}

const programs = (names: string, packages = names): Need => ({
  files: names.split(' '),
  packages: packages.split(' '),
});

/** Everything that tests without a guest may need, by its usual name. */
export const NEEDS = {
  ansible: programs('ansible ansible-doc ansible-galaxy ansible-playbook', 'ansible-core'),
  busybox: programs('busybox', 'busybox-static'),
  chromium: programs('chromium'),
  curl: programs('curl'),
  dpkg: programs('dpkg-deb', 'dpkg'),
  fish: programs('fish'),
  git: programs('git'),
  go: programs('go gofmt', 'golang-go'),
  gpg: programs('gpg gpg-agent', 'gpg gpg-agent'),
  groff: programs('groff man', 'groff man-db'),
  ip: programs('ip ss', 'iproute2'),
  libvirt: programs(
    'libvirtd virsh qemu-system-x86_64 ip unshare nsenter setpriv',
    'libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-system libvirt-clients qemu-system-x86 iproute2 util-linux',
  ),
  lintian: programs('lintian'),
  loop: programs('mkfs.ext4 mount umount losetup fsfreeze /dev/loop-control', 'e2fsprogs mount util-linux'),
  make: programs('make'),
  mandoc: programs('mandoc'),
  mypy: programs('mypy'),
  nft: programs('/usr/sbin/nft', 'nftables'),
  openssl: programs('openssl'),
  pip: programs('python3 pip3', 'python3 python3-pip'),
  podman: {
    ...programs(
      'buildah podman crun conmon iptables ip unshare nsenter mountpoint /usr/lib/podman/netavark',
      'buildah podman crun conmon catatonit netavark iptables iproute2 util-linux',
    ),
    isForPackages: true,
  },
  python: programs('python3'),
  'python-build': {
    ...programs('/usr/bin/python3 pip3', 'python3 python3-pip python3-venv python3-setuptools python3-wheel'),
    files: ['/usr/bin/python3', '/usr/lib/python3/dist-packages/wheel/__init__.py'],
  },
  qemu: programs('qemu-system-x86_64 setpriv', 'qemu-system-x86 util-linux'),
  'qemu-user': programs('qemu-arm qemu-aarch64 qemu-riscv64 qemu-mips64el', 'qemu-user'),
  release: {
    ...programs('aarch64-linux-gnu-strip bsdtar', 'binutils-aarch64-linux-gnu libarchive-tools'),
    isForPackages: true,
  },
  root: { files: [], packages: [] },
  rpm: programs('rpmspec rpmbuild', 'rpm'),
  rsync: programs('rsync'),
  'selinux-policy': programs(
    'make m4 checkmodule semodule_package /usr/share/selinux/devel/Makefile',
    'make m4 checkpolicy semodule-utils selinux-policy-dev',
  ),
  shellcheck: programs('shellcheck'),
  socat: programs('socat'),
  ssh: programs('ssh ssh-keygen', 'openssh-client'),
  sshfs: programs('sshfs fusermount3 /dev/fuse', 'sshfs fuse3'),
  sshd: programs('sshd ssh ssh-keygen', 'openssh-server openssh-client'),
  strace: programs('strace'),
  sudo: programs('sudo su', 'sudo util-linux'),
  systemd: programs('systemd-analyze systemd-notify', 'systemd'),
  tmux: programs('tmux'),
  virsh: programs('virsh', 'libvirt-clients'),
  'virt-aa-helper': programs('/usr/lib/libvirt/virt-aa-helper', 'libvirt-daemon-system'),
  'virt-xml-validate': programs('virt-xml-validate xmllint', 'libvirt-clients libxml2-utils'),
  zsh: programs('zsh'),
} as const satisfies Readonly<Record<string, Need>>;

export type NeedName = keyof typeof NEEDS;

/** Includes sbin, where some programs are, also for a user without it in PATH. */
const FOLDERS = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];

/** Whether this machine has it; for `root`, whether this is root's process. */
export function hasNeed(name: NeedName): boolean {
  if (name === 'root') return process.getuid?.() === 0;
  return NEEDS[name].files.every((file) =>
    file.startsWith('/')
      ? isFile(file, constants.R_OK)
      : FOLDERS.some((folder) => isFile(join(folder, file), constants.X_OK)),
  );
}

function isFile(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

/** The needs of `npm test` that this machine lacks. */
export const missingNeeds = (): NeedName[] =>
  (Object.keys(NEEDS) as NeedName[]).filter((name) => !('isForPackages' in NEEDS[name]) && !hasNeed(name));

/** The command line that installs them. */
export function installLine(names: readonly NeedName[]): string {
  const packages = new Set(names.flatMap((name): readonly string[] => NEEDS[name].packages));
  return `apt-get install --yes --no-install-recommends ${[...packages].sort().join(' ')}`;
}

/** The file to which a skipped test adds a line naming what is missing. */
export const SKIPPED_FILE = 'VPROXY_TEST_SKIPPED';

/** Set where nothing may be missing: a test that lacks something then fails. */
export const REQUIRE_ALL = 'VPROXY_TEST_REQUIRE_ALL';
