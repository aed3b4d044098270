/** Commands in the guest: what users write in shells, terminals, and what is left when a side disconnects. */
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Readable } from 'node:stream';

import test, { type ExecutionContext } from 'ava';
import { Ansible, PYTHON } from '../helpers/ansible.js';
import { PROJECT_ROOT } from '../helpers/files.js';
import { openTerminal } from '../helpers/terminals.js';
import { eventually, within } from '../helpers/time.js';
import { ESTABLISHED } from '../helpers/vproxy-process.js';
import { eventuallyInGuest } from './rig/agent.js';
import { HostSide } from './rig/host-side.js';
import { useLaboratory } from './rig/use-guest.js';

const controlIn = (folder: string) => join(folder, 'control.sock');

const laboratory = useLaboratory(test, {
  host: ({ channelPath, folder }) => HostSide.start(`unix-connect:${channelPath}`, ['--control', controlIn(folder)]),
  guestArgs: ({ portPath }) => ['-c', `virtserial-open:${portPath}`, '--allow-exec', '--allow-copy'],
});

const TEST_MS = 600_000;
const COMMAND_MS = 120_000;
const BIG_BYTES = 2 ** 25;
/** The number of equal blocks of it, whose borders are in the middle of a line. */
const BLOCKS = 8;

/** What a shell on the host did with a script in which `vproxy` is the built one, for this guest. */
async function shell(t: ExecutionContext, script: string, input = '') {
  const child = startShell(t, script);
  const outputs = [child.stdout, child.stderr].map(readText);
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [status] = (await within(TEST_MS, script, once(child, 'close'))) as [number | null];
  const [stdout = '', stderr = ''] = await Promise.all(outputs);
  return { stdout, stderr, status };
}

function startShell(t: ExecutionContext, script: string) {
  const child = spawn('bash', ['-c', script], { stdio: 'pipe', env: { ...process.env, ...environment() } });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

/** With it `vproxy` is the built one, and controls the vproxy of the host. */
function environment(): { readonly PATH: string; readonly VPROXY_SOCKET: string } {
  const { folder } = laboratory().guest;
  const bin = join(folder, 'bin');
  if (!existsSync(bin)) {
    mkdirSync(bin);
    symlinkSync(join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), join(bin, 'vproxy'));
  }
  return { PATH: `${bin}:${process.env['PATH'] ?? ''}`, VPROXY_SOCKET: controlIn(folder) };
}

