/** vproxy-guest, the program in guest/, with the real vproxy as its host. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { fixtureRows, sha256, temporaryFolder } from '../helpers/files.js';
import { peakBytes, residentBytes } from '../helpers/measures.js';
import { execPair, type PairSetup, processPair } from '../helpers/process-pair.js';
import {
  ask,
  echo as echoBack,
  failureOf,
  localServer,
  localSocket,
  readToEnd,
  startProxy,
} from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { FieldEmulator, runWrapper } from '../helpers/storage.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually, untilStill, within } from '../helpers/time.js';
import { outcomeOf } from '../helpers/traffic.js';
import { ENDED, isRunning, runProgram, runVproxy, spawnVproxy, VPROXY } from '../helpers/vproxy-process.js';
import { AS_GUEST, buildGuest, GUEST } from './build.js';

const withGo = serialTestWith('go');

buildGuest();

const guestPair = (t: ExecutionContext, setup: PairSetup) => processPair(t, { ...setup, guestOptions: AS_GUEST });

/** A target that answers all that it got with its hash, after the end. */
const hashing = (socket: net.Socket): void =>
  void readToEnd(socket).then(
    (bytes) => socket.end(`${bytes.length} ${sha256(bytes)}`),
    () => undefined,
  );

withGo('forwards carry bytes each way, and half-close', async (t) => {
  const target = await localServer(t, hashing);
  const pair = await guestPair(t, {
    host: ['-o', 'there:0', '-i', `here:${target.port}`],
    guest: ['-o', 'here:0', '-i', `there:${target.port}`],
  });
  const bytes = randomBytes(16 * 2 ** 20);
  for (const port of [await pair.host.listeningPort('there'), await pair.guest.listeningPort('here')]) {
    const socket = localSocket(t, port);
    socket.end(bytes);
    t.is(String(await readToEnd(socket)), `${bytes.length} ${sha256(bytes)}`);
  }
});

/** Relays connections to `farPath`, and keeps what one side wrote until a byte comes from the other. */
async function sleepyPort(t: ExecutionContext, farPath: string, sleeper: 'near' | 'far') {
  const nearPath = join(temporaryFolder(t), 'near.sock');
  // It counts the time in which this process had its turn, in milliseconds.
  const seen = { nowMs: 0, longestMs: 0 };
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    seen.nowMs += Math.min(nowMs - lastMs, 40);
    lastMs = nowMs;
  }, 20);
  t.teardown(() => clearInterval(timer));
  await localServer(
    t,
    (near) => {
      const far = net.connect(farPath);
      const [from, to] = sleeper === 'near' ? [near, far] : [far, near];
      let kept: { readonly bytes: Buffer; readonly atMs: number }[] = [];
      from.on('data', (bytes) => void kept.push({ bytes, atMs: seen.nowMs }));
      to.on('data', (bytes) => {
        from.write(bytes);
        for (const { bytes: late, atMs } of kept) {
          seen.longestMs = Math.max(seen.longestMs, seen.nowMs - atMs);
          to.write(late);
        }
        kept = [];
      });
      for (const socket of [near, far]) socket.on('error', () => undefined);
      near.once('close', () => far.destroy());
      far.once('close', () => near.destroy());
    },
    { path: nearPath },
  );
  return { nearPath, seen };
}

for (const sleeper of ['near', 'far'] as const) {
  const [from, to] = sleeper === 'near' ? (['guest', 'host'] as const) : (['host', 'guest'] as const);
  withGo(`what the ${from} writes to a port that lost its wake-up arrives, woken by a PING of the ${to}`, async (t) => {
    const target = await localServer(t, echoBack);
    const hostPath = join(temporaryFolder(t), 'host.sock');
    const { nearPath, seen } = await sleepyPort(t, hostPath, sleeper);
    const pair = await guestPair(t, {
      ...{ hostPath, guestPath: nearPath, [from]: ['-o', 'echo:0'], [to]: ['-i', `echo:${target.port}`] },
    });
    const port = await pair[from].listeningPort('echo');
    for (const text of ['one', 'two']) t.is(await ask(t, port, text), text);
    // At the latest 5 s after the write, and a check later on a busy machine.
    t.true(seen.longestMs < 7500, `${seen.longestMs} ms`);
  });
}

