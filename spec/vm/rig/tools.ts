/** The requirements of the VM tests, and the line that installs what is missing. */
import { delimiter, join } from 'node:path';

import { isExecutable } from '../../../lib/system/processes/find-program.js';
import { type Kernel, newestKernel } from '../../../tools/vm/kernel.js';

/** The programs of the machine that the rig runs or puts into the guest, as absolute paths. */
export interface Tools {
  readonly qemu: string;
  readonly busybox: string;
  readonly dropbear: string;
  readonly dropbearkey: string;
  readonly ssh: string;
  readonly sshKeygen: string;
  readonly setpriv: string;
  readonly rsync: string;
  readonly git: string;
  readonly sftpServer: string;
  readonly kernel: Kernel;
}

/** Finds everything, or throws an error that names the Debian packages to install. */
export function findTools(): Tools {
  const missing = new Set<string>();
  const need = (program: string, debianPackage: string): string => {
    const path = findProgram(program);
    if (path === undefined) missing.add(debianPackage);
    return path ?? '';
  };
  const tools = {
    qemu: need('qemu-system-x86_64', 'qemu-system-x86'),
    busybox: need('busybox', 'busybox-static'),
    dropbear: need('dropbear', 'dropbear-bin'),
    dropbearkey: need('dropbearkey', 'dropbear-bin'),
    ssh: need('ssh', 'openssh-client'),
    sshKeygen: need('ssh-keygen', 'openssh-client'),
    setpriv: need('setpriv', 'util-linux'),
    rsync: need('rsync', 'rsync'),
    git: need('git', 'git'),
    sftpServer: need('sftp-server', 'openssh-sftp-server'),
  };
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error('the VM tests need Linux on x86-64: the guest runs the node of this machine');
  }
  const kernel = newestKernel();
  if (kernel === undefined) missing.add('linux-image-amd64');
  if (missing.size > 0 || kernel === undefined) {
    throw new Error(`the VM tests need more of this machine: apt-get install ${[...missing].sort().join(' ')}`);
  }
  return { ...tools, kernel };
}

function findProgram(name: string): string | undefined {
  const folders = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
    '/usr/lib/openssh',
  ];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}
