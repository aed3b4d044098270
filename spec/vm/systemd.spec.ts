/** Debian's package in a guest whose init is systemd: installed, used, unplugged, upgraded, and purged without a trace. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

import test from 'ava';
import type { MachineInfo } from '../../lib/status/types.js';
import { readDocument } from '../documents/document-list.js';
import { parseDocument } from '../documents/parse-document.js';
import { PROJECT_ROOT } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';
import { ENDED, ESTABLISHED, runVproxy, TAKING_CONTROL, VproxyProcess } from '../helpers/vproxy-process.js';
import { eventuallyInGuest } from './rig/agent.js';
import { SHARED_FOLDER } from './rig/guest.js';
import { PORT_NAME } from './rig/guest-options.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { emulatedReply, HostSide } from './rig/host-side.js';
import { buildPackages } from './rig/make-package.js';
import { DEBIAN_KEY, DEBIAN_SYSTEM, RIG_FOLDER, RIG_PROGRAMS } from './rig/systemd-initramfs.js';
import { useGuest } from './rig/use-guest.js';

const VERSIONS = ['0.0.1-1', '0.0.1-2', '0.0.1-3'] as const;
const UNIT = `vproxy-guest@${PORT_NAME}.service`;
const DROP_IN = '/etc/systemd/system/vproxy-guest@.service.d/exec.conf';
const UTILITY = '/usr/sbin/storcli64';

const TEST_MS = 900_000;
const INSTALL_MS = 500_000;
/** A start of the executable under emulation, on a busy machine. */
const START_MS = 120_000;
const CONNECTIONS = 10;
/** Before a line is sent again, so that emulated processors have time for the upgrade. */
const LINE_MS = 1_000;

/**
 * An echo behind two more services of the package: `vproxy@near` listens here as a host does, and has its sessions with
 * `vproxy@far`.
 */
const DISTANT_PORT = 9107;

let packages: string[] = [];
let hostSide: HostSide | undefined;

const guest = useGuest(test, {
  plan: (folder) => {
    packages = buildPackages(folder, VERSIONS);
    writeFileSync(join(folder, 'host.key'), `${DEBIAN_KEY}\n`, { mode: 0o600 });
    return { system: DEBIAN_SYSTEM };
  },
  whenFailed: async () => {
    const journal = await guest().agent.output(
      "journalctl --no-pager -n 400 -u 'vproxy*' | grep -v ': stream ' | tail -n 60",
    );
    return `${journal}\n\nvproxy on the host:\n${hostSide?.vproxy.lines.join('\n') ?? ''}`;
  },
});

test.serial.before('the host has a vproxy with a key', async (t) => {
  t.timeout(TEST_MS);
  const { channelPath, folder } = guest();
  await guest().addFiles(...packages);
  const args = ['--key', join(folder, 'host.key'), '--control', join(folder, 'host.sock')];
  hostSide = await HostSide.start(`unix-connect:${channelPath}`, [...args, '-o', 'distant:127.0.0.1:0']);
});

test.serial.after.always('the vproxy of the host is stopped', () => hostSide?.stop());

/** A channel whose socket is not there: what a look finds is an attempt, or the wait for the next one. */
const TRYING = /^vm1 +(?:backing-off|opening) /m;
const FAILED_TO_OPEN = /^no session, backing-off: unix-connect:\/run\/vm1\.sock is missing \(ENOENT\)/;

const host = (): HostSide => {
  if (hostSide === undefined) throw new Error('the host has no vproxy');
  return hostSide;
};
const run = (command: string, timeoutMs = 60_000) => guest().agent.output(command, { timeoutMs });
const show = (property: string, unit = UNIT) => run(`systemctl show --value -p ${property} ${unit}`);
const becomes = (state: string, unit = UNIT) =>
  eventuallyInGuest(async () => (await show('ActiveState', unit)) === state, {
    timeoutMs: START_MS,
    what: `${unit} ${state}`,
  });
