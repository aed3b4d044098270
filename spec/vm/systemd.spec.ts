/** The Debian package in a guest with systemd: installed, used, unplugged, upgraded, and purged without a trace. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { MachineInfo } from '../../lib/status/types.js';
import { parseDocument } from '../documents/parse-document.js';
import { projectText } from '../helpers/files.js';
import { eventually } from '../helpers/time.js';
import { ENDED, ESTABLISHED, runProgram, VPROXY, VproxyProcess } from '../helpers/vproxy-process.js';
import { eventuallyInGuest } from './rig/agent.js';
import { mountExt4 } from './rig/ext4-image.js';
import { SHARED_FOLDER } from './rig/guest.js';
import { PORT_NAME } from './rig/guest-options.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { emulatedReply, HostSide } from './rig/host-side.js';
import { buildPackages } from './rig/make-package.js';
import { DEBIAN_KEY, DEBIAN_SYSTEM, RIG_FOLDER, RIG_PROGRAMS } from './rig/systemd-initramfs.js';
import { useGuest } from './rig/use-guest.js';

const UNIT = `vproxy-virtserial@${PORT_NAME}.service`;
/** Its name in older packages. */
const OLD_UNIT = `vproxy-guest@${PORT_NAME}.service`;
const DROP_IN = '/etc/systemd/system/vproxy-virtserial@.service.d/exec.conf';
const DROP_INS = '/run/systemd/system';
const UTILITY = '/usr/sbin/storcli64';
const INSTALL_MS = 500_000;
/** A start of the executable under emulation, on a busy machine. */
const START_MS = 120_000;
const CONNECTIONS = 10;
/** The delay before the next line, so that emulated processors have time for the upgrade. */
const LINE_MS = 1_000;
/** An echo behind two more services: `vproxy@near` listens here as a host does, and has its sessions with `vproxy@far`. */
const DISTANT_PORT = 9107;

let packages: string[] = [];
let hostSide: HostSide | undefined;
/** The current vproxy of the host. */
let host: VproxyProcess;

const guest = useGuest(test, {
  plan: (folder) => {
    packages = buildPackages(folder, ['0.0.1-1', '0.0.1-2', '0.0.1-3', '0.0.1-0']);
    withOldNames(packages[3] ?? '');
    writeFileSync(join(folder, 'host.key'), `${DEBIAN_KEY}\n`, { mode: 0o600 });
    return { system: DEBIAN_SYSTEM };
  },
  whenFailed: async () => {
    const journal = await run("journalctl --no-pager -n 400 -u 'vproxy*' | grep -v ': stream ' | tail -n 60");
    return `${journal}\n\nvproxy on the host:\n${host.lines.join('\n')}`;
  },
});

/** Packs a package again as an older one, with the old names. */
function withOldNames(path: string): void {
  const script = `cd "$(mktemp -d)"; dpkg-deb -R "$1" .; mkdir etc/default; echo VPROXY_OPTIONS= > etc/default/vproxy-guest
mv usr/lib/systemd/system/vproxy-virtserial@.service usr/lib/systemd/system/vproxy-guest@.service
echo /etc/default/vproxy-guest >> DEBIAN/conffiles; sed -i /rename-unit/d DEBIAN/postinst; rm DEBIAN/preinst usr/lib/vproxy/rename-unit
sed -i s/-virtserial/-guest/g DEBIAN/p* usr/lib/systemd/system/* usr/lib/udev/rules.d/* usr/lib/vproxy/*-*
dpkg-deb -Znone -b . "$1"; rm -r "$PWD"`;
  execFileSync('sh', ['-euc', script, 'sh', path], { stdio: 'pipe' });
}

const inFolder = (name: string) => join(guest().folder, name);
const hostArguments = () => ['--key', inFolder('host.key'), '--control', inFolder('host.sock')];

test.serial.before('the host has a vproxy with a key', async () => {
  await guest().addFiles(...packages);
  // On a busy machine, an emulated guest exceeds the watchdog and stop timeouts of the units.
  for (const name of ['vproxy', 'vproxy@', 'vproxy-guest@', 'vproxy-virtserial@']) {
    await write(`${DROP_INS}/${name}.service.d/patience.conf`, '[Service]\nWatchdogSec=15min\nTimeoutStopSec=5min\n');
  }
  const more = [...hostArguments(), '-o', 'distant:127.0.0.1:0'];
  hostSide = await HostSide.start(`unix-connect:${guest().channelPath}`, more);
  host = hostSide.vproxy;
});

