/** `vproxy` under Node's permission model, with the flags that docs/security.md names. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT, temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { echo, failureOf, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { ESTABLISHED, runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';

/** Earlier versions have it as an experiment, with another flag. */
const MAJOR = Number(process.versions.node.split('.')[0]);
const HAS_MODEL = MAJOR >= 24;

/** Sockets need a permission of their own since this version. */
const NETWORK = MAJOR >= 25 ? ['--allow-net'] : [];

(HAS_MODEL ? test.serial : test.skip)(
  'it carries streams with what it was allowed, and does nothing else',
  async (t) => {
    const folder = temporaryFolder(t);
    const run = join(folder, 'run');
    mkdirSync(run);
    const key = writeKeyFile(folder, 'own.key', '1f');
    const allow = [`read=${PROJECT_ROOT}/`, `read=${key}`, `read=${run}/`, `write=${run}/`];
    const env = { NODE_OPTIONS: ['--permission', ...NETWORK, ...allow.map((what) => `--allow-fs-${what}`)].join(' ') };
    const target = await localServer(t, echo);
    const incoming = ['-i', `echo:${target.port}`, '-i', 'date:exec:date'];
    const control = join(run, 'control.sock');
    const host = spawnVproxy(
      t,
      [
        '--control',
        control,
        '-c',
        `unix-listen:${run}/channel.sock,tls=psk`,
        '--key',
        key,
        ...incoming,
        '--audit',
        `${run}/audit`,
      ],
      { env },
    );
    const outgoing = ['-o', `echo:${run}/echo`, '-o', 'date:0'];
    const guest = spawnVproxy(t, ['-c', `unix-connect:${run}/channel.sock,tls=psk`, '--key', key, ...outgoing], {
      env,
    });
    await guest.waitForLine(ESTABLISHED);
    const socket = localSocket(t, { path: join(run, 'echo') });
    const answer = readToEnd(socket);
    socket.end('hello');
    t.is((await answer).toString(), 'hello');
    const { code, stdout } = await runVproxy(['status', '--socket', control], { env });
    t.is(code, 0);
    t.regex(stdout, /established/);

    // It may not start a process: that stream is refused, and nothing else is affected.
    t.is(
      (await failureOf(localSocket(t, { host: '127.0.0.1', port: await guest.listeningPort('date') }))).code,
      'ECONNRESET',
    );
    await guest.waitForLine(/connect-failed/);
    host.kill('SIGTERM');
    t.deepEqual(await host.exited, { code: 0, signal: null });
    t.is(host.lines.filter((line) => ESTABLISHED.test(line)).length, 1);
    const audited = host.lines.filter((line) => /audit/.test(line));
    t.deepEqual(audited, []);
    const elsewhere = await runVproxy(['-c', `unix-listen:${folder}/other.sock`], { env });
    t.not(elsewhere.code, 0);
  },
);
