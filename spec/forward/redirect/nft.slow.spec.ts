/** The rules that both programs print, and what both refuse. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { buildGuest, GUEST } from '../../guest-program/build.js';
import { PROJECT_ROOT } from '../../helpers/files.js';
import { testWith } from '../../helpers/test-with.js';
import { runProgram } from '../../helpers/vproxy-process.js';

buildGuest();

const VPROXY = [process.execPath, join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), 'egress', 'nft'];

const withNft = testWith('go', 'nft');

for (const line of [
  '--to 127.0.0.1:3129',
  '--to 127.0.0.1:3129 --to [::1]:3130 --dns 127.0.0.53 --dns ::1 --device vproxy0',
  '--dns=[::1]:5353 --to=[::1]:3129',
  '--dns 127.0.0.1:54 --to 127.0.0.2:1',
  '--dns 0:0:0:0:0:0:0:1 --to [2001:DB8::0:1]:1',
]) {
  withNft(`nft ${line}: both programs print the same rules, and nft accepts them`, async (t) => {
    const [one, other] = await Promise.all(
      [VPROXY, [GUEST, 'nft']].map((each) => runProgram([...each, ...line.split(' ')])),
    );
    t.deepEqual(one, other);
    t.is(one?.code, 0, one?.stderr);
    const check = ['unshare', '-rn', '/usr/sbin/nft', '--check', '-f', '-'] as const;
    t.notThrows(() => execFileSync(check[0], check.slice(1), { input: one?.stdout }));
  });
}

for (const line of [
  '',
  '--dns 127.0.0.53',
  '--to localhost:3129',
  '--to 127.0.0.1',
  '--to 127.0.0.1:0',
  '--to [fe80::1%lo]:1',
  '--to 127.0.0.1:3129 --dns x',
  '--to 127.0.0.1:3129 --to [::1]:3129 --to 127.0.0.2:3129',
  '--to 127.0.0.1:3129 --dns ::1 --dns [::2]:53',
  '--to 127.0.0.1:000053',
  '--to',
  '--to=',
  '--to 127.0.0.1:3129 x',
  '--to 127.0.0.1:3129 --device a"b',
  '--to 127.0.0.1:3129 --device -x',
  '--to 127.0.0.1:3129 --device a --device b',
]) {
  withNft(`nft ${line}: both programs refuse it alike`, async (t) => {
    const words = line.split(' ').filter((word) => word !== '');
    const [one, other] = await Promise.all([VPROXY, [GUEST, 'nft']].map((each) => runProgram([...each, ...words])));
    t.is(one?.code, 64, one?.stdout);
    t.deepEqual([other?.code, other?.stdout], [64, '']);
    t.true(one?.stderr.startsWith(other?.stderr.trimEnd() ?? '-'), `${one?.stderr}\n${other?.stderr}`);
  });
}
