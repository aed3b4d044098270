/** `--allow-exec` and `--allow-copy` on command lines and in files: parsing and refusals. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readArguments } from '../../cli/command/read-words.js';
import { run } from '../../cli/commands/run.js';
import { VproxyError } from '../../lib/errors.js';
import { NO_VALUE } from '../../lib/util/option-value.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

interface Shown {
  readonly channels: Readonly<Record<string, Record<string, unknown>>>;
}

/** The effective settings, by label. */
async function shown(t: ExecutionContext, ...args: string[]): Promise<Shown['channels']> {
  const { code, stdout, stderr } = await callVproxy([...args, '--print-config', '--json']);
  t.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  return (JSON.parse(stdout) as Shown).channels;
}

const ADDRESS = 'unix-connect:/nonexistent/channel.sock';
const CHANNEL = ['-c', ADDRESS];

test('an option with an optional value never takes the next word', (t) => {
  const read = (...words: string[]) => {
    // A word that belongs to no option is rejected.
    const args = readArguments(run, words, undefined, (word) => new VproxyError('bad-argument', `left: ${word}`));
    return [args.texts('allow-exec'), args.texts('allow-copy'), args.texts('channel')];
  };
  t.deepEqual(read('--allow-exec', '-c', 'x'), [[NO_VALUE], [], ['x']]);
  t.throws(() => read('--allow-exec', '/bin/sh'), { message: /^unexpected argument "\/bin\/sh"; did you mean / });
  t.deepEqual(read('--allow-exec=/bin/sh', '--allow-copy'), [['/bin/sh'], [NO_VALUE], []]);
  t.throws(() => read('--', '--allow-exec'), { message: 'left: --allow-exec' });
});

test('nothing is allowed by default; without a value anything is, and later words keep their meaning', async (t) => {
  t.like((await shown(t, ...CHANNEL))['default'], { 'allow-exec': false, 'allow-copy': false });
  const before = await shown(t, '--allow-exec', ...CHANNEL, '--allow-copy', '-o', 'ssh:22');
  t.like(before['default'], { 'allow-exec': true, 'allow-copy': true, outgoing: ['ssh:127.0.0.1:22'] });
  const last = await shown(t, '-c', 'a=stdio:', '-c', 'b=fd:3', '--allow-exec');
  t.like(last, { a: { 'allow-exec': true, 'allow-copy': false }, b: { 'allow-exec': true } }, 'on every channel');
});

test('with a value only that is allowed', async (t) => {
  const folder = temporaryFolder(t);
  const exec = '--allow-exec=/usr/bin/journalctl,/usr//bin/./uname,/a,,b';
  const { default: channel } = await shown(t, ...CHANNEL, exec, `--allow-copy=${folder}/`);
  t.like(channel, { 'allow-exec': ['/usr/bin/journalctl', '/usr/bin/uname', '/a,b'], 'allow-copy': folder });
});

const ANYBODY = 'the peer could be anybody on the network; give both sides a --key FILE, or this one --insecure';
const REMOTE = 'tcp-connect:192.0.2.1:7000';

test('a missing program is only a warning', async (t) => {
  const folder = temporaryFolder(t);
  const missing = join(folder, 'no-such-program');
  const vproxy = spawnVproxy(t, ['-c', `unix-listen:${folder}/channel.sock`, `--allow-exec=/bin/sh,${missing}`]);
  await vproxy.waitForLine(/warning: .*allowed command \S*no-such-program: does not exist/);
  await vproxy.waitForLine(/waiting for the peer/);
  t.is(vproxy.lines.filter((line) => line.includes('warning')).length, 1);
});

test('check and --print-config show what a file allows, and check rejects what a start would', async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'vproxy.toml');
  mkdirSync(join(folder, 'in'));
  const key = writeKeyFile(folder, 'own.key', '1f');
  const channels = (copied: string, keys: string) =>
    [
      'allow-exec = true',
      `[channels.vm1]\naddress = "stdio:"\nallow-exec = ["/bin/a,b", "/bin/sh"]\nallow-copy = "${copied}"`,
      `[channels.vm2]\naddress = "${REMOTE}"\nkeys = [${keys}]`,
      '[channels.vm3]\naddress = "fd:3"\nallow-exec = false',
    ].join('\n');
  writeFileSync(file, channels(`${folder}/in`, `"${key}"`));
  t.deepEqual(await callVproxy(['check', file]), {
    code: 0,
    stdout:
      `${file}: ok\nvm1: stdio:\n  --allow-exec=/bin/a,,b,/bin/sh\n  --allow-copy=${folder}/in\n` +
      `vm2: ${REMOTE}\n  --allow-exec\nvm3: fd:3\n`,
    stderr: '',
  });
  t.like(await shown(t, '--config', file), {
    vm1: { 'allow-exec': ['/bin/a,b', '/bin/sh'], 'allow-copy': `${folder}/in` },
    vm2: { 'allow-exec': true, 'allow-copy': false },
    vm3: { 'allow-exec': false, 'allow-copy': false },
  });

  writeFileSync(file, channels(`${folder}/none`, ''));
  t.deepEqual(await callVproxy(['check', file]), {
    code: 65,
    stdout: '',
    stderr:
      `${file}: channels.vm1: --allow-copy=${folder}/none: no such folder\n` +
      `${file}: channels.vm2: channel "${REMOTE}": --allow-exec: ${ANYBODY}\n`,
  });
});