const sessionFrom = (from: number) => host().vproxy.waitForLine(ESTABLISHED, { from, timeoutMs: START_MS });

/** Whether the host's log has the end of a session in line `from` or a later one. */
const hasEndedSince = (from: number): boolean =>
  host()
    .vproxy.lines.slice(from)
    .some((line) => ENDED.test(line));

/** The wrapper, under the name of a utility, through guest and host. */
async function checkStorage(t: { deepEqual: (actual: unknown, expected: unknown) => unknown }): Promise<void> {
  const argv = [UTILITY, '/c0', 'show', 'all'];
  t.deepEqual(await guest().agent.run(argv.join(' ')), emulatedReply('listening', argv));
}

test.serial(
  'the package installs, and the service of the port is ready and has a session, with the key of SMBIOS',
  async (t) => {
    t.timeout(TEST_MS);
    t.is(await run('systemctl is-system-running'), 'running');
    await run(`dpkg -i ${SHARED_FOLDER}/${basename(packages[0] ?? '')}`, INSTALL_MS);
    await becomes('active');
    await sessionFrom(0);
    await eventuallyInGuest(async () => (await show('StatusText')).startsWith('session with '), { what: 'the status' });
    t.is(await run(`stat -c %U /proc/$(systemctl show --value -p MainPID ${UNIT})`), 'vproxy');
    t.regex(await run('vproxy channels --json'), new RegExp('"key": "[0-9a-f]{8}"'));
    t.is(await show('NRestarts'), '0');
    // Nothing of a host is configured here.
    t.is(await run('systemctl is-enabled vproxy.service vproxy.socket'), 'enabled\nenabled');
    t.is(await show('ActiveState', 'vproxy.service'), 'inactive');
    t.regex(host().vproxy.lines.join('\n'), /session with guest/);
  },
);

/** A command of the host, for its vproxy: what it printed on both, and its status. */
async function onHost(...words: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { stdout, stderr, code } = await runVproxy(words, {
    env: { VPROXY_SOCKET: join(guest().folder, 'host.sock') },
  });
  return { code: code ?? -1, stdout, stderr };
}

test.serial('the guest tells its host what it is; as root also how far it is with booting', async (t) => {
  t.timeout(TEST_MS);
  const told = JSON.parse((await onHost('info', '--json')).stdout) as MachineInfo;
  t.like(told, { hostName: await run('cat /etc/hostname'), os: { id: 'debian', versionId: '12' } });
  t.is(told.bootId, await run('cat /proc/sys/kernel/random/boot_id'));
  t.is(told.disks[0]?.mountPoint, '/');
  t.true(told.interfaces.some(({ addresses }) => addresses.includes('127.0.0.1/8')));
  // There is no D-Bus in this guest.
  t.is(told.boot.systemd, 'unknown');
  t.regex(told.boot.systemdError ?? '', /bus/i);
  t.regex(
    (await guest().agent.run('vproxy info', { timeoutMs: 60_000 })).stderr,
    /the peer tells nothing of its machine/,
  );

  const folder = `/run/systemd/system/${UNIT}.d`;
  const restart = async (command: string) => {
    const from = host().vproxy.lines.length;
    await run(`${command}; systemctl daemon-reload; systemctl restart ${UNIT}`, START_MS);
    await sessionFrom(from);
  };
  await restart(`mkdir ${folder}; printf '[Service]\\nUser=root\\n' > ${folder}/root.conf`);
  t.deepEqual(await onHost('wait', '--booted', '--timeout', '60'), { code: 0, stdout: '', stderr: '' });
  await run('systemd-run --quiet --unit=broken false');
  await eventuallyInGuest(async () => (await show('ActiveState', 'broken.service')) === 'failed', {
    what: 'a failed unit',
  });
  t.deepEqual(await onHost('wait', '--booted', '--timeout', '60'), {
    code: 1,
    stdout: '',
    stderr: 'vproxy: default: systemd is degraded: broken.service failed\n',
  });
  await run('systemctl reset-failed');
  await restart(`rm -r ${folder}`);
});

