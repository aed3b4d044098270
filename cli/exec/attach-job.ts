/** Prints the output of a job until its end, and passes on input if wanted: `vproxy attach` and `vproxy shell --keep`. */
import { Readable } from 'node:stream';
import type { ControlClient } from '../../lib/control/client/client.js';
import type { AttachRequest } from '../../lib/control/client/client-options.js';
import { toVproxyError, VproxyError } from '../../lib/errors.js';
import type { ExecResult } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatCount } from '../../lib/util/units.js';
import { watchSilence } from '../command/open-service.js';
import type { JobKeyboard, KeyboardOptions } from './job-keyboard.js';
import { relayToEnd } from './relay-output.js';

/** Resolves with the exit status: the job's, or 0 after the user has left it. Rejects with `exec-unavailable`. */
export async function attachToJob(
  control: ControlClient,
  id: string,
  request: AttachRequest,
  input: KeyboardOptions | null,
  statusOfEnd: (end: ExecResult) => number,
): Promise<number> {
  let status = null as number | null;
  let isLost = false;
  let pieces = 0;
  let keyboard = null as JobKeyboard | null;
  const stop = watchSilence(control.path, request.channel, () => pieces);
  const note = (text: string): void => void process.stderr.write(`vproxy: ${text}\n`);
  const onLost = ({ message }: VproxyError): void => {
    keyboard?.pause();
    if (!isLost) note(`${escapeText(message, 500)}; waiting for the job`);
    isLost = true;
  };
  const open = async () => {
    if (input === null) return control.attachJob(id, { ...request, onLost });
    const { JobKeyboard } = await import('./job-keyboard.js');
    keyboard = await JobKeyboard.join(control, id, { ...request, onLost }, input);
    return keyboard.output;
  };
  const output = async function* (): AsyncGenerator<Buffer> {
    for await (const piece of await open()) {
      isLost = false;
      pieces += 1;
      if (piece.kind === 'end') status = statusOfEnd(piece.result);
      else if (piece.kind === 'gap') note(`${formatCount(piece.droppedBytes, 'byte')} of output dropped`);
      else {
        keyboard?.follow(piece.bytes);
        yield piece.bytes;
      }
    }
  };
  try {
    await relayToEnd(Readable.from(output(), { objectMode: false }));
  } catch (error) {
    const { code, message } = toVproxyError(error);
    const hint = code === 'input-taken' && pieces === 0 ? '; take it over with --steal' : '';
    throw new VproxyError('exec-unavailable', `${message}${hint}`, { cause: error });
  } finally {
    stop();
    keyboard?.stop(status !== null);
  }
  if (keyboard?.isUnsure === true) note('what was typed last may be lost');
  if (status === null && input !== null) note(`detached; come back with: ${input.back}`);
  return status ?? 0;
}
