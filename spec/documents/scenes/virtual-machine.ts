/** Scenes with a VM: the rig's guest, with the port from the document's QEMU command line. */
import { ESTABLISHED } from '../../helpers/vproxy-process.js';
import { bootGuest, type Guest } from '../../vm/rig/guest.js';
import { type GuestOptions, PORT_NAME } from '../../vm/rig/guest-options.js';
import { sshSettings } from '../../vm/rig/ssh.js';
import { commandsOf } from '../commands-of.js';
import type { Block } from '../parse-document.js';
import { guestPlace } from '../runner/guest-place.js';
import type { Scene } from '../runner/scene.js';
import { isUp, type Stage } from '../runner/stage.js';
import { shellWords } from '../shell-words.js';

/** The arguments of QEMU if the document has no QEMU command line. */
const USUAL_PORT = [
  ...['-device', 'virtio-serial-pci'],
  ...['-chardev', 'socket,id=vproxy,path=/run/vm1.sock,server=on,wait=off'],
  ...['-device', `virtserialport,chardev=vproxy,name=${PORT_NAME}`],
];

/** The port if the command line has none, such as one with a serial line; its other end is not open. */
const UNUSED_PORT = [
  ...['-device', 'virtio-serial-pci', '-chardev', 'null,id=unused'],
  ...['-device', `virtserialport,chardev=unused,name=${PORT_NAME}`],
];

/** Deviations of a scene with a VM from the usual one. */
interface VirtualMachine {
  /** Prepares the host before the first block, besides the guest. */
  prepare?(stage: Stage): Promise<void>;
  /** Prepares the guest before its first block. */
  prepareGuest?(guest: Guest): Promise<void>;
  /** Makes a guest other than the usual one, without an ssh server. Called when the host is prepared. */
  plan?(): GuestOptions;
}

/**
 * A scene in which a block with `qemu-system-x86_64 …` boots the rig's guest with the options after the `…`; if no block
 * did, the first block in the guest boots one with the usual port. The guest has an ssh server, and the host's ssh has
 * a key for it. If a vproxy is already up, the next staying one is ready once it has a session.
 */
export function virtualMachine(machine: VirtualMachine = {}): Scene {
  let guest: Guest | undefined;
  let isOneUp = false;

  async function boot(stage: Stage, portArguments: readonly string[]): Promise<Guest> {
    const [, portName = PORT_NAME] = /\bvirtserialport,\S*\bname=([^,\s]+)/.exec(portArguments.join(' ')) ?? [];
    const booted = await bootGuest(() => ({ ...machine.plan?.(), portArguments, portName }));
    guest = booted;
    stage.keep({ output: '', stop: () => booted.stop() });
    await machine.prepareGuest?.(booted);
    writeSshConfig(stage, booted);
    return booted;
  }

  return {
    async prepare(stage) {
      await machine.prepare?.(stage);
    },
    async runSpecially(block, stage) {
      const options = portArgumentsIn(block);
      if (options === null) return false;
      const words = options.includes('$(') ? await expand(options, stage) : shellWords(options);
      await boot(
        stage,
        options.includes('virtserialport') || options.includes('$(') ? words : [...UNUSED_PORT, ...words],
      );
      return true;
    },
    async openGuest(stage) {
      return guestPlace(guest ?? (await boot(stage, USUAL_PORT)));
    },
    isReady(output) {
      const isReady = isUp(output) && (!isOneUp || !/vproxy: /.test(output) || ESTABLISHED.test(output));
      isOneUp ||= isReady;
      return isReady;
    },
  };
}

/** The options after the `…` of a QEMU command line; null for any other block. */
function portArgumentsIn(block: Block): string | null {
  return /^qemu-system-x86_64 …(.*)$/s.exec(commandsOf(block).trim())?.[1] ?? null;
}

/** The options as a shell expands them, including command substitutions. */
async function expand(options: string, stage: Stage): Promise<string[]> {
  return (await stage.run(`printf '%s\\n' ${options}`)).trimEnd().split('\n');
}

/** A user has a key for the guest, and knows its host key. */
function writeSshConfig(stage: Stage, { keys }: Guest): void {
  const settings = ['Host *', ...sshSettings(keys), 'StrictHostKeyChecking accept-new'];
  stage.write(`${stage.home}/.ssh/config`, `${settings.join('\n')}\n`, 0o600);
}
