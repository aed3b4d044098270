import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { startBareQemu } from '../helpers/machines.js';
import { freePort } from '../helpers/ports.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';

const CHARDEV = 'vproxy-org.vproxy.0';

const DEVICES = {
  controller: 'virtio-serial-pci,id=vproxy-org.vproxy.0-bus',
  port: 'virtserialport,bus=vproxy-org.vproxy.0-bus.0,nr=1,chardev=vproxy-org.vproxy.0,name=org.vproxy.0',
};

for (const [args, chardev] of [
  ['--path /run/vm1.sock', 'socket,id=vproxy-org.vproxy.0,path=/run/vm1.sock,server=on,wait=off'],
  ['--path /run/a,b.sock', 'socket,id=vproxy-org.vproxy.0,path=/run/a,,b.sock,server=on,wait=off'],
  ['--tcp [::1]:50000', 'socket,id=vproxy-org.vproxy.0,host=::1,port=50000,server=on,wait=off'],
  ['--pipe /run/vm1.pipe', 'pipe,id=vproxy-org.vproxy.0,path=/run/vm1.pipe'],
  ['--mode connect --path /s --qemu-version 9.1.2', 'socket,id=vproxy-org.vproxy.0,path=/s,reconnect=1'],
  [
    '--mode connect --tcp host.example:5 --reconnect 10 --qemu-version 10.0',
    'socket,id=vproxy-org.vproxy.0,host=host.example,port=5,reconnect-ms=10000',
  ],
] as const) {
  test.serial(`qemu-args ${args}`, async (t) => {
    const { controller, port } = DEVICES;
    const words = ['-device', controller, '-chardev', chardev, '-device', port];
    const plain = await runVproxy(['qemu-args', ...args.split(' ')]);
    t.deepEqual(plain, { code: 0, stdout: `${words.join(' ')}\n`, stderr: '' });
    const json = await runVproxy(['qemu-args', '--json', ...args.split(' ')]);
    t.deepEqual(JSON.parse(json.stdout), words);
  });
}

test.serial('a path that a shell would split or expand is refused, but for JSON', async (t) => {
  for (const path of ['/run/a b', '/run/*', '/run/a?', '/run/[a', '/run/a\\b', '/run/a\u2003b']) {
    const { code, stdout, stderr } = await runVproxy(['qemu-args', '--path', path]);
    t.deepEqual({ code, stdout }, { code: 64, stdout: '' }, path);
    t.regex(
      stderr,
      /^vproxy: error: ".*": a shell would split or expand that in \$\(…\), .*; use a plainer path, or --json\n$/,
    );
    const json = await runVproxy(['qemu-args', '--json', '--path', path]);
    t.true((JSON.parse(json.stdout) as string[])[3]?.includes(`path=${path},server=on`), path);
  }
});

test.serial('QEMU itself picks no path, so there has to be one', async (t) => {
  for (const args of [[], ['--mode', 'connect'], ['--json']]) {
    const stderr = 'vproxy: error: --path: it is required; expected a unix socket, such as --path /run/vm1.sock\n';
    t.deepEqual(await runVproxy(['qemu-args', ...args]), { code: 64, stdout: '', stderr });
  }
});

interface RealCase {
  /** The arguments of `qemu-args`, as typed to a shell. */
  readonly args: string;
  /** The channel of the host's vproxy in docs/libvirt.md. */
  readonly channel: string;
}

const testWithQemu = serialTestWith('qemu');

