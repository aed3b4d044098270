/**
 * Random operations on many streams between vproxy and vproxy-guest, over a channel that breaks: no byte is wrong, and only a
 * reset loses any, which no fault of the channel causes with `resume`. `SEED=n` chooses the operations of an earlier run, `OPERATIONS=n` their number.
 */
import { join } from 'node:path';
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { unwrittenBytesOf } from '../../lib/system/sockets/node-sockets.js';
import { Ledger } from '../../tools/bench/soak/ledger.js';
import { Random } from '../../tools/bench/soak/random.js';
import { FaultyRelay } from '../../tools/bench/soak/relay.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, startProxy } from '../helpers/proxies.js';
import { searchRuns } from '../helpers/searches.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually, untilStill } from '../helpers/time.js';
import { spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';
import { AS_GUEST, buildGuest } from './build.js';
import { BUFFERED_BYTES, type End, SERVICES, startPrograms } from './programs.js';

const OPERATIONS = Number(process.env['OPERATIONS'] ?? searchRuns(3000));
const SEED = Number(process.env['SEED'] ?? Date.now() % 2 ** 32);

const CHANNEL_OPTIONS = ['', ',frame=4096,in-flight=16384'] as const;
const MAX_ENDS = 120;
/** How long both sides may take to work after a fault, and streams to end. */
const RECOVERY_MS = 60_000;

buildGuest();

serialTestWith('go')(`${OPERATIONS} operations at random: no wrong byte, and none lost without a reset`, async (t) => {
  t.timeout(2 * RECOVERY_MS + 100 * OPERATIONS);
  const random = new Random(SEED);
  const counts = { operations: 0, faults: 0, kills: 0 };
  const problems: string[] = [];
  const ledger = new Ledger((what) => problems.push(`operation ${counts.operations}: ${what}`));
  const now: { guest: VproxyProcess | null; recovery: Promise<void> | null } = { guest: null, recovery: null };
  const { ends, ports, open, take, work } = startPrograms(ledger, () => now.recovery !== null);
  const folder = temporaryFolder(t);
  const relay = new FaultyRelay(join(folder, 'host'), join(folder, 'guest'));
  t.teardown(() => relay.stop());
  await relay.start();
  const [up, down] = await Promise.all(SERVICES.map((service) => localServer(t, (socket) => take(service, socket))));
  const [isFull, isResumable] = [random.fraction() < 0.5, random.fraction() < 0.7];
  // In a session that does not end, streams may wait for room until they are given up.
  const last = isResumable ? ',resume=10m,resume-memory=1MiB' : ',streams=24';
  const someOptions = (): string => random.pick(CHANNEL_OPTIONS) + (isResumable || random.fraction() < 0.3 ? last : '');
  const channel = `unix-connect:${join(folder, 'host')},integrity=${isFull ? 'full' : 'frame'}`;
  const host = await startProxy(t, `${channel}${someOptions()}`, {
    ...{ outgoing: ['up:0'], incoming: [`down:${down?.port}`] },
  });
  ports.up = host.port('up');

  const launch = (): void => {
    const address = `unix-listen:${join(folder, 'guest')}${someOptions()}`;
    const words = ['-c', address, '-o', 'down:0', '-i', `up:${up?.port}`];
    const launched = spawnVproxy(t, words, AS_GUEST);
    now.guest = launched;
    ledger.countLaunch('guest');
    void launched.exited.then(() => now.guest === launched && ledger.problem(launched.lines.slice(-50).join('\n')));
    void launched.listeningPort('down').then(
      (port) => (ports.down = port),
      () => undefined,
    );
  };

  const restart = async (waitMs: number): Promise<void> => {
    const killed = now.guest;
    [now.guest, ports.down] = [null, 0];
    counts.kills += 1;
    ledger.disturb();
    ledger.countKill('guest');
    relay.holdsOpen = waitMs % 2 === 0;
    killed?.kill('SIGKILL');
    await killed?.exited;
    await delay(5 + waitMs); // its last connections are accepted
    launch();
  };

  /** Sees both sides work again after the last fault. */
  const recover = async (): Promise<void> => {
    await nextTurn(); // until its promise is kept
    const retry = setInterval(() => host.proxy.retryNow(), 20);
    const hasRecovered = async () => {
      const before = relay.isFaulty ? Number.NaN : counts.faults;
      const isBack = await work();
      // A fault may wait for more bytes than come, and a side for the end of a pause.
      if (!isBack && random.fraction() < 0.3) relay.cut();
      return problems.length > 0 || (isBack && before === counts.faults);
    };
    await eventually(hasRecovered, { timeoutMs: RECOVERY_MS, intervalMs: 1 }).catch(() => ledger.problem('no session'));
    clearInterval(retry);
    ledger.settle();
    now.recovery = null;
  };

  const disturb = (cause: () => unknown, isMangling = false): void => {
    // Two changes within a frame may keep its length, and then only checksums would show them.
    if (now.recovery !== null && (isMangling || random.fraction() < 0.7)) return;
    counts.faults += 1;
    if (!isResumable) ledger.disturb();
    for (const end of ends) end.mayBeRefused = true;
    cause();
    now.recovery ??= recover();
  };

  const finishSome = (): void => [...ends].slice(0, MAX_ENDS / 4).forEach((end) => end.finish());
  const stall = (ms: number): void => {
    relay.stall();
    setTimeout(() => relay.goOn(), ms);
  };
  const freeze = (ms: number): void => {
    now.guest?.kill('SIGSTOP');
    setTimeout(() => now.guest?.kill('SIGCONT'), ms);
  };

  /** The operations with their frequencies. */
  const acts: [weight: number, act: (end: End | undefined, amount: number) => unknown][] = [
    [120, () => (ends.size >= MAX_ENDS ? finishSome() : ports.down > 0 && open(random.pick(SERVICES)))],
    [400, (end, amount) => end?.send(amount)],
    [60, (end) => end?.finish()],
    [60, (end) => end?.socket.pause()],
    [120, (end) => end?.socket.resume()],
    [20, (end) => end?.leave(true)],
    [20, (end) => end?.leave(false)],
    [5, (_end, amount) => stall(amount % 300)],
    [5, (_end, amount) => freeze(amount % 300)],
    [6, (_end, amount) => disturb(() => (relay.bytesToCut = amount % 30_000))],
    [12, (_end, amount) => disturb(() => (relay.bytesToLose = amount % 30_000), true)],
    [8, (_end, amount) => disturb(() => (relay.bytesToRepeat = amount % 30_000), true)],
    [8, (_end, amount) => isFull && disturb(() => (relay.bytesToChange = amount % 30_000), true)],
    [1, (_end, amount) => now.guest !== null && disturb(() => restart(amount % 300))],
  ];
  const choices = acts.flatMap(([weight, act]) => Array<typeof act>(weight).fill(act));

  /** Fills two streams that nobody reads, and then ends all of them. */
  const settle = async (): Promise<void> => {
    const unread = SERVICES.map(open);
    for (const end of unread) end.send(BUFFERED_BYTES);
    await untilStill(() => unread.map(({ socket }) => unwrittenBytesOf(socket)).join(), { intervalMs: 200 });
    const areOver = () => ([...ends].forEach((end) => end.finish()), ends.size === 0);
    await eventually(areOver, { timeoutMs: RECOVERY_MS }).catch(() => ledger.problem(`${ends.size} ends do not end`));
    if (!(await work())) ledger.problem('no echo at the end');
  };

  disturb(launch);
  await now.recovery;
  while (counts.operations < OPERATIONS && problems.length === 0) {
    counts.operations += 1;
    const end = [...ends][random.integer(0, ends.size - 1)];
    const amount = random.integer(1, random.pick([10, 3000, 200_000]));
    choices[random.integer(0, choices.length - 1)]?.(end, amount);
    if (now.recovery !== null || random.fraction() < 0.1) await delay(random.integer(1, 4));
    else if (random.fraction() < 0.5) await nextTurn();
  }
  while (now.recovery !== null) await now.recovery;
  if (problems.length === 0) await settle();
  t.log(`SEED=${SEED} OPERATIONS=${OPERATIONS}`, counts, ledger.counts);
  t.deepEqual(problems, [], `SEED=${SEED} OPERATIONS=${OPERATIONS}`);
});
