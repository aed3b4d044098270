/**
 * The systemd units are valid and confine their services, by the judgement of systemd's own tools; and how a package treats
 * running services, with fake systemctl and vproxy programs.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CONTROL_COMMANDS } from '../../cli/command/table.js';
import { RUN_OPTIONS } from '../../cli/run/options.js';
import { takeServiceEnvironment } from '../../cli/service/environment.js';
import { ERROR_CODES } from '../../lib/errors.js';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

const FOLDER = join(PROJECT_ROOT, 'packaging/systemd');
/** The maximum exposure by `systemd-analyze security`; it prints "ok" up to 4.9. */
const MAX_EXPOSURE = 4;

const read = (name: string): string => readFileSync(join(FOLDER, name), 'utf8');
const UNITS = readdirSync(FOLDER).filter((name) => /\.(service|socket)$/.test(name));
const SERVICES = UNITS.filter((name) => name.endsWith('.service'));
const withSystemd = testWith('systemd');

/** An instance of a template. */
const instanceOf = (unit: string): string => unit.replace('@.', '@org.vproxy.vm1.');

/** A folder with all units, a program where systemd looks for it, and drop-ins, by unit. */
function installUnits(t: ExecutionContext, dropIns: Readonly<Record<string, string>> = {}): string {
  const folder = temporaryFolder(t);
  for (const unit of UNITS) {
    writeFileSync(
      join(folder, instanceOf(unit)),
      read(unit).replace(/\/usr\/bin\/vproxy|\/usr\/lib\/vproxy\/guest-options/g, '/bin/true'),
    );
  }
  for (const [unit, text] of Object.entries(dropIns)) {
    mkdirSync(join(folder, `${instanceOf(unit)}.d`));
    writeFileSync(join(folder, `${instanceOf(unit)}.d`, 'it.conf'), text);
  }
  return folder;
}

/** Runs systemd-analyze with a folder of units besides those of the machine. */
function analyze(folder: string, ...args: string[]): { readonly status: number | null; readonly text: string } {
  const env = { ...process.env, SYSTEMD_UNIT_PATH: `${folder}:` };
  const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8', env });
  return { status, text: `${stdout}${stderr}` };
}

for (const unit of UNITS) {
  withSystemd(`systemd accepts ${unit}${SERVICES.includes(unit) ? ', and its sandbox' : ''}`, (t) => {
    const folder = installUnits(t);
    const path = join(folder, instanceOf(unit));
    // The manual is installed by the package.
    t.deepEqual(analyze(folder, 'verify', '--man=no', path), { status: 0, text: '' });
    if (!SERVICES.includes(unit)) return;
    const { status, text } = analyze(folder, 'security', '--offline=true', `--threshold=${MAX_EXPOSURE * 10}`, path);
    t.is(status, 0, text);
    t.true(Number(/exposure level for .*: (\d+\.\d)/.exec(text)?.[1]) <= MAX_EXPOSURE, text);
  });
}

withSystemd('the drop-in for a guest that is restored and frozen is valid, and is the one in the document', (t) => {
  const unit = 'vproxy-virtserial@.service';
  const text = read('drop-ins/guest-restore.conf');
  const folder = installUnits(t, { [unit]: text });
  t.deepEqual(analyze(folder, 'verify', '--man=no', join(folder, instanceOf(unit))), { status: 0, text: '' });
  const settings = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  t.true(projectText('docs/restore.md').includes(`restore.conf\n${settings.join('\n')}\n`));
});

withSystemd('the drop-in for commands in a guest is valid, and opens what commands need', (t) => {
  const unit = 'vproxy-virtserial@.service';
  const folder = installUnits(t, { [unit]: read('drop-ins/guest-exec.conf') });
  const path = join(folder, instanceOf(unit));
  t.deepEqual(analyze(folder, 'verify', '--man=no', path), { status: 0, text: '' });
  const { text } = analyze(folder, 'security', '--offline=true', path);
  // No sandbox setting is left: the report would mark it with a tick.
  t.notRegex(text, /✓ (?:Protect|Private|Restrict|SystemCallFilter|CapabilityBoundingSet|DeviceAllow|NoNewPrivileges)/);
});

