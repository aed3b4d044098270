/** Everything that a user does over the channel, once: the check after each disturbance. */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';
import { sha256, temporaryFolder } from '../../helpers/files.js';
import { eventually, within } from '../../helpers/time.js';
import { runProgram, VPROXY } from '../../helpers/vproxy-process.js';
import { withVproxySsh } from '../../helpers/vproxy-ssh.js';
import { GUEST_PORTS } from './guest-ports.js';
import { dialAsEmulator, emulatedReply } from './host-side.js';
import type { Laboratory } from './laboratory.js';
import { ssh } from './ssh.js';

const STREAMS = 50;
const STORAGE_CALL = ['/usr/sbin/storcli64', '/c0', 'show'];
const CALL_MS = 120_000;

const callStorage = ({ guest }: Laboratory) => guest.agent.run(STORAGE_CALL.join(' '), { timeoutMs: CALL_MS });

/** Fails `t` unless a storage call, ssh with its exit status, and files of `bytes` each way by ssh and by a forward work. */
export async function checkEssentials(t: ExecutionContext, both: Laboratory, bytes: number): Promise<void> {
  const checkSsh = async () => {
    const file = randomBytes(bytes);
    const command = 'cat > /tmp/file; sha256sum < /tmp/file >&2; cat /tmp/file; exit 7';
    const { stdout, stderr, status } = await ssh(both.guest, await both.port('ssh'), command, file);
    t.deepEqual([stderr, status], [`${sha256(file)}  -\n`, 7], 'ssh, and the file that went up');
    t.is(sha256(stdout), sha256(file), 'the file that came down');
  };
  // The guest sends to the host's echo, half-closes, and compares the reply.
  const checkForward = async () => {
    const send = `nc 127.0.0.1 ${GUEST_PORTS.hostEcho} < /tmp/out | cmp - /tmp/out`;
    const command = `head -c ${bytes} /dev/urandom > /tmp/out && ${send}`;
    const result = await both.guest.agent.run(command, { timeoutMs: CALL_MS });
    t.deepEqual(result, { stdout: '', stderr: '', status: 0 }, 'a forward to the host');
  };
  const checkStorage = async () => t.deepEqual(await callStorage(both), emulatedReply('listening', STORAGE_CALL));
  await Promise.all([checkSsh(), checkForward(), checkStorage()]);
  t.false(both.guest.readConsole().includes('WRONG BYTE'), 'a sink in the guest saw a wrong byte');
}

/** The same, with an emulator that dials, and many streams, none of which ends before all have got their answer. */
export async function checkEverything(t: ExecutionContext, both: Laboratory, bytes: number): Promise<void> {
  await checkEssentials(t, both, bytes);
  const emulator = await dialAsEmulator(await both.port('storage'));
  const reply = emulatedReply('dialling', STORAGE_CALL);
  // Until the guest knows about it, the other one answers.
  await eventually(async () => (await callStorage(both)).stdout === reply.stdout, { what: 'an emulator that dials' });
  emulator.destroy();

  const port = await both.port('echo');
  const sockets = Array.from({ length: STREAMS }, () => connect({ port, host: '127.0.0.1', allowHalfOpen: true }));
  t.teardown(() => sockets.forEach((socket) => socket.destroy()));
  const echoed = await within(CALL_MS, `${STREAMS} echoes`, Promise.all(sockets.map(echoOnce)));
  t.true(echoed.every((isEqual) => isEqual));
  const ends = sockets.map((socket) => new Promise<boolean>((resolve) => socket.once('close', resolve)));
  for (const socket of sockets) socket.end();
  const failures = await within(CALL_MS, `the end of ${STREAMS} streams`, Promise.all(ends));
  t.false(failures.includes(true), 'a stream was reset');
}

/** rsync, scp, sftp and git between a folder of the host and /tmp/tools of the guest, which the only channel leads to. */
const SSH_TOOLS = `
  export GIT_SSH_COMMAND=vproxy-ssh GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
  mkdir -p tree/inner && seq 100000 > tree/numbers && head -c 1000000 /dev/urandom > tree/inner/bytes
  vproxy-ssh default mkdir /tmp/tools
  rsync -a -e vproxy-ssh tree/ default:/tmp/tools/tree
  rm tree/numbers
  rsync -a --delete -e vproxy-ssh tree/ default:/tmp/tools/tree
  rsync -a -e vproxy-ssh default:/tmp/tools/tree/ synced
  diff -r tree synced
  scp -q -r -S vproxy-ssh tree default:/tmp/tools/copied
  scp -q -r -S vproxy-ssh default:/tmp/tools/copied .
  diff -r tree copied
  printf '%s\\n' 'put tree/inner/bytes /tmp/tools/put' 'get /tmp/tools/put got' | sftp -q -b - -S vproxy-ssh default
  cmp tree/inner/bytes got
  vproxy-ssh default git init -q --bare -b main /tmp/tools/repo
  git clone -q default:/tmp/tools/repo first
  cp -r tree first && git -C first add . && git -C first commit -q -m tree && git -C first push -q origin HEAD:main
  git clone -q default:/tmp/tools/repo second
  diff -r tree second/tree
  vproxy-ssh default rm -r /tmp/tools`;

/** Fails `t` unless the programs that call ssh work with `vproxy-ssh`. `environment` names the host's process. */
export async function checkSshTools(t: ExecutionContext, environment: Record<string, string>): Promise<void> {
  const env = {
    ...process.env,
    ...environment,
    PATH: withVproxySsh(t, `exec ${VPROXY} "$@"`),
    HOME: temporaryFolder(t),
  };
  const { code, stderr } = await runProgram(['bash', '-euxc', `cd "$HOME"${SSH_TOOLS}`], { env });
  t.is(code, 0, stderr);
}

function echoOnce(socket: Socket): Promise<boolean> {
  const sent = randomBytes(1024);
  socket.write(sent);
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    socket.once('error', reject).on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length >= sent.length) resolve(received.equals(sent));
    });
  });
}