test.serial.after.always('the vproxy of the host is stopped', async () => {
  await host.stop();
  await hostSide?.stop();
});

const run = (command: string, timeoutMs = START_MS) => guest().agent.output(command, { timeoutMs });
const write = (path: string, text: string) =>
  run(`mkdir -p ${dirname(path)}; echo ${Buffer.from(text).toString('base64')} | base64 -d > ${path}`);
const show = (property: string, unit = UNIT) => run(`systemctl show --value -p ${property} ${unit}`);
const becomes = (property: string, value: RegExp, unit = UNIT) =>
  eventuallyInGuest(async () => value.test(await show(property, unit)), { what: `${unit}: ${property} ${value}` });
const install = (index: number) =>
  run(`dpkg --force-confold -i ${SHARED_FOLDER}/${basename(packages[index] ?? '')} 2>&1`, INSTALL_MS);
const installed = () => run('dpkg-query -W -f "\\${Version} \\${db:Status-Status}" vproxy');
const userOf = async (unit = UNIT) => run(`stat -c %U /proc/${await show('MainPID', unit)}`);

/** Runs an action, after which the guest has another session with the host. */
async function withNewSession(act: () => Promise<unknown>): Promise<void> {
  const from = host.lines.length;
  await act();
  await host.waitForLine(ESTABLISHED, { from, timeoutMs: START_MS });
}

/** Whether the host's log has the end of a session in line `from` or a later one. */
const hasEndedSince = (from: number): boolean => host.lines.slice(from).some((line) => ENDED.test(line));

/** Runs shell commands on the host, for its vproxy. */
const onHost = (commands: string) =>
  runProgram(['bash', '--norc', '-euc', `vproxy() { ${VPROXY} "$@"; }; cd ${guest().folder}; ${commands}`], {
    env: { ...process.env, VPROXY_SOCKET: inFolder('host.sock') },
    timeoutMs: INSTALL_MS,
  });

async function succeedOnHost(commands: string): Promise<string> {
  const { code, stdout, stderr } = await onHost(commands);
  if (code !== 0) throw new Error(`${commands}: status ${code}\n${stderr}`);
  return stdout;
}

/** The wrapper, under the name of a utility, through guest and host. */
async function checkStorage(t: ExecutionContext): Promise<void> {
  const argv = [UTILITY, '/c0', 'show', 'all'];
  t.deepEqual(await guest().agent.run(argv.join(' ')), emulatedReply('listening', argv));
}

test.serial(
  'a package that renames the unit is refused while it runs; its advice is right, also in exec',
  async (t) => {
    await withNewSession(() => install(3));
    await write('/etc/default/vproxy-guest', 'VPROXY_OPTIONS=--allow-exec\n');
    await write(DROP_IN.replace('virtserial', 'guest'), projectText('packaging/systemd/drop-ins/guest-exec.conf'));
    await withNewSession(() => run(`systemctl daemon-reload; systemctl restart ${OLD_UNIT}`));
    const running = "systemctl list-units --plain --no-legend --full 'vproxy-*@*' | cut -d ' ' -f 1";
    const file = `${SHARED_FOLDER}/${basename(packages[0] ?? '')}`;
    const { code, stderr } = await onHost(`vproxy exec -n -- dpkg -i ${file}`);
    t.deepEqual([code, await installed()], [1, '0.0.1-0 installed']);
    const [advice = ''] = /systemd-run .*/.exec(stderr) ?? [];
    for (const [path, unit] of [
      ['/none.deb', OLD_UNIT],
      [file, UNIT],
    ] as const) {
      // On a slow machine, the service may stop before the status has come.
      await withNewSession(() => onHost(`vproxy exec -n -- ${advice.replace('/PATH/FILE', path)}`));
      await becomes('ActiveState', /^active$/, unit);
      // dpkg goes on after the start.
      const goesOn = "systemctl list-units --plain --no-legend 'run-*.service'";
      await eventuallyInGuest(async () => (await run(goesOn)) === '', { what: 'the end of dpkg' });
      t.is(await run(running), unit);
      t.is(await succeedOnHost('vproxy exec -n id -un'), 'root\n');
    }
    await run('dpkg --purge vproxy; rm -r /etc/systemd/system/vproxy-*.d', INSTALL_MS);
    t.is(await run('ls -d /etc/default/vproxy* /etc/systemd/system/vproxy* 2>/dev/null || true'), '');
  },
);