// Only root can change a file's owner.
testWith('root', 'systemd')('the files for users and folders are valid, and the units name the user', (t) => {
  const root = temporaryFolder(t);
  mkdirSync(join(root, 'etc'));
  for (const [program, ...args] of [
    ['systemd-sysusers', `--root=${root}`, join(FOLDER, 'sysusers.conf')],
    ['systemd-tmpfiles', `--root=${root}`, '--create', join(FOLDER, 'tmpfiles.conf')],
  ] as const) {
    const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
    t.is(status, 0, stderr);
  }
  const etc = (name: string) => readFileSync(join(root, 'etc', name), 'utf8');
  t.regex(etc('passwd'), /^vproxy:x:\d+:\d+:vproxy:\/run\/vproxy:\/usr\/sbin\/nologin$/m);
  t.regex(etc('group'), /^vproxy:x:\d+:$/m);
  t.deepEqual(readdirSync(join(root, 'run')), ['vproxy']);
  for (const unit of SERVICES) t.regex(read(unit), /^User=vproxy\nGroup=vproxy$/m);
});

test('the units use existing commands, options and exit statuses', (t) => {
  for (const unit of SERVICES) {
    const text = read(unit);
    const lines = [...text.matchAll(/^Exec\w+=.*?\/usr\/bin\/vproxy (.*?)'?$/gm)].map(([, words = '']) => words);
    t.true(lines.length > 0);
    for (const words of lines) {
      const [first = ''] = words.split(' ');
      if (!first.startsWith('-')) t.true(Object.hasOwn(CONTROL_COMMANDS, first), words);
      else
        for (const [, option = ''] of words.matchAll(/--([a-z-]+)/g))
          t.true(Object.hasOwn(RUN_OPTIONS, option), option);
    }
    const [, statuses = ''] = /^RestartPreventExitStatus=(.*)$/m.exec(text) ?? [];
    const known = new Set(Object.values(ERROR_CODES).map(({ exit }) => exit));
    for (const status of statuses.split(' ')) t.true(known.has(Number(status)), `${unit}: ${status}`);
  }
});

/**
 * A unit of a guest whose program refuses `--bad`, with status 64, fails with 69 at `--taken`, and with 65 while FILE of `--need
 * FILE` is missing; each start is one of the service, and its restarts.
 */
function guestService(t: ExecutionContext, unit: string) {
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o755);
  const program = join(folder, 'program');
  const state = join(folder, 'state');
  // Its folder has the name of its package.
  const lib = join(folder, /\/lib\/(\S+)\/guest-options/.exec(unit)?.[1] ?? '');
  mkdirSync(lib);
  for (const name of ['guest-options', 'rename-unit']) symlinkSync(join(FOLDER, name), join(lib, name));
  const [, umask = ''] = /^UMask=(\d+)$/m.exec(unit) ?? [];
  const isRoot = process.geteuid?.() === 0;
  const told = 'echo "$VPROXY_OPTIONS_REFUSED" >&2';
  const refuse = 'case "$*" in *--bad*) exit 64 ;; *--taken*) exit 69 ;; esac';
  const need = 'for word; do [ "$before" != --need ] || [ -e "$word" ] || exit 65; before=$word; done';
  const text = `#!/bin/sh\nbefore=\n${refuse}\n${need}\nprintf "[%s]" "$@"\n${told}\n[ "$(umask)" = ${umask} ]\n`;
  writeFileSync(program, text, { mode: 0o755 });
  for (const name of ['systemctl', 'systemd-notify'])
    writeFileSync(join(folder, name), `#!/bin/sh\necho ${name} "$*" >> ${folder}/told\n`, { mode: 0o755 });
  writeFileSync(join(folder, 'told'), '');
  chmodSync(join(folder, 'told'), 0o666);
  /** What the service manager was told last. */
  const lastTold = () => readFileSync(`${folder}/told`, 'utf8').trimEnd().split('\n').at(-1);
  const PATH = `${folder}:${process.env['PATH']}`;
  const line = (key: string, verb = '') =>
    new RegExp(`^${key}=\\+?\\S+/guest-options (${verb}.*)$`, 'm').exec(unit)?.[1] ?? '';
  const run = (key: string, options: readonly string[], env: Readonly<Record<string, string>> = {}, verb = '') => {
    const words = line(key, verb)
      .split(' ')
      .map((word) => (word.startsWith('/usr/bin/') ? program : word))
      .flatMap((word) => (word === '$VPROXY_OPTIONS' ? options : [word.replace(/%i|%I/, 'org.vproxy.0')]));
    const places = { VPROXY_STATE: state, VPROXY_RUN: join(folder, 'run'), DPKG_ROOT: folder };
    const all = { ...process.env, PATH, ...places, ...env };
    const user = isRoot && (key === 'ExecStart' || verb === 'check') ? { uid: 65_534, gid: 65_534 } : {};
    const script = [`umask ${umask}; exec "$@"`, 'sh', join(lib, 'guest-options'), ...words];
    return spawnSync('sh', ['-c', ...script], { encoding: 'utf8', env: all, ...user });
  };
  /** A start that fails, with its status; a service manager that does not wait for it to become ready calls `ready` in vain. */
  const fail = (status: number, options: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    if (unit.includes('Type=exec')) t.is(run('ExecStartPost', options, env, 'ready').status, 0);
    t.is(run('ExecStopPost', options, { ...env, EXIT_STATUS: String(status) }).status, 0);
  };
  /** Starts until it runs; returns the options that are in effect, and what the log says. */
  const start = (...options: string[]): [effective: string, log: string] => startIn({}, ...options);
  const startIn = (env: Readonly<Record<string, string>>, ...options: string[]): [effective: string, log: string] => {
    let log = '';
    for (let attempt = 0; attempt < 40; attempt += 1) {
      t.is(run('ExecStartPre', options, env).status, 0);
      const { status, stdout, stderr } = run('ExecStart', options, env);
      log += stderr;
      if (status === 0) {
        t.is(run('ExecStartPost', options, { MAINPID: String(process.pid), ...env }).status, 0);
        return [
          stdout.replace(/^\[-c\]\[virtserial-open:[^\]]*\]\[--name\]\[%H\](?:\[--control\]\[[^\]]*\])?/, ''),
          log,
        ];
      }
      t.true([64, 65, 69].includes(status ?? 0));
      fail(status ?? 0, options, env);
    }
    return ['it never runs', log];
  };
  return { start, startIn, run, fail, folder, state, lastTold };
}

