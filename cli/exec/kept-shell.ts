/** `vproxy shell --keep`: a shell in a terminal that outlives its user's connection. */
import type { Duplex } from 'node:stream';
import { connectControl } from '../../lib/control/client/client.js';
import { badArgument, toVproxyError } from '../../lib/errors.js';
import type { ExecRequest } from '../../lib/services/exec/exec-messages.js';
import { listJobs, startJob } from '../../lib/services/exec/jobs/job-calls.js';
import type { ExecResult } from '../../lib/status/types.js';
import { quoteWord } from '../../lib/util/escape.js';
import { findSocket } from '../command/find-process.js';
import { LocalTerminal } from '../ui/local-terminal.js';
import { attachToJob } from './attach-job.js';
import type { ExecArguments } from './exec-options.js';
import { isAtTerminal } from './join-terminal.js';

/** How much of its output is shown at first, in bytes. */
const TAIL_BYTES = 16_384;

/** Attaches to the job in a terminal with this tag, or starts one; resolves with the exit status. */
export async function keepShell(
  open: () => Promise<Duplex>,
  request: ExecRequest,
  { keptAs: tag = '', channel, steal, ...args }: ExecArguments,
  statusOfEnd: (end: ExecResult) => number,
): Promise<number> {
  if (!isAtTerminal()) throw badArgument('--keep: standard input and output are no terminal');
  const running = (await listJobs(await open())).find((job) => job.tag === tag && job.terminal && job.endedAt === null);
  const id = running?.id ?? (await start(open, { ...request, detach: { tag, unique: true } }));
  const back = `vproxy shell --keep ${quoteWord(tag)}${channel === undefined ? '' : ` ${channel}`}`;
  const control = connectControl(await findSocket(args));
  return attachToJob(control, id, { channel, tail: TAIL_BYTES }, { steal, back }, statusOfEnd);
}

/** Resolves with its id; that of another job with the same tag if it was just started. */
async function start(open: () => Promise<Duplex>, request: ExecRequest): Promise<string> {
  try {
    return (await startJob(open, { ...request, terminal: new LocalTerminal().request })).id;
  } catch (error) {
    const { code, message } = toVproxyError(error);
    const id = code === 'job-exists' ? /^job ([0-9a-f]{8}) /.exec(message)?.[1] : undefined;
    if (id === undefined) throw error;
    return id;
  }
}
