/** The settings of the process: its name, its listeners besides its channels, and its log. */

import { badArgument, naming } from '../errors.js';
import type { LogLevel } from '../events.js';
import { fileForm, parseFileEndpoint } from '../forward/forms/file-form.js';
import { formatSocketFile, parseSocketFile, type SocketFile } from '../forward/forms/socket-form.js';
import type { Rotation } from '../system/files/log-file.js';
import { formatHostPort, parseHostPort } from '../util/addresses/host-port.js';
import { parsePathOrName } from '../util/addresses/paths.js';
import { escapeText } from '../util/escape.js';
import { NAME } from './channel-settings.js';
import { notAllowedWith, onlyValue, type Setting } from './setting.js';
import { oneOf, parsed, type ValueType, yesOrNo } from './value-type.js';

export type LogFormat = 'text' | 'json';

export interface AuditPlace {
  readonly path: string;
  /** Null: it is never rotated. */
  readonly rotation: Rotation | null;
}

/** Written as `/path[,rotate=10M][,keep=5]`, like the target `file:` of a forward. */
const auditPlace: ValueType<AuditPlace> = parsed(
  '/path[,rotate=10M][,keep=5]',
  (value) => {
    const { path: file, rotation = null } = parseFileEndpoint(value);
    return { path: file, rotation };
  },
  ({ path: file, rotation }) =>
    fileForm.format({ kind: 'file', path: file, ...(rotation === null ? {} : { rotation }) }),
);

const parseControl = (value: string): SocketFile => parseSocketFile(value, 'outgoing', parsePathOrName);

/** The path of a socket, absolute or not, and who may connect. */
const socketFile: ValueType<SocketFile> = parsed('the path of a socket, or false', parseControl, formatSocketFile);

/** A socket, or false for no control socket. */
const controlSocket: ValueType<SocketFile | false> = {
  ...(socketFile as ValueType<SocketFile | false>),
  read: (value, place) => (value === false ? { value } : socketFile.read(value, place)),
  write: (value, form) => value && socketFile.write(value, form),
  schema: (z) => z.union([z.literal(false), z.string()]),
};

/** How many channels must have a session for the process to be ready. */
type Ready = 'any' | 'all' | number;

const READY_EXPECTED = 'any, all, or a number of channels from 0 to 65535';

const isReady = (value: unknown): value is Ready =>
  value === 'any' || value === 'all' || (Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 65_535);

const ready: ValueType<Ready> = {
  expected: READY_EXPECTED,
  read: (value, place) => (isReady(value) ? { value } : place.fail(`expected ${READY_EXPECTED}`)),
  write: (value) => value,
  parse(given) {
    const text = given ?? '';
    const value = /^\d{1,5}$/.test(text) ? Number(text) : text;
    if (isReady(value)) return value;
    throw badArgument(`"${escapeText(text, 64)}" is not ${READY_EXPECTED}`);
  },
  schema: (z) => z.union([z.enum(['any', 'all']), z.int().min(0).max(65_535)]),
};

const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const satisfies readonly LogLevel[];
const LOG_FORMATS = ['text', 'json'] as const satisfies readonly LogFormat[];

