/**
 * docs/recipes.md, tests in a VM for a CI job: the script verbatim, with a QEMU that boots the bare guest instead of a
 * disk; its only program is a vproxy that allows everything.
 */
import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { chooseAccelerator } from '../../../../tools/vm/accel.js';
import { CpioWriter } from '../../../../tools/vm/cpio.js';
import { BOOT_OPTIONS } from '../../../../tools/vm/machine.js';
import { PORT_NAME } from '../../../vm/rig/guest-options.js';
import { formatInitScript } from '../../../vm/rig/init-script.js';
import { buildInitramfs } from '../../../vm/rig/initramfs.js';
import { findTools } from '../../../vm/rig/tools.js';
import type { Scene } from '../../runner/scene.js';

const ARCHIVE = '/srv/initramfs';
const APPEND = `console=ttyS0 ${BOOT_OPTIONS}`;
const RUN_TESTS = `#!/bin/sh
mkdir -p results
[ "$1" = fail ] && { echo 'not ok 1 - fails' | tee results/report.tap; exit 3; }
echo "ok 1 - runs on $(uname -n)" | tee results/report.tap
`;
const AGENT = `vproxy -c virtserial-open:${PORT_NAME} --no-storage --allow-exec --allow-copy`;

export const job: Scene = {
  async prepare(stage) {
    const tools = findTools();
    const accelerator = await chooseAccelerator(tools);
    buildInitramfs(ARCHIVE, tools);
    // The kernel unpacks the archives in order; later files win.
    const added = new CpioWriter(`${ARCHIVE}.added`);
    added.addFile('/init', formatInitScript([PORT_NAME], [], AGENT), 0o755);
    added.close();
    appendFileSync(ARCHIVE, readFileSync(`${ARCHIVE}.added`));
    rmSync(`${ARCHIVE}.added`);
    const machine = `-M q35 -cpu max -accel ${accelerator === 'kvm' ? 'kvm' : 'tcg,thread=multi'}`;
    await stage.run(`mkdir -p /usr/local/bin /srv/job/project && touch /srv/job/guest.qcow2`);
    stage.write('/srv/job/project/run-tests', RUN_TESTS, 0o755);
    // Passes on all words except those of the disk, and of the accelerator, which may not work on this machine.
    stage.write(
      '/usr/local/bin/qemu-system-x86_64',
      `#!/bin/bash
words=()
while [ $# -gt 0 ]; do
  case $1 in
    -drive) [ -e guest.qcow2 ]; shift ;;
    -accel) shift ;;
    -snapshot) ;;
    *) words+=("$1") ;;
  esac
  shift
done
exec ${tools.qemu} ${machine} "\${words[@]}" -kernel ${tools.kernel.image} -initrd ${ARCHIVE} -append '${APPEND}'
`,
      0o755,
    );
  },
};