const OF_GUESTS = [
  'packaging/systemd/vproxy-virtserial@.service',
  'guest/packaging/vproxy-guest-port@.service',
] as const;

test('the units of a guest call the script for its options alike', (t) => {
  const names = /\/usr\/(?:bin|lib)\/[a-z-]+| --control \S+/g;
  const [one = [], other] = OF_GUESTS.map((path) =>
    projectText(path)
      .match(/^Exec\w+=.*\/guest-options .*$/gm)
      ?.map((line) => line.replaceAll(names, '')),
  );
  t.is(one.length, 6);
  t.deepEqual(one, other);
});

for (const path of OF_GUESTS) {
  test(`${path}: options that are refused do not shut the door: the last ones that worked are in effect, or none`, (t) => {
    const text = projectText(path);
    t.notRegex(text, /^RestartPreventExitStatus=/m);
    const { start, run, lastTold } = guestService(t, text);
    const [none, said] = start('--bad');
    t.is(none, '');
    t.regex(said, /VPROXY_OPTIONS was refused, see above; only the channel is served/);
    t.regex(said, /^none$/m);
    t.is(lastTold(), 'systemd-notify --status=VPROXY_OPTIONS was refused; only the channel is served');
    const good = ['-i', 'ssh:127.0.0.1:22', '--allow-exec=/bin/a b', '--', ''];
    const words = good.map((word) => `[${word}]`).join('');
    t.deepEqual(start(...good), [words, '\n']);
    // Each restart tries the new ones.
    for (let round = 0; round < 2; round += 1) {
      const [last, why] = start('-i', 'x:1', '--bad');
      t.is(last, words);
      t.regex(why, /^<3>vproxy: VPROXY_OPTIONS was refused, .*the last options that worked are in effect/m);
      t.regex(why, /^last$/m);
    }
    t.deepEqual(start('-i', 'y:1'), ['[-i][y:1]', '\n']);
    // Another end than a refusal changes nothing.
    run('ExecStopPost', [], { EXIT_STATUS: '1' });
    t.deepEqual(start(), ['', '\n']);
    t.is(start('--bad')[0], '');
  });

  test(`${path}: files that a reset kept the package from renaming are renamed, and in effect`, (t) => {
    const { start, run, folder, lastTold } = guestService(t, projectText(path));
    const name = basename(path, '@.service');
    const former = name === 'vproxy-virtserial' ? 'vproxy-guest' : 'vproxy-port';
    mkdirSync(join(folder, 'etc/default'), { recursive: true });
    writeFileSync(join(folder, 'etc/default', former), 'VPROXY_OPTIONS=');
    run('ExecStartPre', []);
    t.is(lastTold(), 'systemctl daemon-reload');
    t.deepEqual(readdirSync(join(folder, 'etc/default')), [name]);
    // The file is read again before each process.
    run('ExecStartPost', ['-i', 'x:1'], { MAINPID: String(process.pid) }, 'ready');
    t.is(start('--bad')[0], '[-i][x:1]');
  });

  // The rest is of the script, which both units call alike; this one calls it also after a start that failed.
  if (!projectText(path).includes('\nType=exec\n')) continue;

  test(`${path}: new options with which it cannot start do not shut the door; the last ones are tried again`, (t) => {
    const { start, run } = guestService(t, projectText(path));
    t.is(start('--taken')[0], 'it never runs');
    t.is(start('-i', 'x:1')[0], '[-i][x:1]');
    const [last, said] = start('-i', 'x:1', '-o', '--taken');
    t.is(last, '[-i][x:1]');
    t.regex(said, /the last options that worked are in effect/);
    // It has worked: the next start tries the new ones.
    run('ExecStopPost', ['-i', 'y:1'], { EXIT_STATUS: '69' });
    t.is(start('-i', 'y:1')[0], '[-i][y:1]');
    // These worked, and may again.
    for (const status of ['69', '69', 'KILL']) run('ExecStopPost', ['-i', 'y:1'], { EXIT_STATUS: status });
    t.deepEqual(start('-i', 'y:1'), ['[-i][y:1]', '\n']);
    // Ends that say nothing about the options.
    for (const status of ['1', '127', '143', '203', 'TERM', 'ABRT']) {
      run('ExecStartPre', ['-i', 'z:1']);
      run('ExecStopPost', ['-i', 'z:1'], { EXIT_STATUS: status });
    }
    t.deepEqual(start('-i', 'z:1'), ['[-i][z:1]', '\n']);
    // It ended without having become ready, or never did.
    for (const [SERVICE_RESULT, EXIT_STATUS] of [
      ['protocol', '0'],
      ['timeout', 'TERM'],
    ] as const) {
      run('ExecStartPre', ['--version']);
      run('ExecStopPost', ['--version'], { SERVICE_RESULT, EXIT_STATUS });
      t.is(start('--version')[0], '[-i][z:1]');
    }
  });

  test(`${path}: options that worked are tried again while a file of theirs is missing, and then none`, (t) => {
    const { start, run, fail, folder } = guestService(t, projectText(path));
    const file = join(folder, 'key');
    const options = ['--need', file];
    const words = `[--need][${file}]`;
    const failOnce = (status: number) => {
      run('ExecStartPre', options);
      fail(status, options);
    };
    // None failed as well: that was not for the options.
    failOnce(65);
    failOnce(69);
    writeFileSync(file, '');
    t.deepEqual(start(...options), [words, '\n']);
    rmSync(file);
    for (let attempt = 0; attempt < 5; attempt += 1) failOnce(65);
    writeFileSync(file, '');
    t.deepEqual(start(...options), [words, '\n']);
    rmSync(file);
    t.is(start(...options)[0], '');
  });

  test(`${path}: options that are corrected between two starts are tried`, (t) => {
    const { start, run, fail } = guestService(t, projectText(path));
    start('-i', 'x:1');
    run('ExecStartPre', ['--bad']);
    fail(64, ['--bad']);
    t.deepEqual(start('-i', 'y:1'), ['[-i][y:1]', '\n']);
    // Edited while a start fails, which is not theirs.
    run('ExecStartPre', ['--bad']);
    fail(64, ['-i', 'z:1']);
    t.deepEqual(start('-i', 'z:1'), ['[-i][z:1]', '\n']);
  });

  test(`${path}: a disk that is full or read-only does not shut the door either`, (t) => {
    const { start, startIn, folder, state } = guestService(t, projectText(path));
    // Nobody makes a folder there.
    const readOnly = { VPROXY_STATE: '/proc/vproxy' };
    t.deepEqual(startIn(readOnly, '-i', 'x:1'), ['[-i][x:1]', '\n']);
    t.is(startIn(readOnly, '--bad')[0], '');
    t.is(start('-i', 'x:1')[0], '[-i][x:1]');
    const [options = ''] = readdirSync(state);
    symlinkSync('/dev/full', join(state, `${options}.new`));
    t.is(start('-i', 'y:1')[0], '[-i][y:1]');
    t.is(start('--bad')[0], '[-i][x:1]');
    const ready = join(folder, 'run', options.replace('.options', '.ready'));
    rmSync(ready);
    mkdirSync(ready);
    t.is(start('-i', 'x:1')[0], '[-i][x:1]');
    // A file of words cannot have it.
    rmSync(join(state, `${options}.new`));
    t.is(start('-i', 'y:\n1')[0], '[-i][y:\n1]');
    t.is(start('--bad')[0], '');
  });

  test(`${path}: a reload refuses wrong options, restarts for others, and else has the files read again`, async (t) => {
    const text = projectText(path);
    const { start, run, lastTold } = guestService(t, text);
    const main = spawn('sleep', ['60']);
    t.teardown(() => main.kill());
    const ended = once(main, 'exit');
    const reload = (...options: string[]) => {
      const checked = run('ExecReload', options, {}, 'check');
      if (checked.status !== 0) return checked.status;
      t.is(checked.stdout, '');
      t.is(run('ExecReload', options, { MAINPID: String(main.pid) }, 'reload').status, 0);
      return lastTold();
    };
    t.true(text.indexOf('/guest-options check') < text.indexOf('/guest-options reload'));
    start('-i', 'x:1');
    t.is(reload('-i', 'x:1', '--bad'), 64);
    // No word of an option that lacks its value is taken from the check.
    t.is(reload('--need'), 'systemctl --no-block restart %n');
    t.is(reload('-i', 'y:1'), 'systemctl --no-block restart %n');
    // What is in effect are others, though these once worked.
    start('--bad');
    t.is(reload('-i', 'x:1'), 'systemctl --no-block restart %n');
    start('-i', 'x:1');
    start('--bad');
    const before = lastTold();
    start('-i', 'x:1');
    t.is(main.exitCode ?? main.signalCode, null);
    t.is(reload('-i', 'x:1'), before);
    t.deepEqual(await ended, [null, 'SIGHUP']);
  });
}