test.serial('the package installs: the port’s service has a session, the key of SMBIOS, and storage', async (t) => {
  t.is(await run('systemctl is-system-running'), 'running');
  await withNewSession(() => install(0));
  t.regex(host.lines.join('\n'), /session established with guest/);
  await becomes('ActiveState', /^active$/);
  await becomes('StatusText', /^session with /);
  t.is(await userOf(), 'vproxy');
  t.regex(await run('vproxy channels --json'), /"key": "[0-9a-f]{8}"/);
  t.is(await show('NRestarts'), '0');
  // No host is configured here.
  t.is(await run('systemctl is-enabled vproxy.service vproxy.socket'), 'enabled\nenabled');
  t.is(await show('ActiveState', 'vproxy.service'), 'inactive');
  t.is(await run('vproxy storage link storcli64'), `${UTILITY} -> /usr/bin/vproxy-storage`);
  await checkStorage(t);
});

test.serial('the guest reports its facts to the host', async (t) => {
  const told = JSON.parse(await succeedOnHost('vproxy info --json')) as MachineInfo;
  t.like(told, { hostName: await run('cat /etc/hostname'), os: { id: 'debian', versionId: '12' } });
  t.is(told.bootId, await run('cat /proc/sys/kernel/random/boot_id'));
  t.is(told.disks[0]?.mountPoint, '/');
  t.true(told.interfaces.some(({ addresses }) => addresses.includes('127.0.0.1/8')));
  // There is no D-Bus in this guest.
  t.is(told.boot.systemd, 'unknown');
  t.regex(told.boot.systemdError ?? '', /bus/i);
  t.regex((await guest().agent.run('vproxy info')).stderr, /the peer does not report on its machine/);
});

test.serial(
  'with the drop-in for restores, the clock follows the host’s, and a file system can be frozen',
  async (t) => {
    const dropIn = '/etc/systemd/system/vproxy-virtserial@.service.d/restore.conf';
    await write('/etc/default/vproxy-virtserial', 'VPROXY_OPTIONS=--follow-clock --allow-freeze\n');
    await write(dropIn, projectText('packaging/systemd/drop-ins/guest-restore.conf'));
    await run(mountExt4('/srv/data'));
    await withNewSession(() => run(`systemctl daemon-reload; systemctl restart ${UNIT}`));
    await run("date --set '-1 hour'");
    const isRight = async (): Promise<boolean> => Math.abs(Number(await run('date +%s')) - Date.now() / 1000) < 60;
    await eventuallyInGuest(isRight, { what: 'the right time' });
    t.is(await succeedOnHost('vproxy freeze --for 60 -- echo frozen'), 'frozen\n');
    await succeedOnHost('vproxy freeze --for 60');
    // What thaws outlives vproxy.
    await withNewSession(async () => run(`kill -KILL ${await show('MainPID')}; touch /srv/data/thawed`));
    const log = await run(`journalctl --unit ${UNIT} --output cat`);
    // It is up to the threshold ahead when it is set back.
    t.regex(log, /set the clock (?:3599|36\d\d)\.\d s forward [^]*freezing \/srv\/data for at most 1m/);
    t.notRegex(log, /cannot set|cannot freeze/);
    await run(`rm ${dropIn} /etc/default/vproxy-virtserial; systemctl daemon-reload`);
    await withNewSession(() => run(`systemctl restart ${UNIT}`));
  },
);

test.serial('the service follows when the port is unplugged and plugged in again', async (t) => {
  await guest().unplugPort();
  await becomes('ActiveState', /^inactive$/);
  t.is(await run('ls /dev/virtio-ports'), 'rig.agent');
  t.not((await guest().agent.run(`${UTILITY} /c0 show all`)).status, emulatedReply('listening', []).status);
  await withNewSession(() => guest().plugPort());
  await becomes('ActiveState', /^active$/);
  await checkStorage(t);
  t.is(await run('systemctl is-system-running'), 'running');
});

