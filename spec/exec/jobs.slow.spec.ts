/** `vproxy exec --detach`, `jobs`, `attach` and `jobs stop`, with both programs in the guest. */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { JobOfChannel } from '../../lib/status/types.js';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { type ProcessPair, processPair } from '../helpers/process-pair.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { runUpgrade, upgrade } from '../helpers/upgrades.js';
import { isRunning, runPiped, runVproxy } from '../helpers/vproxy-process.js';

buildGuest();

serialTestWith()('the side that runs a job is not upgraded before its end, and ends it only if forced', async (t) => {
  const pair = await processPair(t, { guest: ['--allow-exec'], control: 'both' });
  const { id, pid } = await pair.clients[0].startJob(['sleep', '1000']);
  const { code, stderr } = await runUpgrade(pair.sockets[1], ['--wait', '0']);
  t.deepEqual([code, isRunning(pid)], [1, true]);
  t.regex(stderr, new RegExp(`still cannot be handed over after 0 s: default: job ${id}\\n$`));
  const { cut } = await upgrade(t, pair.sockets[1], ['--wait', '0', '--force']);
  t.deepEqual(cut, [`default: job ${id}`]);
  await eventually(() => !isRunning(pid));
  t.deepEqual(await pair.clients[0].jobs(), []);
});

