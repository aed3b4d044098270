import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { formatDomain } from '../helpers/libvirt.js';
import { runInTerminal } from '../helpers/terminals.js';
import { testWith } from '../helpers/test-with.js';
import { runVproxy } from '../helpers/vproxy-process.js';

const testWithValidator = testWith('virt-xml-validate');

/** The faults that libvirt's own schema finds in a part of a domain; empty where it finds none. */
function findFaults(t: ExecutionContext, xml: string): string {
  const file = join(temporaryFolder(t), 'domain.xml');
  const parts = xml.startsWith('<channel') ? { devices: xml } : { end: xml };
  writeFileSync(file, formatDomain(parts));
  const { status, stdout, stderr } = spawnSync('virt-xml-validate', [file, 'domain'], { encoding: 'utf8' });
  return status === 0 ? '' : stdout + stderr;
}

/** `args` print these lines, and libvirt accepts them. */
function testPrints(title: string, args: string, lines: readonly string[]): void {
  test(title, async (t) => {
    const { code, stdout, stderr } = await runVproxy(['libvirt-xml', ...args.split(' ').filter((word) => word !== '')]);
    t.deepEqual({ code, stderr, lines: stdout.split('\n') }, { code: 0, stderr: '', lines: [...lines, ''] });
  });
  testWithValidator(`${title}: it is what libvirt's schema says`, (t) => {
    t.is(findFaults(t, [...lines, ''].join('\n')), '');
  });
}

testWithValidator("what is not libvirt's is found", (t) => {
  t.regex(
    findFaults(t, "<channel type='unix'>\n  <target type='virtio' port='x'/>\n</channel>\n"),
    /fails to validate/,
  );
});

testPrints('a socket that libvirt picks', '', [
  "<channel type='unix'>",
  "  <target type='virtio' name='org.vproxy.0'/>",
  '</channel>',
]);

testPrints('a socket on which QEMU listens, escaped', '--name org.example.1 --path /run/a\'b&<c>,".sock', [
  "<channel type='unix'>",
  "  <source mode='bind' path='/run/a&apos;b&amp;&lt;c&gt;,\".sock'/>",
  "  <target type='virtio' name='org.example.1'/>",
  '</channel>',
]);

testPrints('a socket to which QEMU connects', '--mode connect --path /run/vm1.sock --reconnect 5', [
  "<channel type='unix'>",
  "  <source mode='connect' path='/run/vm1.sock'>",
  "    <reconnect enabled='yes' timeout='5'/>",
  '  </source>',
  "  <target type='virtio' name='org.vproxy.0'/>",
  '</channel>',
]);

testPrints('a TCP port on which QEMU listens', '--tcp [::1]:50000 --mode bind', [
  "<channel type='tcp'>",
  "  <source mode='bind' host='::1' service='50000'/>",
  "  <protocol type='raw'/>",
  "  <target type='virtio' name='org.vproxy.0'/>",
  '</channel>',
]);

testPrints('a TCP port to which QEMU connects', '--tcp 50000 --mode connect', [
  "<channel type='tcp'>",
  "  <source mode='connect' host='127.0.0.1' service='50000'>",
  "    <reconnect enabled='yes' timeout='1'/>",
  '  </source>',
  "  <protocol type='raw'/>",
  "  <target type='virtio' name='org.vproxy.0'/>",
  '</channel>',
]);

testPrints('a pipe', '--pipe /run/vm1.pipe', [
  "<channel type='pipe'>",
  "  <source path='/run/vm1.pipe'/>",
  "  <target type='virtio' name='org.vproxy.0'/>",
  '</channel>',
]);

/** What `--commandline` prints for a chardev, of which QEMU's version decides the spelling of the devices. */
const commandline = (chardev: string, [controller, port]: readonly [string, string] = JSON_DEVICES) => [
  "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>",
  ...['-device', controller, '-chardev', chardev, '-device', port].map((word) => `  <qemu:arg value='${word}'/>`),
  '</qemu:commandline>',
];

const JSON_DEVICES = [
  '{"driver":"virtio-serial-pci","id":"vproxy-org.vproxy.0-bus"}',
  '{"driver":"virtserialport","bus":"vproxy-org.vproxy.0-bus.0","nr":1,"chardev":"vproxy-org.vproxy.0","name":"org.vproxy.0"}',
] as const;

const PLAIN_DEVICES = [
  'virtio-serial-pci,id=vproxy-org.vproxy.0-bus',
  'virtserialport,bus=vproxy-org.vproxy.0-bus.0,nr=1,chardev=vproxy-org.vproxy.0,name=org.vproxy.0',
] as const;

for (const [title, args, chardev] of [
  [
    'a socket',
    "--path /run/a,b&'.sock",
    'socket,id=vproxy-org.vproxy.0,path=/run/a,,b&amp;&apos;.sock,server=on,wait=off',
  ],
  [
    'a connection to a socket',
    '--mode connect --path /run/vm1.sock',
    'socket,id=vproxy-org.vproxy.0,path=/run/vm1.sock,reconnect=1',
  ],
  ['a TCP port', '--tcp 50000', 'socket,id=vproxy-org.vproxy.0,host=127.0.0.1,port=50000,server=on,wait=off'],
  [
    'a connection to a TCP port',
    '--tcp localhost:50000 --mode connect --reconnect 10',
    'socket,id=vproxy-org.vproxy.0,host=localhost,port=50000,reconnect=10',
  ],
  ['a pipe', '--pipe /run/vm1.pipe', 'pipe,id=vproxy-org.vproxy.0,path=/run/vm1.pipe'],
] as const) {
  testPrints(`as QEMU's arguments: ${title}`, `--commandline --qemu-version 7.2 ${args}`, commandline(chardev));
}