export const PROCESS_SETTINGS = [
  { ...NAME, reload: 'start' },
  {
    key: 'control',
    field: 'control',
    type: controlSocket,
    variable: 'VPROXY_CONTROL',
    about:
      'The path of the control socket, with ,mode= ,user= ,group= as for -o, or false for none; default: NAME.sock in /run/vproxy, or in $XDG_RUNTIME_DIR/vproxy',
    options: [
      {
        name: 'control',
        value: 'PATH[,mode=0660][,user=NAME][,group=NAME]',
        group: 'Control:',
        help: 'PATH of the control socket',
        byDefault: '/run/vproxy/NAME.sock, or in $XDG_RUNTIME_DIR/vproxy',
      },
      { name: 'no-control', group: 'Control:', help: 'No control socket' },
    ],
    fromOptions(given) {
      const text = onlyValue('control', given);
      const socket = text === undefined ? text : naming('--control', () => parseControl(text));
      if (given('no-control').length === 0) return socket;
      if (socket !== undefined) throw notAllowedWith('--no-control', '--control');
      return false;
    },
    reload: 'start',
  },
  {
    key: 'audit',
    field: 'audit',
    type: auditPlace,
    about: 'The file of the audit log, /path[,rotate=10M][,keep=5]: who opened what, as lines of JSON',
    options: {
      value: 'FILE[,rotate=10M][,keep=5]',
      group: 'Log:',
      help: '/path[,rotate=10M][,keep=5] of an audit log: who opened what, as lines of JSON',
    },
    reload: 'start',
  },
  {
    key: 'once',
    field: 'once',
    type: yesOrNo,
    fallback: false,
    about: 'Whether to exit when the first session ends, or when one side rejects the other',
    options: { group: 'Channel:', help: 'Exit when the first session ends, or when one side rejects the other' },
    reload: 'start',
  },
  {
    key: 'metrics',
    field: 'metrics',
    type: parsed('ADDR:PORT', (value) => parseHostPort(value, 0), formatHostPort),
    about: 'ADDR:PORT to also serve metrics on',
    variable: 'VPROXY_METRICS',
    options: { value: 'ADDR:PORT', group: 'Control:', help: 'ADDR:PORT to also serve metrics on' },
    reload: 'start',
  },
  {
    key: 'http-ports',
    field: 'httpPorts',
    type: parsed('ADDR:PORT', (value) => parseHostPort(value, 0), formatHostPort),
    about: 'ADDR:PORT to serve the ports of all peers on, by name: http://PORT.LABEL.localhost:PORT/',
    variable: 'VPROXY_HTTP_PORTS',
    options: {
      value: 'ADDR:PORT',
      group: 'Forwards:',
      help: 'ADDR:PORT for the ports of all peers, as http://3000.LABEL.localhost:PORT/',
    },
    reload: 'start',
  },
  {
    key: 'ready',
    field: 'ready',
    type: ready,
    fallback: 'any',
    about: 'How many channels must have a session for /readyz of the metrics address: any, all, or a number',
    options: {
      value: 'any|all|N',
      group: 'Control:',
      help: 'How many channels must have a session for /readyz of --metrics',
      byDefault: 'any',
    },
    reload: 'now',
  },
  {
    key: 'log-level',
    field: 'logLevel',
    type: oneOf(LOG_LEVELS, 'is not a log level'),
    fallback: 'info',
    about: 'The least important level that is logged',
    variable: 'VPROXY_LOG_LEVEL',
    options: [
      {
        name: 'verbose',
        short: 'v',
        group: 'Log:',
        help: 'Log more: -v every stream and call, -vv also the details of every line',
      },
      { name: 'quiet', short: 'q', group: 'Log:', help: 'Log only warnings and errors' },
    ],
    fromOptions(given) {
      const isVerbose = given('verbose').length > 0;
      if (given('quiet').length === 0) return isVerbose ? 'debug' : undefined;
      if (isVerbose) throw notAllowedWith('-q', '-v');
      return 'warn';
    },
    reload: 'now',
  },
  {
    key: 'log-format',
    field: 'logFormat',
    type: oneOf(LOG_FORMATS, 'is neither text nor json'),
    fallback: 'text',
    about: 'The format of the log: text, or one JSON object per line',
    variable: 'VPROXY_LOG_FORMAT',
    options: { value: 'text|json', group: 'Log:', help: 'text, or json: one object per line', byDefault: 'text' },
    reload: 'now',
  },
  {
    key: 'log-details',
    field: 'logDetails',
    type: yesOrNo,
    fallback: false,
    about: 'Whether each line of the log also has all details of its event',
    fromOptions: (given) => (given('verbose').length > 1 ? true : undefined),
    reload: 'now',
  },
] as const satisfies readonly Setting[];