test.serial('the storage wrapper answers under the name of a utility', async (t) => {
  t.timeout(TEST_MS);
  t.is(await run('vproxy storage link storcli64'), `${UTILITY} -> /usr/bin/vproxy-storage`);
  await checkStorage(t);
});

test.serial('the port is unplugged, and plugged in again: the service follows', async (t) => {
  t.timeout(TEST_MS);
  const from = host().vproxy.lines.length;
  await guest().unplugPort();
  await becomes('inactive');
  t.is(await run('ls /dev/virtio-ports'), 'rig.agent');
  t.not(
    (await guest().agent.run(`${UTILITY} /c0 show all`, { timeoutMs: 60_000 })).status,
    emulatedReply('listening', []).status,
  );
  await guest().plugPort();
  await becomes('active');
  await sessionFrom(from);
  await checkStorage(t);
  t.is(await run('systemctl is-system-running'), 'running');
});

test.serial('a process that stands still is ended, and another one does its work', async (t) => {
  t.timeout(TEST_MS);
  const folder = `/run/systemd/system/${UNIT}.d`;
  const text = '[Service]\\nWatchdogSec=10\\nTimeoutAbortSec=1\\n';
  await run(
    `mkdir ${folder}; printf '${text}' > ${folder}/watchdog.conf; systemctl daemon-reload; systemctl restart ${UNIT}`,
    START_MS,
  );
  const process = await show('MainPID');
  const from = host().vproxy.lines.length;
  await run(`kill -STOP ${process}`);
  await eventuallyInGuest(async () => (await show('NRestarts')) !== '0', { timeoutMs: START_MS, what: 'a restart' });
  await run(`rm -r ${folder}; systemctl daemon-reload`);
  await becomes('active');
  t.not(await show('MainPID'), process);
  await sessionFrom(from);
  t.regex(await run(`journalctl -u ${UNIT} -o cat`), /Watchdog timeout/);
});

/** Starts an echo in the guest, and has three services of the package run, one behind the other. */
async function startDistantServices(): Promise<void> {
  const configs = {
    near: ['address = "unix-connect:/run/vproxy/channel.sock"', `outgoing = ["echo:127.0.0.1:${DISTANT_PORT}"]`],
    far: ['address = "unix-listen:/run/vproxy/channel.sock"', `incoming = ["echo:127.0.0.1:${GUEST_PORTS.echo}"]`],
  };
  for (const [name, lines] of Object.entries(configs)) {
    const text = Buffer.from(`[channels.default]\n${lines.join('\n')}\n`).toString('base64');
    await run(`echo ${text} | base64 -d > /etc/vproxy/${name}.toml`);
  }
  const services = await guest().agent.spawn([`${RIG_FOLDER}/node`, `${RIG_PROGRAMS}/services.js`]);
  await eventuallyInGuest(async () => (await services.log()) === 'ready', { what: 'the services of the guest' });
  await run('systemctl start vproxy@far vproxy@near', START_MS);
  await run(`echo 'VPROXY_OPTIONS="-i distant:127.0.0.1:${DISTANT_PORT}"' > /etc/default/vproxy-guest`);
  const before = host().vproxy.lines.length;
  await run(`systemctl restart ${UNIT}`, START_MS);
  await sessionFrom(before);
}

/** A connection to the echo, on which each line is sent when the one before it has come back, until `finish`. */
class Exchange {
  /** How many lines have come back. */
  count = 0;
  /** Resolves when the last line has come back. Rejects where a line is missing, or another one comes. */
  readonly ended: Promise<void>;
  #isFinished = false;

  constructor(port: number) {
    this.ended = this.#run(connect(port, '127.0.0.1'));
    this.ended.catch(() => undefined);
  }

