/** The other ends of a real QEMU's chardevs, in the same spelling. Needs no guest: each is attached to the monitor. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import type { Link } from '../../lib/link/link.js';
import { deferred } from '../../lib/util/concurrency.js';
import { dial, listen, record } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { freePort } from '../helpers/ports.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';

const QEMU = 'qemu-system-x86_64';
const NO_MACHINE = ['-M', 'none', '-S', '-nodefaults', '-display', 'none'];
const withQemu = testWith('qemu');

/** Starts a QEMU without a machine, until the end of the test; returns its output. */
function startQemu(t: ExecutionContext, args: readonly string[]): () => string {
  const child = spawn(QEMU, [...NO_MACHINE, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const output of [child.stdout, child.stderr]) output.on('data', (text) => (said += String(text)));
  t.teardown(async () => {
    if (child.exitCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return () => said;
}

/** Checks the greeting of QEMU's monitor through a link, and its answer. */
async function talk(t: ExecutionContext, link: Link): Promise<void> {
  const handler = record(link);
  const answers = () => handler.bytes.toString();
  await eventually(() => /^\{"QMP": [^\n]*\n/m.test(answers()), { what: "QEMU's greeting" });
  link.write(Buffer.from('{"execute": "qmp_capabilities"}\n'));
  await eventually(() => /^\{"return": \{\}\}/m.test(answers()), { what: "QEMU's answer" });
  t.pass();
}

/** Opens the link of a channel that dials or listens. */
async function open(t: ExecutionContext, text: string, start: () => () => string): Promise<Link> {
  if (parseChannel(text).kind.mode === 'dial') {
    const said = start();
    return eventually(() => dial(t, text), { what: `${text} (${said()})` });
  }
  const accepted = deferred<Link>();
  await listen(t, text, { onLink: (link) => accepted.resolve(link) });
  start();
  const link = await accepted.promise;
  t.teardown(() => link.destroy());
  return link;
}

/** The chardev of `-chardev`, and the older form of `-qmp`. */
const SPELLINGS = [
  ['chardev', 'socket,path=FOLDER/q.sock,server=on,wait=off,id=c0'],
  ['chardev', 'socket,id=c0,path=FOLDER/a,,b.sock,server,nowait'],
  ['chardev', 'socket,id=c0,path=FOLDER/q.sock,server=on,wait=on'],
  ['chardev', 'socket,id=c0,path=FOLDER/q.sock,reconnect=1'],
  ['chardev', 'socket,id=c0,host=127.0.0.1,port=PORT,server=on,wait=off'],
  ['chardev', 'socket,id=c0,host=,port=PORT,server=on,wait=off'],
  ['chardev', 'socket,id=c0,host=0.0.0.0,port=PORT,server=on,wait=off'],
  ['chardev', 'socket,id=c0,host=localhost,port=PORT,server=on,wait=off,ipv4=on'],
  ['chardev', 'socket,id=c0,host=127.0.0.1,port=PORT,reconnect=1'],
  ['chardev', 'pipe,path=FOLDER/pipe,id=c0'],
  ['qmp', 'unix:FOLDER/q.sock,server,nowait'],
  ['qmp', 'unix:FOLDER/q.sock'],
  ['qmp', 'tcp::PORT,server=on,wait=off'],
  ['qmp', 'tcp:127.0.0.1:PORT'],
  ['qmp', 'pipe:FOLDER/pipe'],
] as const;

for (const [option, spelling] of SPELLINGS) {
  withQemu(`-${option} ${spelling} is understood as QEMU does`, async (t) => {
    const folder = temporaryFolder(t);
    execFileSync('mkfifo', [path.join(folder, 'pipe.in'), path.join(folder, 'pipe.out')]);
    const chardev = spelling.replace('FOLDER', folder).replace('PORT', String(await freePort()));
    const monitor = option === 'chardev' ? ['-mon', 'chardev=c0,mode=control'] : [];
    const link = await open(t, `qemu:${chardev}`, () => startQemu(t, [`-${option}`, chardev, ...monitor]));
    await talk(t, link);
  });
}

withQemu('the terminal that QEMU says it made is a channel', async (t) => {
  const said = startQemu(t, ['-chardev', 'pty,id=c0', '-mon', 'chardev=c0,mode=control']);
  const [device = ''] = await eventually(() => /\/dev\/pts\/\d+/.exec(said()), { what: 'a terminal' });
  await talk(t, await dial(t, `qemu:pty:${device}`));
});

withQemu('what the monitor says of a chardev is understood', async (t) => {
  const folder = temporaryFolder(t);
  const log = path.join(folder, 'log');
  execFileSync('mkfifo', [path.join(folder, 'mon.in'), path.join(folder, 'mon.out')]);
  const monitor = await dial(t, `pipe-open:${folder}/mon`);
  const handler = record(monitor);
  const sockets = [
    ...['-chardev', `socket,id=c0,path=${folder}/q.sock,server=on,wait=off,logfile=${log}`],
    ...['-mon', 'chardev=c0,mode=control', '-monitor', `pipe:${folder}/mon`],
  ];
  startQemu(t, sockets);
  await eventually(() => handler.bytes.includes('(qemu)'), { what: 'the monitor' });
  monitor.write(Buffer.from('info chardev\n'));
  const [, filename = ''] = await eventually(() => /c0: filename=([^\r\n]*)/.exec(handler.bytes.toString()));
  t.is(filename, `disconnected:unix:${folder}/q.sock,server=on`);
  await talk(t, await dial(t, `qemu:${filename}`));
  t.true(readFileSync(log, 'utf8').includes('QMP'), 'the log is of the same chardev');
});

withQemu('what QEMU refuses itself is refused', async (t) => {
  for (const chardev of [
    'socket,id=c0,path=/nowhere/q.sock,server=on,wait=off,reconnect=1',
    'socket,id=c0,host=,port=1',
    'socket,id=c0,port=1',
    'socket,id=c0,path=/nowhere/q.sock,wait=maybe',
    'socket,id=c0',
    'sokcet,id=c0',
    'socket,id=c0 -x,path=/nowhere/q.sock',
  ]) {
    t.throws(() => parseChannel(`qemu:${chardev}`), { code: 'bad-argument' }, chardev);
    const failure = promisify(execFile)(QEMU, [...NO_MACHINE, '-chardev', chardev], { timeout: 20_000 });
    await t.throwsAsync(failure, { message: /-chardev/, code: 1 }, chardev);
  }
});
