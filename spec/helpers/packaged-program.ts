/** What every package of vproxy has to do, however it is built: the commands of the README, and all others. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { ExecutionContext } from 'ava';
import { CONTROL_COMMANDS, LOCAL_COMMANDS } from '../../cli/command/table.js';
import { PROJECT_ROOT, temporaryFolder } from './files.js';
import { eventually } from './time.js';
import { ESTABLISHED, type RunResult, runProgram, spawnVproxy, TAKING_CONTROL } from './vproxy-process.js';

/** A program as a package installs it. */
export interface PackagedProgram {
  /** The words that run `vproxy`, to which its arguments are added. */
  readonly vproxy: readonly [string, ...string[]];
  /** The file that a link named like a utility leads to. */
  readonly wrapper: string;
  readonly env: Readonly<Record<string, string>>;
  /** Words before each command, which still sees `temporaryFolder` under the same path. Default: none. */
  readonly launcher?: readonly string[];
  /** A folder that the program sees, for sockets and files. Default: one of the test's own. */
  readonly folder?: string;
}

const REPLIES = join(PROJECT_ROOT, 'spec/fixtures/storage-replies.json');

/** The words of the two commands of the README's quick start, without `vproxy` in front. */
function readmeCommands(): { guest: string[]; host: string[] } {
  const readme = readFileSync(join(PROJECT_ROOT, 'README.md'), 'utf8');
  const find = (channel: string): string[] => {
    const line = new RegExp(`^vproxy (-c ${channel}:.*)$`, 'm').exec(readme)?.[1];
    if (line === undefined) throw new Error(`the README has no command with a channel ${channel}`);
    return line.split(' ');
  };
  return { guest: find('virtserial-open'), host: find('unix-connect') };
}

/** Runs the README's two commands over a unix socket; forwards, storage calls and the commands for a running process work. */
export async function checkEverydayUse(t: ExecutionContext, program: PackagedProgram): Promise<void> {
  const folder = program.folder ?? temporaryFolder(t);
  const at = (name: string): string => join(folder, name);
  const echo = createServer((socket) => socket.pipe(socket));
  await once(echo.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => echo.close());
  const { port } = echo.address() as { port: number };

  const options = { program: [...(program.launcher ?? []), ...program.vproxy], env: program.env };
  const commands = readmeCommands();
  const guestWords = commands.guest.map((word) =>
    word.replace(/^virtserial-open:.*$/, `unix-connect:${at('channel')}`).replace('127.0.0.1:22', `127.0.0.1:${port}`),
  );
  const hostWords = commands.host.map((word) =>
    word.replace(/^unix-connect:.*$/, `unix-listen:${at('channel')}`).replace(/:(?:9500|9022)$/, ':0'),
  );
  const controls = { host: at('host.sock'), guest: at('guest.sock') };
  // A channel that is not a device does not imply that it leads to a host.
  const guest = spawnVproxy(
    t,
    [...guestWords, '--storage-socket', at('storage.sock'), '--control', controls.guest, `--allow-copy=${folder}`],
    options,
  );
  const host = spawnVproxy(t, [...hostWords, '--control', controls.host, '--metrics', '127.0.0.1:0'], options);
  await Promise.all([guest, host].flatMap((side) => [side.waitForLine(ESTABLISHED), side.waitForLine(TAKING_CONTROL)]));

  await checkConnect(t, program, controls.host);
  const status = JSON.parse((await run(program, ['status', '--json', '--socket', controls.guest])).stdout) as {
    channels: unknown[];
  };
  t.is(status.channels.length, 1);
  const added = await run(program, ['forward', 'add', '-o', 'ssh:127.0.0.1:0', '--socket', controls.host]);
  t.is(added.code, 0, added.stderr);
  const [, url = ''] = await host.waitForLine(/serving metrics at (\S+)/);
  const metrics = await fetch(url);
  t.regex(await metrics.text(), /^vproxy_channel_forwards/m);

  const storagePort = await host.listeningPort('storage');
  writeFileSync(at('replies.json'), readFileSync(REPLIES));
  const words = ['storage-emulator', '--replies', at('replies.json'), '--dial', `127.0.0.1:${storagePort}`];
  const emulator = spawnVproxy(t, words, options);
  await emulator.waitForLine(/connected/);
  const link = at('storcli64');
  symlinkSync(program.wrapper, link);
  const environment = { ...program.env, VPROXY_STORAGE_SOCKET: at('storage.sock') };
  // Until the emulator is attached, nothing answers the call.
  const answer = await eventually(async () => {
    const { code, stdout } = await runFile(program, [link], ['/c0', 'show'], environment);
    return code === 125 ? null : { code, stdout };
  });
  t.is(answer.code, 0);
  t.regex(answer.stdout, /Product Name = AVAGO MegaRAID/);
  await emulator.waitForLine(new RegExp(`storage call: ${link} /c0 show`));

  // The program itself may be the only one that is installed.
  const ran = await run(program, ['exec', '--socket', controls.host, '--', ...program.vproxy, '--version']);
  t.regex(ran.stdout, /^vproxy \d/, ran.stderr);
  t.is(ran.code, 0);
  const copied = await run(program, [
    'copy',
    '--socket',
    controls.host,
    at('replies.json'),
    `default:${at('copied.json')}`,
  ]);
  t.is(copied.code, 0, copied.stderr);
  t.is(readFileSync(at('copied.json'), 'utf8'), readFileSync(REPLIES, 'utf8'));

  const stopped = await run(program, ['stop', '--socket', controls.guest]);
  t.is(stopped.code, 0, stopped.stderr);
  t.deepEqual(await guest.exited, { code: 0, signal: null });
  t.deepEqual(await host.stop(), { code: 0, signal: null });
}

