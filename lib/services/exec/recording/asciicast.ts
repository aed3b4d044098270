/** asciicast v2, the format of recordings: a header, then an event a line (https://docs.asciinema.org/manual/asciicast/v2/). */
import { isObject } from '../../../codec/json.js';
import { VproxyError } from '../../../errors.js';
import { formatJsonLine } from '../../../util/escape.js';
import type { TerminalSize } from '../exec-messages.js';

export const CAST_ENDING = '.cast';

const VERSION = 2;

/** The kinds of events: output; input; a new size of the terminal, `COLUMNSxROWS`; a marker with a human-readable text. */
export const CAST_CODE = { OUTPUT: 'o', INPUT: 'i', RESIZE: 'r', MARKER: 'm' } as const;

/** The first line of a recording. */
export interface CastHeader {
  /** The size of the terminal, in characters. */
  readonly size: TerminalSize;
  /** When it began, in seconds since 1970; null if missing. */
  readonly timestamp: number | null;
  /** The command as a human-readable line; null if unknown. */
  readonly command: string | null;
  /** `TERM` of the terminal; null if missing. */
  readonly term: string | null;
}

/** An event in the terminal. */
export interface CastEvent {
  /** Seconds since the beginning. */
  readonly timeS: number;
  /** One of {@link CAST_CODE}, or a code of another program. */
  readonly code: string;
  readonly data: string;
}

/** The first line, with its newline. */
export function formatCastHeader({ size, timestamp, command, term }: CastHeader): string {
  const header = {
    version: VERSION,
    width: size.columns,
    height: size.rows,
    ...(timestamp !== null && { timestamp }),
    ...(command !== null && { command }),
    ...(term !== null && { env: { TERM: term } }),
  };
  return `${formatJsonLine(header)}\n`;
}

/** The line of an event, with its newline. Escaped, so that showing the file in a terminal is harmless. */
export function formatCastEvent({ timeS, code, data }: CastEvent): string {
  return `[${timeS.toFixed(6)}, "${code}", ${formatJsonLine(data)}]\n`;
}

/** Parses the first line. Throws `bad-file` with what is wrong. */
export function parseCastHeader(line: string): CastHeader {
  const header = parseJson(line);
  if (!isObject(header)) throw bad('not the header of a recording (asciicast v2)');
  const { version, width, height, timestamp, command, env } = header;
  if (version !== VERSION)
    throw bad(
      `version ${version === undefined ? 'unknown' : JSON.stringify(version)}, expected ${VERSION} (asciicast v2)`,
    );
  if (!isLength(width) || !isLength(height)) throw bad('width and height must be numbers from 1 to 65535');
  const term = isObject(env) ? env['TERM'] : null;
  return {
    size: { columns: width, rows: height },
    timestamp: typeof timestamp === 'number' ? timestamp : null,
    command: typeof command === 'string' ? command : null,
    term: typeof term === 'string' ? term : null,
  };
}

/** Parses any other line. Throws `bad-file` with what is wrong. */
export function parseCastEvent(line: string): CastEvent {
  const event = parseJson(line);
  if (!Array.isArray(event)) throw bad('not an event of a recording: expected [TIME, CODE, DATA]');
  const [timeS, code, data] = event as readonly unknown[];
  if (typeof timeS !== 'number' || !Number.isFinite(timeS) || timeS < 0)
    throw bad('the time of an event must be a number of seconds');
  if (typeof code !== 'string') throw bad('the code of an event must be a string');
  if (typeof data !== 'string') throw bad('the data of an event must be a string');
  return { timeS, code, data };
}

/** The data of an event `r`. */
export const formatCastSize = ({ columns, rows }: TerminalSize): string => `${columns}x${rows}`;

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    throw bad('not valid JSON, or cut off');
  }
}

const isLength = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 65_535;

const bad = (what: string): VproxyError => new VproxyError('bad-file', what);
