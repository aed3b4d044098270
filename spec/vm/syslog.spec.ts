/** A guest's syslog over TCP, which the host writes to a file. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { eventually } from '../helpers/time.js';
import { HostSide } from './rig/host-side.js';
import { useLaboratory } from './rig/use-laboratory.js';

const SYSLOG_PORT = 514;
const logIn = (folder: string) => join(folder, 'vm1.log');

const laboratory = useLaboratory(test, {
  host: ({ channelPath, folder }) =>
    HostSide.start(`unix-connect:${channelPath}`, ['-i', `syslog:file:${logIn(folder)},rotate=2M,keep=9`]),
  guestArgs: ({ portPath }) => ['-c', `virtserial-open:${portPath}`, '-o', `syslog:127.0.0.1:${SYSLOG_PORT}`],
});

const LINES = 100_000;

test.serial('100,000 lines of syslog arrive in the file on the host, complete and in order', async (t) => {
  t.timeout(180_000);
  const { agent, folder } = laboratory().guest;
  // A line as RFC 3164 has it, which ends with a line feed on TCP.
  const format = `printf "<134>Nov 20 09:00:00 guest test[%d]: line %06d of a guest\\n", 1, i`;
  const write = `awk 'BEGIN { for (i = 1; i <= ${LINES}; i++) ${format} }'`;
  await agent.output(`${write} | nc 127.0.0.1 ${SYSLOG_PORT}`, { timeoutMs: 120_000 });
  const lastLine = String(LINES).padStart(6, '0');
  await eventually(() => readFileSync(logIn(folder), 'utf8').includes(lastLine), { what: 'the last line' });

  const files = [9, 8, 7, 6, 5, 4, 3, 2, 1].map((number) => `${logIn(folder)}.${number}`).filter(existsSync);
  t.true(files.length > 0, 'nothing was rotated');
  const text = [...files, logIn(folder)].map((file) => readFileSync(file, 'utf8')).join('');
  const numbers = text
    .split('\n')
    .map((line) => /^<134>Nov 20 09:00:00 guest test\[1\]: line (\d+) of a guest$/.exec(line)?.[1]);
  t.is(numbers.pop(), undefined, 'the last line has its end');
  t.is(numbers.length, LINES);
  t.is(
    numbers.findIndex((number, index) => Number(number) !== index + 1),
    -1,
  );
});