/** Starts an echo in the guest, and three chained services of the package. */
async function startDistantServices(): Promise<void> {
  const configs = {
    near: ['address = "unix-connect:/run/vproxy/channel.sock"', `outgoing = ["echo:127.0.0.1:${DISTANT_PORT}"]`],
    far: ['address = "unix-listen:/run/vproxy/channel.sock"', `incoming = ["echo:127.0.0.1:${GUEST_PORTS.echo}"]`],
  };
  for (const [name, lines] of Object.entries(configs)) {
    await write(`/etc/vproxy/${name}.toml`, `[channels.default]\n${lines.join('\n')}\n`);
  }
  const services = await guest().agent.spawn([`${RIG_FOLDER}/node`, `${RIG_PROGRAMS}/services.js`]);
  await eventuallyInGuest(async () => (await services.log()).includes('ready'), { what: 'the echo' });
  await run('systemctl start vproxy@near vproxy@far');
  await becomes('StatusText', /^session with /, 'vproxy@near.service');
  await write('/etc/default/vproxy-virtserial', `VPROXY_OPTIONS=--incoming=distant:127.0.0.1:${DISTANT_PORT}\n`);
  await withNewSession(() => run(`systemctl restart ${UNIT}`));
}

/** Sends lines to the echo, each after the previous one has come back, until aborted. Rejects on a wrong line, or on none. */
async function exchange(port: number, state: { count: number; isOver: boolean }): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  const text = () => `line ${state.count}`;
  socket.write(`${text()}\n`);
  for await (const line of createInterface({ input: socket })) {
    if (line !== text()) throw new Error(`"${line}" came in place of "${text()}"`);
    state.count += 1;
    if (state.isOver) return void socket.destroy();
    await delay(LINE_MS);
    socket.write(`${text()}\n`);
  }
  throw new Error(`the connection ended behind ${state.count} lines`);
}

test.serial(`an upgrade amid ${CONNECTIONS} exchanges through three services is not noticed`, async (t) => {
  await startDistantServices();
  const port = await host.listeningPort('distant');
  const states = Array.from({ length: CONNECTIONS }, () => ({ count: 0, isOver: false }));
  const exchanges = Promise.all(states.map((state) => exchange(port, state)));
  exchanges.catch(() => undefined);
  const progress = async () => {
    const before = states.map(({ count }) => count);
    const areOn = () => states.every(({ count }, index) => count > (before[index] ?? 0));
    await Promise.race([eventually(areOn, { timeoutMs: START_MS, what: 'a line of each' }), exchanges]);
  };
  await progress();
  const from = host.lines.length;
  const units = [UNIT, 'vproxy@near.service', 'vproxy@far.service'];
  const processes = () => Promise.all(units.map((unit) => show('MainPID', unit)));
  const before = await processes();
  // Edited files are kept.
  const output = await install(1);
  t.regex(output, /Unpacking vproxy \(0\.0\.1-2\) over \(0\.0\.1-1\)/);
  const after = await processes();
  for (const [index, unit] of units.entries()) {
    t.regex(output, new RegExp(`^${unit}: upgraded without losing connections\\.$`, 'm'));
    t.is(await run(`systemctl show -p ActiveState,NRestarts ${unit} | sort`), 'ActiveState=active\nNRestarts=0');
    t.not(after[index], before[index]);
  }
  await progress();
  for (const state of states) state.isOver = true;
  await t.notThrowsAsync(exchanges);
  t.false(hasEndedSince(from));
  t.is(await userOf(), 'vproxy');
  await checkStorage(t);
  t.is(await installed(), '0.0.1-2 installed');
});

