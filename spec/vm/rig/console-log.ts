/** The guest's console: what the kernel, init and the programs of the rig wrote there, through every boot. */
import { copyFileSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

/** The file into which QEMU writes the guest's first serial line. */
export class ConsoleLog {
  /** The file, in the guest's temporary folder. */
  readonly path: string;
  readonly #keptPath: string;

  constructor(folder: string) {
    this.path = join(folder, 'console.log');
    this.#keptPath = join(tmpdir(), `${basename(folder)}-console.log`);
  }

  /** All of it, or nothing before QEMU has opened it. */
  read(): string {
    try {
      return readFileSync(this.path, 'utf8').replaceAll('\r', '');
    } catch {
      return '';
    }
  }

  /** The last 100 lines. */
  tail(): string {
    return this.read().split('\n').slice(-100).join('\n');
  }

  /** Copies it to where it outlives the guest, and says where that is. */
  keep(): string {
    copyFileSync(this.path, this.#keptPath);
    return this.#keptPath;
  }
}