testPrints(
  "as QEMU's arguments: before 6.2 it had no devices as JSON",
  '--commandline --qemu-version 6.1.0 --pipe /p',
  commandline('pipe,id=vproxy-org.vproxy.0,path=/p', PLAIN_DEVICES),
);

testPrints(
  "as QEMU's arguments: since 9.2 it reconnects after milliseconds",
  '--commandline --qemu-version 9.2 --mode connect --path /s --reconnect 3',
  commandline('socket,id=vproxy-org.vproxy.0,path=/s,reconnect-ms=3000'),
);

const REFUSED: readonly (readonly [args: readonly string[], line: string])[] = [
  [
    ['--name', 'a/b'],
    '--name: "a/b" is no name of a port: 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-", a letter or digit first',
  ],
  [
    ['--name', '.'],
    '--name: "." is no name of a port: 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-", a letter or digit first',
  ],
  [
    ['--name', 'org.qemu.guest_agent.0'],
    '--name: "org.qemu.guest_agent.0" is the port of QEMU\'s guest agent, which libvirt uses',
  ],
  [
    ['--name', `org.${'x'.repeat(33)}`],
    `--name: "org.${'x'.repeat(33)}" is too long for the path that libvirt makes of it (36); give a --path`,
  ],
  [['--mode', 'listen'], '--mode: "listen" is neither bind nor connect'],
  [['--mode', 'connect'], '--path: it is required; expected a unix socket, such as --path /run/vm1.sock'],
  [['--commandline'], '--path: it is required; expected a unix socket, such as --path /run/vm1.sock'],
  [['--path', 'run/vm1.sock'], '--path: "run/vm1.sock" is not the absolute path of a file'],
  [['--path', '/run/'], '--path: "/run/" is not the absolute path of a file'],
  [['--path', '/run/a\nb'], '--path: "/run/a\\nb" has characters that are no text'],
  [['--path', '/run/\ufffd'], '--path: "/run/\ufffd" has characters that are no text'],
  [['--path', `/${'a'.repeat(107)}`], '--path: the path of a unix socket has 108 bytes, the system allows 107'],
  [
    ['--tcp', '0'],
    '--tcp: "127.0.0.1:0" is not HOST:PORT with a port from 1 to 65535 (an IPv6 address in brackets: [::1]:9000)',
  ],
  [['--tcp', '1', '--path', '/a'], '--tcp: it is in the place of --path; give one'],
  [['--tcp', '1', '--pipe', '/a'], '--pipe: it is in the place of --tcp; give one'],
  [['--pipe', '/a', '--mode', 'bind'], '--mode: a pipe has none; leave it out'],
  [['--reconnect', '5'], '--reconnect: QEMU connects only with --mode connect'],
  [
    ['--mode', 'connect', '--tcp', '1', '--reconnect', '0'],
    '--reconnect: "0" is not a whole number of seconds from 1 to 3600',
  ],
  [
    ['--mode', 'connect', '--tcp', '1', '--reconnect', '1.5'],
    '--reconnect: "1.5" is not a whole number of seconds from 1 to 3600',
  ],
  [['--qemu-version', '7.2'], '--qemu-version: only --commandline depends on it'],
  [['--commandline', '--tcp', '1', '--qemu-version', '7'], '--qemu-version: "7" is no version, such as 7.2'],
];

test.serial('what libvirt, QEMU or the kernel would refuse is refused with one line', async (t) => {
  for (const [args, line] of REFUSED) {
    t.deepEqual(await runVproxy(['libvirt-xml', ...args]), {
      code: 64,
      stdout: '',
      stderr: `vproxy: error: ${line}\n`,
    });
  }
});

test.serial('a name may be as long where it has a path of its own', async (t) => {
  const name = 'x'.repeat(64);
  t.is((await runVproxy(['libvirt-xml', '--name', name, '--path', '/a'])).code, 0);
  t.is((await runVproxy(['libvirt-xml', '--name', `${name}x`, '--path', '/a'])).code, 64);
  t.is((await runVproxy(['libvirt-xml', '--name', 'x'.repeat(36)])).code, 0);
});

test.serial("QEMU's version has to be told where there is no QEMU to ask", async (t) => {
  const args = ['libvirt-xml', '--commandline', '--tcp', '1'];
  const { code, stdout, stderr } = await runVproxy(args, { env: { PATH: temporaryFolder(t) } });
  t.deepEqual({ code, stdout }, { code: 64, stdout: '' });
  t.regex(
    stderr,
    /^vproxy: error: --qemu-version: it is required here: .* there is no qemu-system-\w+ to ask; expected such as 7\.2\n$/,
  );
});

test.serial('a person at a terminal is told which channels belong to it', async (t) => {
  const script = `'${process.execPath}' '${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')}' libvirt-xml`;
  const shown = async (args: string) => {
    const { ended } = await runInTerminal(t, `${script} ${args} > /dev/tty`);
    return (await ended).text;
  };
  t.regex(
    await shown(''),
    /<\/channel>\r\nvproxy: at the host -c libvirt:DOMAIN:org\.vproxy\.0, in the guest -c virtserial-open:org\.vproxy\.0\r\n$/,
  );
  t.regex(
    await shown('--mode connect --tcp 5 --name a.b'),
    /-c tcp-listen:127\.0\.0\.1:5, in the guest -c virtserial-open:a\.b\r\n$/,
  );
  t.regex(await shown("--path '/run/a b,c'"), /-c 'unix-connect:\/run\/a b,,c', in/);
});
