/** `vproxy freeze` and `vproxy thaw`, with both programs in the guest, on ext4 on loop devices. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { temporaryFolder } from '../helpers/files.js';
import { ProcessPair, processPair } from '../helpers/process-pair.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { runUpgrade, upgrade } from '../helpers/upgrades.js';
import { ESTABLISHED, runVproxy } from '../helpers/vproxy-process.js';

buildGuest();

/** An ext4, and one on a file in it; thawed and unmounted after the test. */
function mountTwo(t: ExecutionContext): readonly [outer: string, inner: string] {
  const folder = temporaryFolder(t);
  const mount = (image: string, place: string): string => {
    writeFileSync(image, '');
    truncateSync(image, image.includes('outer') ? 32 << 20 : 8 << 20);
    execFileSync('mkfs.ext4', ['-q', image]);
    mkdirSync(place);
    execFileSync('mount', ['-o', 'loop', image, place]);
    // The device of the inner one lets go of its file only after a moment.
    t.teardown(() => eventually(() => spawnSync('umount', [place]).status === 0, { what: `an unmounted ${place}` }));
    t.teardown(() => spawn('fsfreeze', ['-u', place], { stdio: 'ignore' }));
    return place;
  };
  const outer = mount(join(folder, 'outer.img'), join(folder, 'outer'));
  return [outer, mount(join(outer, 'inner.img'), join(folder, 'inner'))];
}

/** Writes a file there; resolves when that waits in the kernel. */
async function writeIn(place: string): Promise<{ readonly written: Promise<unknown> }> {
  const child = spawn('sh', ['-c', 'echo written > "$1/file"', 'sh', place]);
  const written = once(child, 'exit');
  const waits = () => readFileSync(`/proc/${child.pid}/stat`, 'utf8').includes(') D ');
  await eventually(waits, { what: 'a writer that waits' });
  return { written };
}