for (const [title, prepare] of [
  [
    'a socket on which it listens',
    (folder) => ({ args: `--path ${folder}/vm1.sock`, channel: `unix-connect:${folder}/vm1.sock` }),
  ],
  [
    'a path with a comma',
    (folder) => ({ args: `--path ${folder}/a,b.sock`, channel: `unix-connect:${folder}/a,,b.sock` }),
  ],
  [
    'a socket to which it connects',
    (folder) => ({ args: `--path ${folder}/vm1.sock --mode connect`, channel: `unix-listen:${folder}/vm1.sock` }),
  ],
  [
    'a TCP port on which it listens',
    (_folder, port) => ({ args: `--tcp ${port}`, channel: `tcp-connect:127.0.0.1:${port}` }),
  ],
  [
    'a TCP port to which it connects',
    (_folder, port) => ({ args: `--tcp ${port} --mode connect`, channel: `tcp-listen:127.0.0.1:${port}` }),
  ],
] as const satisfies readonly (readonly [string, (folder: string, port: number) => RealCase])[]) {
  testWithQemu(`QEMU takes ${title}, and vproxy reaches it there`, async (t) => {
    const { args, channel } = prepare(temporaryFolder(t), await freePort());
    const qemu = await startBareQemu(t, `$(vproxy qemu-args ${args})`);
    t.regex(await qemu.chardev(CHARDEV), /^disconnected:/);
    spawnVproxy(t, ['-c', channel]);
    await eventually(async () => !(await qemu.chardev(CHARDEV)).startsWith('disconnected:'), { what: 'a connection' });
    t.regex(await qemu.chardev(CHARDEV), /^(?:unix|tcp):/);
  });
}

testWithQemu('QEMU takes a pipe, at whose other end vproxy is', async (t) => {
  const path = join(temporaryFolder(t), 'vm1');
  t.is((await runVproxy(['pipe-create', path])).code, 0);
  const qemu = await startBareQemu(t, `$(vproxy qemu-args --pipe ${path})`);
  const vproxy = spawnVproxy(t, ['-c', `pipe-open:${path}`]);
  for (const pid of [qemu.pid, vproxy.pid]) {
    await eventually(() => [`${path}.in`, `${path}.out`].every((file) => openFiles(pid).includes(file)));
  }
  t.is(await qemu.chardev(CHARDEV), 'pipe');
});

const openFiles = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });

testWithQemu('several ports stand side by side, each with its name', async (t) => {
  const folder = temporaryFolder(t);
  const call = (name: string) => `$(vproxy qemu-args --name ${name} --path ${folder}/${name}.sock)`;
  const qemu = await startBareQemu(t, `${call('org.vproxy.0')} ${call('1.example')}`);
  for (const name of ['org.vproxy.0', '1.example']) {
    spawnVproxy(t, ['-c', `unix-connect:${folder}/${name}.sock`]);
    await eventually(async () => (await qemu.chardev(`vproxy-${name}`)).startsWith('unix:'));
  }
  t.pass();
});

testWithQemu('JSON gives QEMU a path with a space', async (t) => {
  const path = join(temporaryFolder(t), 'vm 1.sock');
  const { stdout } = await runVproxy(['qemu-args', '--json', '--path', path]);
  const words = (JSON.parse(stdout) as string[]).map((word) => `'${word}'`).join(' ');
  const qemu = await startBareQemu(t, words);
  spawnVproxy(t, ['-c', `unix-connect:${path}`]);
  await eventually(async () => (await qemu.chardev(CHARDEV)).startsWith('unix:'));
  t.pass();
});

testWithQemu('the port is number 1 of its controller, and has its name', async (t) => {
  const qemu = await startBareQemu(t, `$(vproxy qemu-args --name org.example.7 --path ${temporaryFolder(t)}/s)`);
  const property = (name: string) => portProperty(t, qemu, name);
  t.is(await property('nr'), 1);
  t.is(await property('name'), 'org.example.7');
});

async function portProperty(
  t: ExecutionContext,
  qemu: Awaited<ReturnType<typeof startBareQemu>>,
  property: string,
): Promise<unknown> {
  const list = (path: string) => qemu.execute('qom-list', { path }) as Promise<{ name: string; type: string }[]>;
  const folder = '/machine/peripheral-anon';
  const port = (await list(folder)).find(({ type }) => type === 'child<virtserialport>');
  t.truthy(port);
  return await qemu.execute('qom-get', { path: `${folder}/${port?.name ?? ''}`, property });
}