withGo('a thousand streams at once', async (t) => {
  const target = await localServer(t, echoBack);
  const pair = await guestPair(t, { host: ['-o', 'echo:0'], guest: ['-i', `echo:${target.port}`] });
  const port = await pair.host.listeningPort('echo');
  const sockets = Array.from({ length: 1000 }, () => localSocket(t, port));
  const came = sockets.map((socket) => once(socket, 'data'));
  for (const [number, socket] of sockets.entries()) socket.write(`${number} `);
  await Promise.all(came);
  for (const socket of sockets) socket.end();
  await Promise.all(sockets.map((socket) => once(socket, 'close')));
  t.is(await ask(t, port, 'and one more'), 'and one more');
});

withGo('a reset, a refusal and a missing service arrive with their codes', async (t) => {
  const target = await localServer(t, (socket) => void socket.once('data', () => socket.resetAndDestroy()));
  const pair = await guestPair(t, {
    host: ['-o', 'resets:0', '-o', 'refuses:0', '-o', 'missing:0'],
    guest: ['-i', `resets:${target.port}`, '-i', 'refuses:1'],
  });
  for (const [service, code] of [
    ['resets', 'local-error'],
    ['refuses', 'connect-refused'],
    ['missing', 'unknown-service'],
  ] as const) {
    const socket = localSocket(t, await pair.host.listeningPort(service));
    socket.write('x');
    t.is((await failureOf(socket)).code, 'ECONNRESET');
    await pair.host.waitForLine(new RegExp(`${service}.*reset: .*\\(${code}\\)`));
  }
});

withGo(
  'a reset of a target that also does not read is one at the other side, behind the bytes before it',
  async (t) => {
    const targets: net.Socket[] = [];
    const target = await localServer(t, (socket) => void targets.push(socket.pause()));
    const pair = await guestPair(t, { host: ['-o', 'deaf:0'], guest: ['-i', `deaf:${target.port}`] });
    const socket = localSocket(t, await pair.host.listeningPort('deaf'));
    await eventually(() => targets.length === 1);
    // More than windows and sockets hold, each way: the guest waits to write, and has bytes of the target to read.
    for (const end of [socket, ...targets]) end.pause().write(Buffer.alloc(2 ** 25));
    await eventually(() => targets[0]?.readableLength !== 0 && socket.readableLength !== 0);
    targets[0]?.resetAndDestroy();
    const outcome = outcomeOf(socket);
    socket.resume();
    t.is((await outcome).end, 'reset');
  },
);

