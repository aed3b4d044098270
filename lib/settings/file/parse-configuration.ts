/** Reads the values of configuration files, and reports all their problems at once. */
import type { Direction } from '../../forward/forms/endpoint-form.js';
import { type ForwardSpec, formatEndpoint } from '../../forward/spec.js';
import { parseLabel } from '../../proxy/channel/channel-options.js';
import { isGroup } from '../../proxy/groups/group-pattern.js';
import type { FileChannel, FileLayer } from '../configuration.js';
import { parseForwardFor } from '../forward-settings.js';
import { type FileProblem, formatKeyPath, type KeyPath, type Problem, showFile } from '../problem.js';
import { PROCESS_SETTINGS } from '../process-settings.js';
import { pickSettings, readNested, readTable } from '../setting.js';
import { DEFAULT_SETTINGS, FILE_CHANNEL_SETTINGS, FILE_SETTINGS, OWN_SETTINGS } from '../settings-table.js';
import { isTable, Place } from '../value-type.js';
import type { ConfigurationDocument } from './document.js';
import { joinDocuments } from './join-documents.js';

/** The contents of files. If there are problems, do not use it: the parts with problems are missing. */
export interface ParsedConfiguration {
  readonly layer: FileLayer;
  readonly problems: readonly FileProblem[];
  readonly fileOf: (where: KeyPath) => string;
}

/** Reads files as one. `mayBeEmpty`: without channels they are valid, too. */
export function parseConfiguration(
  documents: readonly ConfigurationDocument[],
  mayBeEmpty: boolean = false,
): ParsedConfiguration {
  const { value, problems: before, fileOf } = joinDocuments(documents);
  const problems: Problem[] = [];
  const file = new Place('file', problems);
  const said = { ...readTable(FILE_SETTINGS, value, file), ...readNested(FILE_SETTINGS, value, file) };
  const tables = isTable(said.channels) ? Object.entries(said.channels) : [];
  const channels = tables.flatMap(([label, table]) => readChannel(label, table, file.at('channels', label)) ?? []);
  requireDistinctEndpoints(channels, problems, fileOf);
  const layer: FileLayer = {
    ...pickSettings(PROCESS_SETTINGS, said),
    ...(mayBeEmpty ? { mayBeEmpty } : {}),
    defaults: pickSettings(DEFAULT_SETTINGS, said),
    channels,
  };
  const all = [...before, ...problems.map((problem) => ({ ...problem, file: fileOf(problem.where) }))];
  const order = new Map(documents.map(({ file: name }, index) => [name, index]));
  const rank = (problem: FileProblem): number => order.get(problem.file) ?? 0;
  return { layer, problems: all.sort((a, b) => rank(a) - rank(b)), fileOf };
}

const DIRECTIONS: readonly Direction[] = ['outgoing', 'incoming'];

/** Keeps checking the rest of a channel after an error, to report everything at once. */
function readChannel(label: string, value: unknown, place: Place): FileChannel | null {
  const name = place.attempt(() => parseLabel(label));
  if (!isTable(value)) return place.fail('expected a table with an address');
  const problemCount = place.problems.length;
  const said = readTable(FILE_CHANNEL_SETTINGS, value, place);
  const isUsable = place.problems.length === problemCount;
  const { address } = said;
  const hasStar = address !== undefined && place.at('address').attempt(() => isGroup(address))?.value === true;
  const forwards = DIRECTIONS.flatMap((direction) => readForwards(value[direction], hasStar, direction, place));
  const nested = readNested(FILE_CHANNEL_SETTINGS, value, place);
  if (name === null || address === undefined || !isUsable) return null;
  return { label, address, forwards, ...pickSettings(OWN_SETTINGS, { ...said, ...nested }) };
}

/** The forwards of a list. A value that is not a list of strings has already been reported. */
function readForwards(list: unknown, hasStar: boolean, direction: Direction, place: Place): ForwardSpec[] {
  if (!Array.isArray(list)) return [];
  return list.flatMap((text: unknown, index) => {
    if (typeof text !== 'string' || text === '') return [];
    return place.at(direction, index).attempt(() => parseForwardFor(hasStar, direction, text))?.value ?? [];
  });
}

/** Requires that an address is listened on once in the process, and a service offered once on each channel. */
function requireDistinctEndpoints(
  channels: readonly FileChannel[],
  problems: Problem[],
  fileOf: (where: KeyPath) => string,
): void {
  const taken = new Map<string, KeyPath>();
  for (const { label, forwards } of channels) {
    const counts = { outgoing: 0, incoming: 0 };
    for (const spec of forwards) {
      const where = ['channels', label, spec.direction, counts[spec.direction]++];
      const key = exclusiveText(label, spec);
      const other = key === null ? undefined : taken.get(key);
      if (other !== undefined) {
        const what = spec.direction === 'outgoing' ? formatEndpoint(spec.endpoint) : `service ${spec.service}`;
        const place = fileOf(other) === fileOf(where) ? '' : ` in ${showFile(fileOf(other))}`;
        problems.push({ where, message: `${what} is already used by ${formatKeyPath(other)}${place}` });
      } else if (key !== null) taken.set(key, where);
    }
  }
}

/** The text that no two forwards may share; null for a forward that excludes no other. */
function exclusiveText(label: string, { direction, service, endpoint }: ForwardSpec): string | null {
  if (direction === 'incoming') return `incoming ${label} ${service}`;
  if ('host' in endpoint) return endpoint.port === 0 ? null : `outgoing ${formatEndpoint(endpoint)}`;
  return 'path' in endpoint ? `outgoing ${endpoint.path}` : null;
}
