/** What a log event may hold, whatever the source of its texts. */
import test from 'ava';
import type { LogEvent } from '../../lib/events.js';
import { boundEvent } from '../../lib/proxy/log-limit.js';
import { formatJsonLine } from '../../lib/util/escape.js';

const event = (message: string, fields: LogEvent['fields'] = {}): LogEvent => {
  return { level: 'info', event: 'exec-started', message, fields };
};

test('an ordinary event is as it was', (t) => {
  const ordinary = event('a command', {
    argv: ['sh', '-c', 'x'.repeat(2000)],
    user: 'me',
    pid: 7,
    cwd: null,
    is: true,
  });
  t.deepEqual(boundEvent(ordinary, 4096), ordinary);
});

const eventBytes = (bounded: LogEvent): number => Buffer.byteLength(formatJsonLine(bounded));

/** Texts whose characters take different sizes in JSON. */
const TEXTS = { letters: 'x', quotes: '"', controls: '\u0000', overrides: '\u202e', pairs: '𝄞', halves: '\ud800' };

for (const [what, character] of Object.entries(TEXTS)) {
  test(`${what} without end are cut, wherever they are`, (t) => {
    const text = character.repeat(1_000_000);
    const many = Array<string>(100_000).fill(character);
    for (const fields of [{ text }, { one: text, other: text }, { many }, { many: [text, text] }, { text, many }]) {
      const bounded = boundEvent(event(text, fields), 4096);
      t.true(eventBytes(bounded) <= 4864, `${eventBytes(bounded)}`);
      t.true(eventBytes(bounded) >= 3000, `${eventBytes(bounded)}`);
    }
  });
}

test('of a message the beginning and the end are kept', (t) => {
  const { message } = boundEvent(
    event(`stream 7: ${'\\u{202e}'.repeat(1000)} (denied); 5 bytes sent, 0 received`),
    1024,
  );
  t.regex(message, /^stream 7: [^…]{150,}…[^…]+ \(denied\); 5 bytes sent, 0 received$/);
});

test('what is missing of a list is said', (t) => {
  const { fields } = boundEvent(event('a list', { list: Array.from({ length: 5000 }, () => 'four') }), 4096);
  const list = fields['list'] as readonly string[];
  t.is(list.at(-1), `… ${5000 - (list.length - 1)} more`);
  t.true(list.length > 500);
});

test('empty texts without end take their place, too', (t) => {
  const { fields } = boundEvent(event('a list', { list: Array<string>(100_000).fill('') }), 4096);
  t.true((fields['list'] as readonly string[]).length <= 1367);
});

test('a long text is cut before a short one is, wherever they are', (t) => {
  const { fields } = boundEvent(
    event('x', { argv: ['a'.repeat(9000)], command: 'b'.repeat(9000), code: 'denied' }),
    1024,
  );
  t.is(fields['code'], 'denied');
  t.deepEqual(Object.keys(fields), ['argv', 'command', 'code']);
  t.regex((fields['argv'] as readonly string[]).join(), /^a+…$/);
});
