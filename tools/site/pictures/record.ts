/**
 * Plays the pictures, in separate namespaces: a vproxy on the host and two that act as VMs, each with its own host name, in a
 * terminal of fixed size. Prints the screens as JSON.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { ForwardStatus, StreamStatus } from '../../../lib/status/types.js';
import { isUp, Stage } from '../../../spec/documents/runner/stage.js';
import { startSshServer, startWebServer } from '../../../spec/documents/scenes/parts.js';
import { Terminal } from '../../../spec/helpers/terminals.js';
import { eventually } from '../../../spec/helpers/time.js';
import type { Carried } from './diagram.js';
import type { ScreenPicture } from './screen.js';

const PROMPT = '$ ';
/** In characters. */
const SESSION = { columns: 68, rows: 40 } as const;
const TOP = { columns: 86, rows: 15 } as const;

/** The typed lines of the picture of a session. */
const TYPED = [
  'vproxy -c vm1=unix-connect:/run/vm1.sock -o web:8081 2>log &',
  'vproxy wait vm1/web',
  'curl http://127.0.0.1:8081/',
  'vproxy exec uname -n',
  "vproxy exec sh -c 'echo from the VM; exit 7'; echo status $?",
  'tar c notes | vproxy exec tar t',
  'vproxy copy build vm1:/srv/',
  'vproxy ping --count 2',
] as const;

/** The services of the VMs. */
const SERVICES = {
  web: '127.0.0.2:8080',
  backup: "'exec:cat > /dev/null'",
  camera: `'exec:${waves(250_000)}'`,
} as const;

/**
 * The streams of the picture of `vproxy top`, as a shell on the host opens them. The busiest is first: their rates are so far
 * apart that the order is stable on a busy machine.
 */
const TRAFFIC = [
  'exec cat < /dev/tcp/127.0.0.1/8083 > /dev/null',
  `${waves(20_000)} > /dev/tcp/127.0.0.1/8082`,
  "vproxy exec --name host1 vm2: sh -c 'while seq 999; do sleep 0.1; done' > /dev/null",
  'sleep 60 | vproxy connect --name host1 vm1/web',
] as const;

/** The uses of a channel: a service, its programs on the host and in the guest, and the command that opens its streams. */
const USES = [
  ['ssh', 'ssh', 'sshd', 'ssh -p 9022 127.0.0.1 sleep 60'],
  ['web', 'browser', 'web server', 'for n in 1 2 3; do exec {fd}<>/dev/tcp/127.0.0.1/8081; done; sleep 60'],
  ['exec', 'vproxy exec', 'a command', 'vproxy exec --name host sleep 60'],
  ['storage', 'storage emulator', 'storcli64', 'vproxy storage-emulator --replies r.json --dial 127.0.0.1:9500'],
  ['packages', 'package mirror', 'apt', 'sleep 60 <> /dev/tcp/127.0.0.1/3142'],
] as const;
const STREAMS = 7;
/** The ends that no forward tells. */
const EXEC_CALLER = { service: 'exec', direction: 'outgoing', endpoint: 'control socket' } as const;
const STORAGE_CALLER = { service: 'storage', direction: 'outgoing', endpoint: 'unix socket' } as const;

const stage = new Stage();
try {
  stage.write('notes/a.txt', 'a\n');
  for (const name of ['disk.img', 'initrd.img']) stage.write(`build/${name}`, '0123456789abcdef'.repeat(2 ** 21));
  await startWebServer(stage, '127.0.0.2:8080');
  for (const name of ['vm1', 'vm2']) await startVm(name);
  const session = await recordSession();
  const top = await recordTop();
  console.log(JSON.stringify([session, top, await recordChannel()]));
} finally {
  await stage.close();
}

/** The command line of a writer whose rate rises and falls, from 40 to 160 times `bytes` a second. */
function waves(bytes: number): string {
  const rates = [2, 3, 5, 7, 8, 8, 7, 5, 3, 2].map((rate) => rate * bytes).join(' ');
  return `while :; do for size in ${rates}; do for part in 1 2 3 4 5 6; do head -c $size /dev/zero; sleep 0.05; done; done; done`;
}

/** Starts a process that acts as a VM: it listens where QEMU does. */
async function startVm(name: string): Promise<void> {
  const path = `/run/${name}.sock`;
  const services = Object.entries(SERVICES).map(([service, target]) => `-i ${service}:${target}`);
  const vproxy = `vproxy --no-control --name ${name} -c unix-listen:${path} --allow-exec --allow-copy ${services.join(' ')}`;
  await stage.start(`exec unshare --uts sh -c 'hostname ${name}; exec "$@"' sh ${vproxy}`, (output) =>
    output.includes(path),
  );
}