/** The states of the threads of a process. */
const threadsOf = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/task`).map(
    (id) => /\) (\S)/.exec(readFileSync(`/proc/${pid}/task/${id}/stat`, 'utf8'))?.[1] ?? '',
  );

/** Signals all processes that freeze this; it may be thawed by then. */
const pkill = (signal: string, place: string) =>
  spawnSync('pkill', [`-${signal}`, '-f', `(vproxy-|fs)freeze .*${place}`]);

/** Adds a hook, only for what follows. */
const WITH_HOOK = `
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
mkdir -p /etc/vproxy/freeze.d
printf '#!/bin/sh\\n%s\\n' "$2" > /etc/vproxy/freeze.d/10-report
chmod 755 /etc/vproxy/freeze.d/10-report
`;

/** Runs a command as a user with capabilities, as a unit with AmbientCapabilities= does, with a hook, once a file exists. */
const AS_NOBODY = `${WITH_HOOK}
until [ -e "$3" ]; do sleep 0.01; done
shift 3
given=+sys_time,+sys_admin,+dac_read_search
exec setpriv --reuid nobody --regid nogroup --clear-groups --no-new-privs --inh-caps "$given" --ambient-caps "$given" "$@"
`;

for (const [name, guestOptions] of [
  ['vproxy', {}],
  ['vproxy-guest', AS_GUEST],
] as const) {
  const withLoop = serialTestWith('root', 'loop', 'go');
  const start = (t: ExecutionContext): Promise<ProcessPair> =>
    processPair(t, { control: 'host', guest: ['--allow-freeze', '--allow-copy'], guestOptions });
  const call = (pair: ProcessPair, ...words: string[]) => runVproxy(words, { env: pair.env });

  withLoop(
    `${name}: writes wait, the nested file system is frozen first, a second freeze is refused, a thaw lets go`,
    async (t) => {
      const [outer, inner] = mountTwo(t);
      const pair = await start(t);
      const frozen = await call(pair, 'freeze', outer, inner, '--for', '60', '--json');
      t.deepEqual(JSON.parse(frozen.stdout), { channel: 'default', paths: [inner, outer], forS: 60 });
      const { written } = await writeIn(inner);
      const again = await call(pair, 'freeze', inner);
      t.deepEqual([again.code, /already/.test(again.stderr)], [74, true], again.stderr);
      const thawed = await call(pair, 'thaw');
      t.is(thawed.code, 0, thawed.stderr);
      t.deepEqual(await written, [0, null]);
      await pair.guest.waitForLine(/thawed file systems after .* \(asked\)/);
      t.is((await call(pair, 'thaw')).code, 69);
    },
  );

  withLoop(`${name}: thaws by itself when its time is over, and the command around it fails`, async (t) => {
    const [outer] = mountTwo(t);
    const pair = await start(t);
    const script = `echo written > ${outer}/file; exit 3`;
    const { code, stderr } = await call(pair, 'freeze', outer, '--for', '1', '--', 'sh', '-c', script);
    t.deepEqual([code, /thawed by itself/.test(stderr)], [74, true], stderr);
    t.is((await call(pair, 'freeze', outer, '--', 'sh', '-c', 'exit 3')).code, 3);
    const none = await call(pair, 'freeze', `${outer}/none`);
    t.deepEqual([none.code, /not a mount point/.test(none.stderr)], [74, true], none.stderr);
  });

  withLoop(
    `${name}: what was frozen is thawed, whatever is mounted over it or over its folder, also if what holds it is killed`,
    async (t) => {
      const [outer, inner] = mountTwo(t);
      const pair = await start(t);
      for (const place of [outer, dirname(outer)])
        for (const isKilled of [false, true]) {
          t.is((await call(pair, 'freeze', outer, inner, '--for', '60')).code, 0);
          const { written } = await writeIn(inner);
          t.regex(spawnSync('umount', [inner], { encoding: 'utf8' }).stderr, /busy/);
          execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', place]);
          if (isKilled) pkill('KILL', outer);
          const thawed = await call(pair, 'thaw');
          t.deepEqual([thawed.code, /killed/.test(thawed.stderr)], [isKilled ? 74 : 0, isKilled], thawed.stderr);
          execFileSync('umount', [place]);
          t.deepEqual(await written, [0, null]);
        }
    },
  );

  withLoop(`${name}: a file system that another program has thawed is named, and the freeze failed`, async (t) => {
    const [outer, inner] = mountTwo(t);
    const pair = await start(t);
    const { code, stderr } = await call(pair, 'freeze', outer, inner, '--', 'fsfreeze', '--unfreeze', outer);
    t.is(code, 74);
    t.true(stderr.includes(`${outer}: another program had thawed it`), stderr);
    await pair.guest.waitForLine(/freeze of file systems failed.*another program/);
    t.is((await call(pair, 'freeze', outer, inner, '--', 'true')).code, 0);
  });

  withLoop(`${name}: keeps its capabilities from what it starts, except what freezes`, async (t) => {
    const [outer] = mountTwo(t);
    const [folder, reports] = [temporaryFolder(t), temporaryFolder(t)];
    for (const each of [folder, reports]) chmodSync(each, 0o777);
    const report = `cat /proc/self/status > ${reports}`;
    const [hostPath, open] = [join(folder, 'c'), join(folder, 'open')];
    const overlay = temporaryFolder(t);
    const launcher = ['unshare', '--mount', 'sh', '-euc', AS_NOBODY, 'sh', overlay, `${report}/hook`, open];
    writeFileSync(join(folder, 'getent'), `#!/bin/sh\n${report}/getent\nexec /usr/bin/getent "$@"\n`, { mode: 0o755 });
    const env = { PATH: `${folder}:${process.env['PATH']}` };
    // vproxy-guest has neither of these, and asks no getent.
    const own = [
      `-i`,
      'default/told:exec:cat /proc/self/status',
      '-c',
      `other=exec:${report}/channel; cat > /dev/null`,
      '--control',
      join(folder, 'guest.sock'),
    ];
    const pair = new ProcessPair(t, {
      ...{ control: 'host', hostPath, guestOptions: { ...guestOptions, launcher, env } },
      guest: ['--allow-exec', '--allow-freeze', '--reseed', ...(name === 'vproxy' ? own : [])],
    });
    // Before this line, vproxy may still set the mode of its socket.
    await pair.host.waitForLine(/waiting for the peer on/);
    chmodSync(hostPath, 0o777);
    writeFileSync(open, '');
    await pair.host.waitForLine(ESTABLISHED);
    await pair.controlled();
    const frozen = await call(pair, 'freeze', outer, '--', 'true');
    t.is(frozen.code, 0, frozen.stderr);
    const status = ['cat', '/proc/self/status'];
    const { stdout: job } = await call(pair, 'exec', '--detach', 'default:', ...status);
    const told = [
      (await pair.exec(['-n', '-u', 'nobody', '--', ...status])).stdout,
      (await pair.exec(['-t', '-n', '--', ...status])).stdout,
      (await call(pair, 'attach', job.trim())).stdout,
    ];
    if (name === 'vproxy') told.push((await pair.script('$VPROXY connect told < /dev/null')).stdout);
    const files = ['hook', ...(name === 'vproxy' ? ['channel', 'getent'] : [])];
    for (const file of files) told.push(readFileSync(join(reports, file), 'utf8'));
    if (name === 'vproxy') {
      // A command of its user may ask for it, and have it run what that user has put somewhere: /bin/sh a script in its folder.
      const refused = await runUpgrade(join(folder, 'guest.sock'), ['--program', '/bin/sh']);
      t.deepEqual([refused.code, /it would get capabilities/.test(refused.stderr)], [1, true], refused.stderr);
      // A successor has the same ones, and keeps them as well.
      await upgrade(t, join(folder, 'guest.sock'));
      const again = await call(pair, 'freeze', outer, '--', 'true');
      t.is(again.code, 0, again.stderr);
      told.push((await pair.exec(['-n', '--', ...status])).stdout, readFileSync(join(reports, 'hook'), 'utf8'));
    }
    for (const text of told) t.deepEqual(text.match(/^Cap(?:Inh|Prm|Eff|Amb):\s*0+\s*$/gm)?.length, 4, text);
    t.deepEqual(
      pair.guest.lines.filter((line) => /warn|error(?!: not upgraded)/.test(line)),
      [],
    );
  });

  withLoop(`${name}: a stop leaves a hook that runs after the thaw alone`, async (t) => {
    const [outer] = mountTwo(t);
    const [overlay, report] = [temporaryFolder(t), temporaryFolder(t)];
    const hook = `[ $1 = freeze ] || { : > ${report}/begun; until [ -e ${report}/go ]; do sleep 0.02; done; : > ${report}/done; }`;
    const launcher = ['unshare', '--mount', 'sh', '-euc', `${WITH_HOOK} shift 2; exec "$@"`, 'sh', overlay, hook];
    const options = { ...guestOptions, launcher };
    const pair = await processPair(t, { control: 'host', guest: ['--allow-freeze'], guestOptions: options });
    const has = (file: string) => eventually(() => existsSync(join(report, file)), { what: file });
    const frozen = call(pair, 'freeze', outer, '--', 'true');
    await has('begun');
    pair.guest.kill('SIGTERM');
    await pair.guest.exited;
    writeFileSync(join(report, 'go'), '');
    await has('done');
    // It could not say that all went well.
    t.not((await frozen).code, 0);
  });

  withLoop(`${name}: thaws when it is killed, and when what holds it is killed or stopped`, async (t) => {
    const [outer, inner] = mountTwo(t);
    const [file, large] = [join(temporaryFolder(t), 'file'), Buffer.alloc(8 << 20, 'x')];
    writeFileSync(file, large);
    for (const [isCopying, kill] of [
      [false, (pair: ProcessPair) => pair.guest.kill('SIGKILL')],
      // One of its threads waits in a write.
      [true, (pair: ProcessPair) => pair.guest.kill('SIGKILL')],
      [false, () => pkill('KILL', outer)],
      // As a service manager does when vproxy was killed.
      [
        false,
        (pair: ProcessPair) => {
          pair.guest.kill('SIGKILL');
          pkill('TERM', outer);
        },
      ],
      [
        false,
        (pair: ProcessPair) => {
          pkill('STOP', outer);
          void call(pair, 'thaw');
        },
      ],
    ] as const) {
      const pair = await start(t);
      t.is((await call(pair, 'freeze', outer, inner, '--for', '60')).code, 0);
      const copied = isCopying ? call(pair, 'copy', file, `:${outer}/copied`) : null;
      if (isCopying) await eventually(() => threadsOf(pair.guest.pid).includes('D'), { what: 'a thread that waits' });
      const { written } = await writeIn(outer);
      const beganMs = performance.now();
      kill(pair);
      await written;
      t.log(`${Math.round(performance.now() - beganMs)} ms`);
      t.true(performance.now() - beganMs < 30_000, 'thawed only when its time was over');
      await copied;
    }
  });
}

serialTestWith('root', 'loop')(
  'vproxy freeze with a command, over an upgrade: status 74, with that of the command',
  async (t) => {
    const [outer] = mountTwo(t);
    const pair = await processPair(t, { control: 'host', guest: ['--allow-freeze'] });
    const fifo = join(temporaryFolder(t), 'fifo');
    execFileSync('mkfifo', [fifo]);
    const frozen = runVproxy(['freeze', outer, '--for', '1', '--', 'sh', '-c', `cat ${fifo}; exit 3`], {
      env: pair.env,
    });
    await pair.guest.waitForLine(/freezing/);
    await upgrade(t, pair.sockets[0]);
    writeFileSync(fifo, '');
    const { code, stderr } = await frozen;
    t.deepEqual([code, /thawed by itself.*command ended with status 3/.test(stderr)], [74, true], stderr);
  },
);