/** The processor time of a process until now, in milliseconds, in ticks of 10. */
function processorMs(pid: number): number {
  const [, numbers = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
  const [user, system] = numbers.split(' ').slice(11, 13);
  return 10 * (Number(user) + Number(system));
}

withGo('beside 300 targets that do not read, a busy stream costs the processor time that it costs alone', async (t) => {
  const [path, busy] = [join(temporaryFolder(t), 'deaf'), await localServer(t, hashing)];
  await localServer(t, (socket) => void socket.pause(), { path, backlog: 4096 });
  const pair = await guestPair(t, {
    host: ['-o', 'deaf:0', '-o', 'busy:0'],
    guest: ['-i', `deaf:${path}`, '-i', `busy:${busy.port}`],
  });
  const { pid } = pair.guest;
  const bytes = randomBytes(2 ** 26);
  const digest = sha256(bytes);
  const cost = async (): Promise<number> => {
    const beforeMs = processorMs(pid);
    // The system counts in ticks of 10 ms; one transfer takes few of them.
    for (let count = 0; count < 8; count += 1) {
      const socket = localSocket(t, await pair.host.listeningPort('busy'));
      socket.end(bytes);
      t.is(String(await readToEnd(socket)), `${bytes.length} ${digest}`);
    }
    return processorMs(pid) - beforeMs;
  };
  const aloneMs = await cost();
  const unread = await pair.host.listeningPort('deaf');
  // More than a socket and its window hold.
  for (let count = 0; count < 300; count += 1) localSocket(t, unread).write(Buffer.alloc(2 ** 20));
  const workWhenFull = () => residentBytes(pid) > 300 * 65_536 && processorMs(pid);
  await untilStill(workWhenFull, { intervalMs: 500, timeoutMs: 60_000 });
  const besideMs = await cost();
  t.log({ aloneMs, besideMs, peakBytes: peakBytes(pid) });
  t.true(besideMs <= 3 * aloneMs, `${besideMs} ms instead of ${aloneMs}`);
  // The first credit of each, and the growth of windows; half as much again until the next collection.
  t.true(peakBytes(pid) < 1.5 * (300 * 65_536 + 2 ** 24) + 20e6, `${peakBytes(pid)} bytes`);
});

withGo('commands have input, output, a status, signals and a terminal', async (t) => {
  const { exec, start, script, env } = await execPair(t, ['--allow-exec', '--info'], { guestOptions: AS_GUEST });
  const input = 'x'.repeat(2_000_000);
  const { code, stdout, stderr } = await exec(['sh', '-c', 'cat; echo done >&2; exit 3'], input);
  t.deepEqual([code, stdout === input, stderr], [3, true, 'done\n']);
  t.is((await exec(['sh', '-c', 'kill -TERM $$'])).code, 143);
  t.is((await exec(['--', 'no-such-program'])).code, 127);
  t.is((await exec(['--timeout', '0.2', '--', 'sleep', '100'])).code, 124);
  const { stdout: screen, code: status } = await script(
    `script --quiet --return --command '$VPROXY exec -t sh -c "tty; exit 4"' /dev/null`,
  );
  t.deepEqual([status, /\/dev\/pts\/\d+/.test(screen)], [4, true]);
  const { stdout: facts } = await runVproxy(['info', '--json'], { env });
  t.is((JSON.parse(facts) as { kernel: { release: string } }).kernel.release, os.release());

  const { child } = start('sh', '-c', 'echo $$; sleep 1000');
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  child.kill('SIGKILL');
  await eventually(() => !isRunning(Number(line)));
});

for (const guestOptions of [AS_GUEST, {}]) {
  const program = guestOptions === AS_GUEST ? 'vproxy-guest' : 'vproxy';
  withGo(`${program} tells its host that its service was refused its options, and no command`, async (t) => {
    const env = { ...process.env, VPROXY_OPTIONS_REFUSED: 'last' };
    const pair = await execPair(t, ['--allow-exec', '--info'], { guestOptions: { ...guestOptions, env } });
    const { stdout } = await runVproxy(['info'], { env: pair.env });
    t.regex(stdout, /^options +VPROXY_OPTIONS was refused; the last options that worked are in effect$/m);
    t.is((await pair.exec(['sh', '-c', 'echo ${VPROXY_OPTIONS_REFUSED-unset}'])).stdout, 'unset\n');
  });
}

for (const [program, words] of [
  ['vproxy', [VPROXY]],
  ['vproxy-guest', [GUEST]],
] as const) {
  withGo(`${program} --print-config refuses what a start does before it listens`, async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'key'), 'no key', { mode: 0o600 });
    const run = (...args: string[]) =>
      runProgram(['bash', '-c', `exec ${words.join(' ')} "$@"`, 'sh', '-c', 'unix-connect:/none', ...args]);
    const refused = [
      ['-i', 'ssh'],
      // vproxy finds that out when it begins to serve.
      ...(program === 'vproxy' ? [] : [['-i', 'a:1', '-i', 'a:2']]),
      ['-i', 'port.80:80', '--announce-ports=8000-8100'],
      ['-i', 'info:1', '--info'],
      ['--info', '--no-info'],
      ['--no-storage', '--storage-socket', `${folder}/s`],
      ['--name', 'x'.repeat(257)],
      [`--allow-copy=${folder}/none`],
      ['--key', `${folder}/none`],
      ['--key', `${folder}/key`],
    ];
    for (const args of refused) {
      const [checked, started] = [await run(...args, '--print-config'), await run(...args)];
      t.is(checked.code, args[0] === '--key' ? 65 : 64, args.join(' '));
      t.is(started.code, checked.code, args.join(' '));
      t.regex(checked.stderr, /^vproxy: error: .*\n$/);
    }
    t.like(await run('-i', 'ssh:22', '-o', `x:${folder}/none/x`, '--print-config'), { code: 0, stderr: '' });
  });
}

