/** `--allow-exec` and `--allow-copy` at the real command line: how they are read, and what is refused. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readArguments } from '../../cli/command/read-words.js';
import { run } from '../../cli/commands/run.js';
import { VproxyError } from '../../lib/errors.js';
import { NO_VALUE } from '../../lib/util/option-value.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';

interface Shown {
  readonly channels: Readonly<Record<string, Record<string, unknown>>>;
}

/** The settings that would be in force, by label. */
async function shown(t: ExecutionContext, ...args: string[]): Promise<Shown['channels']> {
  const { code, stdout, stderr } = await runVproxy([...args, '--print-config', '--json']);
  t.deepEqual({ code, stderr }, { code: 0, stderr: '' });
  return (JSON.parse(stdout) as Shown).channels;
}

const CHANNEL = ['-c', 'unix-connect:/nonexistent/channel.sock'];

test('an option whose value may be left out never takes the next word for it', (t) => {
  const read = (...words: string[]) => {
    // A word that belongs to no option is refused.
    const args = readArguments(run, words, undefined, (word) => new VproxyError('bad-argument', `left: ${word}`));
    return [args.texts('allow-exec'), args.texts('allow-copy'), args.texts('channel')];
  };
  t.deepEqual(read('--allow-exec', '-c', 'x'), [[NO_VALUE], [], ['x']]);
  t.throws(() => read('--allow-exec', '/bin/sh'), { message: 'left: /bin/sh' });
  t.deepEqual(read('--allow-exec=/bin/sh', '--allow-copy'), [['/bin/sh'], [NO_VALUE], []]);
  t.throws(() => read('--', '--allow-exec'), { message: 'left: --allow-exec' });
});

test.serial('nothing is allowed where nothing is said', async (t) => {
  t.like((await shown(t, ...CHANNEL))['default'], { 'allow-exec': false, 'allow-copy': false });
});

test.serial('without a value anything is allowed, and what stands behind keeps its meaning', async (t) => {
  const before = await shown(t, '--allow-exec', ...CHANNEL, '--allow-copy', '-o', 'ssh:22');
  t.like(before['default'], { 'allow-exec': true, 'allow-copy': true, outgoing: ['ssh:127.0.0.1:22'] });
  const last = await shown(t, '-c', 'a=stdio:', '-c', 'b=fd:3', '--allow-exec');
  t.like(last, { a: { 'allow-exec': true, 'allow-copy': false }, b: { 'allow-exec': true } }, 'on every channel');
});

test.serial('with a value exactly that is allowed', async (t) => {
  const folder = temporaryFolder(t);
  const { default: channel } = await shown(
    t,
    ...CHANNEL,
    '--allow-exec=/usr/bin/journalctl,/usr//bin/./uname,/a,,b',
    `--allow-copy=${folder}/`,
  );
  t.like(channel, { 'allow-exec': ['/usr/bin/journalctl', '/usr/bin/uname', '/a,b'], 'allow-copy': folder });
});

/** Each is a process of its own, so they run one after the other. */
const refused = test.macro<[args: readonly string[], line: string]>({
  exec: async (t, args, line) => {
    t.deepEqual(await runVproxy(args), { code: 64, stdout: '', stderr: `vproxy: error: ${line}\n` });
  },
  title: (_given, args) => `refused: vproxy ${JSON.stringify(args).slice(0, 120)}`,
});