  finish(): void {
    this.#isFinished = true;
  }

  async #run(socket: Socket): Promise<void> {
    const text = () => `line ${this.count}`;
    socket.write(`${text()}\n`);
    for await (const line of createInterface({ input: socket })) {
      if (line !== text()) throw new Error(`"${line}" came in place of "${text()}"`);
      this.count += 1;
      if (this.#isFinished) return void socket.destroy();
      await delay(LINE_MS);
      socket.write(`${text()}\n`);
    }
    throw new Error(`the connection ended behind ${this.count} lines`);
  }
}

test.serial(
  `the package is upgraded in the midst of ${CONNECTIONS} exchanges through three of its services, and none of them notices`,
  async (t) => {
    t.timeout(TEST_MS);
    await startDistantServices();
    const port = await host().vproxy.listeningPort('distant');
    const exchanges = Array.from({ length: CONNECTIONS }, () => new Exchange(port));
    const progress = async () => {
      const before = exchanges.map(({ count }) => count);
      const areOn = () => exchanges.every(({ count }, index) => count > (before[index] ?? 0));
      const failed = Promise.race(exchanges.map(({ ended }) => ended));
      await Promise.race([eventually(areOn, { timeoutMs: START_MS, what: 'a line of each' }), failed]);
    };
    await progress();
    const from = host().vproxy.lines.length;
    const units = [UNIT, 'vproxy@near.service', 'vproxy@far.service'];
    const processes = () => Promise.all(units.map((unit) => show('MainPID', unit)));
    const before = await processes();
    // Edited files are kept.
    const output = await run(
      `dpkg --force-confold -i ${SHARED_FOLDER}/${basename(packages[1] ?? '')} 2>&1`,
      INSTALL_MS,
    );
    t.regex(output, /Unpacking vproxy \(0\.0\.1-2\) over \(0\.0\.1-1\)/);
    for (const unit of units) {
      t.regex(output, new RegExp(`^${unit} runs the new program, and has kept its connections\\.$`, 'm'));
      t.is(await show('ActiveState', unit), 'active');
      t.is(await show('NRestarts', unit), '0');
    }
    for (const [index, process] of (await processes()).entries()) t.not(process, before[index]);
    await progress();
    for (const exchange of exchanges) exchange.finish();
    await t.notThrowsAsync(Promise.all(exchanges.map(({ ended }) => ended)));
    t.false(hasEndedSince(from));
    t.is(await run(`stat -c %U /proc/$(systemctl show --value -p MainPID ${UNIT})`), 'vproxy');
    await checkStorage(t);
    t.is(await run('dpkg-query -W -f "\\${Version} \\${db:Status-Status}" vproxy'), '0.0.1-2 installed');
  },
);

/** Calls the echo behind `vproxy@near` again and again, until there is a file: one line of how many were answered, and how many refused. */
const CALLER = `
  const { existsSync } = require('node:fs');
  const { connect } = require('node:net');
  let answered = 0;
  let refused = 0;
  const call = () => {
    if (existsSync('/run/calls-end')) return console.log(JSON.stringify({ answered, refused }));
    let text = '';
    const socket = connect(${DISTANT_PORT}, '127.0.0.1', () => socket.end('hello'));
    socket.on('data', (chunk) => (text += chunk));
    socket.on('error', ({ code }) => (refused += code === 'ECONNREFUSED'));
    socket.on('close', () => {
      answered += text === 'hello';
      setTimeout(call, 50);
    });
  };
  call();
`;

