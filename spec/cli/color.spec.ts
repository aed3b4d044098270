/** Colours: when they are used, and that they change nothing else. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { formatDiagnoses, formatSummary } from '../../cli/doctor/diagnosis.js';
import { formatTextLine } from '../../cli/run/output.js';
import { hasColors, painter, toneOfState } from '../../cli/ui/color.js';
import { formatChannels } from '../../cli/ui/status.js';
import { type Column, formatTable } from '../../cli/ui/table.js';
import { CHANNEL_STATES } from '../../lib/status/describe.js';
import { temporaryFolder } from '../helpers/files.js';
import { steeredPair } from '../helpers/proxies.js';
import { runInTerminal } from '../helpers/terminals.js';
import { runVproxy, VPROXY } from '../helpers/vproxy-process.js';

const paint = painter(true);

const withoutColors = (text: string): string => text.replace(/\u001b\[\d+m/g, '');

test('colours are used on a terminal that shows them, or where a variable demands them, unless NO_COLOR is set', (t) => {
  for (const [has, isTTY, environment] of [
    [true, true, { TERM: 'xterm' }],
    [true, true, { TERM: 'xterm', NO_COLOR: '' }],
    [false, true, { TERM: 'xterm', NO_COLOR: '1' }],
    [false, true, { TERM: 'dumb' }],
    [false, true, {}],
    [false, false, { TERM: 'xterm', FORCE_COLOR: '0', CLICOLOR_FORCE: '' }],
    [true, false, { FORCE_COLOR: '1' }],
    [true, false, { CLICOLOR_FORCE: '1' }],
    [false, true, { TERM: 'xterm', FORCE_COLOR: '1', NO_COLOR: '1' }],
  ] as const) {
    t.is(hasColors({ isTTY }, environment), has, JSON.stringify(environment));
  }
});

test('an empty text has no tone', (t) => {
  t.deepEqual([paint('x', 'bold'), paint('', 'bold'), paint('x', null)], ['\u001b[1mx\u001b[0m', '', 'x']);
});

test('every state of a channel has a tone, and an unknown one has none', (t) => {
  for (const state of CHANNEL_STATES) t.not(toneOfState(state), null, state);
  t.is(toneOfState('established'), 'good');
  t.is(toneOfState('failed'), 'bad');
  t.is(toneOfState('toString'), null);
});

const COLUMNS: readonly Column<readonly string[]>[] = [
  { title: 'NAME', cell: ([name = '']) => name, leastWidth: 6 },
  { title: 'STATE', cell: ([, state = '']) => state, toneOf: toneOfState },
  { title: 'SENT', cell: ([, , sent = '']) => sent, align: 'right', toneOf: () => 'bold' },
];

test('colours change no width of a table, and truncated cells have none', (t) => {
  const rows = [
    ['vm1', 'established', '5 B'],
    ['a-long-name-漢字', 'failed', '12 MB'],
    ['x', 'unheard-of', '1 B'],
  ];
  for (const width of [null, 80, 32, 28, 20, 12, 8, 3]) {
    const plain = formatTable(COLUMNS, rows, width);
    const colored = formatTable(COLUMNS, rows, width, paint);
    t.deepEqual(colored.map(withoutColors), plain, String(width));
    for (const line of colored) t.regex(line, /^(?:[^\u001b]|\u001b\[\d+m[^\u001b]*\u001b\[0m)*$/, String(width));
  }
  const [, first, second, third] = formatTable(COLUMNS, rows, null, paint);
  t.regex(first ?? '', /^vm1 +\u001b\[32mestablished\u001b\[0m +\u001b\[1m5 B\u001b\[0m$/);
  t.regex(second ?? '', / \u001b\[31mfailed\u001b\[0m +/);
  t.regex(third ?? '', /^x +unheard-of +/);
});

test('a log line has its level in colour, and the doctor its verdict', (t) => {
  const event = { level: 'error', message: 'm', fields: {} } as const;
  t.is(formatTextLine(event, false, paint), 'vproxy: \u001b[31merror: \u001b[0mm');
  t.is(formatTextLine({ ...event, level: 'warn' }, false, paint), 'vproxy: \u001b[33mwarning: \u001b[0mm');
  t.is(formatTextLine({ ...event, level: 'info' }, false, paint), 'vproxy: m');
  const found = [
    { level: 'ok', id: 'vproxy-runs', check: 'c', subject: 's', message: 'm', remedy: null },
    { level: 'fail', id: 'control-silent', check: 'c', subject: 's', message: 'n', remedy: 'r' },
  ] as const;
  t.is(formatDiagnoses(found, paint), '\u001b[32mok\u001b[0m   s: m\n\u001b[31mfail\u001b[0m s: n; do: r\n');
  t.is(withoutColors(formatDiagnoses(found, paint)), formatDiagnoses(found));
  t.is(formatSummary(found, paint), '\u001b[31m1 failure, 0 warnings.\u001b[0m\n');
});

test.serial('in a terminal states and errors are coloured; with NO_COLOR, in a pipe and in JSON none is', async (t) => {
  const { env, client, run } = await steeredPair(t, { here: { outgoing: ['x:127.0.0.1:0'] } });
  const file = join(temporaryFolder(t), 'wrong.toml');
  writeFileSync(file, 'wait = true\n');
  const show = async (before: string, words: string, after = ''): Promise<string> => {
    const line = `export VPROXY_SOCKET=${env.VPROXY_SOCKET}; ${before}${VPROXY} ${words}${after}`;
    return (await (await runInTerminal(t, line)).ended).text;
  };
  for (const [words, colored] of [
    ['status', '\u001b[32mestablished\u001b[0m'],
    ['channels default', '\u001b[32mestablished\u001b[0m'],
    ['forwards', '\u001b[33mnot offered\u001b[0m'],
    ['ping nobody -c 1', 'vproxy: \u001b[31merror: \u001b[0mno channel'],
    ['exec nobody', 'vproxy: \u001b[31merror: \u001b[0m'],
    [`check ${file}`, `\u001b[31m${file}:\u001b[0m wait: `],
  ] as const) {
    t.true((await show('', words)).includes(colored), words);
  }
  for (const text of [
    await show('NO_COLOR=1 ', 'status'),
    await show('TERM=dumb ', 'channels default'),
    await show('', 'status', ' | cat'),
    await show('', 'status --json'),
    (await run('ping', 'nobody')).stderr,
    (await runVproxy(['check', file])).stderr,
  ]) {
    t.notRegex(text, /\u001b/);
  }
  // A time shown in minutes is the same in both.
  const since = new Date(Date.now() - 90.5 * 60_000).toISOString();
  const channels = (await client.channels()).map((channel) => ({ ...channel, since }));
  t.deepEqual(formatChannels(channels, 80, paint).map(withoutColors), formatChannels(channels, 80));
});