test('a process knows how many sockets its service manager keeps', (t) => {
  for (const unit of SERVICES) {
    const [, size] = /^FileDescriptorStoreMax=(\d+)$/m.exec(read(unit)) ?? [];
    const { FDSTORE } = Object.fromEntries(
      [...read(unit).matchAll(/^Environment=(\w+)=(\S*)$/gm)].map(([, name = '', value = '']) => [name, value]),
    );
    t.is(takeServiceEnvironment({ FDSTORE }, 1).storeSize, Number(size), unit);
  }
});

test('the services have the same sandbox, except for devices', (t) => {
  const settings = /^(?:NoNew|Capab|Protect|PrivateT|Restrict|Remove|Lock|SystemCall|UMask|LimitC)\w*=.*$/gm;
  const sandbox = (unit: string) => [...read(unit).matchAll(settings)].map(([line]) => line);
  const [first = '', ...others] = SERVICES;
  t.true(sandbox(first).length > 15);
  for (const unit of others) t.deepEqual(sandbox(unit), sandbox(first), unit);
});

const SCRIPT = join(PROJECT_ROOT, 'packaging/systemd/restart-services');

/** The units that systemd lists, some of them stopped. */
interface Machine {
  readonly units: readonly string[];
  readonly inactive?: readonly string[];
  /** The output of a failing `vproxy upgrade`, by control socket. */
  readonly failures?: Readonly<Record<string, string>>;
}