test.serial('a service is restarted, and systemd keeps what it listens on: nobody is refused', async (t) => {
  t.timeout(TEST_MS);
  const unit = 'vproxy@near.service';
  // The control socket, and that of the forward.
  t.is(await show('NFileDescriptorStore', unit), '2');
  const before = await show('MainPID', unit);
  const callers = await guest().agent.spawn([`${RIG_FOLDER}/node`, '-e', CALLER]);
  for (let restart = 1; restart <= 2; restart += 1) await run(`systemctl restart ${unit}`, START_MS);
  t.not(await show('MainPID', unit), before);
  t.is(await show('NRestarts', unit), '0');
  await run('touch /run/calls-end');
  await eventuallyInGuest(async () => (await callers.log()) !== '', {
    timeoutMs: START_MS,
    what: 'the end of the calls',
  });
  const { answered, refused } = JSON.parse(await callers.log()) as { answered: number; refused: number };
  // One that is under way at a restart may be reset.
  t.is(refused, 0);
  t.true(answered > 2);
  await run(
    'systemctl stop vproxy@near vproxy@far; rm /run/calls-end /etc/vproxy/near.toml /etc/vproxy/far.toml',
    START_MS,
  );
});

test.serial(
  'the services of a host run, shut in as they are; a request starts the one that has a socket',
  async (t) => {
    t.timeout(TEST_MS);
    const channel = '[channels.vm1]\\naddress = "unix-connect:/run/vm1.sock"\\n';
    await run(`for name in host vm1; do printf '${channel}' > /etc/vproxy/$name.toml; done`);
    await run('systemctl start vproxy.socket vproxy@vm1', START_MS);
    t.is(await show('ActiveState', 'vproxy.service'), 'inactive');
    t.is(await run('stat -c "%U %G %a" /run/vproxy/host.sock'), 'vproxy vproxy 660');
    // Members of the group may connect, others may not.
    const asNobody = (group: string) =>
      guest().agent.run(
        `setpriv --reuid nobody --regid ${group} --clear-groups vproxy status --socket /run/vproxy/host.sock`,
        { timeoutMs: START_MS },
      );
    t.is((await asNobody('nogroup')).status, 77);
    const { stdout, status } = await asNobody('vproxy');
    t.is(status, 0);
    t.regex(stdout, TRYING);
    t.is(await show('ActiveState', 'vproxy.service'), 'active');
    for (const unit of ['vproxy.service', 'vproxy@vm1.service']) {
      await eventuallyInGuest(async () => FAILED_TO_OPEN.test(await show('StatusText', unit)), {
        what: `the status of ${unit}`,
      });
    }
    t.regex(await run('vproxy status --name vm1'), TRYING);
    await run('systemctl reload vproxy.service', START_MS);
    const log = await run('journalctl -u vproxy.service -p info -o cat');
    t.regex(log, /^vproxy: taking control requests at the socket that systemd has handed over/m);
    t.regex(log, /^vproxy: reloaded/m);
    await run('systemctl restart vproxy.service', START_MS);
    t.is(await show('Result', 'vproxy.service'), 'success');
    t.is(await run('systemctl is-system-running'), 'running');
  },
);

/** Lets the host run commands in the guest as root. */
async function allowCommands(): Promise<void> {
  await run("echo 'VPROXY_OPTIONS=--allow-exec' > /etc/default/vproxy-guest");
  // The guest does not have the files of packages in /usr/share/doc.
  const exec = readFileSync(join(PROJECT_ROOT, 'packaging/systemd/drop-ins/guest-exec.conf')).toString('base64');
  await run(`mkdir ${dirname(DROP_IN)}; echo ${exec} | base64 -d > ${DROP_IN}`);
  await run(`systemctl daemon-reload; systemctl restart ${UNIT}`, START_MS);
}

/** `vproxy exec` on the host. Rejects where its status is not 0. */
async function execInGuest(...words: readonly string[]): Promise<string> {
  const options = ['exec', '--socket', join(guest().folder, 'host.sock'), '--no-stdin'];
  const args = [join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), ...options, ...words];
  return (await promisify(execFile)(process.execPath, args, { timeout: INSTALL_MS })).stdout;
}

