/** Colours, if the terminal shows them, and their meaning. */
import type { ChannelState, ForwardStatus } from '../../lib/status/types.js';

/** The tone of a text: good, may become good by itself, or bad; or a way to make it stand out. */
export type Tone = 'good' | 'doubtful' | 'bad' | 'bold' | 'faint' | 'reverse';

/** SGR codes that every terminal with colours knows. */
const CODES: Readonly<Record<Tone, string>> = {
  good: '32',
  doubtful: '33',
  bad: '31',
  bold: '1',
  faint: '2',
  reverse: '7',
};

/** Returns the text in its tone; unchanged if the tone is null. */
export type Paint = (text: string, tone: Tone | null) => string;

const paintAnsi: Paint = (text, tone) =>
  tone === null || text === '' ? text : `\u001b[${CODES[tone]}m${text}\u001b[0m`;

/** Leaves every text unchanged: for JSON, and for output that is not a terminal. */
export const paintNothing: Paint = (text) => text;

export const painter = (isColored: boolean): Paint => (isColored ? paintAnsi : paintNothing);

type Output = Pick<NodeJS.WriteStream, 'isTTY'>;

/** Whether it is a terminal that obeys escape sequences: without TERM, or with `TERM=dumb`, it shows them as text. */
export const obeysEscapes = (stream: Output, { TERM = '' }: NodeJS.ProcessEnv = process.env): boolean =>
  stream.isTTY && TERM !== '' && TERM !== 'dumb';

/**
 * Whether it is a terminal with colours, by TERM. `NO_COLOR` forbids them (https://no-color.org); otherwise `FORCE_COLOR`
 * (https://force-color.org) and `CLICOLOR_FORCE` (https://bixense.com/clicolors) demand them, except with the value 0.
 */
export function hasColors(stream: Output, environment: NodeJS.ProcessEnv = process.env): boolean {
  const { NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE } = environment;
  if (NO_COLOR) return false;
  if ([FORCE_COLOR, CLICOLOR_FORCE].some((value) => value && value !== '0')) return true;
  return obeysEscapes(stream, environment);
}

export const paintFor = (stream: Output): Paint => painter(hasColors(stream));

const STATES: Readonly<Record<ChannelState | ForwardStatus['state'] | 'not offered' | 'silent', Tone>> = {
  active: 'good',
  established: 'good',
  opening: 'doubtful',
  waiting: 'doubtful',
  suspended: 'doubtful',
  draining: 'doubtful',
  'not offered': 'doubtful',
  silent: 'doubtful',
  'backing-off': 'bad',
  'auth-failed': 'bad',
  failed: 'bad',
};

/** The tone of a state; null for one that a newer process reports. */
export function toneOfState(state: string): Tone | null {
  return Object.hasOwn(STATES, state) ? STATES[state as keyof typeof STATES] : null;
}
