/** Messages of commands about a VM that is down: what they wait for, and why it did not come. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { startControl } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, TestProxy } from '../helpers/proxies.js';
import { runInTerminal } from '../helpers/terminals.js';
import { runVproxy, VPROXY } from '../helpers/vproxy-process.js';

/** A process with the channel `vm1` to a VM that is down until `comeUp`. */
async function downVm(t: ExecutionContext, waitMs: number) {
  const folder = temporaryFolder(t);
  const socket = join(folder, 'vm1.sock');
  const here = new TestProxy(t, `unix-connect:${socket}`, { label: 'vm1', waitMs });
  await here.start();
  await here.event('channel-waiting');
  const { path } = await startControl(t, here.proxy);
  const comeUp = async (): Promise<void> => {
    const { port } = await localServer(t, echo);
    const setup = { incoming: [`echo:127.0.0.1:${port}`], exec: { commands: 'any' }, copy: { root: null } } as const;
    await new TestProxy(t, `unix-listen:${socket}`, setup).start();
    here.proxy.retryNow();
  };
  return { folder, socket, path, comeUp };
}

test.serial('a terminal that shows escape sequences as text gets no line that is redrawn, and no screen', async (t) => {
  const { folder, path, comeUp } = await downVm(t, 60_000);
  writeFileSync(join(folder, 'file'), 'x');
  const commands = [
    ['wait vm1 --timeout 1.1', /^vproxy: error: timed out/],
    ['copy "$FOLDER/file" vm1:$FOLDER/copied', /^1 file, 1 B in /],
    ['top --interval 0.1 --count 2', /^(\S+Z channels 1\/1 .*\r\n){2}$/],
    ['forwards --watch=0.1', /^There are no forwards/],
  ] as const;
  for (const [words, shown] of commands) {
    const script = `export TERM=dumb VPROXY_SOCKET=${path} FOLDER=${folder}; ${VPROXY} ${words}`;
    const terminal = await runInTerminal(t, script);
    await terminal.shows(shown);
    t.notRegex(terminal.text(), /\u001b|\r(?!\n)/, words);
    if (words.startsWith('wait')) await comeUp();
  }
});

for (const [command, done] of [
  ['exec vm1: echo came up', /came up/],
  // The terminal echoes typed text, and so does the service.
  ['connect vm1/echo', /came up\s+came up/],
  ['copy "$FOLDER/file" vm1:$FOLDER/copied && cat "$FOLDER/copied"', /came up/],
  ['wait vm1/echo && echo came up', /came up/],
] as const) {
  test.serial(`in a terminal, vproxy ${command} shows what it waits for, and continues when it comes`, async (t) => {
    const { folder, socket, path, comeUp } = await downVm(t, 60_000);
    writeFileSync(join(folder, 'file'), 'came up\n');
    const script = `export VPROXY_SOCKET=${path} FOLDER=${folder}; ${VPROXY} ${command}`;
    const terminal = await runInTerminal(t, script);
    const waiting = `vproxy: waiting for vm1: ${socket} is missing (ENOENT)`;
    await terminal.shows(/waiting for [^\r]*\(ENOENT\)/);
    t.true(terminal.text().includes(`\r\u001b[K${waiting}`), terminal.text());
    await comeUp();
    // The line is cleared before any other output.
    await terminal.shows(/\(ENOENT\)\r\u001b\[K/);
    if (command.startsWith('connect')) terminal.type('came up\n');
    await terminal.shows(done);
    t.notRegex(terminal.text(), /error/);
  });
}

test.serial('elsewhere only the error is printed, with the cause and the command that finds it', async (t) => {
  const { socket, path } = await downVm(t, 600);
  const why = `no session with the peer within 0.6 s: unix-connect:${socket} is missing (ENOENT); see vproxy doctor`;
  for (const [words, code] of [
    [['exec', '--socket', path, '-n', 'true'], 125],
    [['connect', '--socket', path, 'vm1/echo'], 69],
    [['copy', '--socket', path, '/etc/hostname', 'vm1:/tmp/x'], 69],
  ] as const) {
    const run = await runVproxy(words);
    t.deepEqual(run, { code, stdout: '', stderr: `vproxy: error: ${why} --socket ${path}\n` }, words[0]);
  }
  const env = { VPROXY_SOCKET: path };
  t.is((await runVproxy(['connect', 'echo'], { env })).stderr, `vproxy: error: ${why}\n`);
});

test.serial('an unanswered ping, and a wait that times out, report the cause', async (t) => {
  const { socket, path } = await downVm(t, 100);
  const env = { VPROXY_SOCKET: path };
  const cause = `unix-connect:${socket} is missing (ENOENT)\n`;
  const { stdout } = await runVproxy(['ping', 'vm1', '-c', '1'], { env });
  t.true(stdout.startsWith(`vm1: seq=1 no session on channel vm1: ${cause}`), stdout);
  const wait = await runVproxy(['wait', 'vm1', '--timeout', '0.2'], { env });
  t.is(wait.stderr, `vproxy: error: timed out after 200ms: no session on vm1: ${cause}`);
});

test.serial('a wait for a service shows what the peer offers instead, and names the time as given', async (t) => {
  const { path, comeUp } = await downVm(t, 100);
  await comeUp();
  const script = `${VPROXY} wait --socket ${path} vm1/ehco --timeout 3s`;
  const terminal = await runInTerminal(t, script);
  const offers = 'copy, echo, exec, sftp; did you mean echo?';
  await terminal.shows(/waiting for ehco[^\r]*\?\r/);
  await terminal.shows(/timed out after/);
  t.true(terminal.text().includes(`waiting for ehco; vm1 offers: ${offers}\r`), terminal.text());
  t.true(terminal.text().includes(`timed out after 3s: no service ehco on vm1; the peer offers: ${offers}`));
});
