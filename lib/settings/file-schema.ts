/** What may stand in a configuration file: the keys, and what their values are. */
import { z } from 'zod';
import { parseChannel } from '../channel/address/address.js';
import { toVproxyError } from '../errors.js';
import { parseLabel } from '../proxy/channel-options.js';
import { parseHostPort } from '../util/addresses.js';
import { closestWord } from '../util/closest-word.js';
import { parseAuditPlace, requireKeyFile } from './arguments.js';
import { parseCopyValue, parseExecValue } from './permissions.js';
import type { KeyPath, Problem } from './problem.js';

const MAX_SECONDS = 86_400;
const MAX_PARALLEL = 1024;
const MAX_NAME_LENGTH = 256;
const MAX_TEXT_LENGTH = 65_536;
const MAX_STREAMS = 1_048_576;

const expecting = (what: string) => ({
  error: ({ input }: { readonly input?: unknown }) => `${input === undefined ? 'it is missing; ' : ''}expected ${what}`,
});

const text = (what: string, maxLength = MAX_TEXT_LENGTH) =>
  z
    .string(expecting(what))
    .min(1, { error: `it is empty; expected ${what}` })
    .max(maxLength, { error: `it has more than ${maxLength} characters` });

const whole = (unit: string, least: number, most: number) => {
  const what = expecting(`a whole number of ${unit} from ${least} to ${most}`);
  return z.int(what).min(least, what).max(most, what);
};

const rate = (unit: string, least: number, most: number) => {
  const what = expecting(`a number of ${unit} a second from ${least} to ${most}`);
  return z.number(what).min(least, what).max(most, what);
};

const yesOrNo = z.boolean(expecting('true or false'));

/** A text, and what `parse` makes of it; what that throws is wrong with the key. */
const parsed = <T>(what: string, parse: (value: string) => T) =>
  text(what).transform((value, context): T => {
    try {
      return parse(value);
    } catch (error) {
      context.addIssue({ code: 'custom', message: toVproxyError(error).message });
      return z.NEVER;
    }
  });

/** Whatever `parse` understands; what it throws is wrong with the key. */
const understood = <T>(parse: (value: unknown) => T) =>
  z.unknown().transform((value, context): T => {
    try {
      return parse(value);
    } catch (error) {
      context.addIssue({ code: 'custom', message: toVproxyError(error).message });
      return z.NEVER;
    }
  });

/** A file with a key; the key itself is refused without being shown. */
const keyFile = parsed('the path of a file', (value) => requireKeyFile(value));

/** They are parsed with what else is known of their channel. */
const forwards = (example: string) =>
  z.array(text(`a text, such as "${example}"`), expecting(`a list of texts, such as ["${example}"]`)).optional();

/** Whether a value is a table; a date of TOML is none. */
export function isTable(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** A table whose own keys are looked at by themselves. */
const table = (what: string) => z.custom<object>(isTable, expecting(what)).optional();

/** What can be said of a channel, and once for all of them. */
const settings = {
  wait: whole('seconds', 0, MAX_SECONDS).optional(),
  'dead-after': whole('seconds (0: never)', 0, MAX_SECONDS).optional(),
  insecure: yesOrNo.optional(),
  keys: z.array(keyFile, expecting('a list of paths, such as ["/etc/vproxy/vm1.key"]')).optional(),
  'peer-address': yesOrNo.optional(),
  'allow-exec': understood(parseExecValue).optional(),
  'allow-copy': understood(parseCopyValue).optional(),
  services: table('a table for each service, such as [services.ssh]'),
  name: text(`a text of 1 to ${MAX_NAME_LENGTH} characters`, MAX_NAME_LENGTH).optional(),
};

/** The file as a whole. */
export const FILE_SCHEMA = z.strictObject(
  {
    ...settings,
    control: z.union([text('a path'), z.literal(false)], expecting('the path of a socket, or false')).optional(),
    audit: parsed('/path[,rotate=10M][,keep=5]', parseAuditPlace).optional(),
    once: yesOrNo.optional(),
    metrics: parsed('ADDR:PORT', (value) => parseHostPort(value, 0)).optional(),
    'log-level': z.enum(['error', 'warn', 'info', 'debug'], expecting('error, warn, info or debug')).optional(),
    'log-format': z.enum(['text', 'json'], expecting('text or json')).optional(),
    'log-details': yesOrNo.optional(),
    channels: table('tables of channels, such as [channels.vm1]'),
  },
  expecting('a table'),
);

/** One channel. */
export const CHANNEL_SCHEMA = z.strictObject(
  {
    ...settings,
    address: parsed('KIND:ADDRESS or a URI, such as "unix-connect:/run/vm1.sock"', (value) => parseChannel(value).text),
    outgoing: forwards('ssh:127.0.0.1:9022'),
    incoming: forwards('web:127.0.0.1:8080'),
    storage: z.union([yesOrNo, table('')], expecting('true, false, or a table with socket and parallel')).optional(),
    'vsock-ports': table('a table, such as { 1024 = "ssh" }'),
  },
  expecting('a table with an address'),
);

/** The rule of one service. */
export const RULE_SCHEMA = z.strictObject({
  channels: z
    .array(parsed('the label of a channel or a group', parseLabel), expecting('a list of labels, such as ["vm1"]'))
    .optional(),
  streams: whole('streams', 1, MAX_STREAMS).optional(),
  'opens-per-second': rate('openings', 0.01, 1_000_000).optional(),
  'bytes-per-second': rate('bytes', 1024, 1e12).optional(),
  'idle-timeout': whole('seconds', 1, MAX_SECONDS).optional(),
});

/** How the storage broker of a channel runs. */
export const STORAGE_SCHEMA = z.strictObject({
  socket: text('the path of a socket').optional(),
  parallel: whole('calls', 1, MAX_PARALLEL).optional(),
});

// A table of a configuration file against its schema.

/** What the schema makes of `value`, or null; everything that is wrong with it goes to `problems`, with `path` before its key. */
export function checkTable<S extends z.ZodObject>(
  schema: S,
  value: unknown,
  path: KeyPath,
  problems: Problem[],
): z.output<S> | null {
  const { data, error } = schema.safeParse(value);
  if (error === undefined) return data;
  for (const issue of error.issues) {
    const where = [...path, ...issue.path.map((key) => (typeof key === 'symbol' ? String(key) : key))];
    if (issue.code !== 'unrecognized_keys') problems.push({ where, message: issue.message });
    else {
      for (const key of issue.keys) problems.push({ where: [...where, key], message: describeUnknown(key, schema) });
    }
  }
  return null;
}

function describeUnknown(key: string, schema: z.ZodObject): string {
  const known = Object.keys(schema.shape);
  const close = closestWord(key, known);
  return `there is no such key; ${close === undefined ? `there are: ${known.join(', ')}` : `did you mean ${close}?`}`;
}