async function readText(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

test.serial('the commands of a first visit: output, a condition, a status', async (t) => {
  t.timeout(TEST_MS);
  const list = await shell(t, 'vproxy exec -- ls -l /usr/bin/node');
  t.deepEqual([list.status, list.stderr], [0, '']);
  t.regex(list.stdout, /^-rwxr-xr-x .* \/usr\/bin\/node\n$/);
  const condition = await shell(t, 'if ! vproxy exec uname | grep -q Linux; then echo no; else echo yes; fi');
  t.deepEqual(condition, { stdout: 'yes\n', stderr: '', status: 0 });
  const apart = await shell(t, `vproxy exec -- sh -c 'echo out; echo err >&2; exit 7'`);
  t.deepEqual(apart, { stdout: 'out\n', stderr: 'err\n', status: 7 });
  t.is((await shell(t, `vproxy exec -- sh -c 'kill -KILL $$'`)).status, 137);
});

test.serial('standard input goes to the command, and its end too', async (t) => {
  t.timeout(TEST_MS);
  t.deepEqual(await shell(t, 'printf hello | vproxy exec cat'), { stdout: 'hello', stderr: '', status: 0 });
  const folder = join(laboratory().guest.folder, 'tree');
  mkdirSync(join(folder, 'sub'), { recursive: true });
  writeFileSync(join(folder, 'a'), 'alpha');
  writeFileSync(join(folder, 'sub/b'), Buffer.alloc(1_000_000, 7));
  const script = `cd ${folder} && tar c . | vproxy exec -- sh -c 'mkdir /tmp/tree && cd /tmp/tree && tar x'`;
  t.deepEqual(await shell(t, script), { stdout: '', stderr: '', status: 0 });
  const there = await laboratory().guest.agent.output('cd /tmp/tree && sha256sum a sub/b');
  t.is(there, execFileSync('sha256sum', ['a', 'sub/b'], { cwd: folder, encoding: 'utf8' }).trimEnd());
});

test.serial('a large output comes whole', async (t) => {
  t.timeout(TEST_MS);
  // Generating all of it in the guest would take most of the time.
  const fill = `yes 0123456789abcdef | head -c ${BIG_BYTES / BLOCKS}`;
  const make = `b=$(mktemp); trap "rm $b" EXIT; ${fill} > $b; for i in $(seq ${BLOCKS}); do cat $b; done`;
  const child = startShell(t, `vproxy exec -- sh -c '${make}'`);
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  t.is(bytes, BIG_BYTES);
  const expected = execFileSync('sh', ['-c', `(${make}) | sha256sum`], { encoding: 'utf8' });
  t.is(expected, `${hash.digest('hex')}  -\n`);
});

test.serial('a terminal has the size of the one before it, follows it, and takes Ctrl-C and Ctrl-D', async (t) => {
  t.timeout(TEST_MS);
  const folder = laboratory().guest.folder;
  const script = `stty -g > before; vproxy exec -t -- sh; echo "status $?"; stty -g > after; echo over; sleep 100`;
  const terminal = await openTerminal(t, `cd ${folder}; ${script}`, environment());
  const shows = (pattern: RegExp) => terminal.shows(pattern, COMMAND_MS);
  await shows(/[#$] $|[#$]\s*$/m);
  await terminal.press('stty size', 'Enter');
  await shows(/^24 80$/m);
  await terminal.resize(100, 30);
  await eventually(
    async () => {
      await terminal.press('stty size', 'Enter');
      return /^30 100$/m.test((await terminal.screen()).join('\n'));
    },
    { what: 'the new size', intervalMs: 300, timeoutMs: COMMAND_MS },
  );
  await terminal.press('sleep 1000; echo "it was $?"', 'Enter');
  await eventuallyInGuest(async () => (await laboratory().guest.agent.run('pidof sleep')).status === 0);
  await terminal.press('C-c');
  await eventuallyInGuest(async () => (await laboratory().guest.agent.run('pidof sleep')).status !== 0);
  await terminal.press('clear; echo "$((6 * 7)) again"', 'Enter');
  await shows(/^42 again$/m);
  // What is typed before the shell has put the terminal back as commands have it is not echoed.
  // The end is in the same line: at a prompt the shell asks the terminal where it is, and an answer that comes behind its end is
  // echoed.
  await terminal.press(`echo read''ing; cat; exit 5`, 'Enter');
  await shows(/^reading$/m);
  await terminal.press('typed', 'Enter');
  await shows(/^typed\ntyped$/m);
  await terminal.press('C-d');
  await shows(/^status 5$[\s\S]*^over$/m);
  t.is(readFileSync(join(folder, 'after'), 'utf8'), readFileSync(join(folder, 'before'), 'utf8'));
});

test.serial('the vproxy of the guest is killed: the caller hears of it, and the next command runs', async (t) => {
  t.timeout(TEST_MS);
  const caller = shell(t, 'vproxy exec sleep 1000');
  const { guest, guestVproxy, host } = laboratory();
  await eventuallyInGuest(async () => (await guest.agent.run('pidof sleep')).status === 0, { timeoutMs: COMMAND_MS });
  const from = host.lines.length;
  await guestVproxy.kill('KILL');
  await laboratory().startGuestVproxy();
  const { status, stderr } = await caller;
  t.is(status, 125);
  t.regex(stderr, /^vproxy: [^\n]*\n$/);
  await host.waitForLine(ESTABLISHED, { from, timeoutMs: COMMAND_MS });
  t.deepEqual(await shell(t, 'vproxy exec echo again'), { stdout: 'again\n', stderr: '', status: 0 });
});

test.serial('a folder goes to the guest and comes back, and a copy that was cut off is resumed', async (t) => {
  t.timeout(TEST_MS);
  const { folder, agent } = laboratory().guest;
  const tree = join(folder, 'copied');
  mkdirSync(join(tree, 'deep/er'), { recursive: true });
  writeFileSync(join(tree, 'deep/er/file'), 'content', { mode: 0o640 });
  writeFileSync(join(tree, 'big'), Buffer.alloc(4_000_000, 'vproxy '));
  execFileSync('ln', ['-s', 'deep/er/file', join(tree, 'link')]);
  const up = await shell(t, `vproxy copy ${tree} default:/tmp/`);
  t.is(up.status, 0, up.stderr);
  const sums = 'sha256sum big deep/er/file && readlink link && stat -c %a deep/er/file';
  t.is(
    await agent.output(`cd /tmp/copied && ${sums}`),
    execFileSync('sh', ['-c', sums], { cwd: tree, encoding: 'utf8' }).trimEnd(),
  );
  mkdirSync(join(folder, 'back'));
  t.is((await shell(t, `vproxy copy default:/tmp/copied ${folder}/back`)).status, 0);
  execFileSync('diff', ['-r', tree, join(folder, 'back/copied')]);

  // The home of the user there, as the guest's /etc/passwd has it, whatever the caller's is.
  const home = await shell(t, `vproxy copy ${tree}/deep/er/file default: && vproxy copy default:file ${folder}/home`);
  t.is(home.status, 0, home.stderr);
  t.is(await agent.output('cat "$(awk -F: \'$3 == 0 { print $6; exit }\' /etc/passwd)/file"'), 'content');
  t.is(readFileSync(join(folder, 'home'), 'utf8'), 'content');

  writeFileSync(join(folder, 'huge'), Buffer.alloc(64_000_000, 'channel '));
  const child = startShell(t, `vproxy copy ${folder}/huge default:/tmp/huge`);
  await eventuallyInGuest(
    async () => /^[1-9]/.test((await agent.run('cat /tmp/.huge*part* | head -c 1000000 | wc -c')).stdout),
    { timeoutMs: COMMAND_MS },
  );
  const { guestVproxy, host } = laboratory();
  const from = host.lines.length;
  await guestVproxy.kill('KILL');
  t.is((await agent.run('ls /tmp/huge')).status, 1);
  await laboratory().startGuestVproxy();
  const [status] = (await within(COMMAND_MS, 'the end of the copy', once(child, 'close'))) as [number];
  t.is(status, 69);
  await host.waitForLine(ESTABLISHED, { from, timeoutMs: COMMAND_MS });
  const resumed = await shell(t, `vproxy copy --resume --json ${folder}/huge default:/tmp/huge`);
  t.is(resumed.status, 0, resumed.stderr);
  const outcome = resumed.stdout.trimEnd().split('\n').at(-1) ?? '';
  t.true((JSON.parse(outcome) as { resumedBytes: number }).resumedBytes > 0);
  t.is(
    (await agent.output('sha256sum < /tmp/huge')).split(' ')[0],
    execFileSync('sha256sum', [join(folder, 'huge')], { encoding: 'utf8' }).split(' ')[0],
  );
  t.deepEqual(
    readdirSync(folder).filter((name) => name.includes('part')),
    [],
  );
});

test.serial('Ansible plays in the guest, which is given a Python for it', async (t) => {
  t.timeout(TEST_MS);
  const { folder, agent } = laboratory().guest;
  const python = realpathSync(PYTHON);
  // Debian's Python with the libraries that it, and its own ones, need.
  const own = `usr/lib/${basename(python)}`;
  const needed = `$(ldd ${python} /${own}/lib-dynload/*.so | sed -n 's|.*=> /\\(.*\\) (.*|\\1|p' | sort -u)`;
  const excluded = ['test', 'ensurepip', 'idlelib', 'lib2to3', 'pydoc_data', 'distutils', 'config-*'];
  const options = excluded.map((name) => `--exclude='${own}/${name}'`).join(' ');
  const tar = `tar c --dereference -C / ${options} ${python.slice(1)} ${own} ${needed}`;
  t.deepEqual(await shell(t, `${tar} | vproxy exec tar x -C /`), { stdout: '', stderr: '', status: 0 });

  const here = join(folder, 'ansible');
  mkdirSync(here);
  const ansible = Ansible.install(here);
  writeFileSync(join(here, 'binary'), randomBytes(1_000_000));
  const hashOf = (name: string) =>
    createHash('sha256')
      .update(readFileSync(join(here, name)))
      .digest('hex');
  const inventory = ansible.writeInventory(
    { default: {} },
    { ansible_vproxy_socket: controlIn(folder), ansible_python_interpreter: python, ansible_pipelining: true },
  );
  const { code, text } = await ansible.play(inventory, 'in-the-guest.yml', {
    here,
    hostname: await agent.output('uname -n'),
    sha256: hashOf('binary'),
  });
  t.is(code, 0, text);
  t.regex(text, /ok=6 .* unreachable=0 +failed=0 /);
  t.is(hashOf('fetched'), hashOf('binary'));
});
