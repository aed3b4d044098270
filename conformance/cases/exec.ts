/** The service `exec`, which only a program can be asked for: a session in process runs no commands. */
import { EXEC_KIND, encodeStart } from '../../lib/services/exec/exec-messages.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import type { Conversations } from '../script.js';

const data = (...records: readonly Buffer[]): string => `DATA 1 hex:${Buffer.concat(records).toString('hex')}`;
const start = (script: string): Buffer => encodeStart({ argv: ['sh', '-c', script] });
const input = encodeRecord(EXEC_KIND.STDIN, 'five\n');

export const EXEC: Conversations = {
  "exec: the end of the caller's direction is the end of standard input, and the command continues": [
    `OPEN 1 exec, ${data(start('test "$(cat)" = five || exec sleep 1000'), input)}, FIN 1 -> ACCEPT 1, DATA 1 some, FIN 1`,
    `OPEN 1 exec, ${data(start('cat; sleep 0.2'))}, FIN 1 -> ACCEPT 1, DATA 1 some, FIN 1`,
  ],
  "exec: the end of the caller's direction before START, or within it, resets the stream": [
    'OPEN 1 exec, FIN 1 -> ACCEPT 1, RESET 1 protocol-error',
    `OPEN 1 exec, ${data(start('cat').subarray(0, -1))}, FIN 1 -> ACCEPT 1, RESET 1 protocol-error`,
  ],
};
