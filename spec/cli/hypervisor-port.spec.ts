/** `vproxy libvirt-xml`, `qemu-args` and `pipe-create`: their output for a port, and refusals; and the channel to a domain. */
import { spawnSync } from 'node:child_process';
import { lstatSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { formatFifoLine } from '../../cli/commands/hypervisor.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { formatDomain } from '../helpers/libvirt.js';
import { runInTerminal } from '../helpers/terminals.js';
import { testWith } from '../helpers/test-with.js';
import { VPROXY } from '../helpers/vproxy-process.js';

const TARGET = "<target type='virtio' name='org.vproxy.0'/>";

/** The arguments of `libvirt-xml`, and what it prints in one line, without the `TARGET` that ends most of them. */
const CHANNELS: readonly (readonly [args: string, type: string, source: string, target?: string])[] = [
  ['', 'unix', ''],
  [
    '--name org.example.1 --path /run/a\'b&<c>,".sock',
    'unix',
    "<source mode='bind' path='/run/a&apos;b&amp;&lt;c&gt;,\".sock'/>",
    "<target type='virtio' name='org.example.1'/>",
  ],
  [
    '--mode connect --path /run/vm1.sock --reconnect 5',
    'unix',
    "<source mode='connect' path='/run/vm1.sock'><reconnect enabled='yes' timeout='5'/></source>",
  ],
  ['--tcp [::1]:50000 --mode bind', 'tcp', "<source mode='bind' host='::1' service='50000'/><protocol type='raw'/>"],
  [
    '--tcp 50000 --mode connect',
    'tcp',
    "<source mode='connect' host='127.0.0.1' service='50000'><reconnect enabled='yes' timeout='1'/></source><protocol type='raw'/>",
  ],
  ['--pipe /run/vm1.pipe', 'pipe', "<source path='/run/vm1.pipe'/>"],
];

const ID = 'id=vproxy-org.vproxy.0';

/** What describes a port to QEMU, of which version, and its `-chardev`. QEMU reconnects after milliseconds since 9.2. */
const CHARDEVS: readonly (readonly [args: string, version: string, chardev: string])[] = [
  ['--path /run/vm1.sock', '7.2', `socket,${ID},path=/run/vm1.sock,server=on,wait=off`],
  ["--path /run/a,b&'.sock", '7.2', `socket,${ID},path=/run/a,,b&'.sock,server=on,wait=off`],
  ['--mode connect --path /run/vm1.sock', '9.1.2', `socket,${ID},path=/run/vm1.sock,reconnect=1`],
  ['--mode connect --path /s --reconnect 3', '9.2', `socket,${ID},path=/s,reconnect-ms=3000`],
  ['--tcp [::1]:50000', '7.2', `socket,${ID},host=::1,port=50000,server=on,wait=off`],
  ['--tcp localhost:5 --mode connect --reconnect 10', '10.0', `socket,${ID},host=localhost,port=5,reconnect-ms=10000`],
  ['--pipe /run/vm1.pipe', '6.1.0', `pipe,${ID},path=/run/vm1.pipe`],
];

/** Runs a command whose words have no spaces; resolves with its output. */
const printed = async (line: string): Promise<string> => {
  const { code, stdout, stderr } = await callVproxy(line.split(' ').filter((word) => word !== ''));
  return code === 0 && stderr === '' ? stdout : `${line}: ${code} ${stderr}`;
};

test('libvirt-xml prints a channel for each kind, or QEMU arguments, which qemu-args prints in one line', async (t) => {
  for (const [args, type, source, target = TARGET] of CHANNELS) {
    const text = await printed(`libvirt-xml ${args}`);
    t.is(text.replaceAll(/\n */g, ''), `<channel type='${type}'>${source}${target}</channel>`);
  }
  const controller = 'virtio-serial-pci,id=vproxy-org.vproxy.0-bus';
  const port = 'virtserialport,bus=vproxy-org.vproxy.0-bus.0,nr=1,chardev=vproxy-org.vproxy.0,name=org.vproxy.0';
  for (const [args, version, chardev] of CHARDEVS) {
    const how = `${args} --qemu-version ${version}`;
    const words = ['-device', controller, '-chardev', chardev, '-device', port];
    t.is(await printed(`qemu-args ${how}`), `${words.join(' ')}\n`);
    t.deepEqual(JSON.parse(await printed(`qemu-args --json ${how}`)), words);
    const [, , ...others] = words;
    const without = ['-device', `${controller},ioeventfd=off`, ...others];
    t.deepEqual(JSON.parse(await printed(`qemu-args --json --no-ioeventfd ${how}`)), without);
    const xml = await printed(`libvirt-xml --commandline ${how}`);
    const values = [...xml.matchAll(/ {2}<qemu:arg value='([^']+)'\/>\n/g)].map(([, value = '']) =>
      value.replaceAll('&apos;', "'").replaceAll('&amp;', '&'),
    );
    t.deepEqual([values.length, values[3]], [6, chardev], xml);
    // QEMU has devices as JSON since 6.2.
    t.deepEqual([values[1] === controller, values[5] === port], Array(2).fill(version === '6.1.0'), xml);
  }
});