test.serial(
  refused,
  [...CHANNEL, '--allow-exec', '/bin/sh'],
  '"/bin/sh": every argument belongs to an option; see --help',
);
test.serial(refused, [...CHANNEL, '--allow-exec='], '--allow-exec: its value is empty');
test.serial(refused, [...CHANNEL, '--allow-copy='], '--allow-copy: its value is empty');
test.serial(
  refused,
  [...CHANNEL, '--allow-exec', '--allow-exec=/bin/sh'],
  '--allow-exec: one is expected, but it is there 2 times',
);
for (const path of ['uname', './uname', '/bin/../bin/uname', '/bin/', 'true']) {
  test.serial(
    refused,
    [...CHANNEL, `--allow-exec=/bin/sh,${path}`],
    `--allow-exec: "${path}" is not the absolute path of a program, such as /usr/bin/uname`,
  );
}
test.serial(
  refused,
  [...CHANNEL, '--allow-exec=/bin/sh,'],
  '--allow-exec: "" is not the absolute path of a program, such as /usr/bin/uname',
);
for (const path of ['srv', '/srv/..']) {
  test.serial(
    refused,
    [...CHANNEL, `--allow-copy=${path}`],
    `--allow-copy: "${path}" is not the absolute path of a folder, such as /srv/in`,
  );
}
for (const path of ['/nonexistent/folder', '/etc/passwd', '/etc/passwd/x']) {
  test.serial(refused, [...CHANNEL, `--allow-copy=${path}`], `--allow-copy=${path}: there is no such folder`);
}
for (const service of ['exec', 'copy']) {
  test.serial(
    refused,
    [...CHANNEL, `--allow-${service}`, '-i', `${service}:22`],
    `channel "${CHANNEL[1]}": service ${service} is offered twice; --allow-${service} offers it, and so does an -i`,
  );
  test.serial(
    refused,
    ['-c', 'tcp://192.0.2.1:7000', `--allow-${service}`],
    `channel "tcp-connect:192.0.2.1:7000": --allow-${service}: the peer could be anybody on the network; give both sides a --key FILE, or this one --insecure`,
  );
}

test.serial('a group is refused at the start as well, before any of its sockets is there', async (t) => {
  const { code, stderr } = await runVproxy(['-c', 'unix-connect:/nonexistent/*.sock', '--allow-copy=/nonexistent']);
  t.deepEqual([code, stderr], [64, 'vproxy: error: --allow-copy=/nonexistent: there is no such folder\n']);
});

test.serial('a program that is not there is a warning, and no more', async (t) => {
  const folder = temporaryFolder(t);
  const missing = join(folder, 'no-such-program');
  const vproxy = spawnVproxy(t, ['-c', `unix-listen:${folder}/channel.sock`, `--allow-exec=/bin/sh,${missing}`]);
  await vproxy.waitForLine(/warning: .*no-such-program is allowed to be run, but it is not there/);
  await vproxy.waitForLine(/waiting for the peer/);
  t.is(vproxy.lines.filter((line) => line.includes('warning')).length, 1);
});

test.serial(
  'vproxy check and --print-config show what a file allows, and check refuses what the start would',
  async (t) => {
    const folder = temporaryFolder(t);
    const file = join(folder, 'vproxy.toml');
    mkdirSync(join(folder, 'in'));
    const key = writeKeyFile(folder, 'own.key', '1f');
    const channels = (copied: string, keys: string) =>
      [
        'allow-exec = true',
        `[channels.vm1]\naddress = "stdio:"\nallow-exec = ["/bin/a,b", "/bin/sh"]\nallow-copy = "${copied}"`,
        `[channels.vm2]\naddress = "tcp-connect:192.0.2.1:7000"\nkeys = [${keys}]`,
        '[channels.vm3]\naddress = "fd:3"\nallow-exec = false',
      ].join('\n');
    writeFileSync(file, channels(`${folder}/in`, `"${key}"`));
    t.deepEqual(await runVproxy(['check', file]), {
      code: 0,
      stdout: [
        `${file}: ok`,
        'vm1: stdio:',
        '  --allow-exec=/bin/a,,b,/bin/sh',
        `  --allow-copy=${folder}/in`,
        'vm2: tcp-connect:192.0.2.1:7000',
        '  --allow-exec',
        'vm3: fd:3',
        '',
      ].join('\n'),
      stderr: '',
    });
    t.like(await shown(t, '--config', file), {
      vm1: { 'allow-exec': ['/bin/a,b', '/bin/sh'], 'allow-copy': `${folder}/in` },
      vm2: { 'allow-exec': true, 'allow-copy': false },
      vm3: { 'allow-exec': false, 'allow-copy': false },
    });

    writeFileSync(file, channels(`${folder}/none`, ''));
    const { code, stderr } = await runVproxy(['check', file]);
    t.is(code, 65);
    t.deepEqual(stderr.split('\n'), [
      `${file}: channels.vm1: --allow-copy=${folder}/none: there is no such folder`,
      `${file}: channels.vm2: channel "tcp-connect:192.0.2.1:7000": --allow-exec: the peer could be anybody on the network; give both sides a --key FILE, or this one --insecure`,
      '',
    ]);
  },
);