test.serial('an upgrade by vproxy exec is complete, and what runs is the new program afterwards', async (t) => {
  t.timeout(2 * TEST_MS);
  const before = host().vproxy.lines.length;
  await allowCommands();
  await sessionFrom(before);
  const file = `./${basename(packages[2] ?? '')}`;
  const program = async () => run(`readlink /proc/$(systemctl show --value -p MainPID ${UNIT})/exe || true`);
  const process = await show('MainPID');
  const from = host().vproxy.lines.length;
  const upgrade = `apt-get install --yes -o Dpkg::Options::=--force-confold ${file}`;
  // What restarts the service is there already, and waits for the end of the command.
  const restarts = "systemctl list-units --plain --no-legend 'vproxy-restart-*' | grep vproxy-restart";
  const output = await execInGuest(
    '--cwd',
    SHARED_FOLDER,
    '--',
    'sh',
    '-c',
    `${upgrade} && ${restarts} && echo behind it`,
  );
  t.regex(output, /^vproxy-guest@org\.vproxy\.0\.service runs the new program as soon as the command has ended/m);
  t.regex(output, /^behind it$/m);
  t.is(await run('dpkg-query -W -f "\\${Version} \\${db:Status-Status}" vproxy'), '0.0.1-3 installed');
  t.is(await run('dpkg --audit'), '');
  await eventuallyInGuest(async () => (await show('MainPID')) !== process && (await program()) === '/usr/bin/vproxy', {
    timeoutMs: START_MS,
    what: 'the new program',
  });
  t.is(await show('ActiveState'), 'active');
  t.is(await execInGuest('echo', 'hello'), 'hello\n');
  t.false(hasEndedSince(from));
  await eventuallyInGuest(
    async () => (await run("systemctl list-units --plain --no-legend 'vproxy-restart-*'")) === '',
    {
      what: 'the end of what restarts',
    },
  );
  // Of a main process that is not its child systemd does not wait for the end.
  t.notRegex(await run('journalctl -o cat --grep Supervising || true'), /not our child/);
  t.is(await run('systemctl is-system-running'), 'running');
  await run(`rm -r ${dirname(DROP_IN)}; systemctl daemon-reload`);
});

test.serial('purged, it leaves nothing behind', async (t) => {
  t.timeout(TEST_MS);
  await run('systemctl enable --quiet vproxy@vm1', START_MS);
  await run('dpkg --purge vproxy', INSTALL_MS);
  // Except the port, which belongs to the device, and the packages.
  const others = `\\( -path /run/udev -o -path ${RIG_FOLDER} \\) -prune`;
  t.is(await run(`find / /run -xdev ${others} -o -iname '*vproxy*' -print`), '');
  t.is(await run(`ls ${UTILITY} 2>/dev/null || getent passwd vproxy || getent group vproxy || true`), '');
  t.is(await run("systemctl list-units --plain --no-legend 'vproxy*'"), '');
  t.is(await run('dpkg-query -W vproxy 2>&1 || true'), 'dpkg-query: no packages found matching vproxy');
  t.is(await run('systemctl is-system-running'), 'running');
});

/** The blocks of the recipe with this title. */
function readRecipe(title: string): string[] {
  const path = 'docs/recipes.md';
  const text = readDocument(path);
  const begin = text.indexOf(`\n## ${title}`);
  const from = text.slice(0, begin).split('\n').length;
  const to = text.slice(0, text.indexOf('\n## ', begin + 1)).split('\n').length;
  const { blocks } = parseDocument(path, text);
  return blocks.filter(({ line }) => line > from && line < to).map((block) => block.text);
}

