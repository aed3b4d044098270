/** A guest of busybox, dropbear and vproxy-guest: without Node, and with no libraries but those of dropbear. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compileGuest } from '../../guest-program/compile.js';
import { type GuestPlan, PORT_NAME } from './guest-options.js';
import { GUEST_PORTS } from './guest-ports.js';
import { AGENT_PORT, formatInitScript } from './init-script.js';
import { SSH_SERVER, startArchive } from './initramfs.js';

const { ssh, hostEcho } = GUEST_PORTS;

/** The port that it announces. */
export const ANNOUNCED_PORT = 7321;

/** Kept running by init. Its service `echo` leads through its other forward to the echo of the host. */
const PROGRAM = `vproxy-guest -c virtserial-open:${PORT_NAME} -i ssh:${ssh} -i echo:${hostEcho} -o host-echo:${hostEcho} --allow-exec --allow-copy --announce-ports ${ANNOUNCED_PORT} --follow-clock --allow-freeze`;

/** In place of the agent, which needs Node: the rig knows when it booted, and runs commands by `vproxy exec`. */
const SAY_HELLO = `echo "{\\"hello\\":\\"$(cat /proc/sys/kernel/random/uuid)\\"}" > /dev/virtio-ports/${AGENT_PORT}`;

/** The plan of such a guest. */
export const smallGuest: GuestPlan = (folder) => ({
  system: {
    name: 'small',
    memoryMiB: 640,
    writeArchive: (path, tools) => {
      const program = join(folder, 'vproxy-guest');
      compileGuest(program);
      const archive = startArchive(path, tools);
      archive.addFile('/usr/bin/vproxy-guest', readFileSync(program), 0o755);
      archive.addLink('/usr/sbin/storcli64', '/usr/bin/vproxy-guest');
      const init = formatInitScript([PORT_NAME, AGENT_PORT], [SSH_SERVER, SAY_HELLO], PROGRAM);
      archive.addFile('/init', init, 0o755);
      archive.close();
    },
  },
});
