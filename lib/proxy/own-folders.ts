/** The folders that are made for the sockets of a group's channels, and go with them. */
import { rmdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode } from '../errors.js';
import type { ForwardSpec } from '../forward/spec.js';
import { makeSocketFolder } from '../util/socket-folder.js';

/** The folders that were made, by channel. */
export class OwnFolders {
  readonly #folders = new Map<string, Set<string>>();

  /** Makes what is missing for the unix sockets that `forwards` listen on. Throws `address-…` codes. */
  make(label: string, forwards: readonly ForwardSpec[]): void {
    for (const { direction, endpoint } of forwards) {
      if (direction !== 'outgoing' || endpoint.kind !== 'unix' || !makeSocketFolder(endpoint.path)) continue;
      const folders = this.#folders.get(label) ?? new Set();
      this.#folders.set(label, folders.add(dirname(endpoint.path)));
    }
  }

  /** Removes those that were made for a channel, unless there is still something in them. */
  remove(label: string): void {
    const folders = this.#folders.get(label) ?? new Set();
    for (const folder of folders) {
      try {
        rmdirSync(folder);
      } catch (error) {
        // The channel may have a successor, whose sockets are there already.
        if (systemCode(error) === 'ENOTEMPTY') continue;
      }
      folders.delete(folder);
    }
    if (folders.size === 0) this.#folders.delete(label);
  }

  /** Removes those of all channels. */
  removeAll(): void {
    for (const label of [...this.#folders.keys()]) this.remove(label);
  }
}
