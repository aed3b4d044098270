/** The process that a command is for. */
import { type ControlClient, connectControl } from '../../lib/control/client.js';
import type { Arguments } from './arguments.js';
import { findSocket, socketChoice } from './find-socket.js';

/** The one that `--socket`, `--name` or the environment names, or the only one. Rejects as `findSocket` does. */
export async function openControl(args: Arguments): Promise<ControlClient> {
  return connectControl(await findSocket(socketChoice(args.text('socket'), args.text('name'))));
}