withGo('a link named as a storage utility calls an emulator that listens on the host, or dials it', async (t) => {
  const folder = temporaryFolder(t);
  symlinkSync(GUEST, join(folder, 'storcli64'));
  const guest = ['--storage-socket', join(folder, 'storage.sock')];
  const call = async (...words: string[]) => {
    const { stdout, stderr, status } = await runWrapper(folder, words);
    return [String(stdout), stderr, status];
  };
  const listening = await FieldEmulator.readline(t, () => ({ stdout: 'out\n', stderr: 'error\n', status: 7 }));
  const first = await guestPair(t, { host: ['-i', `storage:${listening.port}`], guest });
  t.deepEqual(await call('/c0', 'show'), ['out\n', 'error\n', 7]);
  await Promise.all([first.host.stop(), first.guest.stop()]);

  const second = await guestPair(t, { host: ['-o', 'storage:0'], guest });
  FieldEmulator.dialing(t, await second.host.listeningPort('storage'));
  for (const word of ['one', 'two']) t.deepEqual(await call(word), [`${word}\n`, '', 0]);
});

withGo('kill -9 of either side ends its streams, and another session follows', async (t) => {
  const target = await localServer(t, echoBack);
  const pair = await guestPair(t, {
    host: ['-i', `echo:${target.port}`],
    guest: ['-o', 'echo:0', '-i', `echo:${target.port}`],
  });
  const port = await pair.guest.listeningPort('echo');
  t.is(await ask(t, port), 'hello');
  const socket = localSocket(t, port);
  socket.write('x');
  await once(socket, 'data');
  pair.host.kill('SIGKILL');
  t.is((await failureOf(socket)).code, 'ECONNRESET');
  await pair.host.exited;
  const from = pair.guest.lines.length;
  pair.startHost();
  await pair.established({ guest: from });
  t.is(await ask(t, port), 'hello');

  pair.guest.kill('SIGKILL');
  await pair.host.waitForLine(ENDED);
  const before = pair.host.lines.length;
  pair.startGuest();
  await pair.established({ host: before });
  t.is(await ask(t, await pair.guest.listeningPort('echo')), 'hello');
  pair.guest.kill('SIGTERM');
  t.deepEqual(await pair.guest.exited, { code: 0, signal: null });
  await pair.host.waitForLine(/\(shutdown\)/, { from: before });
});

withGo(
  'a suspended session ends after its time, or when another process takes its place, and its command with it',
  async (t) => {
    const { relay, near, far } = await CuttingRelay.between(t);
    const pair = await execPair(t, ['--allow-exec'], {
      ...{ hostPath: `${far},resume=60s`, guestPath: `${near},resume=12s`, guestOptions: AS_GUEST },
    });
    const startCommand = async (): Promise<number> => {
      const { child } = pair.start('sh', '-c', 'echo $$; sleep 1000');
      return Number(String((await once(child.stdout, 'data'))[0]));
    };
    const lost = /lost; waiting to resume \(1 stream\)/;
    const first = await startCommand();
    relay.leftBytes = 0;
    relay.cut();
    await pair.guest.waitForLine(lost);
    t.true(isRunning(first));
    await pair.guest.waitForLine(/ended: no new link within 12 s \(resume-expired\)/);
    await eventually(() => !isRunning(first));
    let from = pair.guest.lines.length;
    relay.leftBytes = Number.POSITIVE_INFINITY;
    await pair.host.waitForLine(/\(resume-refused\)/);
    await pair.established({ guest: from, host: 2 });

    const second = await startCommand();
    from = pair.guest.lines.length;
    pair.host.kill('SIGKILL');
    await pair.guest.waitForLine(lost, { from });
    await pair.host.exited;
    pair.startHost();
    await pair.guest.waitForLine(/ended: the peer restarted \(peer-restarted\)/, { from });
    await eventually(() => !isRunning(second));
  },
);

