/**
 * The table of settings: for each its key, type, default, options and help, and where it may be set. The schema of the
 * file, the options of the command line, the bodies of requests, merging, describing and the tables of the documents
 * are derived from it.
 */
import { badArgument } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { LABEL } from '../util/labels.js';
import { ADDRESS, NAME, SHARED, STORAGE } from './channel-settings.js';
import { INCOMING, OUTGOING } from './forward-settings.js';
import { PROCESS_SETTINGS } from './process-settings.js';
import { type Setting, tableSchema } from './setting.js';
import { isTable, path, type ValueType } from './value-type.js';

const CHANNELS_EXPECTED = 'tables of channels, such as [channels.vm1]';

/** The tables themselves are read later, one by one. */
const channelTables: ValueType<unknown> = {
  expected: CHANNELS_EXPECTED,
  read: (value, place) => (isTable(value) ? { value } : place.fail(`expected ${CHANNELS_EXPECTED}`)),
  write: (value) => value,
  schema: (z, form) => z.record(z.string().regex(LABEL), tableSchema(z, FILE_CHANNEL_SETTINGS, form)),
};

const CHANNELS = {
  key: 'channels',
  field: 'channels',
  type: channelTables,
  about: 'Channels by label; a * in the address makes one a group, with a channel for each socket of a folder',
  reload: 'channel',
} as const satisfies Setting;

/** A folder with more files, which is not part of the effective configuration. */
export const INCLUDE = {
  key: 'include',
  field: 'include',
  type: path('the path of a folder, such as "host.d"', requireFolderName),
  about: 'A folder of more files, *.toml and *.json; a relative path begins at the folder of this file',
  reload: 'now',
} as const satisfies Setting;

function requireFolderName(folder: string): string {
  if (!folder.includes('*')) return folder;
  throw badArgument(`"${escapeText(folder, 80)}": expected a folder, of which all *.toml and *.json files are read`);
}

/** Settings of a file for all channels. */
export const DEFAULT_SETTINGS = SHARED;

/** Settings of a command line for all channels. */
export const CHANNEL_SETTINGS = [...SHARED, STORAGE] as const;

/** Settings of a channel besides its address and its forwards. */
export const OWN_SETTINGS = [NAME, ...CHANNEL_SETTINGS] as const;

/** The top-level keys of a file. */
export const FILE_SETTINGS = [...SHARED, ...PROCESS_SETTINGS, INCLUDE, CHANNELS] as const;

/** The keys of a channel in a file, and in a request. */
export const FILE_CHANNEL_SETTINGS = [...SHARED, NAME, ADDRESS, OUTGOING, INCOMING, STORAGE] as const;

/** The settings that have options on the command line, in the order of the help. */
export const OPTION_SETTINGS = [
  ADDRESS,
  NAME,
  OUTGOING,
  INCOMING,
  ...CHANNEL_SETTINGS,
  ...PROCESS_SETTINGS.slice(1),
] as const;

/** The same for the command that adds a channel, whose address is an operand. */
export const ADDITION_SETTINGS = [OUTGOING, INCOMING, ...OWN_SETTINGS] as const;
