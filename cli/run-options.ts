/** From what yargs read to what a proxy is made of: every value is checked here, with one line for people. */
import { toVproxyError, VproxyError } from '../lib/errors.js';
import { type ForwardSpec, parseForwardSpec } from '../lib/forward/spec.js';
import { parsePortService, type VsockMuxEndpoint } from '../lib/forward/vsock-mux-endpoint.js';
import type { ChannelOptions } from '../lib/proxy/channel-options.js';
import type { StorageOptions } from '../lib/proxy/storage-service.js';
import { escapeText } from '../lib/util/escape.js';
import type { LogFormat } from './log-format.js';
import type { OutputOptions } from './output.js';
import { formatOption } from './raw-arguments.js';

/** The arguments of the command as yargs gives them. */
export type RawArguments = Readonly<Record<string, unknown>>;

/** What the command does. */
export interface RunOptions {
  readonly channels: readonly ChannelOptions[];
  readonly output: OutputOptions;
}

const MAX_SECONDS = 86_400;
const MAX_PARALLEL = 1024;
const MAX_NAME_LENGTH = 256;

/** The options in `args`. Throws `bad-argument`, naming the argument and what would be right. */
export function parseRunOptions(args: RawArguments): RunOptions {
  rejectOperands(args);
  const channel = text(args, 'channel', 'c');
  if (channel === undefined) {
    throw bad('-c', 'the channel is missing; expected -c KIND:ADDRESS, such as -c unix-connect:/run/vm1.sock');
  }
  const name = text(args, 'name');
  if (name !== undefined && name.length > MAX_NAME_LENGTH) {
    throw bad('--name', `${name.length} characters exceed ${MAX_NAME_LENGTH}`);
  }
  const waitS = number(args, 'wait', 'seconds', 0, MAX_SECONDS);
  const deadAfterS = number(args, 'dead-after', 'seconds (0: never)', 0, MAX_SECONDS);
  return {
    channels: [
      {
        address: channel,
        forwards: parseForwards(args),
        name: name ?? null,
        insecure: args['insecure'] === true,
        storage: parseStorage(args),
        ...(waitS === undefined ? {} : { waitMs: waitS * 1000 }),
        ...(deadAfterS === undefined ? {} : { deadAfterMs: deadAfterS === 0 ? null : deadAfterS * 1000 }),
      },
    ],
    output: parseOutput(args),
  };
}

function parseForwards(args: RawArguments): ForwardSpec[] {
  const forwards = [
    ...values(args, 'outgoing').map((value) => parseForwardSpec('outgoing', value)),
    ...values(args, 'incoming').map((value) => parseForwardSpec('incoming', value)),
  ];
  const ports = values(args, 'vsock-port');
  if (ports.length === 0) return forwards;
  const services: Record<number, string> = {};
  for (const value of ports) {
    const [port, service] = parseVsockPortOption(value);
    if (services[port] !== undefined) throw bad('--vsock-port', `the port ${port} is there twice`);
    services[port] = service;
  }
  if (!forwards.some(isHybridListener)) throw bad('--vsock-port', 'there is no -o *:vsock-mux:/path that it is for');
  return forwards.map((spec) => {
    if (!isHybridListener(spec)) return spec;
    return { ...spec, endpoint: { ...spec.endpoint, services: { ...services, ...spec.endpoint.services } } };
  });
}

function parseVsockPortOption(value: string): readonly [port: number, service: string] {
  try {
    return parsePortService(value);
  } catch (error) {
    throw bad('--vsock-port', toVproxyError(error).message);
  }
}

type HybridListener = ForwardSpec & { readonly endpoint: VsockMuxEndpoint };

function isHybridListener(spec: ForwardSpec): spec is HybridListener {
  return spec.direction === 'outgoing' && spec.endpoint.kind === 'vsock-mux';
}

function parseStorage(args: RawArguments): StorageOptions {
  const socketPath = text(args, 'storage-socket');
  const parallel = number(args, 'storage-parallel', 'calls', 1, MAX_PARALLEL);
  const isAllowed = args['no-storage'] !== true;
  if (!isAllowed && socketPath !== undefined) throw bad('--no-storage', 'cannot stand with --storage-socket');
  return { isAllowed, socketPath: socketPath ?? null, ...(parallel === undefined ? {} : { parallel }) };
}

function parseOutput(args: RawArguments): OutputOptions {
  const format = text(args, 'log-format') ?? 'text';
  if (!isLogFormat(format)) throw bad('--log-format', `${quote(format)} is neither text nor json`);
  const verbosity = Number(args['verbose'] ?? 0);
  const isQuiet = args['quiet'] === true;
  if (isQuiet && verbosity > 0) throw bad('-q', 'cannot stand with -v');
  return { format, level: isQuiet ? 'warn' : verbosity > 0 ? 'debug' : 'info', hasDetails: verbosity > 1 };
}

function isLogFormat(value: string): value is LogFormat {
  return value === 'text' || value === 'json';
}

/** Words that belong to no option; yargs reports them unless they stand behind `--`. */
function rejectOperands(args: RawArguments): void {
  const operands = args['_'];
  if (!Array.isArray(operands) || operands.length === 0) return;
  throw new VproxyError(
    'bad-argument',
    `${quote(String(operands[0]))}: every argument belongs to an option; see --help`,
  );
}

/** All values of an option. */
function values(args: RawArguments, option: string): string[] {
  const given = args[option];
  return given === undefined ? [] : [given].flat().map(String);
}

/** The value of an option that may be given once; undefined where it was not. */
function text(args: RawArguments, option: string, spelling: string = option): string | undefined {
  const [value, ...others] = values(args, option);
  if (others.length > 0)
    throw bad(formatOption(spelling), `one is expected, but it is there ${others.length + 1} times`);
  if (value === '') throw bad(formatOption(spelling), 'its value is empty');
  return value;
}

/** The value of an option that is a whole number from `least` to `most`. */
function number(args: RawArguments, option: string, unit: string, least: number, most: number): number | undefined {
  const value = text(args, option);
  if (value === undefined) return undefined;
  const parsed = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
  if (parsed >= least && parsed <= most) return parsed;
  throw bad(formatOption(option), `${quote(value)} is not a whole number of ${unit} from ${least} to ${most}`);
}

function quote(value: string): string {
  return `"${escapeText(value, 64)}"`;
}

function bad(option: string, what: string): VproxyError {
  return new VproxyError('bad-argument', `${option}: ${what}`);
}
