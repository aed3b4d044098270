/**
 * Compares what a program wrote with what a conversation expects, as far as the protocol decides it: each stream by itself, DATA by
 * its amount, unless that is `some`, CREDIT as a lower bound, and without PING and lists of services.
 */
export interface Expected {
  /** By stream id. */
  readonly frames: ReadonlyMap<number, readonly string[]>;
  readonly hellos: readonly string[];
  /** The least totals, by stream id. */
  readonly credits: ReadonlyMap<number, number>;
  /** Whether anything may follow. */
  readonly isOpen: boolean;
}

const HELLOS: readonly string[] = ['hello', 'attempt', 'established', 'ACK 0', 'SECRET 0'];

/** Sorts texts of frames and HELLOs. */
function sort(texts: readonly string[]) {
  const frames = new Map<number, string[]>();
  const hellos: string[] = [];
  const credits = new Map<number, number>();
  for (const text of texts) {
    const [name = '', word = '', what = ''] = text.split(' ');
    const id = Number(word);
    const list = frames.get(id) ?? [];
    const [last = ''] = list.slice(-1);
    if (HELLOS.includes(text)) hellos.push(text);
    else if (name === 'CREDIT') credits.set(id, Number(what));
    else if (name === 'DATA' && last.startsWith('DATA '))
      list.splice(-1, 1, `DATA ${word} ${Number(last.split(' ')[2]) + Number(what)}`);
    else if (/^[A-Z]+$/.test(name) && !/^(?:PING|SERVICES|ACK)$/.test(name))
      list.push(name === 'OPEN' ? `OPEN ${word}` : text);
    if (list.length > 0) frames.set(id, list);
  }
  return { frames, hellos, credits };
}

export function expectedIn(answer: string): Expected {
  const texts = answer.split(', ').filter((text) => text !== '');
  return { ...sort(texts.filter((text) => text !== '...')), isOpen: texts.length === 0 || texts.includes('...') };
}

/** What is wrong, or missing yet; null if nothing is. */
export function differs(expected: Expected, texts: readonly string[]): string | null {
  const seen = sort(texts);
  for (const id of new Set([...expected.frames.keys(), ...(expected.isOpen ? [] : seen.frames.keys())])) {
    const [wanted, came] = [expected, seen].map(({ frames }) => (frames.get(id) ?? []).join(', ')) as [string, string];
    const shown = wanted.includes(' some') ? came.replace(/(DATA \d+) \d+/g, '$1 some') : came;
    if (expected.isOpen ? !shown.startsWith(wanted) : shown !== wanted)
      return wanted === ''
        ? `${came} is not expected`
        : `${wanted} is expected on ${id === 0 ? 'the session' : `stream ${id}`}`;
  }
  for (const [id, total] of expected.credits)
    if ((seen.credits.get(id) ?? 0) < total) return `a CREDIT ${id} of at least ${total} is expected`;
  const missing = expected.hellos.find((hello) => !seen.hellos.includes(hello));
  if (missing !== undefined) return `${missing} is expected`;
  return expected.isOpen || expected.hellos.length > 0 || !seen.hellos.includes('hello')
    ? null
    : 'hello is not expected';
}