/** `vproxy connect` reaches the service of the peer. */
async function checkConnect(t: ExecutionContext, program: PackagedProgram, socket: string): Promise<void> {
  const [file = '', ...first] = [...(program.launcher ?? []), ...program.vproxy];
  const child = spawn(file, [...first, 'connect', 'ssh', '--socket', socket], {
    env: program.env,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end('through the channel and back');
  t.is(await text(child.stdout), 'through the channel and back');
}

/** Each command exists; one that needs no running process works, and prints what it prints in the built tree. */
export async function checkCommands(t: ExecutionContext, program: PackagedProgram): Promise<void> {
  const folder = program.folder ?? temporaryFolder(t);
  const file = join(folder, 'one-vm.toml');
  writeFileSync(file, readFileSync(join(PROJECT_ROOT, 'docs/examples/one-vm.toml')));
  const built = {
    vproxy: [process.execPath, join(PROJECT_ROOT, 'dist/cli/vproxy.js')],
    wrapper: '',
    env: program.env,
  } as const;
  for (const words of [
    ['--help'],
    ['--no-such-option'],
    ['--config', file, '--print-config'],
    ['check', file],
    ['completion', 'zsh'],
  ]) {
    const [said, expected] = await Promise.all([program, built].map((one) => run(one, words)));
    t.deepEqual(withoutFolders(said), withoutFolders(expected), words.join(' '));
  }
  for (const name of Object.keys({ ...LOCAL_COMMANDS, ...CONTROL_COMMANDS })) {
    const { code, stdout, stderr } = await run(program, [...name.split(' '), '--help']);
    t.is(code, 0, `${name}: ${stderr}`);
    t.true(stdout.includes(`vproxy ${name}`), stdout);
  }
  const [key, pipe] = [join(folder, 'a.key'), join(folder, 'pipe')];
  for (const words of [
    ['genkey', key],
    ['pipe-create', pipe],
    ['storage-emulator', '--help'],
  ]) {
    const { code, stderr } = await run(program, words);
    t.is(code, 0, `${words.join(' ')}: ${stderr}`);
  }
  t.regex(readFileSync(key, 'utf8'), /^[0-9a-f]{64}\n$/);
  const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string };
  t.true((await run(program, ['--version'])).stdout.startsWith(`vproxy ${version} (protocol 1, node v`));
}

/** Where a help finds the documents is another place in each package. */
const withoutFolders = (result: RunResult | undefined): object => ({
  ...result,
  stdout: result?.stdout.replace(/; documents: \S+\.$/m, '.'),
});

function run(program: PackagedProgram, words: readonly string[]): Promise<RunResult> {
  return runFile(program, program.vproxy, words, program.env);
}

function runFile(
  { launcher = [] }: PackagedProgram,
  command: readonly string[],
  words: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<RunResult> {
  return runProgram([...launcher, ...command, ...words], { env });
}
