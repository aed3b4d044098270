/** Keeps states of a machine in a disk image that the machine itself does not see. */
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

  /** Saves the state under `name`; the machine is stopped meanwhile. */
  async save(name: string): Promise<void> {
    if (!this.#isMade) await this.#make();
    await this.#qmp.executeJob('snapshot-save', { tag: name, vmstate: NODE, devices: [NODE] });
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
