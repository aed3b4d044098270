/** What may have been meant by `vproxy exec vm1 uname`: without its colon a label is a command, the only peer's or nobody's. */
import { getValue } from '../../lib/control/client/plain-http.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { isLabel } from '../../lib/util/labels.js';
import { findSocket, socketChoice } from '../command/find-process.js';
import type { ExecArguments } from './exec-arguments.js';

/** To be put behind the message of a command that was not run: empty where its first word is no label of a channel. Never rejects. */
export async function suggestLabel({ argv, channel, socket, name }: ExecArguments): Promise<string> {
  const [first = ''] = argv;
  if (channel !== undefined || !isLabel(first)) return '';
  try {
    const path = await findSocket(socketChoice(socket, name));
    const channels = await getValue<ChannelStatus[]>(path, '/v1/channels');
    return channels.some(({ label }) => label === first) ? `; did you mean vproxy exec ${first}:?` : '';
  } catch {
    return '';
  }
}
