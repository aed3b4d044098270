/** The requirements on every package of vproxy, however built: the README's commands, and all others. */
import { spawn } from 'node:child_process';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { ExecutionContext } from 'ava';
import { CONTROL_COMMANDS, LOCAL_COMMANDS } from '../../cli/command/table.js';
import { PROJECT_ROOT, projectText, temporaryFolder } from './files.js';
import { localServer } from './local-server.js';
import { eventually } from './time.js';
import { ESTABLISHED, type RunResult, runProgram, spawnVproxy, TAKING_CONTROL } from './vproxy-process.js';

export interface PackagedProgram {
  /** The words that run `vproxy`, before its arguments. */
  readonly vproxy: readonly [string, ...string[]];
  /** The target of a link named like a utility. */
  readonly wrapper: string;
  readonly env: Readonly<Record<string, string>>;
  /** Words before each command, which must still see `temporaryFolder` under the same path. Default: none. */
  readonly launcher?: readonly string[];
  /** A folder visible to the program, for sockets and files. Default: one of the test's own. */
  readonly folder?: string;
}

const REPLIES = join(PROJECT_ROOT, 'spec/fixtures/storage-replies.json');

/** The words of the two commands of the README's quick start, without the leading `vproxy`. */
function readmeCommands(): { guest: string[]; host: string[] } {
  const readme = projectText('README.md');
  const find = (channel: string): string[] => {
    const line = new RegExp(`^vproxy (-c (?:vm1=)?${channel}:[^\\\\\n]*)$`, 'm').exec(readme)?.[1];
    if (line === undefined) throw new Error(`the README has no command with a channel ${channel}`);
    return line.split(' ');
  };
  return { guest: find('virtserial-open'), host: find('unix-connect') };
}

/** Runs the README's two commands over a unix socket; forwards, storage calls and the commands for a running process work. */
export async function checkEverydayUse(t: ExecutionContext, program: PackagedProgram): Promise<void> {
  const folder = program.folder ?? temporaryFolder(t);
  const at = (name: string): string => join(folder, name);
  const { port } = await localServer(t, (socket) => socket.pipe(socket));
  const options = { program: [...(program.launcher ?? []), ...program.vproxy], env: program.env };
  const commands = readmeCommands();
  const guestWords = commands.guest.map((word) =>
    word.replace(/^virtserial-open:.*$/, `unix-connect:${at('channel')}`).replace('127.0.0.1:22', `127.0.0.1:${port}`),
  );
  const hostWords = commands.host.map((word) =>
    word.replace(/^vm1=unix-connect:.*$/, `vm1=unix-listen:${at('channel')}`).replace(/:(?:9500|9022)$/, ':0'),
  );
  const controls = { host: at('host.sock'), guest: at('guest.sock') };
  // A channel that is not a device does not imply that it leads to a host.
  const allowed = ['--storage-socket', at('storage.sock'), `--allow-copy=${folder}`];
  const guest = spawnVproxy(t, [...guestWords, '--control', controls.guest, ...allowed], options);
  const host = spawnVproxy(t, [...hostWords, '--control', controls.host, '--metrics', '127.0.0.1:0'], options);
  await Promise.all([guest, host].flatMap((side) => [side.waitForLine(ESTABLISHED), side.waitForLine(TAKING_CONTROL)]));

  await checkConnect(t, program, controls.host);
  /** Runs a command for a running process, which must succeed; returns its output. */
  const steer = async (socket: string, ...words: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await run(program, [...words.slice(0, 1), '--socket', socket, ...words.slice(1)]);
    t.is(code, 0, stderr);
    return stdout;
  };
  t.like(JSON.parse(await steer(controls.guest, 'status', '--json')), { channels: { length: 1 } });
  t.is((await run(program, ['forward', 'add', '-o', 'ssh:127.0.0.1:0', '--socket', controls.host])).code, 0);
  const [, url = ''] = await host.waitForLine(/serving metrics at (\S+)/);
  t.regex(await (await fetch(url)).text(), /^vproxy_channel_forwards/m);

  const storagePort = await host.listeningPort('storage');
  writeFileSync(at('replies.json'), readFileSync(REPLIES));
  const dialling = ['storage-emulator', '--replies', at('replies.json'), '--dial', `127.0.0.1:${storagePort}`];
  const emulator = spawnVproxy(t, dialling, options);
  await emulator.waitForLine(/connected/);
  const link = at('storcli64');
  symlinkSync(program.wrapper, link);
  const environment = { ...program.env, VPROXY_STORAGE_SOCKET: at('storage.sock') };
  // Until the emulator is attached, nothing answers the call.
  const answer = await eventually(async () => {
    const words = [...(program.launcher ?? []), link, '/c0', 'show'];
    const { code, stdout } = await runProgram(words, { env: environment });
    return code === 125 ? null : { code, stdout };
  });
  t.is(answer.code, 0);
  t.regex(answer.stdout, /Product Name = AVAGO MegaRAID/);
  await emulator.waitForLine(new RegExp(`storage call of vm1: ${link} /c0 show`));

  // The program itself may be the only one that is installed.
  t.regex(await steer(controls.host, 'exec', '--', ...program.vproxy, '--version'), /^vproxy \d/);
  await steer(controls.host, 'copy', at('replies.json'), `vm1:${at('copied.json')}`);
  t.is(readFileSync(at('copied.json'), 'utf8'), readFileSync(REPLIES, 'utf8'));

  await steer(controls.guest, 'stop');
  t.deepEqual(await guest.exited, { code: 0, signal: null });
  t.deepEqual(await host.stop(), { code: 0, signal: null });
}

