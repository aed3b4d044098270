/** `vproxy attach`: the output of a job, until it ends, and its input. */
import { escapeText } from '../../lib/util/escape.js';
import { badArgument } from '../command/arguments.js';
import { CHANNEL_OPTION, type Command } from '../command/command.js';
import { attachToJob } from '../exec/attach-job.js';
import { statusOfEnd } from '../exec/run-exec.js';
import { openJob } from './jobs.js';

export const command: Command = {
  usage: 'attach [LABEL/]ID [--from BYTE | --tail BYTES] [--input [--steal]]',
  about:
    'Prints what is kept of the output of a job, then more as it is written, and exits with the status of the job, or 125. It continues after a lost channel. Ctrl-C ends only this command; with --input, Ctrl-\\ does so in a terminal.',
  examples: [
    ['vproxy attach vm1/1f0c92ab', 'All that is kept, then as it is written'],
    ['vproxy attach vm1/1f0c92ab --tail 1000', 'From the last 1000 bytes on'],
    ['vproxy attach --input vm1/1f0c92ab', 'Type into its terminal'],
  ],
  options: {
    from: { value: 'BYTE', describe: 'The number of the first byte to print [default: the first kept one]' },
    tail: { value: 'BYTES', describe: 'Begin this many bytes before the end' },
    input: { short: 'i', describe: 'Pass standard input to the job' },
    steal: { describe: 'Take the input over from another caller' },
    ...CHANNEL_OPTION,
  },
  operands: ['ID'],
  async run(args) {
    const [from, tail] = [args.bytes('from'), args.bytes('tail')];
    if (from !== undefined && tail !== undefined) throw badArgument('--from: not allowed with --tail');
    if (args.has('steal') && !args.has('input')) throw badArgument('--steal: needs --input');
    const { control, id, channel } = await openJob(args);
    const back = `vproxy attach --input ${escapeText(args.operands[0] ?? '')}`;
    const input = args.has('input') ? { steal: args.has('steal'), back } : null;
    return attachToJob(control, id, { channel, from, tail }, input, statusOfEnd);
  },
};
