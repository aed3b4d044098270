/** Keeps states of a machine in a disk image that the machine itself does not see. */
import { eventually } from '../../helpers/time.js';
import type { Qmp } from './qmp.js';

const NODE = 'snapshots';
// The memory of the guest and some room; the file is sparse.
const IMAGE_BYTES = 2 * 1024 ** 3;

/** Saves and loads states of one machine through its monitor. */
export class SnapshotStore {
  readonly #qmp: Qmp;
  readonly #path: string;
  #isMade = false;

  /** `path` is the image's file; it is made at the first `save`. */
  constructor(qmp: Qmp, path: string) {
    this.#qmp = qmp;
    this.#path = path;
  }

  /** Saves the state under `name`; the machine is stopped meanwhile, and until its ports hold nothing back for the host. */
  async save(name: string): Promise<void> {
    if (!this.#isMade) await this.#make();
    await this.#qmp.execute('stop');
    try {
      // QEMU 7.2 marks a device as broken when it loads a state in which a port waits for its reader.
      await eventually(async () => (await this.#heldCount()) === 0, { what: 'QEMU to hand on what the ports hold' });
      await this.#qmp.executeJob('snapshot-save', { tag: name, vmstate: NODE, devices: [NODE] });
    } finally {
      await this.#qmp.execute('cont');
    }
  }

  /** The buffers of the guest that its devices have taken and not given back yet. */
  async #heldCount(): Promise<number> {
    const devices = (await this.#qmp.execute('x-query-virtio')) as { readonly path: string }[];
    const queues = await Promise.all(devices.map(({ path }) => this.#queuesOf(path)));
    return queues.flat().reduce((sum, { inuse }) => sum + inuse, 0);
  }

  async #queuesOf(path: string): Promise<{ readonly inuse: number }[]> {
    const { 'num-vqs': count } = (await this.#qmp.execute('x-query-virtio-status', { path })) as { 'num-vqs': number };
    const numbers = Array.from({ length: count }, (_, queue) => queue);
    const ask = (queue: number) => this.#qmp.execute('x-query-virtio-queue-status', { path, queue });
    return (await Promise.all(numbers.map(ask))) as { readonly inuse: number }[];
  }

  /** Puts the machine back to `name`. */
  async load(name: string): Promise<void> {
    await this.#qmp.executeJob('snapshot-load', { tag: name, vmstate: NODE, devices: [NODE] });
  }

  /** QEMU makes the image itself, so that no other program is needed. */
  async #make(): Promise<void> {
    const file = { driver: 'file', filename: this.#path };
    await this.#qmp.executeJob('blockdev-create', { options: { ...file, size: 0 } });
    await this.#qmp.execute('blockdev-add', { ...file, 'node-name': 'snapshots-file' });
    await this.#qmp.executeJob('blockdev-create', {
      options: { driver: 'qcow2', file: 'snapshots-file', size: IMAGE_BYTES },
    });
    await this.#qmp.execute('blockdev-add', { driver: 'qcow2', file: 'snapshots-file', 'node-name': NODE });
    this.#isMade = true;
  }
}
