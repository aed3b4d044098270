/** `exec:COMMAND`: the standard input and output of a command, such as ssh or socat, that leads to the peer. */
import net from 'node:net';
import { badArgument, VproxyError } from '../errors.js';
import { channelError, type Link, requireWanted } from '../link/link.js';
import { SocketLink } from '../link/socket-link.js';
import { type Child, startChild } from '../system/processes/children.js';
import { copyIntoBuffers } from '../system/sockets/node-sockets.js';
import { systemClock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { BREAKABLE_TRAITS, type DialKind } from './kind.js';

export const exec: DialKind<string> = {
  mode: 'dial',
  traits: BREAKABLE_TRAITS,
  parse(text) {
    if (text.startsWith('//')) throw badArgument('exec: takes a command, not a URI');
    if (text.trim() !== '' && !text.includes('\0')) return text;
    throw badArgument('missing command, such as ssh HOST vproxy -c stdio:');
  },
  format: (command) => command,
  place: () => null,
  locate: (command) => ({ is: 'command', command }),
  async dial(command, { signal }) {
    const description = `exec:${escapeText(command, 80)}`;
    requireWanted(signal, description);
    const child = await startChild(command, systemClock).catch((error: unknown) => {
      throw channelError(description, error);
    });
    const link = openLink(description, child);
    if (signal.aborted) link.destroy();
    requireWanted(signal, description);
    return link;
  },
};

/** How long output may still arrive after a command has exited, and how long it may take to exit after its output ended. */
const LINGER_MS = 250;

function openLink(description: string, child: Child): Link {
  const { input, output } = child;
  if (!(input instanceof net.Socket && output instanceof net.Socket)) {
    throw new VproxyError('internal', `${description}: a child's stdin and stdout are not sockets`);
  }
  const link = new SocketLink(description, (onread) => ({ input: copyIntoBuffers(output, onread), output: input }));
  // A process that it left running may hold its output open.
  void child.exited.then(() => {
    const cancel = systemClock.schedule(LINGER_MS, () => output.destroy(new Error('its command has exited')));
    output.once('close', cancel);
  });
  return link.beforeClosed(async (reason) => {
    const isOurs = reason.code === 'shutdown';
    const how = await child.end(isOurs ? 0 : LINGER_MS);
    if (isOurs) return reason;
    return new VproxyError('channel-closed', `${description}: ${how}`, { cause: reason });
  });
}
