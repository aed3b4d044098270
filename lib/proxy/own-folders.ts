/** The folders that are made for the sockets of a group's channels, and go with them. */
import { rmdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode } from '../errors.js';
import type { ForwardSpec } from '../forward/spec.js';
import { makeSocketFolder } from '../util/socket-folder.js';

/** The folders that were made, by channel. */
export class OwnFolders {
  readonly #folders = new Map<string, Set<string>>();

  /**
   * Makes what is missing for the unix sockets that `forwards` listen on; gives what takes that back, where the folders
   * are empty. Throws `address-…` codes, and has made nothing then.
   */
  make(label: string, forwards: readonly ForwardSpec[]): () => void {
    const made: string[] = [];
    const undo = () => this.#remove(label, made);
    try {
      for (const { direction, endpoint } of forwards) {
        if (direction !== 'outgoing' || endpoint.kind !== 'unix' || !makeSocketFolder(endpoint.path)) continue;
        const folder = dirname(endpoint.path);
        made.push(folder);
        this.#folders.set(label, (this.#folders.get(label) ?? new Set()).add(folder));
      }
    } catch (error) {
      undo();
      throw error;
    }
    return undo;
  }

  /** Removes those that were made for a channel, unless there is still something in them. */
  remove(label: string): void {
    this.#remove(label, [...(this.#folders.get(label) ?? [])]);
  }

  /** Removes those of all channels. */
  removeAll(): void {
    for (const label of [...this.#folders.keys()]) this.remove(label);
  }

  #remove(label: string, folders: readonly string[]): void {
    const kept = this.#folders.get(label);
    for (const folder of folders) {
      try {
        rmdirSync(folder);
      } catch (error) {
        // The channel may have a successor, whose sockets are there already.
        if (systemCode(error) === 'ENOTEMPTY') continue;
      }
      kept?.delete(folder);
    }
    if (kept?.size === 0) this.#folders.delete(label);
  }
}