async function recordSession(): Promise<ScreenPicture> {
  const prompts = `PS0='\\e[0m' PS1='\\[\\e[1m\\]${PROMPT}'`;
  const terminal = await open('session', SESSION, `${prompts} exec bash --noprofile --norc`);
  await endsWith(terminal, PROMPT);
  for (const line of TYPED) await type(terminal, line);
  const lines = await terminal.coloredScreen();
  await type(terminal, 'vproxy stop; wait; clear');
  // The last line is an empty prompt.
  const end = lines.findLastIndex((line) => line.trim() !== '');
  return {
    title: 'A terminal on the host: a page, commands, a copy and a round trip through the channel of a VM',
    columns: SESSION.columns,
    lines: lines.slice(0, end),
  };
}

/** Types a line, and waits for its output. */
async function type(terminal: Terminal, line: string): Promise<void> {
  await terminal.press('-l', line);
  // Otherwise the current prompt would be taken for the next one, and the running program would read the next line.
  await endsWith(terminal, `${PROMPT}${line}`);
  await terminal.press('Enter');
  await endsWith(terminal, PROMPT);
}

/** Waits until `line`, such as an empty prompt, is the last non-empty one. */
async function endsWith(terminal: Terminal, line: string): Promise<void> {
  const look = async () => (await terminal.screen()).findLast((shown) => shown.trim() !== '');
  await eventually(async () => (await look())?.trimEnd() === line.trimEnd(), { what: line });
}

async function recordTop(): Promise<ScreenPicture> {
  const forwards = '-o vm1/backup:127.0.0.1:8082 -o vm2/camera:127.0.0.1:8083';
  await stage.start(
    `exec vproxy --name host1 -c vm1=unix-connect:/run/vm1.sock -c vm2=unix-connect:/run/vm2.sock ${forwards}`,
    (output) => isUp(output) && output.split('session established').length > 2,
  );
  for (const command of TRAFFIC) await stage.start(command, () => true);
  const terminal = await open('top', TOP, 'vproxy top --name host1 --interval 0.2');
  // Traffic over the whole width, and every stream.
  await terminal.shows(/[▁-█][▁-█ ]{49} peak[^]*[▁-█][▁-█ ]{49} peak[^]*vm\d\/\d+ +web /, 60_000);
  return {
    title: 'vproxy top: the traffic of two channels and the rates of their streams',
    columns: TOP.columns,
    lines: await terminal.coloredScreen(),
  };
}

/** Runs a host and a guest, and reads their forwards and streams. */
async function recordChannel(): Promise<Carried[]> {
  stage.write('r.json', '{"replies": []}');
  await startSshServer(stage);
  for (const address of ['127.0.0.1:80', '127.0.0.1:8080']) await startWebServer(stage, address);
  const inGuest =
    '-i ssh:127.0.0.1:22 -i web:127.0.0.1:8080 -o packages:127.0.0.1:3142 --allow-exec --storage-socket /run/s';
  await stage.start(`exec vproxy --name guest -c unix-listen:/run/vm3.sock ${inGuest}`, isUp);
  const onHost = '-o ssh:127.0.0.1:9022 -o web:127.0.0.1:8081 -o storage:127.0.0.1:9500 -i packages:127.0.0.1:80';
  await stage.start(`exec vproxy --name host -c unix-connect:/run/vm3.sock ${onHost}`, isUp);
  await stage.run('vproxy wait --name host');
  for (const [, , , open] of USES) await stage.start(open, () => true);
  const list = async <Item>(what: string, name: string): Promise<Item[]> =>
    JSON.parse(await stage.run(`vproxy ${what} --name ${name} --json`)) as Item[];
  const streams = await eventually(async () => {
    const open = await list<StreamStatus>('streams', 'host');
    return open.length === STREAMS && open;
  });
  const [host, guest] = [await list<ForwardStatus>('forwards', 'host'), await list<ForwardStatus>('forwards', 'guest')];
  return USES.map(([service, onHost, inGuest]) => {
    const isOfService = (item: { readonly service: string }) => item.service === service;
    const own = streams.filter(isOfService);
    return {
      service,
      streams: own.length,
      openedBy: own[0]?.direction === 'outgoing' ? 'host' : 'guest',
      host: { program: onHost, ...[...host, EXEC_CALLER].find(isOfService) },
      guest: { program: inGuest, ...[...guest, STORAGE_CALLER].find(isOfService) },
    };
  });
}

/** Opens a terminal with a command in it. */
async function open(name: string, { columns, rows }: typeof SESSION | typeof TOP, command: string): Promise<Terminal> {
  const size = ['-x', String(columns), '-y', String(rows)];
  const words = ['-u', '-L', name, '-f', '/dev/null', 'new-session', '-d', ...size, command];
  await promisify(execFile)('tmux', words, { env: { ...process.env, LC_ALL: 'C.UTF-8' } });
  return new Terminal(name);
}
