/** Two plain relays of Node without a multiplexer: a unix socket for each connection, joined with `pipe`. */
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { findFreePort } from '../process/free-port.js';
import type { Contender } from './contender.js';

const RELAY_SCRIPT = join(PROJECT_ROOT, 'dist/tools/bench/peers/relay.js');

/** The plain relays: what Node does without multiplexing. */
export const relays: Contender = {
  id: 'relays',
  title: 'relays',
  descriptorsPerStream: 2,
  missing: () => undefined,
  async start({ programs, folder, target, through }) {
    const path = join(folder, 'relay.sock');
    const address = await findFreePort();
    return {
      address,
      near: [programs.startScript(RELAY_SCRIPT, [`${address}`, through?.(path) ?? path])],
      far: [programs.startScript(RELAY_SCRIPT, [path, `${target}`])],
    };
  },
};