testWith('virt-xml-validate')("all output is valid by libvirt's schema", async (t) => {
  const file = join(temporaryFolder(t), 'domain.xml');
  const findFaults = (parts: Parameters<typeof formatDomain>[0]): string => {
    writeFileSync(file, formatDomain(parts));
    const { status, stdout, stderr } = spawnSync('virt-xml-validate', [file, 'domain'], { encoding: 'utf8' });
    return status === 0 ? '' : stdout + stderr;
  };
  const devices = await Promise.all(CHANNELS.map(([args]) => printed(`libvirt-xml ${args}`)));
  t.is(findFaults({ devices: devices.join('') }), '');
  t.is(findFaults({ end: await printed("libvirt-xml --commandline --path /run/a,b&'.sock --qemu-version 7.2") }), '');
  t.regex(findFaults({ devices: "<channel type='unix'><target type='virtio' port='x'/></channel>" }), /fails to valid/);
});

const LONG = 'x'.repeat(64);

test('the longest names are accepted, and paths that a shell would expand only with --json', async (t) => {
  for (const name of [`${LONG} --path /a`, LONG.slice(0, 36)]) {
    t.regex(await printed(`libvirt-xml --name ${name}`), /^<channel/);
  }
  for (const path of ['/run/a b', '/run/*', '/run/a?', '/run/[a', '/run/a\\b', '/run/a\u2003b']) {
    const { code, stderr } = await callVproxy(['qemu-args', '--path', path]);
    t.is(code, 64, path);
    t.regex(stderr, /: a shell splits or expands this in \$\(…\), .*; use a plainer path, or --json\n$/);
    const json = await callVproxy(['qemu-args', '--json', '--path', path]);
    t.true((JSON.parse(json.stdout) as string[])[3]?.includes(`path=${path},server=on`), path);
  }
});

// The program is searched in the PATH of the process, not of the call.
test.serial("QEMU's version must be given if there is no QEMU to ask", async (t) => {
  const path = process.env['PATH'] ?? '';
  t.teardown(() => (process.env['PATH'] = path));
  process.env['PATH'] = temporaryFolder(t);
  const { code, stdout, stderr } = await callVproxy(['libvirt-xml', '--commandline', '--tcp', '1']);
  t.deepEqual({ code, stdout }, { code: 64, stdout: '' });
  t.regex(stderr, /^vproxy: error: --qemu-version: missing; .* qemu-system-\w+ was not found; .*\n$/);
});

test('a terminal also shows the channels that belong to the output', async (t) => {
  const calls = ['', '--mode connect --tcp 5 --name a.b', "--path '/run/a b,c'"];
  const script = calls.map((args) => `${VPROXY} libvirt-xml ${args} > /dev/tty`).join('; ');
  const { text } = await (await runInTerminal(t, script)).ended;
  const told = [...text.matchAll(/<\/channel>\r\nvproxy: on the host: -c (.*); in the guest: -c (.*)\r\n/g)];
  t.deepEqual(
    told.map(([, host, guest]) => [host, guest]),
    [
      ['libvirt:DOMAIN:org.vproxy.0', 'virtserial-open:org.vproxy.0'],
      ['tcp-listen:127.0.0.1:5', 'virtserial-open:a.b'],
      ["'unix-connect:/run/a b,,c'", 'virtserial-open:org.vproxy.0'],
    ],
  );
});

test('pipe-create creates the FIFOs, reports it, prints the lines for tmpfiles.d, and leaves other files alone', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'vm1');
  const files = [path, `${path}.in`, `${path}.out`];
  const user = String(process.getuid?.());
  const made = await callVproxy(['pipe-create', path, '--mode', '600', '--owner', user]);
  const { gid } = lstatSync(path);
  t.deepEqual(made, {
    code: 0,
    stdout: files.map((file) => `p+ ${file} 0600 ${user} ${gid} - -\n`).join(''),
    stderr: files.map((file) => `vproxy: made ${file}\n`).join(''),
  });
  for (const file of files) t.is(lstatSync(file).mode & 0o7777, 0o600);
  const kept = files.map((file) => `vproxy: kept ${file}\n`).join('');
  t.like(await callVproxy(['pipe-create', path]), { code: 0, stderr: kept });
  t.is(lstatSync(path).mode & 0o7777, 0o660);
  const other = join(folder, 'vm2');
  writeFileSync(`${other}.in`, 'precious');
  const stderr = `vproxy: error: ${other}.in: already exists and is not a FIFO\n`;
  t.deepEqual(await callVproxy(['pipe-create', other]), { code: 73, stdout: '', stderr });
});

test('a path in a line for tmpfiles.d is quoted if necessary', (t) => {
  t.is(formatFifoLine('/run/a', 0o60, 'qemu', 'kvm'), 'p+ /run/a 0060 qemu kvm - -');
  t.is(formatFifoLine('/run/a b"%t\\', 0o660, '0', '0'), 'p+ "/run/a b\\"%%t\\\\" 0660 0 0 - -');
});
