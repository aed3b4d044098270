/** `exec:COMMAND`: a process for each stream, whose standard input and output are the stream. */
import { VproxyError } from '../errors.js';
import type { EndpointKind } from './endpoint-kind.js';
import { ExecTarget } from './exec-target.js';

export interface ExecEndpoint {
  readonly kind: 'exec';
  /** For `/bin/sh -c`. */
  readonly command: string;
}

/** The kind `exec`. */
export const execEndpoint: EndpointKind<ExecEndpoint> = {
  form: { incoming: 'exec:COMMAND' },
  parse(command) {
    if (command.trim() === '') throw new VproxyError('bad-argument', 'the command is missing');
    if (command.includes('\0')) throw new VproxyError('bad-argument', 'a command cannot contain a NUL');
    return { kind: 'exec', command };
  },
  format: ({ command }) => command,
  createTarget: ({ command }, context) => new ExecTarget(command, context),
};
