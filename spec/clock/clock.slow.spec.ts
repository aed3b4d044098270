/** Both programs in the guest leave the machine alone unless an option says otherwise: their system calls. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AS_GUEST, buildGuest } from '../guest-program/build.js';
import { temporaryFolder } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';

buildGuest();

/** The traced process stays the child of the spec. */
const STRACE = ['strace', '-D', '-f', '-e', 'trace=clock_settime,settimeofday,adjtimex,clock_adjtime,ioctl', '-o'];

/** What changes the machine. */
const CHANGES = /_settime|settimeofday|adjtim|RND|FIFREEZE|FITHAW/;

for (const [name, program] of [
  ['vproxy', {}],
  ['vproxy-guest', AS_GUEST],
] as const) {
  serialTestWith(
    'root',
    'strace',
    'go',
  )(`${name} changes the machine only with an option`, async (t) => {
    const changes = async (...options: readonly string[]): Promise<string[]> => {
      const log = join(temporaryFolder(t), 'calls');
      const guestOptions = { ...program, launcher: [...STRACE, log] };
      const pair = await processPair(t, { control: 'host', guest: ['--allow-exec', ...options], guestOptions });
      const changing = (): string[] =>
        readFileSync(log, 'utf8')
          .split('\n')
          .filter((line) => CHANGES.test(line));
      t.deepEqual((await pair.clients[0].channels())[0]?.session?.peer.services.includes('clock'), options.length > 0);
      // Long enough for what the option does, which the second call shows.
      if (options.length > 0) await eventually(() => changing().length > 1, { what: 'random numbers' });
      else t.is((await pair.exec(['true'])).code, 0);
      pair.guest.kill('SIGTERM');
      const ended = new RegExp(`^${pair.guest.pid} +\\+{3} exited`, 'm');
      await eventually(() => ended.test(readFileSync(log, 'utf8')), { what: 'the end of the trace' });
      return changing();
    };
    t.deepEqual(await changes(), []);
    t.regex((await changes('--reseed')).join('\n'), /RNDADDENTROPY.* = 0\n.*RNDRESEEDCRNG(?:.* = 0| <unfinished)/);
  });
}
