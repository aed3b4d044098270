/** The route of a terminal of the peer over a WebSocket: for pages, and for programs that serve them. */
import { badArgument, toVproxyError, VproxyError } from '../../errors.js';
import { runCommand } from '../../services/exec/exec-call.js';
import { type ExecRequest, encodeStart, MAX_SIDE, type TerminalSize } from '../../services/exec/exec-messages.js';
import * as z from '../../status/zod.js';
import { onAbort } from '../../util/concurrency.js';
import { orElse } from '../../util/or-else.js';
import { parseInput } from '../server/read-input.js';
import { openExec } from './commands.js';
import { webSockets } from './connect.js';
import { RequestError } from './request-error.js';
import { upgradeRoute, WEB_SOCKET } from './route.js';
import { numberText, onlyChannel } from './values.js';

/** With this subprotocol, a text from the client is not input, but the size of its terminal, as JSON. */
export const TERMINAL_PROTOCOL = 'vproxy.terminal';

const sizeSchema = z.strictObject({
  columns: z.int().min(1).max(MAX_SIDE),
  rows: z.int().min(1).max(MAX_SIDE),
});

const terminalQuery = z.strictObject({
  channel: onlyChannel(),
  argv: z.string().default('[]').describe('The command as a list in JSON; empty: the login shell of the user'),
  user: z.string().optional().describe('The user to run it as; default: the user that runs the proxy'),
  cwd: z.string().optional().describe("The folder to run it in; default: the user's home"),
  term: z.string().default('xterm-256color').describe('The value of TERM'),
  columns: numberText(MAX_SIDE).default(80),
  rows: numberText(MAX_SIDE).default(24),
});

export const terminalRoutes = [
  upgradeRoute('GET /v1/terminal', 'openTerminal', {
    summary: 'A command in a terminal, over a WebSocket: messages of the client are its input, others its output',
    query: terminalQuery,
    protocols: [WEB_SOCKET],
    errors: [403, 404, 426, 503],
    async upgrade(context, { query, request, signal }, socket) {
      const { acceptWebSocket, carry, closeWith, failWith, requireSameOrigin } = await webSockets();
      requireSameOrigin(request);
      const { channel, argv, user, cwd, ...terminal } = query;
      const wanted: ExecRequest = {
        argv: argvOf(argv),
        terminal,
        ...(user !== undefined && { user }),
        ...(cwd !== undefined && { cwd }),
      };
      encodeStart(wanted); // throws before a stream is opened
      const stream = await openExec(context.proxy, { channel, signal });
      const webSocket = await acceptWebSocket(request, socket, TERMINAL_PROTOCOL, context);
      const call = runCommand(stream, wanted);
      onAbort(signal, () => call.cancel());
      const resize = (text: string): void => {
        try {
          call.resize(parseInput(sizeSchema, JSON.parse(text)) as TerminalSize);
        } catch (error) {
          failWith(webSocket, badArgument(`the size of the terminal: ${toVproxyError(error).message}`));
          call.cancel();
        }
      };
      carry(webSocket, call.stdin, call.stdout, webSocket.protocol === TERMINAL_PROTOCOL ? resize : undefined);
      await call.result.then(
        ({ error, signal, status }) =>
          error === null
            ? closeWith(webSocket, signal ?? `exit ${status}`)
            : failWith(webSocket, new VproxyError(error.code, error.message)),
        (error: unknown) => failWith(webSocket, error),
      );
    },
  }),
];

function argvOf(text: string): string[] {
  const argv = orElse(null, () => JSON.parse(text) as unknown);
  if (Array.isArray(argv) && argv.every((word) => typeof word === 'string')) return argv;
  throw new RequestError('bad-argument', 'argv: must be a list of strings in JSON', { field: 'argv' });
}