/** Calls the echo behind `vproxy@near` repeatedly, until a file exists; prints the numbers of answered and refused calls. */
const CALLER = `
  const { existsSync } = require('node:fs');
  const { connect } = require('node:net');
  let answered = 0;
  let refused = 0;
  const call = () => {
    if (existsSync('/run/calls-end')) return console.log(answered, refused);
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

test.serial('systemd keeps the listeners of a restarting service: no connection is refused', async (t) => {
  const unit = 'vproxy@near.service';
  // The control socket, and the socket of the forward.
  t.is(await show('NFileDescriptorStore', unit), '2');
  const before = await show('MainPID', unit);
  const callers = await guest().agent.spawn([`${RIG_FOLDER}/node`, '-e', CALLER]);
  await run(`systemctl restart ${unit}`);
  t.not(await show('MainPID', unit), before);
  await run('touch /run/calls-end');
  const log = await eventuallyInGuest(async () => /^(\d+) (\d+)$/.exec(await callers.log()), { what: 'their end' });
  const [, answered, refused] = log.map(Number);
  // A connection in progress at a restart may be reset.
  t.is(refused, 0);
  t.true((answered ?? 0) > 1);
  await run('systemctl stop vproxy@near vproxy@far; rm /run/calls-end /etc/vproxy/near.toml /etc/vproxy/far.toml');
});

/** A channel whose socket does not exist: a status shows an attempt, or the wait for the next one. */
const TRYING = /^vm1 +(?:backing-off|opening) /m;
const FAILED_TO_OPEN = /^no session, backing-off: unix-connect:\/run\/vm1\.sock is missing \(ENOENT\)/;

test.serial('the services of a host run in their sandboxes; a request starts the one with a socket', async (t) => {
  for (const name of ['host', 'vm1']) {
    await write(`/etc/vproxy/${name}.toml`, '[channels.vm1]\naddress = "unix-connect:/run/vm1.sock"\n');
  }
  await run('systemctl start vproxy.socket vproxy@vm1');
  t.is(await show('ActiveState', 'vproxy.service'), 'inactive');
  t.is(await run('stat -c "%U %G %a" /run/vproxy/host.sock'), 'vproxy vproxy 660');
  // Members of the group may connect, others may not.
  const asNobody = (group: string) => {
    const user = `setpriv --reuid nobody --regid ${group} --clear-groups`;
    return guest().agent.run(`${user} vproxy status --socket /run/vproxy/host.sock`, { timeoutMs: START_MS });
  };
  t.is((await asNobody('nogroup')).status, 77);
  const { stdout, status } = await asNobody('vproxy');
  t.is(status, 0);
  t.regex(stdout, TRYING);
  t.is(await show('ActiveState', 'vproxy.service'), 'active');
  for (const unit of ['vproxy.service', 'vproxy@vm1.service']) await becomes('StatusText', FAILED_TO_OPEN, unit);
  t.regex(await run('vproxy status --name vm1'), TRYING);
  await run('systemctl reload vproxy.service');
  const log = await run('journalctl -u vproxy.service -p info -o cat');
  t.regex(log, /^vproxy: listening on the socket passed by systemd/m);
  t.regex(log, /^vproxy: reloaded/m);
  // Otherwise `vproxy connect` in the recipes would find several.
  await run('systemctl stop vproxy.socket vproxy.service vproxy@vm1; rm -f /etc/vproxy/*.toml /run/vproxy/host.sock');
  t.is(await show('Result', 'vproxy.service'), 'success');
  t.is(await run('systemctl is-system-running'), 'running');
});

/** The blocks of the recipe with this title. */
function readRecipe(title: string): string[] {
  const path = 'docs/recipes.md';
  const text = projectText(path);
  const begin = text.indexOf(`\n## ${title}`);
  const from = text.slice(0, begin).split('\n').length;
  const to = text.slice(0, text.indexOf('\n## ', begin + 1)).split('\n').length;
  const { blocks } = parseDocument(path, text);
  return blocks.filter(({ line }) => line > from && line < to).map((block) => block.text);
}

const [fetched = '', received = '', started = ''] = readRecipe("Save a guest's journal");
const journal = () => (existsSync(inFolder('journal.log')) ? readFileSync(inFolder('journal.log'), 'utf8') : '');
const hasCome = (what: RegExp) => eventually(() => what.test(journal()), { timeoutMs: START_MS, what: String(what) });