/** Runs the script with these arguments; returns its output, and the commands that it called. */
function runScript(t: ExecutionContext, { units, inactive = [], failures = {} }: Machine, ...args: string[]) {
  const folder = temporaryFolder(t);
  const calls = join(folder, 'calls');
  writeFileSync(calls, '');
  const program = (name: string, body: string): void => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${body}\n`);
    chmodSync(join(folder, name), 0o755);
  };
  const note = `echo "$(basename "$0") $*" >> '${calls}'`;
  program(
    'systemctl',
    `case "$*" in
list-units*) printf '%s loaded active running x\\n' ${units.join(' ')};;
*is-active*) case " ${inactive.join(' ')} " in *" $3 "*) exit 3;; esac;;
show*Environment*) name=\${4%.service}; echo "A=b VPROXY_SOCKET=/run/vproxy/\${name##*@}.sock VPROXY_OPTIONS=";;
*) ${note};;
esac`,
  );
  const fails = Object.entries(failures).map(([socket, text]) => `*${socket}) printf '${text}' >&2; exit 1;;`);
  program('vproxy', `${note}\necho handed over\ncase "$*" in\n${fails.join('\n')}\nesac`);
  program('deb-systemd-invoke', note);
  const env = { PATH: `${folder}:${process.env['PATH'] ?? ''}` };
  const { status, stdout, stderr } = spawnSync('sh', [SCRIPT, ...args], { encoding: 'utf8', env });
  return { status, stdout, stderr, calls: readFileSync(calls, 'utf8').split('\n').filter(Boolean) };
}

const handsOver = (name: string) => `vproxy upgrade --socket /run/vproxy/${name}.sock`;
const restarts = (unit: string) => `systemctl try-restart ${unit}`;
const hasHandedOver = (unit: string) => `${unit}: upgraded without losing connections.\n`;
const [VM1, VM2, VM3] = ['vproxy@vm1.service', 'vproxy@vm2.service', 'vproxy@vm3.service'] as const;
const GUEST = 'vproxy-virtserial@org.vproxy.0.service';
const { pid: ENDED } = spawnSync('true');

for (const [title, machine, args, outputs, calls] of [
  [
    'each running service hands over, and is not restarted',
    { units: [VM1, GUEST] },
    [],
    [hasHandedOver(VM1) + hasHandedOver(GUEST), ''],
    [handsOver('vm1'), handsOver('org.vproxy.0')],
  ],
  [
    'a service that cannot hand over prints the reason and is restarted; the others are not',
    {
      units: [VM1, VM2, VM3],
      failures: { 'vm1.sock': 'vproxy: error: a command of exec runs\\nand more', 'vm3.sock': '' },
    },
    [],
    [
      hasHandedOver(VM2),
      `${VM1}: restarting: vproxy: error: a command of exec runs\n${VM3}: restarting: it did not hand over within 180 s\n`,
    ],
    [handsOver('vm1'), restarts(VM1), handsOver('vm2'), handsOver('vm3'), restarts(VM3)],
  ],
  // try-restart has no effect on it, unless it is starting.
  ['a stopped service is not asked to hand over', { units: [VM1], inactive: [VM1] }, [], ['', ''], [restarts(VM1)]],
  [
    'a service whose command installed the package hands over when the command has ended',
    { units: [] },
    [String(ENDED), VM1],
    [hasHandedOver(VM1), ''],
    [handsOver('vm1')],
  ],
  [
    'the policy of a Debian machine applies to vproxy.service',
    { units: ['vproxy.service'], failures: { 'vproxy.sock': 'no' } },
    [],
    null,
    [
      ...(existsSync('/usr/sbin/policy-rc.d') ? [] : [handsOver('vproxy')]),
      'deb-systemd-invoke try-restart vproxy.service',
    ],
  ],
] as const) {
  test(title, (t) => {
    const { status, stdout, stderr, calls: asked } = runScript(t, machine, ...args);
    t.deepEqual([status, asked], [0, calls], stderr);
    if (outputs !== null) t.deepEqual([stdout, stderr], outputs);
  });
}

testWith('shellcheck')('shellcheck finds no problems in it', (t) => {
  const { status, stdout } = spawnSync('shellcheck', [SCRIPT], { encoding: 'utf8' });
  t.is(status, 0, stdout);
});
