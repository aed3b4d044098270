/** From what yargs read to what the command line asks for: every value is checked here, with one line for people. */

import { toVproxyError, VproxyError } from '../../lib/errors.js';
import { parsePortService } from '../../lib/forward/vsock-mux-endpoint.js';
import type { StorageOptions } from '../../lib/proxy/channel-options.js';
import { parseAuditPlace, parseChannelArgument, requireKeyFile } from '../../lib/settings/arguments.js';
import type { ChannelSettings, FlagLayer, LogFormat } from '../../lib/settings/configuration.js';
import { parseCopyText, parseExecText } from '../../lib/settings/permissions.js';
import { parseHostPort } from '../../lib/util/addresses.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatOption, NO_VALUE } from '../command/parser.js';

/** The arguments of the command as yargs gives them. */
export type RawArguments = Readonly<Record<string, unknown>>;

/** What the command line asks for. */
export interface RunFlags extends FlagLayer {
  /** The configuration file, or null. */
  readonly file: string | null;
  /** Whether what would be in force is only printed. */
  readonly isPrinted: boolean;
  /** Whether it is printed as JSON. */
  readonly asJson: boolean;
}

const MAX_SECONDS = 86_400;
const MAX_PARALLEL = 1024;
const MAX_NAME_LENGTH = 256;

/** The flags in `args`. Throws `bad-argument`, naming the argument and what would be right. */
export function parseRunFlags(args: RawArguments): RunFlags {
  rejectOperands(args);
  const name = text(args, 'name');
  if (name !== undefined && name.length > MAX_NAME_LENGTH) {
    throw bad('--name', `${name.length} characters exceed ${MAX_NAME_LENGTH}`);
  }
  const metrics = parseValue(args, 'metrics', (value) => parseHostPort(value, 0));
  const audit = parseValue(args, 'audit', parseAuditPlace);
  const control = parseControl(args);
  return {
    file: text(args, 'config') ?? null,
    isPrinted: args['print-config'] === true,
    asJson: parseJson(args),
    ...(name === undefined ? {} : { name }),
    ...(control === undefined ? {} : { control }),
    ...(metrics === undefined ? {} : { metrics }),
    ...(audit === undefined ? {} : { audit }),
    ...(args['once'] === true ? { once: true } : {}),
    ...parseLog(args),
    settings: parseSettings(args),
    channels: parseChannels(args),
    forwards: (['outgoing', 'incoming'] as const).flatMap((direction) =>
      values(args, direction).map((value) => ({ direction, text: value })),
    ),
    vsockPorts: parseVsockPorts(args),
  };
}

function parseChannels(args: RawArguments): FlagLayer['channels'] {
  return values(args, 'channel').map((value) => {
    if (value === '') throw bad('-c', 'its value is empty');
    return parseChannelArgument(value);
  });
}

function parseSettings(args: RawArguments): ChannelSettings {
  const waitS = number(args, 'wait', 'seconds', 0, MAX_SECONDS);
  const deadAfterS = number(args, 'dead-after', 'seconds (0: never)', 0, MAX_SECONDS);
  const storage = parseStorage(args);
  const keyFiles = parseKeyFiles(args);
  const exec = parsePermission(args, 'allow-exec', parseExecText);
  const copy = parsePermission(args, 'allow-copy', parseCopyText);
  return {
    ...(waitS === undefined ? {} : { waitMs: waitS * 1000 }),
    ...(deadAfterS === undefined ? {} : { deadAfterMs: deadAfterS === 0 ? null : deadAfterS * 1000 }),
    ...(args['insecure'] === true ? { insecure: true } : {}),
    ...(keyFiles.length === 0 ? {} : { keyFiles }),
    ...(args['peer-address'] === true ? { peerAddress: true } : {}),
    ...(storage === undefined ? {} : { storage }),
    ...(exec === undefined ? {} : { exec }),
    ...(copy === undefined ? {} : { copy }),
  };
}

/** What an option allows whose value may be left out: null is for everything. */
function parsePermission<T>(args: RawArguments, option: string, parse: (text: string | null) => T): T | undefined {
  return parseValue(args, option, (value) => parse(value === NO_VALUE ? null : value));
}

function parseKeyFiles(args: RawArguments): string[] {
  return values(args, 'key').map((value) => {
    if (value === '') throw bad('--key', 'its value is empty');
    return explain('--key', () => requireKeyFile(value));
  });
}

function parseVsockPorts(args: RawArguments): Record<number, string> {
  const services: Record<number, string> = {};
  for (const value of values(args, 'vsock-port')) {
    const [port, service] = explain('--vsock-port', () => parsePortService(value));
    if (services[port] !== undefined) throw bad('--vsock-port', `the port ${port} is there twice`);
    services[port] = service;
  }
  return services;
}

function parseStorage(args: RawArguments): StorageOptions | undefined {
  const socketPath = text(args, 'storage-socket');
  const parallel = number(args, 'storage-parallel', 'calls', 1, MAX_PARALLEL);
  const isForbidden = args['no-storage'] === true;
  if (isForbidden && socketPath !== undefined) throw bad('--no-storage', 'cannot stand with --storage-socket');
  if (!isForbidden && socketPath === undefined && parallel === undefined) return undefined;
  return {
    ...(isForbidden ? { isAllowed: false } : {}),
    ...(socketPath === undefined ? {} : { isAllowed: true, socketPath }),
    ...(parallel === undefined ? {} : { parallel }),
  };
}

function parseControl(args: RawArguments): string | false | undefined {
  const path = text(args, 'control');
  if (args['no-control'] !== true) return path;
  if (path !== undefined) throw bad('--no-control', 'cannot stand with --control');
  return false;
}

/** What `parse` makes of the value of an option that may be given once; undefined where it was not. */
function parseValue<T>(args: RawArguments, option: string, parse: (value: string) => T): T | undefined {
  const value = text(args, option);
  return value === undefined ? undefined : explain(formatOption(option), () => parse(value));
}

/** Does what may throw, and then names the option. */
function explain<T>(option: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw bad(option, toVproxyError(error).message);
  }
}

function parseJson(args: RawArguments): boolean {
  if (args['json'] !== true) return false;
  if (args['print-config'] === true) return true;
  throw bad('--json', 'it says how --print-config prints, which is not there');
}

function parseLog(args: RawArguments): Pick<FlagLayer, 'logLevel' | 'logFormat' | 'logDetails'> {
  const format = text(args, 'log-format');
  if (format !== undefined && !isLogFormat(format))
    throw bad('--log-format', `${quote(format)} is neither text nor json`);
  const verbosity = Number(args['verbose'] ?? 0);
  const isQuiet = args['quiet'] === true;
  if (isQuiet && verbosity > 0) throw bad('-q', 'cannot stand with -v');
  return {
    ...(format === undefined ? {} : { logFormat: format }),
    ...(isQuiet ? { logLevel: 'warn' } : verbosity > 0 ? { logLevel: 'debug' } : {}),
    ...(verbosity > 1 ? { logDetails: true } : {}),
  };
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