test.serial('with a host as in a recipe, which may run commands as root, the guest reports its boot', async (t) => {
  await hostSide?.stop();
  const command = received.trim().replace('/run/vm1.sock', guest().channelPath);
  const [program, ...args] = command.replace('/var/log/vm1-journal.log', inFolder('journal.log')).split(' ');
  t.is(program, 'vproxy');
  host = new VproxyProcess([...args, ...hostArguments()]);
  await host.waitForLine(ESTABLISHED, { timeoutMs: START_MS });
  await write('/etc/default/vproxy-virtserial', 'VPROXY_OPTIONS=--allow-exec\n');
  // The guest does not have the files of packages in /usr/share/doc.
  await write(DROP_IN, projectText('packaging/systemd/drop-ins/guest-exec.conf'));
  await withNewSession(() => run(`systemctl daemon-reload; systemctl restart ${UNIT}`));
  t.deepEqual(await onHost('vproxy wait --booted --timeout 60'), { code: 0, stdout: '', stderr: '' });
  await run('systemd-run --quiet --unit=broken false');
  await becomes('ActiveState', /^failed$/, 'broken.service');
  let waited = await onHost('vproxy wait --booted --timeout 60');
  // On a quick machine the answer from before is not half a second old, and given again.
  await eventually(async () => {
    if (waited.code === 0) waited = await onHost('vproxy wait --booted --timeout 60');
    return waited.code !== 0;
  });
  t.deepEqual(waited, {
    ...{ code: 1, stdout: '' },
    stderr: 'vproxy: vm1: systemd is degraded: broken.service failed\n',
  });
  await run('systemctl reset-failed');
});

test.serial('an upgrade by vproxy exec completes, and the new program runs afterwards', async (t) => {
  const program = async () => run(`readlink /proc/$(systemctl show --value -p MainPID ${UNIT})/exe || true`);
  const before = await show('MainPID');
  const from = host.lines.length;
  const upgrade = `apt-get install --yes -o Dpkg::Options::=--force-confold ./${basename(packages[2] ?? '')}`;
  // The unit that restarts the service already exists, and waits for the end of the command.
  const restarts = 'systemctl list-units --plain --no-legend "vproxy-restart-*"';
  const script = `${upgrade} && ${restarts} | grep vproxy-restart && echo behind it`;
  const output = await succeedOnHost(`vproxy exec -n --cwd ${SHARED_FOLDER} -- sh -c '${script}'`);
  t.regex(output, /^vproxy-virtserial@org\.vproxy\.0\.service: will be upgraded when the command/m);
  t.regex(output, /^behind it$/m);
  t.is(await installed(), '0.0.1-3 installed');
  t.is(await run('dpkg --audit'), '');
  const isNew = async () => (await show('MainPID')) !== before && (await program()) === '/usr/bin/vproxy';
  await eventuallyInGuest(isNew, { what: 'the new program' });
  t.is(await show('ActiveState'), 'active');
  t.is(await succeedOnHost('vproxy exec -n echo hello'), 'hello\n');
  t.false(hasEndedSince(from));
  await eventuallyInGuest(async () => (await run(restarts)) === '', { what: 'the end of what restarts' });
  // systemd does not wait for the end of a main process that is not its child.
  t.notRegex(await run('journalctl -o cat --grep Supervising || true'), /not our child/);
  t.is(await run('systemctl is-system-running'), 'running');
});

test.serial(
  'wrong options do not shut the door, which is mended through it: the last ones are in effect until then',
  async (t) => {
    const edit = (options: string) => `echo VPROXY_OPTIONS=${options} > /etc/default/vproxy-virtserial`;
    const inGuest = (command: string) => onHost(`vproxy exec -n -- sh -c '${command}'`);
    // It ends the command, too.
    await withNewSession(() => inGuest(`${edit('--allow-exce')}; systemctl restart ${UNIT}`));
    const refused = /VPROXY_OPTIONS was refused; the last options that worked are in effect/;
    t.regex(await succeedOnHost('vproxy info'), refused);
    t.regex(await show('StatusText'), refused);
    const process = await show('MainPID');
    t.not((await inGuest(`systemctl reload ${UNIT}`)).code, 0);
    t.is(await show('MainPID'), process);
    await withNewSession(() => inGuest(`${edit('--allow-exec')}; systemctl reload ${UNIT}`));
    t.notRegex(await succeedOnHost('vproxy info'), refused);
    t.is(await run('systemctl is-system-running'), 'running');
  },
);

