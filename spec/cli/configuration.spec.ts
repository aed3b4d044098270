/** Configuration files on the real command line: `--config`, `--print-config`, `vproxy check`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { callVproxy } from '../helpers/call-vproxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { runVproxy, spawnControlled, spawnVproxy } from '../helpers/vproxy-process.js';

function file(t: ExecutionContext, text: string | Buffer, name = 'vproxy.toml'): string {
  const path = join(temporaryFolder(t), name);
  writeFileSync(path, text);
  return path;
}

const WRONG = `
wait = 1.5
[channels.vm1]
address = "unix-connect:/run/vm1.sock"
outgoing = ["ssh:127.0.0.1:9022", "ssh"]
outgoin = 3
[channels.vm2]
address = "tcp-listen:0.0.0.0:0"
`;

const FAULTS = [
  'wait: expected a whole number of seconds from 0 to 86400, or a time such as 500ms, 90s, 5m or 1h30m',
  'channels.vm1.outgoin: unknown key; did you mean outgoing?',
  'channels.vm1.outgoing[1]: -o ssh: no colon after the service; expected SERVICE:ADDR:PORT, SERVICE:PORT or SERVICE:/path',
];

test('an invalid file ends a start and vproxy check with 65 and a line for each error', async (t) => {
  const path = file(t, WRONG);
  const refused = (before: string, ...more: string[]) => ({
    ...{ code: 65, stdout: '' },
    stderr: [...FAULTS, ...more].map((fault) => `${before}${path}: ${fault}\n`).join(''),
  });
  t.deepEqual(await runVproxy(['--config', path]), refused('vproxy: error: '));
  const open =
    'channels.vm2: channel "tcp-listen:0.0.0.0:0": listening where other machines can connect needs TLS (tls=psk or tls=cert) or --insecure; 127.0.0.1 or [::1] does not';
  t.deepEqual(await callVproxy(['check', path]), refused('', open));
});

test('vproxy check prints the channels of a file without errors', async (t) => {
  const forwards = 'outgoing = ["ssh:9022"]\nincoming = ["web:80"]\n';
  const path = file(t, `[channels.vm1]\naddress = "unix:///run/vm1.sock"\n${forwards}`);
  t.deepEqual(await callVproxy(['check', path]), {
    code: 0,
    stdout: `${path}: ok\nvm1: unix-connect:/run/vm1.sock\n  -o ssh:127.0.0.1:9022\n  -i web:127.0.0.1:80\n`,
    stderr: '',
  });
});

test('a file that is not a configuration, unreadable or too large is rejected in one line', async (t) => {
  const folder = temporaryFolder(t);
  for (const [path, says] of [
    [join(folder, 'missing.toml'), ': cannot be read: no such file or directory (ENOENT)'],
    [file(t, '#'.repeat(5_000_000)), ': cannot be read: larger than 4194304 bytes'],
    [file(t, Buffer.from([0x61, 0xff])), ': cannot be read: not valid UTF-8'],
    [file(t, 'wait = 3'), ': channels: none defined'],
    [file(t, 'a = 1\nb = = 2\n'), ':2:5: not valid TOML: invalid value'],
    [file(t, '{\n  "channels": {,}\n}', 'vproxy.json'), ':2:16: not valid JSON: expected a key in quotes'],
  ] as const) {
    const { stderr, ...rest } = await callVproxy(['check', path]);
    t.deepEqual(rest, { code: 65, stdout: '' });
    t.true(stderr.startsWith(`${path}${says}`), stderr);
    t.is(stderr.split('\n').length, 2);
  }
});

test('--print-config shows the effective configuration of file and flags, and its output is a configuration', async (t) => {
  const path = file(t, 'name = "host1"\nwait = 7\n[channels.vm1]\naddress = "unix:///run/vm1.sock"\n');
  const print = (...words: string[]) => callVproxy(['--config', ...words, '--print-config']);
  const shown = await print(path, '-o', 'vm1/ssh:9022', '-c', 'vm2=stdio:', '--wait', '0', '--no-control');
  t.like(shown, { code: 0, stderr: '' });
  t.regex(shown.stdout, /^name = "host1"\ncontrol = false$/m);
  const vm1 = 'address = "unix-connect:/run/vm1.sock"\noutgoing = [ "ssh:127.0.0.1:9022" ]';
  t.true(shown.stdout.includes(`[channels.vm1]\n${vm1}\n`), shown.stdout);
  const again = file(t, shown.stdout, 'again.toml');
  t.deepEqual(await print(again), shown);
  const { stdout: json } = await print(again, '--json');
  const channels = { vm1: { wait: 0 }, vm2: { address: 'stdio:' } };
  t.like(JSON.parse(json), { name: 'host1', control: false, channels });
  t.deepEqual(await print(file(t, json, 'again.json')), shown);
});

test.serial('another name, or other metrics, take effect at the next start, and a reload reports it', async (t) => {
  const folder = temporaryFolder(t);
  const config = join(folder, 'vproxy.toml');
  const write = (head: string, ownName = '') =>
    writeFileSync(config, `${head}\n[channels.vm1]\naddress = "unix-listen:${folder}/channel"\n${ownName}`);
  write('name = "one"');
  const { socket } = await spawnControlled(t, ['--config', config]);
  const run = async (...words: string[]) => (await callVproxy([...words, '--socket', socket])).stdout;
  write('name = "two"\nmetrics = "127.0.0.1:0"');
  t.is(await run('reload'), 'takes effect at the next start: name\ntakes effect at the next start: metrics\n');
  t.like(JSON.parse(await run('status', '--json')), { process: { name: 'one' } });
  // The channel's own name is sent to its peer, so a changed one needs a new session.
  write('name = "one"', 'name = "own"\n');
  t.is(await run('reload'), 'channel replaced: vm1\n');
});

test.serial('an empty folder keeps it running without channels, and a reload adds those of a new file', async (t) => {
  const folder = temporaryFolder(t);
  const host = spawnVproxy(t, ['--config', folder, '--no-control']);
  await host.waitForLine(/no channels yet/);
  writeFileSync(join(folder, 'a.toml'), `[channels.vm1]\naddress = "unix-listen:${folder}/channel"\n`);
  host.kill('SIGHUP');
  t.truthy(await host.waitForLine(/reloaded: channels added: vm1/));
});
