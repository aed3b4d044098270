/** Help and version. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { callVproxy } from '../helpers/call-vproxy.js';
import { PROJECT_ROOT } from '../helpers/files.js';
import { runVproxy } from '../helpers/vproxy-process.js';

test('--version prints program, protocol and Node, and nothing else', async (t) => {
  const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string };
  t.deepEqual(await runVproxy(['--version']), {
    code: 0,
    stdout: `vproxy ${version} (protocol 1, node ${process.version})\n`,
    stderr: '',
  });
});

test('an invalid command line is one line on stderr, and an exit status', async (t) => {
  t.deepEqual(await runVproxy(['--frobnicate']), {
    code: 64,
    stdout: '',
    stderr: 'vproxy: error: --frobnicate: unknown option; see --help\n',
  });
});

for (const [words, says] of [
  ['--help', /--channel[^]*--storage-parallel[^]*--log-format/],
  ['-h', /--channel/],
  ['storage-emulator --help', /--replies/],
  ['forward add --help', /^Usage: vproxy forward add .*\n[^]* -o, --outgoing FORWARD +Listen[^]* -h, --help/],
] as const) {
  test(`${words} goes to stdout`, async (t) => {
    const { stdout, ...rest } = await callVproxy(words.split(' '));
    t.deepEqual(rest, { code: 0, stderr: '' });
    t.regex(stdout, says);
  });
}