async function checkConnect(t: ExecutionContext, program: PackagedProgram, socket: string): Promise<void> {
  const [file = '', ...first] = [...(program.launcher ?? []), ...program.vproxy];
  const child = spawn(file, [...first, 'connect', 'ssh', '--socket', socket], {
    env: program.env,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end('through the channel and back');
  t.is(await text(child.stdout), 'through the channel and back');
}

/**
 * Each command exists; one that needs no running process works, and prints the same as in the built tree. `lacking`: commands that
 * are in files beside the program, which are not there.
 */
export async function checkCommands(
  t: ExecutionContext,
  program: PackagedProgram,
  lacking: readonly string[] = [],
): Promise<void> {
  const folder = program.folder ?? temporaryFolder(t);
  const file = join(folder, 'one-vm.toml');
  writeFileSync(file, readFileSync(join(PROJECT_ROOT, 'docs/examples/one-vm.toml')));
  const { env } = program;
  const built = { vproxy: [process.execPath, join(PROJECT_ROOT, 'dist/cli/vproxy.js')], wrapper: '', env } as const;
  const same = ['--help', '--no-such-option', `--config ${file} --print-config`, `check ${file}`, 'completion zsh'];
  for (const words of same.map((line) => line.split(' '))) {
    const [said, expected] = await Promise.all([program, built].map((one) => run(one, words)));
    t.deepEqual(withoutFolders(said), withoutFolders(expected), words.join(' '));
  }
  for (const name of Object.keys({ ...LOCAL_COMMANDS, ...CONTROL_COMMANDS })) {
    const { code, stdout, stderr } = await run(program, [...name.split(' '), '--help']);
    if (lacking.includes(name)) {
      t.is(code, 65, name);
      t.regex(stderr, /^vproxy: error: vproxy \w+ needs \/usr\/lib\/vproxy\/\S+, of the packages of vproxy\n$/);
      continue;
    }
    t.is(code, 0, `${name}: ${stderr}`);
    t.true(stdout.includes(`vproxy ${name}`), stdout);
  }
  const [key, pipe] = [join(folder, 'a.key'), join(folder, 'pipe')];
  for (const line of [`genkey ${key}`, `pipe-create ${pipe}`, 'storage-emulator --help']) {
    const { code, stderr } = await run(program, line.split(' '));
    t.is(code, 0, `${line}: ${stderr}`);
  }
  t.regex(readFileSync(key, 'utf8'), /^[0-9a-f]{64}\n$/);
  const { version } = JSON.parse(projectText('package.json')) as { version: string };
  t.true((await run(program, ['--version'])).stdout.startsWith(`vproxy ${version} (protocol 1, node v`));
}

const withoutFolders = (result: RunResult | undefined): object => ({
  ...result,
  stdout: result?.stdout.replace(/; documents: \S+\.$/m, '.'),
});

const run = ({ launcher = [], vproxy, env }: PackagedProgram, words: readonly string[]): Promise<RunResult> =>
  runProgram([...launcher, ...vproxy, ...words], { env });
