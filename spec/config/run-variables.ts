/** The environment variables of a run. */
import test from 'ava';
import { RUN_VARIABLES, takeRunVariables } from '../../cli/run/options.js';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { projectText } from '../helpers/files.js';
import { givenIn } from '../helpers/given-options.js';

/** Each variable, its option with the same meaning and with another one, and a bad value with its error. */
const VARIABLES: readonly (readonly [name: string, value: string, same: object, other: object, ...bad: string[]])[] = [
  ['CONFIG', '/x', { config: '/x' }, { config: 'b' }, '/none', '/none: cannot be read: no such file or directory'],
  [
    'CHANNEL',
    'vm1=stdio:',
    { channel: 'vm1=stdio:' },
    { channel: 'fd:3' },
    'x',
    'VPROXY_CHANNEL: channel "x": expected',
  ],
  ['NAME', 'one', { name: 'one' }, { name: 'two' }, 'x'.repeat(300), 'VPROXY_NAME: too long: 300 characters'],
  ['KEY', '/k', { key: '/k' }, { key: ['/a', '/b'] }, '1f'.repeat(32), 'VPROXY_KEY: expected the path of a key file'],
  ['CONTROL', '/c', { control: '/c' }, { 'no-control': true }],
  ['METRICS', '[::]:1', { metrics: '[::]:1' }, { metrics: '[::]:2' }, '1', 'VPROXY_METRICS: "1" is not HOST:PORT'],
  ['LOG_LEVEL', 'debug', { verbose: true }, { quiet: true }, 'loud', 'VPROXY_LOG_LEVEL: "loud" is not a log level'],
  ['LOG_FORMAT', 'json', { 'log-format': 'json' }, { 'log-format': 'text' }, 'x', 'VPROXY_LOG_FORMAT: "x" is neither'],
];

test('a variable sets what its option sets, which overrides it; an empty one is unset, a bad value an error', async (t) => {
  const flags = (given: object, environment = {}) => parseRunFlags(givenIn({ ...given }), environment);
  for (const [name, value, same, other, bad, says = ''] of VARIABLES) {
    const variable = `VPROXY_${name}`;
    t.deepEqual(flags({}, { [variable]: value }), flags(same));
    t.deepEqual(flags(other, { [variable]: value }), flags(other));
    t.deepEqual(flags({}, { [variable]: '' }), flags({}));
    if (bad === undefined) continue;
    // Without words, a channel alone says what to run.
    const { stderr } = await callVproxy([], { env: { VPROXY_CHANNEL: 'stdio:', [variable]: bad } });
    t.is(stderr.slice(0, `vproxy: error: ${says}`.length), `vproxy: error: ${says}`);
  }
});

test('an empty channel or file among the variables is a missing channel, not a request for help', async (t) => {
  for (const variable of ['VPROXY_CHANNEL', 'VPROXY_CONFIG']) {
    const { code, stdout, stderr } = await callVproxy([], { env: { [variable]: '' } });
    t.deepEqual([code, stdout], [64, ''], variable);
    t.regex(stderr, /^vproxy: error: -c: missing channel; expected .* VPROXY_CHANNEL/);
  }
});

test('children of vproxy do not see them, and docs/cli.md lists them', (t) => {
  const taken = Object.fromEntries(VARIABLES.map(([name, value]) => [`VPROXY_${name}`, value]));
  const environment: NodeJS.ProcessEnv = { ...taken, VPROXY_SOCKET: '/s' };
  t.deepEqual([takeRunVariables(environment), environment], [taken, { VPROXY_SOCKET: '/s' }]);
  const rows = projectText('docs/cli.md').matchAll(/^\| `(VPROXY_\w+)` \| (.*) \|$/gm);
  const told = Array.from(rows, ([, name, about = '']) => [name, about.replaceAll('`', '')]);
  t.deepEqual(told.slice(0, -1), RUN_VARIABLES);
});