withGo('the end of standard input ends it, also while nobody reads its output', async (t) => {
  // Its flush alone is more than a pipe holds.
  const child = spawn(GUEST, ['-c', 'stdio:,frame=1048576'], { stdio: ['pipe', 'pipe', 'ignore'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'readable');
  child.stdin.end();
  t.deepEqual(await within(10_000, 'its end', once(child, 'exit')), [0, null]);
});

withGo('the log says that nothing answers on the channel, or that it echoes', async (t) => {
  const messageOf = async (event: string, serve: (socket: net.Socket) => void): Promise<string> => {
    const path = join(temporaryFolder(t), 'channel');
    await localServer(t, serve, { path });
    const guest = spawnVproxy(t, ['-c', `unix-connect:${path}`, '--log-format', 'json'], AS_GUEST);
    const { input } = await guest.waitForLine(new RegExp(`"event":"${event}"`));
    return (JSON.parse(input) as { readonly message: string }).message;
  };
  const [quiet, echoed] = await Promise.all([
    messageOf('channel-waiting', (socket) => void socket.resume()),
    messageOf('channel-echo', echoBack),
  ]);
  t.regex(quiet, /^no answer on unix-connect:.*: no vproxy at the other end yet, or another process has the channel$/);
  t.regex(echoed, /^unix-connect:.* echoes everything sent: is the line raw/);
});

withGo('variables stand in for options, and the log can be of JSON', async (t) => {
  const path = join(temporaryFolder(t), 'channel');
  const host = await startProxy(t, `unix-listen:${path}`);
  const env = {
    VPROXY_CHANNEL: `unix-connect:${path}`,
    VPROXY_NAME: 'vm7',
    VPROXY_LOG_FORMAT: 'json',
    VPROXY_LOG_LEVEL: '',
  };
  const guest = spawnVproxy(t, [], { ...AS_GUEST, env });
  await host.event('session-established');
  const line = await guest.waitForLine(/"event":"session-established"/);
  const { time, level, message } = JSON.parse(line.input) as {
    readonly time: string;
    readonly level: string;
    readonly message: string;
  };
  t.is(new Date(time).toISOString(), time);
  t.is(level, 'info');
  t.regex(message, /^session established with .* on unix-connect:/);
  t.is(host.proxy.listChannels()[0]?.session?.peer.name, 'vm7');
});

/** Too long for a unix socket. */
const LONG = `/${'x'.repeat(120)}`;

/** Command lines that both programs refuse, with the same words. */
const REFUSED = [
  '-c unix-connect:x',
  '-c unix-connect:/x,frame=1',
  '-c virtserial-open:',
  '-c vsock-connect:a:b',
  '-c vsock-listen:x',
  '-c vsock-listen:1 --allow-exec',
  '-c vsock-listen:1 --allow-copy',
  '-c vsock-listen:1 --info',
  '-c stdio: --allow-copy=',
  '-c stdio: --allow-copy=srv',
  '-c stdio: --allow-copy=/srv/..',
  '-c stdio: --allow-copy=/nonexistent/folder',
  '-c stdio:x',
  '-c stdio:,integrity=x',
  '-c stdio:,resume=1.5h',
  '-c stdio:,resume=25h',
  '-c stdio:,resume=',
  '-c stdio:,resume-memory=1023KiB',
  '-c stdio:,resume-memory=1gib',
  '-c stdio: -i ssh',
  '-c stdio: -i SSH:22',
  '-c stdio: -i ssh:70000',
  '-c stdio: -i a:1.2.3.4:x',
  '-c stdio: -o web:/x,mode=9',
  '-c stdio: --info=yes',
  '-c stdio: --name a --name b',
  '-c stdio: --announce-ports 80',
  '-c stdio: --allow-exec=',
  '-c stdio: --allow-exec=/bin/true,uname',
  '-c stdio: --log-format xml',
  '-c stdio: --announce-ports 3000 -i port.3001:22',
  '-c stdio: --key /nonexistent/key',
  '-qv -c stdio:',
  'VPROXY_CHANNEL=stdio:x',
  'VPROXY_CHANNEL=stdio: VPROXY_LOG_LEVEL=x',
  'VPROXY_CHANNEL=stdio: VPROXY_LOG_FORMAT=xml',
  'VPROXY_KEY=/nonexistent/key -c stdio:',
  '-c tty-open:/dev/null --no-storage',
  '-c A=stdio:',
  `-c ${'a'.repeat(65)}=stdio:`,
  '-c ..=stdio:',
  '-c stdio:,frame=4096,frame=4096',
  '-c tty-open:/dev/ttyS1,baud=115201',
  `-c unix-listen:${LONG}`,
  `-c stdio: -o web:${LONG}`,
  '-c virtserial-open:/dev/null --no-storage',
];

withGo('it refuses the channels and forwards that vproxy refuses', async (t) => {
  t.timeout(120_000);
  const texts = (fixture: string) => fixtureRows(fixture).flatMap(([, ...rows]) => rows);
  const lines = [
    ...texts('refused-channels.txt').map((text) => ['-c', text]),
    ...texts('refused-forwards.txt').map((text) => ['-c', 'stdio:', text.slice(0, 2), text.slice(3)]),
    ...['unix-listen:///path?frame=4096', 'unix-connect:/run/*.sock'].map((text) => ['-c', text]),
    ['-c', '-a=stdio:'],
  ];
  for (const words of lines.filter((line) => !line.join('').includes('\0'))) {
    const { code, stderr } = await runProgram([GUEST, ...words], { timeoutMs: 20_000 });
    t.deepEqual([code, /^vproxy: error: .*\n$/.test(stderr)], [64, true], `${words.join(' ')}: ${stderr}`);
  }
});

withGo('a copy of another name is no storage utility, and says what it is', async (t) => {
  const copy = join(temporaryFolder(t), 'vg');
  copyFileSync(GUEST, copy);
  t.regex((await runProgram([copy, '--version'])).stdout, /^vproxy-guest \d/);
  t.regex((await runProgram([copy, '/c0', 'show'])).stderr, /vproxy-guest/);
});

withGo('it refuses what vproxy refuses, with the same words and status', async (t) => {
  t.timeout(120_000);
  for (const line of REFUSED) {
    const isVariable = (word: string): boolean => word.startsWith('VPROXY_');
    const words = line.split(' ').filter((word) => !isVariable(word));
    const env = Object.fromEntries(
      line
        .split(' ')
        .filter(isVariable)
        .map((word) => word.split('=') as [string, string]),
    );
    const [real, guest] = await Promise.all([
      runVproxy(['--no-control', ...words], { env }),
      runProgram([GUEST, ...words], { timeoutMs: 20_000, env: { ...process.env, ...env } }),
    ]);
    const bare = guest.stderr.replace(/^\d{4}-\S+ \S+ /gm, '');
    t.deepEqual([guest.code, bare], [real.code, real.stderr], line);
  }
  for (const option of ['--forward-ports=3000', '--audit=/x']) {
    const { code, stderr } = await runProgram([GUEST, '-c', 'stdio:', option]);
    t.deepEqual([code, /^vproxy: error: .*(use vproxy|vproxy has more)/.test(stderr)], [64, true], stderr);
  }
});
