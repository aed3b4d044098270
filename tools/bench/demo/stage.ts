/** The two machines of the demonstration, and the channel between them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bootGuest, PORT_PATH } from '../../../spec/vm/rig/guest.js';
import { GuestMachine } from './guest-machine.js';
import { LocalMachine } from './local-machine.js';
import type { Machine } from './machine.js';

/** The surroundings of the demonstration. The caller that opens them closes them. */
export interface Stage {
  readonly title: string;
  readonly host: LocalMachine;
  readonly guest: Machine;
  /** A folder in the guest for copied files. */
  readonly guestFolder: string;
  /** The number of bytes to send each way. */
  readonly transferBytes: number;
  /** The arguments of vproxy on the host for the channel and the control socket. */
  readonly hostChannel: readonly string[];
  /** The same in the guest, with those for the storage broker. */
  readonly guestChannel: readonly string[];
  close(): Promise<void>;
}

/** Both sides on this machine, over a unix socket in a temporary folder. */
export function openLocalStage(): Stage {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-demo-'));
  const machine = new LocalMachine(folder);
  const channel = join(folder, 'channel.sock');
  return {
    title: 'two processes over a unix socket',
    host: machine,
    guest: machine,
    guestFolder: folder,
    // Takes a few seconds, so that there is something to see.
    transferBytes: 200_000_000,
    hostChannel: ['-c', `unix-listen:${channel}`, '--control', machine.controlSocket],
    guestChannel: ['-c', `unix-connect:${channel}`, '--storage-socket', machine.storageSocket],
    close: () => {
      rmSync(folder, { recursive: true, force: true });
      return Promise.resolve();
    },
  };
}

/** The guest's side in a guest that is booted under QEMU, over a virtio-serial port. */
export async function openVmStage(): Promise<Stage> {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-demo-'));
  const removeFolder = () => rmSync(folder, { recursive: true, force: true });
  try {
    const guest = await bootGuest();
    const host = new LocalMachine(folder);
    return {
      title: `a guest under QEMU (${guest.accelerator}), over a virtio-serial port`,
      host,
      guest: new GuestMachine(guest),
      guestFolder: '/tmp',
      transferBytes: 100_000_000,
      hostChannel: ['-c', `unix-connect:${guest.channelPath}`, '--control', host.controlSocket],
      guestChannel: ['-c', `virtserial-open:${PORT_PATH}`],
      close: async () => {
        await guest.stop();
        removeFolder();
      },
    };
  } catch (error) {
    removeFolder();
    throw error;
  }
}