for (const [name, guestOptions, needs] of [
  ['vproxy', {}, []],
  ['vproxy-guest', AS_GUEST, ['go']],
] as const) {
  const test = serialTestWith(...needs);
  const start = (t: ExecutionContext): Promise<ProcessPair> =>
    processPair(t, { guest: ['--allow-exec'], guestOptions, control: 'host' });
  const call = (pair: ProcessPair, ...words: string[]) => runVproxy(words, { env: pair.env });

  /** Starts a job; its name. */
  async function detach(t: ExecutionContext, pair: ProcessPair, script: string, ...options: string[]): Promise<string> {
    const { code, stdout, stderr } = await call(pair, 'exec', '--detach', ...options, 'default:', 'sh', '-c', script);
    t.deepEqual([code, stderr], [0, '']);
    t.regex(stdout, /^default\/[0-9a-f]{8}\n$/);
    return stdout.trim();
  }

  const list = async (pair: ProcessPair): Promise<JobOfChannel[]> =>
    JSON.parse((await call(pair, 'jobs', '-o', 'json')).stdout) as JobOfChannel[];

  test(`${name}: a job outlives its caller, and its output can be read, from any byte, with its status`, async (t) => {
    const pair = await start(t);
    const job = await detach(t, pair, 'echo out; echo err >&2; exit 7', '--tag', 'first');
    const { code, stdout } = await call(pair, 'attach', job);
    t.deepEqual([code, stdout], [7, 'out\nerr\n']);
    t.is((await call(pair, 'attach', job, '--from', '4')).stdout, 'err\n');
    t.is((await call(pair, 'attach', job, '--tail', '2')).stdout, 'r\n');
    const short = await detach(t, pair, 'printf 0123456789', '--keep', '4');
    const missed = await call(pair, 'attach', short);
    t.deepEqual([missed.stdout, missed.stderr], ['6789', 'vproxy: 6 bytes of output dropped\n']);
    const [first] = await list(pair);
    t.like(first, { channel: 'default', id: job.slice(8), tag: 'first', status: 7, bytes: 8, keptFrom: 0 });
    t.deepEqual(first?.argv, ['sh', '-c', 'echo out; echo err >&2; exit 7']);
    t.regex((await call(pair, 'jobs')).stdout, /^JOB .*COMMAND *\ndefault\/\w{8} +first +exit 7 /);
    t.is((await call(pair, 'jobs', 'default', '-o', 'name')).stdout, `${job}\n${short}\n`);
    t.is((await call(pair, 'attach', '00000000')).code, 125);
    const { stdout: id } = await call(pair, 'exec', '-d', 'true');
    t.is((await call(pair, 'attach', id.trim())).code, 0);
    const denied = await call(pair, 'exec', '-d', 'no-such-program');
    t.deepEqual([denied.code, denied.stdout], [127, '']);
    await pair.guest.waitForLine(new RegExp(`PID \\d+, job ${job.slice(8)}: exit status 7`));
  });

  test(`${name}: a reader continues where it was, whether the link or the host's process has gone`, async (t) => {
    const pair = await start(t);
    const release = join(pair.folder, 'release');
    const job = await detach(t, pair, `seq 50000; until test -e ${release}; do sleep 0.05; done; seq 50000; exit 3`);
    const { child, output, ended } = runPiped(t, ['attach', job], pair.env);
    child.stdin.end();
    await once(child.stdout, 'data');
    const lines = pair.guest.lines.length;
    pair.host.kill('SIGKILL');
    await pair.host.exited;
    pair.startHost();
    await pair.established({ guest: lines });
    await pair.controlled();
    writeFileSync(release, '');
    const [bytes, { code, stderr }] = await Promise.all([output, ended]);
    const half = Array.from({ length: 50_000 }, (_, index) => `${index + 1}\n`).join('');
    t.is(code, 3, stderr);
    t.true(bytes.toString() === half + half, `${bytes.length} bytes`);
    t.regex(stderr, /; waiting for the job\n$/);
  });

  test(`${name}: a job and its readers outlive an upgrade of the host`, async (t) => {
    const pair = await start(t);
    const release = join(pair.folder, 'release');
    const job = await detach(t, pair, `echo before; until test -e ${release}; do sleep 0.05; done; echo after; exit 4`);
    const { child, output, ended } = runPiped(t, ['attach', job], pair.env);
    child.stdin.end();
    await once(child.stdout, 'data');
    await upgrade(t, pair.sockets[0]);
    t.like(await list(pair), [{ id: job.slice(8), endedAt: null }]);
    writeFileSync(release, '');
    const { code, stdout } = await call(pair, 'attach', job);
    t.deepEqual([code, stdout], [4, 'before\nafter\n']);
    const [bytes, { code: readerCode, stderr }] = await Promise.all([output, ended]);
    t.deepEqual([readerCode, bytes.toString()], [4, 'before\nafter\n'], stderr);
  });

  test(`${name}: jobs that run and keep 64 MiB of output leave no room for others`, async (t) => {
    const { clients } = await start(t);
    const [host] = clients;
    for (let count = 0; count < 4; count += 1) await host.startJob(['sleep', '1000'], { keepBytes: 2 ** 24 });
    const message = 'no room to keep 1 bytes of output: 4 jobs run and keep 67108864 (max 64 jobs, 67108864 bytes)';
    await t.throwsAsync(host.startJob(['true'], { keepBytes: 1 }), { code: 'too-many-streams', message });
    const [first, ...others] = await host.jobs();
    await host.stopJob(first?.id ?? '');
    const { id } = await host.startJob(['sleep', '1000'], { keepBytes: 2 ** 24 });
    t.deepEqual(
      (await host.jobs()).map((job) => job.id),
      [...others.map((job) => job.id), id],
    );
  });

  test(`${name}: a job is stopped, alone or with its vproxy`, async (t) => {
    const pair = await start(t);
    const [one, other] = [await detach(t, pair, 'exec sleep 1000'), await detach(t, pair, 'exec sleep 1000')];
    const pid = (await list(pair))[1]?.pid ?? 0;
    const stopped = await call(pair, 'jobs', 'stop', one);
    t.deepEqual([stopped.code, stopped.stdout], [0, `${one}: SIGTERM\n`]);
    t.is((await call(pair, 'attach', one)).code, 143);
    t.true(isRunning(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep'));
    pair.guest.kill('SIGTERM');
    await pair.guest.exited;
    t.false(isRunning(pid));
    t.true(pair.guest.lines.some((line) => line.includes(`job ${other.slice(8)}: SIGTERM`)));
  });
}