test.serial(
  'the recipes of logs and of upgrades: the host has each line of the journal once, over a break, until the guest is off; an upgrade outlives its call',
  async (t) => {
    t.timeout(2 * TEST_MS);
    const { folder, channelPath } = guest();
    const [fetched = '', received = '', script = '', unit = '', started = ''] = readRecipe("A guest's logs at its end");
    await host().stop();
    const log = join(folder, 'vm1-journal.log');
    const control = join(folder, 'control.sock');
    const command = received.trim().replace('/run/vm1.sock', channelPath).replace('/var/log/vm1-journal.log', log);
    const [program, ...args] = command.split(' ');
    t.is(program, 'vproxy');
    const receive = async (): Promise<VproxyProcess> => {
      const vproxy = new VproxyProcess([...args, '--key', join(folder, 'host.key'), '--control', control]);
      t.teardown(() => vproxy.stop());
      await vproxy.waitForLine(TAKING_CONTROL);
      return vproxy;
    };
    const first = await receive();

    await run(`dpkg -i ${SHARED_FOLDER}/${basename(packages[0] ?? '')}`, INSTALL_MS);
    await allowCommands();
    await first.waitForLine(ESTABLISHED, { timeoutMs: START_MS });
    const onHost = (commands: string): string => {
      const vproxy = `vproxy() { '${process.execPath}' '${PROJECT_ROOT}/dist/program/vproxy.cjs' "$@"; }`;
      const env = { ...process.env, VPROXY_SOCKET: control };
      return execFileSync('bash', ['-euc', `${vproxy}; cd ${folder}; ${commands}`], {
        env,
        timeout: START_MS,
      }).toString();
    };

    await run('logger -t recipe first words');
    onHost(fetched);
    t.regex(readFileSync(log, 'utf8'), / recipe(\[\d+\])?: first words$/m);
    t.regex(readFileSync(log, 'utf8'), / kernel: Linux version /);
    writeFileSync(log, '');

    const write = (path: string, text: string) =>
      run(`echo ${Buffer.from(text).toString('base64')} | base64 -d > ${path}`);
    await write('/usr/local/sbin/journal-to-host', script);
    await run('chmod +x /usr/local/sbin/journal-to-host');
    await write('/etc/systemd/system/journal-to-host.service', unit);
    await run(started, START_MS);
    const journal = () => (existsSync(log) ? readFileSync(log, 'utf8') : '');
    const has = (what: RegExp) =>
      eventuallyInGuest(() => what.test(journal()), { timeoutMs: START_MS, what: String(what) });
    await has(/ recipe(\[\d+\])?: first words$/m);

    const [upgrade = '', afterwards = ''] = readRecipe('An upgrade that outlives its call');
    onHost(upgrade.replace(/ sh -c .*/, " sh -c 'until [ -e /run/go ]; do sleep 0.2; done; echo up''graded'"));
    const from = first.lines.length;
    await run(`systemctl restart ${UNIT}`, START_MS);
    t.is(await run('systemctl show --value --property=SubState upgrade'), 'running');
    await run('touch /run/go');
    await first.waitForLine(ESTABLISHED, { from, timeoutMs: START_MS });
    const ended = onHost(afterwards);
    t.regex(ended, /^success$/m);
    await has(/ sh\[\d+\]: upgraded$/m);

    // From here on nothing of that is sent again.
    const left = 'journalctl --quiet --identifier=recipe --after-cursor="$(cat /var/lib/journal-to-host/cursor)"';
    await eventuallyInGuest(async () => (await run(left)) === '', { timeoutMs: START_MS, what: 'the cursor' });
    await first.stop();
    await run('logger -t recipe meanwhile');
    await receive();
    await has(/ recipe(\[\d+\])?: meanwhile$/m);

    const application = "--property=After=network.target --property='ExecStop=/usr/bin/logger -t recipe last words'";
    await run(`systemd-run --unit=application ${application} sleep infinity`);
    // Delayed, so that the agent can still answer.
    await run('systemd-run --on-active=1 systemctl poweroff');
    await has(/ recipe(\[\d+\])?: last words$/m);
    for (const words of ['first words', 'meanwhile', 'last words']) {
      t.is(journal().match(new RegExp(` recipe(\\[\\d+\\])?: ${words}$`, 'gm'))?.length, 1, words);
    }
  },
);
