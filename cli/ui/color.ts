/** Colours, where a terminal shows them, and what they say. */
import type { ChannelState, ForwardStatus } from '../../lib/status/types.js';

/** How a text is shown: what it says is good, may become good by itself, or is bad; or it stands out. */
export type Tone = 'good' | 'doubtful' | 'bad' | 'bold' | 'faint' | 'reverse';

/** Numbers of SGR, which every terminal with colours knows. */
const CODES: Readonly<Record<Tone, string>> = {
  good: '32',
  doubtful: '33',
  bad: '31',
  bold: '1',
  faint: '2',
  reverse: '7',
};

/** The text in its tone; as it is where the tone is null. */
export type Paint = (text: string, tone: Tone | null) => string;

const paintAnsi: Paint = (text, tone) =>
  tone === null || text === '' ? text : `\u001b[${CODES[tone]}m${text}\u001b[0m`;

/** Leaves every text as it is: for JSON, and for what is no terminal. */
export const paintNothing: Paint = (text) => text;

/** `isColored`: whether there are colours. */
export const painter = (isColored: boolean): Paint => (isColored ? paintAnsi : paintNothing);

/** An output of this process, as far as that is asked. */
type Output = Pick<NodeJS.WriteStream, 'isTTY'>;

/** Whether it is a terminal that shows colours, as TERM says, and `NO_COLOR` does not forbid them (https://no-color.org). */
export function hasColors(stream: Output, { NO_COLOR, TERM }: NodeJS.ProcessEnv = process.env): boolean {
  return stream.isTTY && !NO_COLOR && TERM !== undefined && TERM !== '' && TERM !== 'dumb';
}

/** For what is written to `stream`. */
export const paintFor = (stream: Output): Paint => painter(hasColors(stream));

/** The tones of the states of channels and of forwards. */
const STATES: Readonly<Record<ChannelState | ForwardStatus['state'], Tone>> = {
  active: 'good',
  established: 'good',
  opening: 'doubtful',
  waiting: 'doubtful',
  suspended: 'doubtful',
  draining: 'doubtful',
  'backing-off': 'bad',
  'auth-failed': 'bad',
  failed: 'bad',
};

/** That of a state as a process says it, which may be a newer one. */
export function toneOfState(state: string): Tone | null {
  return Object.hasOwn(STATES, state) ? STATES[state as keyof typeof STATES] : null;
}
