/** Tracks which block uses which channel: each end has one user, so a reader stops one before starting the next. */
import { readFileSync } from 'node:fs';
import { commandsOf } from '../commands-of.js';
import type { Block } from '../parse-document.js';
import type { Stage } from './stage.js';
import type { Staying } from './staying.js';

const OPTION = /\s(?:-c|--config) ('[^']*'|\S+)/g;

/** Staying blocks by the channels of vproxy in them. */
export class ChannelUse {
  readonly #users = new Map<string, Staying>();

  /** Stops the blocks in the same place that use a channel of this block. */
  async free(block: Block, stage: Stage): Promise<void> {
    for (const channel of channelsOf(block)) {
      const user = this.#users.get(channel);
      this.#users.delete(channel);
      if (user !== undefined) await stage.drop(user);
    }
  }

  /** Records that a block uses its channels now. */
  take(block: Block, staying: Staying): void {
    for (const channel of channelsOf(block)) this.#users.set(channel, staying);
  }
}

/** The addresses of a block's channels, each after its place. */
function channelsOf(block: Block): string[] {
  const place = block.marker?.kind === 'run' ? block.marker.place : '';
  const options = [...commandsOf(block).matchAll(OPTION)];
  return options.flatMap(([option, value = '']) =>
    (option.includes('--config') ? addressesIn(value) : [value]).map((address) => `${place} ${addressOf(address)}`),
  );
}

function addressesIn(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(/\baddress["']?\s*[=:]\s*["']([^"']+)/g)].map(
    ([, address = '']) => address,
  );
}

/** An address without its label, and a port of the guest by its name. */
function addressOf(channel: string): string {
  return channel.replace(/^[\w.-]+=(?=[\w-]+:)/, '').replace('/dev/virtio-ports/', '');
}