test.serial('the recipe of logs: the host fetches the journal, or gets each line as it is written', async (t) => {
  await run('logger -t recipe first words');
  await succeedOnHost(fetched);
  const log = readFileSync(inFolder('vm1-journal.log'), 'utf8');
  t.regex(log, / recipe(\[\d+\])?: first words$/m);
  t.regex(log, / kernel: Linux version /);
  for (const name of ['journal-to-host', 'journal-to-host.service'])
    await write(`/usr/share/doc/vproxy/examples/${name}`, projectText(`examples/${name}`));
  await run(started);
  await run('rm -r /usr/share/doc/vproxy');
  await hasCome(/ recipe(\[\d+\])?: first words$/m);
});

test.serial('the recipe of upgrades: an upgrade outlives its call, and the service that started it', async (t) => {
  const [upgrade = '', afterwards = ''] = readRecipe('Run a long upgrade in a guest');
  const waits = " sh -c 'until [ -e /run/go ]; do sleep 0.2; done; echo up''graded'";
  await succeedOnHost(upgrade.replace(/ sh -c .*/, waits));
  const watchdog = '[Service]\nWatchdogSec=20\nTimeoutAbortSec=1\n';
  await write(`${DROP_INS}/${UNIT}.d/watchdog.conf`, watchdog);
  await withNewSession(() => run(`systemctl daemon-reload; systemctl restart ${UNIT}`));
  t.is(await run('systemctl show --value --property=SubState upgrade'), 'running');
  await run('touch /run/go');
  t.regex(await succeedOnHost(afterwards), /^success$/m);
  await hasCome(/ sh\[\d+\]: upgraded$/m);
});

test.serial('a hung process is killed and replaced', async (t) => {
  // From here on, received lines are not sent again.
  const left = 'journalctl --quiet --identifier=recipe --after-cursor="$(cat /var/lib/journal-to-host/cursor)"';
  await eventuallyInGuest(async () => (await run(left)) === '', { what: 'the cursor' });
  const process = await show('MainPID');
  await withNewSession(async () => {
    await run(`kill -STOP ${process}; logger -t recipe meanwhile`);
    await becomes('NRestarts', /^[1-9]/);
  });
  t.not(await show('MainPID'), process);
  t.regex(await run(`journalctl -u ${UNIT} -o cat`), /Watchdog timeout/);
  await hasCome(/ recipe(\[\d+\])?: meanwhile$/m);
});

test.serial('at a shutdown the host gets the last messages of other units, each journal line once', async (t) => {
  await run("systemd-run --unit=application --property='ExecStop=/usr/bin/logger -t recipe last words' sleep infinity");
  // The order of a shutdown: what comes behind the network, this unit, vproxy.
  t.true((await show('Before', 'journal-to-host.service')).split(' ').includes('network.target'));
  t.true((await show('After', 'journal-to-host.service')).split(' ').includes(UNIT));
  await run('systemctl stop application; systemctl stop journal-to-host');
  for (const words of ['first words', 'meanwhile', 'last words']) {
    t.is(journal().match(new RegExp(` recipe(\\[\\d+\\])?: ${words}$`, 'gm'))?.length, 1, words);
  }
});

test.serial('a purge leaves nothing behind', async (t) => {
  await run(`rm -r ${dirname(DROP_IN)} ${DROP_INS}/vproxy*.d; systemctl daemon-reload`);
  await run('systemctl start vproxy.socket; systemctl enable --quiet vproxy@vm1');
  await run('dpkg --purge vproxy', INSTALL_MS);
  // Except the port, which belongs to the device, and the packages.
  const others = `\\( -path /run/udev -o -path ${RIG_FOLDER} \\) -prune`;
  t.is(await run(`find / /run -xdev ${others} -o -iname '*vproxy*' -print`), '');
  t.is(await run(`ls ${UTILITY} 2>/dev/null || getent passwd vproxy || getent group vproxy || true`), '');
  t.is(await run("systemctl list-units --plain --no-legend 'vproxy*'"), '');
  t.is(await run('dpkg-query -W vproxy 2>&1 || true'), 'dpkg-query: no packages found matching vproxy');
  t.is(await run('systemctl list-units --failed --plain --no-legend'), '');
  t.is(await run('systemctl is-system-running'), 'running');
});
