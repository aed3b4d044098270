/** docs/recipes.md, a serial line: the rig's guest, of whose virtio nothing but the rig's own agent is used, with the line of the recipe. */
import { bootGuest, type Guest } from '../../../vm/rig/guest.js';
import { PORT_NAME } from '../../../vm/rig/guest-options.js';
import { commandsOf } from '../../runner/commands-text.js';
import { guestPlace } from '../../runner/guest-place.js';
import type { Scene } from '../../runner/scene.js';
import { isUp } from '../../runner/stage.js';
import { shellWords } from '../../shell-words.js';

/** The rig waits for its port; the other end of this one is not open. */
const UNUSED_PORT = [
  ...['-device', 'virtio-serial-pci', '-chardev', 'null,id=unused'],
  ...['-device', `virtserialport,chardev=unused,name=${PORT_NAME}`],
];

let guest: Guest | undefined;

export const serial: Scene = {
  async runSpecially(block, stage) {
    const [, options] = /^qemu-system-x86_64 …(.*)$/s.exec(commandsOf(block).trim()) ?? [];
    if (options === undefined) return false;
    const booted = await bootGuest(() => ({ portArguments: [...UNUSED_PORT, ...shellWords(options)] }));
    stage.keep({ output: '', stop: () => booted.stop() });
    guest = booted;
    return true;
  },
  openGuest: () =>
    guest === undefined ? Promise.reject(new Error('no QEMU was started')) : Promise.resolve(guestPlace(guest)),
  isReady: isUp,
};
