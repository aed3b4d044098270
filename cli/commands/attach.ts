/** `vproxy attach`: the output of a job, until it ends. */
import { Readable } from 'node:stream';
import { toVproxyError, VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatCount } from '../../lib/util/units.js';
import { badArgument } from '../command/arguments.js';
import { CHANNEL_OPTION, type Command } from '../command/command.js';
import { watchSilence } from '../command/open-service.js';
import { relayToEnd } from '../exec/relay-output.js';
import { statusOfEnd } from '../exec/run-exec.js';
import { openJob } from './jobs.js';

export const command: Command = {
  usage: 'attach [LABEL/]ID [--from BYTE | --tail BYTES]',
  about:
    'Prints what is kept of the output of a job, then more as it is written, and exits with the status of the job, or 125. It continues after a lost channel. Ctrl-C ends only this command.',
  examples: [
    ['vproxy attach vm1/1f0c92ab', 'All that is kept, then as it is written'],
    ['vproxy attach vm1/1f0c92ab --tail 1000', 'From the last 1000 bytes on'],
  ],
  options: {
    from: { value: 'BYTE', describe: 'The number of the first byte to print [default: the first kept one]' },
    tail: { value: 'BYTES', describe: 'Begin this many bytes before the end' },
    ...CHANNEL_OPTION,
  },
  operands: ['ID'],
  async run(args) {
    const [from, tail] = [args.bytes('from'), args.bytes('tail')];
    if (from !== undefined && tail !== undefined) throw badArgument('--from: not allowed with --tail');
    const { control, id, channel } = await openJob(args);
    let status = 0;
    let isLost = false;
    let pieces = 0;
    const stop = watchSilence(control.path, channel, () => pieces);
    const note = (text: string): void => void process.stderr.write(`vproxy: ${text}\n`);
    const onLost = ({ message }: VproxyError): void => {
      if (!isLost) note(`${escapeText(message, 500)}; waiting for the job`);
      isLost = true;
    };
    const output = async function* (): AsyncGenerator<Buffer> {
      for await (const piece of control.attachJob(id, { channel, from, tail, onLost })) {
        isLost = false;
        pieces += 1;
        if (piece.kind === 'end') status = statusOfEnd(piece.result);
        else if (piece.kind === 'gap') note(`${formatCount(piece.droppedBytes, 'byte')} of output dropped`);
        else yield piece.bytes;
      }
    };
    try {
      await relayToEnd(Readable.from(output(), { objectMode: false }));
    } catch (error) {
      throw new VproxyError('exec-unavailable', toVproxyError(error).message, { cause: error });
    } finally {
      stop();
    }
    return status;
  },
};
