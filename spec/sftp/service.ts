/** What the service does beyond its requests. */
import { existsSync, promises, readFileSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MAX_DATA_BYTES, MAX_SFTP_STREAMS, SFTP_KIND } from '../../lib/services/sftp/sftp-numbers.js';
import { countDescriptors } from '../../lib/system/descriptors.js';
import { deferred } from '../../lib/util/concurrency.js';
import { temporaryFolder, withoutKinds } from '../helpers/files.js';
import { packet, type SftpClient, startSftp } from '../helpers/sftp-client.js';
import { eventually } from '../helpers/time.js';

test('a permission that is withdrawn or changed ends the streams', async (t) => {
  const { connect, service } = await startSftp(t, '/tmp');
  for (const [permission, code] of [
    [{ root: '/tmp' }, null],
    [null, 'denied'],
    [{ root: '/usr' }, 'denied'],
  ] as const) {
    const client = await connect();
    service.allow(permission);
    client.stream.end();
    t.is(await client.ended, code);
  }
  const answer = await (await connect()).ask(SFTP_KIND.REALPATH, '.');
  answer.number();
  t.is(answer.text(), '/usr');
});

test('requests that become whole at once take turns with everything else', async (t) => {
  const { connect } = await startSftp(t, null);
  const clients = await Promise.all(Array.from({ length: 60 }, () => connect()));
  const fields = ['/', 2 ** 31, 256, ...Array.from({ length: 512 }, () => '')] as const;
  const request = packet(SFTP_KIND.SETSTAT, 1, ...fields);
  for (const { stream } of clients) stream.write(request.subarray(0, -1));
  await (await connect()).ask(SFTP_KIND.STAT, '/');
  const turns = new Set<number>();
  let turn = 0;
  const count = (): void => {
    turn += 1;
    if (clients.some(({ answered }) => answered.length < 2)) setImmediate(count);
  };
  setImmediate(count);
  for (const { stream } of clients) {
    stream.on('data', () => turns.add(turn));
    stream.write(request.subarray(-1));
  }
  await eventually(() => clients.every(({ answered }) => answered.length === 2));
  t.true(turns.size > 2, `${turns.size}`);
});

test.serial('files and folders are closed with their stream, however it ends', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'file'), 'contents');
  for (const root of [null, folder]) {
    const { connect, events } = await startSftp(t, root);
    await (await connect()).ask(SFTP_KIND.STAT, folder);
    const before = countDescriptors();
    for (const end of [(await connect()).stream, null]) {
      const client = await connect();
      await client.open(join(folder, 'file'));
      await client.ask(SFTP_KIND.OPENDIR, folder);
      t.is(countDescriptors(), (before ?? 0) + 3);
      if (end === null) client.stream.destroy();
      else client.stream.end();
      await eventually(() => countDescriptors() === before);
    }
    await eventually(() => events.some(({ fields }) => fields['opened'] === 2));
    const { fields } = events.find(({ event, fields }) => event === 'sftp-ended' && fields['opened'] === 2) ?? {};
    t.like(fields, { paths: [join(folder, 'file'), folder], code: null, refused: 0 });
  }
});

/** Until the test ends, the service has these system calls. */
function replaceCalls(t: ExecutionContext, calls: Partial<typeof promises>): void {
  const before = Object.fromEntries(Object.keys(calls).map((name) => [name, promises[name as keyof typeof promises]]));
  const set = (all: object): void => {
    Object.assign(promises, all);
    syncBuiltinESMExports();
  };
  set(calls);
  t.teardown(() => set(before));
}

test.serial('a folder is listed whole where the file system does not tell kinds', async (t) => {
  const folder = temporaryFolder(t);
  const names = ['a', 'caf\xc3\xa9', 'z', '\xff\xfe'];
  for (const name of [...names, 'gone']) writeFileSync(Buffer.from(`${folder}/${name}`, 'latin1'), '');
  withoutKinds(t);
  const { connect } = await startSftp(t, folder);
  t.deepEqual((await (await connect()).list('.')).names.sort(), names);
});

test.serial('a file system that does not answer takes two threads of the process', async (t) => {
  const folder = temporaryFolder(t);
  for (let count = 0; count < 9; count += 1) writeFileSync(join(folder, `hangs${count}`), '');
  const answers = deferred();
  let waitingCount = 0;
  const waiting =
    <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      if (String(args[0]).includes('hangs')) {
        waitingCount += 1;
        await answers.promise;
      }
      return call(...args);
    };
  const { stat, lstat } = promises;
  replaceCalls(t, { stat: waiting(stat) as typeof stat, lstat: waiting(lstat) as typeof lstat });
  // Of two channels.
  const services = [await startSftp(t, null), await startSftp(t, null)];
  t.teardown(() => answers.resolve());
  const clients: SftpClient[] = [];
  for (let count = 0; count < 9; count += 1)
    clients.push(...(await Promise.all(services.map(({ connect }) => connect()))));
  const asked = clients.map((client, index) =>
    index === 0 ? client.list(folder) : client.ask(SFTP_KIND.STAT, join(folder, `hangs${index % 9}`)),
  );
  await eventually(() => waitingCount >= 2);
  await eventually(() => clients.every(({ stream }) => stream.writableLength === 0));
  t.is(waitingCount, 2);
  answers.resolve();
  await Promise.all(asked);
  t.is(waitingCount, 26);
});

test('a stream counts until its answers are read', async (t) => {
  const file = join(temporaryFolder(t), 'file');
  writeFileSync(file, Buffer.alloc(MAX_DATA_BYTES));
  const { connect } = await startSftp(t, null);
  const unread: SftpClient[] = [];
  while (unread.length < MAX_SFTP_STREAMS) {
    const client = await connect();
    const handle = await client.open(file);
    client.stream.pause();
    for (let id = 1; id <= 2; id += 1) client.stream.write(packet(SFTP_KIND.READ, id, handle, 0n, MAX_DATA_BYTES));
    client.stream.end();
    unread.push(client);
  }
  await eventually(() => unread.every(({ stream }) => stream.readableLength > 0));
  t.is(await (await connect(false)).ended, 'too-many-streams');
  for (const { stream } of unread) stream.resume();
  await Promise.all(unread.map(({ ended }) => ended));
  await connect();
});

test.serial('a RENAME that is refused leaves no new name', async (t) => {
  const [from, to] = ['from', 'to'].map((name) => join(temporaryFolder(t), name)) as [string, string];
  writeFileSync(from, 'contents');
  const { unlink } = promises;
  const refuse = (): Promise<void> => Promise.reject(Object.assign(new Error('refused'), { code: 'EACCES' }));
  replaceCalls(t, { unlink: (path) => (String(path) === from ? refuse() : unlink(path)) });
  const { connect } = await startSftp(t, null);
  t.is((await (await connect()).ask(SFTP_KIND.RENAME, from, to)).status, 'PERMISSION_DENIED');
  t.false(existsSync(to));
  t.is(readFileSync(from, 'utf8'), 'contents');
});
