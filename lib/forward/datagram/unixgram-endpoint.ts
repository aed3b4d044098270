/** `unixgram:/path`: a unix datagram socket, such as /dev/log, to receive messages on or to send them to. */

import { loadUnixDatagrams } from '../../system/datagrams/unix-datagrams.js';
import { resolveSocketAccess } from '../../system/sockets/listen-address.js';
import { escapeText } from '../../util/escape.js';
import type { EndpointKind, TargetContext } from '../endpoint-kind.js';
import type { UnixgramEndpoint } from '../forms/endpoint-forms.js';
import { DatagramTarget } from './datagram-target.js';

export const unixgramEndpoint: EndpointKind<UnixgramEndpoint> = {
  createTarget: ({ path }, context) => new UnixgramTarget(path, context),
  datagramEntrance: ({ path, access }) => ({
    bind: async (events) => (await loadFor(path)).bind(path, await resolveSocketAccess(access), events),
    adopt: async (fd, _, events) => (await loadFor(path)).adopt(fd, path, events),
  }),
};

const loadFor = (path: string) => loadUnixDatagrams(`unixgram:${escapeText(path)}`);

class UnixgramTarget extends DatagramTarget {
  readonly #path: string;

  constructor(path: string, context: TargetContext) {
    const nowMs = (): number => context.clock.now();
    super(async (events) => (await loadFor(path)).connect(path, nowMs, events), context);
    this.#path = path;
  }

  /** Reports a missing koffi before the first message. */
  async prepare(): Promise<void> {
    await loadFor(this.#path);
  }
}
