/** Reads a configuration file, and reports all its problems at once. */
import { createReadStream } from 'node:fs';
import { VproxyError } from '../errors.js';
import type { Direction } from '../forward/endpoint-kind.js';
import { type ForwardSpec, formatEndpoint } from '../forward/spec.js';
import { parseLabel } from '../proxy/channel-options.js';
import { isGroup } from '../proxy/groups/group-pattern.js';
import { describeError } from '../util/escape.js';
import type { FileChannel, FileLayer } from './configuration.js';
import { parseDocument } from './document.js';
import { isHybridListener, parseForwardFor, withVsockPorts } from './forward-settings.js';
import { BadFileError, formatKeyPath, formatProblem, type Problem } from './problem.js';
import { PROCESS_SETTINGS } from './process-settings.js';
import { pickSettings, readNested, readTable } from './setting.js';
import { DEFAULT_SETTINGS, FILE_CHANNEL_SETTINGS, FILE_SETTINGS, OWN_SETTINGS } from './settings-table.js';
import { isTable, Place } from './value-type.js';

/** The contents of a file. If there are problems, do not use it: the parts with problems are missing. */
interface ParsedConfiguration {
  readonly layer: FileLayer;
  readonly problems: readonly Problem[];
}

/** Reads the text of the file `name`, TOML or JSON. */
export function parseConfiguration(text: string, name: string): ParsedConfiguration {
  const document = parseDocument(text, name);
  if ('problem' in document) return { layer: { defaults: {}, channels: [] }, problems: [document.problem] };
  const problems: Problem[] = [];
  const file = new Place('file', problems);
  const { value } = document;
  if (!isTable(value)) file.fail('expected a JSON object');
  const said = { ...readTable(FILE_SETTINGS, value, file), ...readNested(FILE_SETTINGS, value, file) };
  const tables = isTable(said.channels) ? Object.entries(said.channels) : [];
  const channels = tables.flatMap(([label, table]) => readChannel(label, table, file.at('channels', label)) ?? []);
  requireDistinctEndpoints(channels, problems);
  const layer: FileLayer = {
    ...pickSettings(PROCESS_SETTINGS, said),
    defaults: pickSettings(DEFAULT_SETTINGS, said),
    channels,
  };
  return { layer, problems };
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
  const hasStar = address !== undefined && place.at('address').attempt(() => isGroup({ address }))?.value === true;
  const forwards = DIRECTIONS.flatMap((direction) => readForwards(value[direction], hasStar, direction, place));
  const { vsockPorts = {}, ...nested } = readNested(FILE_CHANNEL_SETTINGS, value, place);
  if (name === null || address === undefined || !isUsable) return null;
  if (Object.keys(vsockPorts).length > 0 && !forwards.some(isHybridListener)) {
    place.at('vsock-ports').fail('needs an outgoing "*:vsock-mux:/path"');
  }
  return {
    label,
    address,
    forwards: forwards.map((spec) => withVsockPorts(spec, vsockPorts)),
    ...pickSettings(OWN_SETTINGS, { ...said, ...nested }),
  };
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
function requireDistinctEndpoints(channels: readonly FileChannel[], problems: Problem[]): void {
  const taken = new Map<string, string>();
  for (const { label, forwards } of channels) {
    const counts = { outgoing: 0, incoming: 0 };
    for (const spec of forwards) {
      const where = ['channels', label, spec.direction, counts[spec.direction]++];
      const key = exclusiveText(label, spec);
      const other = key === null ? undefined : taken.get(key);
      if (other !== undefined) {
        const what = spec.direction === 'outgoing' ? formatEndpoint(spec.endpoint) : `service ${spec.service}`;
        problems.push({ where, message: `${what} is already used by ${other}` });
      } else if (key !== null) taken.set(key, formatKeyPath(where));
    }
  }
}

/** The text that no two forwards may share; null for a forward that excludes no other. */
function exclusiveText(label: string, { direction, service, endpoint }: ForwardSpec): string | null {
  if (direction === 'incoming') return `incoming ${label} ${service}`;
  if ('host' in endpoint) return endpoint.port === 0 ? null : `outgoing ${formatEndpoint(endpoint)}`;
  return 'path' in endpoint ? `outgoing ${endpoint.path}` : null;
}

// The file itself.

/** Larger than a file with thousands of channels, in bytes. */
const MAX_FILE_BYTES = 4 * 2 ** 20;

/** The contents of a file, and all its problems. Rejects with a `BadFileError` if it cannot be read. */
export async function inspectConfigurationFile(path: string): Promise<ParsedConfiguration> {
  return parseConfiguration(await readText(path), path);
}

/** The contents of a file. Rejects with a `BadFileError` that has all its problems. */
export async function readConfigurationFile(path: string): Promise<FileLayer> {
  const { layer, problems } = await inspectConfigurationFile(path);
  if (problems.length > 0) throw new BadFileError(problems.map((problem) => formatProblem(path, problem)));
  return layer;
}

async function readText(path: string): Promise<string> {
  try {
    const chunks: Buffer[] = [];
    let byteCount = 0;
    // A FIFO or a device may have no end.
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      byteCount += chunk.length;
      if (byteCount > MAX_FILE_BYTES) throw new VproxyError('bad-file', `larger than ${MAX_FILE_BYTES} bytes`);
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    const why = cause instanceof TypeError ? 'not valid UTF-8' : describeError(cause);
    const message = `cannot be read: ${why}`;
    throw new BadFileError([formatProblem(path, { where: [], message })], { cause });
  }
}
