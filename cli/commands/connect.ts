/** `vproxy connect`: joins standard input and output to a service. Loads as little as it can: scripts call it often. */
import { connectService } from '../../lib/control/connect-service.js';
import type { Arguments } from '../control/arguments.js';
import type { Command } from '../control/command.js';
import { CHANNEL_OPTION } from '../control/common-options.js';
import { findSocket, socketChoice } from '../control/find-socket.js';
import { joinStandardStreams } from '../control/join-standard-streams.js';
import { splitLabel } from '../control/split-label.js';

/** The command. */
export const command: Command = {
  usage: 'connect [LABEL/]SERVICE [--channel LABEL]',
  about:
    "Joins standard input and output to a stream to a service of the peer, such as ssh -o ProxyCommand='vproxy connect ssh' vm1. Each direction ends by itself; the command ends when both have, or with the status of the reason where the stream is reset.",
  options: CHANNEL_OPTION,
  operands: ['SERVICE'],
  run: connect,
};

async function connect(args: Arguments): Promise<void> {
  const { label, rest: service } = splitLabel(args.operands[0] ?? '');
  const path = await findSocket(socketChoice(args.text('socket'), args.text('name')));
  await joinStandardStreams(await connectService(path, service, args.text('channel') ?? label ?? undefined));
}
