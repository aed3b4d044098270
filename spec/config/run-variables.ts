/** The environment variables of a run: what they set, what overrides them, and that vproxy keeps them to itself. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { RUN_VARIABLES, takeRunVariables } from '../../cli/run/run-variables.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { PROJECT_ROOT } from '../helpers/files.js';
import { givenIn } from '../helpers/given-options.js';

const ENVIRONMENT = {
  VPROXY_CONFIG: '/etc/x.toml',
  VPROXY_CHANNEL: 'vm1=stdio:',
  VPROXY_NAME: 'one',
  VPROXY_KEY: '/run/key',
  VPROXY_CONTROL: '/run/c.sock',
  VPROXY_METRICS: '0.0.0.0:9464',
  VPROXY_LOG_LEVEL: 'warn',
  VPROXY_LOG_FORMAT: 'json',
};

test('each variable sets what its option sets, which overrides it; an empty one is unset', (t) => {
  const channels = [{ label: 'vm1', address: 'stdio:' }];
  t.like(parseRunFlags(givenIn({}), ENVIRONMENT), {
    ...{ file: '/etc/x.toml', channels, name: 'one', settings: { keyFiles: ['/run/key'] }, control: '/run/c.sock' },
    ...{ metrics: { host: '0.0.0.0', port: 9464 }, logLevel: 'warn', logFormat: 'json' },
  });
  const flags = {
    ...{ config: 'b', channel: 'fd:3', name: 'two', key: ['/a', '/b'], 'no-control': true },
    ...{ metrics: '127.0.0.1:1', verbose: 1, 'log-format': 'text' },
  };
  t.deepEqual(parseRunFlags(givenIn(flags), ENVIRONMENT), parseRunFlags(givenIn(flags)));
  const empty = Object.fromEntries(Object.keys(ENVIRONMENT).map((name) => [name, '']));
  t.deepEqual(parseRunFlags(givenIn({}), empty), parseRunFlags(givenIn({})));
});

test('a variable alone starts vproxy, and a bad value is an error that names it', async (t) => {
  const env = { ...ENVIRONMENT, VPROXY_CONFIG: '' };
  const { stdout } = await callVproxy(['--print-config'], { env });
  t.regex(stdout, /^name = "one"\ncontrol = "\/run\/c\.sock"\n[^]*log-format = "json"[^]*\n\[channels\.vm1\]\n/);
  t.regex((await callVproxy([])).stdout, /^Usage: /);
  for (const [name, value, says] of [
    ['VPROXY_CONFIG', '/none', '/none: cannot be read: no such file'],
    ['VPROXY_CHANNEL', 'x', 'VPROXY_CHANNEL: channel "x": expected KIND:ADDRESS'],
    ['VPROXY_CHANNEL', 'A=stdio:', 'VPROXY_CHANNEL: channel label "A": must be'],
    ['VPROXY_NAME', 'x'.repeat(300), 'VPROXY_NAME: too long: 300 characters (max 256)'],
    ['VPROXY_KEY', '1f'.repeat(32), 'VPROXY_KEY: expected the path of a key file, not the key itself'],
    ['VPROXY_METRICS', '9464', 'VPROXY_METRICS: "9464" is not HOST:PORT'],
    ['VPROXY_LOG_LEVEL', 'loud', 'VPROXY_LOG_LEVEL: "loud" is not a log level'],
    ['VPROXY_LOG_FORMAT', 'yaml', 'VPROXY_LOG_FORMAT: "yaml" is neither text nor json'],
  ] as const) {
    const { stderr } = await callVproxy([], { env: { ...env, [name]: value } });
    t.is(stderr.slice(0, `vproxy: error: ${says}`.length), `vproxy: error: ${says}`);
  }
});

test('vproxy removes them from the environment of its children, and docs/cli.md lists them', (t) => {
  const environment: NodeJS.ProcessEnv = { ...ENVIRONMENT, VPROXY_SOCKET: '/s', PATH: '/bin' };
  t.deepEqual(takeRunVariables(environment), ENVIRONMENT);
  t.deepEqual(environment, { VPROXY_SOCKET: '/s', PATH: '/bin' });
  const rows = readFileSync(join(PROJECT_ROOT, 'docs/cli.md'), 'utf8').matchAll(/^\| `(VPROXY_\w+)` \| (.*) \|$/gm);
  const told = Array.from(rows, ([, name, about = '']) => [name, about.replaceAll('`', '')]);
  t.deepEqual(told, [
    ...RUN_VARIABLES,
    ['VPROXY_SOCKET', 'control socket that commands use without --socket and --name'],
  ]);
});
