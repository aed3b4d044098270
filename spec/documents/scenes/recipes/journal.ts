/**
 * docs/recipes.md, a guest's logs until its end: the sender of the journal, with the scene's own journald, across failures of
 * each of the three participants. Its unit is run in a guest (spec/vm/systemd.spec.ts).
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { eventually } from '../../../helpers/time.js';
import type { Scene } from '../../runner/scene.js';
import { hasSession, isUp, type Stage } from '../../runner/stage.js';

const LOG = '/var/log/vm1-journal.log';
const JOURNAL = '/run/systemd/journal/dev-log';

const SENDER = '/usr/share/doc/vproxy/examples/journal-to-host';

/** The control socket of the guest's simulated vproxy. */
const CONTROL = '/run/guest.control';

/** How often the host has received these words. */
const countOf = (words: string): number =>
  existsSync(LOG)
    ? (readFileSync(LOG, 'utf8').match(new RegExp(` recipe\\[\\d+\\]: ${words}$`, 'gm'))?.length ?? 0)
    : 0;

const say = (stage: Stage, words: string) => stage.run(`logger --socket ${JOURNAL} -t recipe '${words}'`);

/** Waits until the host has these words and the sender knows it: only a failure in between causes a retransmission. */
async function arrives(stage: Stage, words: string): Promise<void> {
  await eventually(() => countOf(words) > 0, { what: words });
  const left = 'journalctl --quiet --identifier=recipe --after-cursor="$(cat /srv/state/cursor)"';
  await eventually(async () => (await stage.run(left)) === '', { what: `the cursor behind ${words}` });
}

/** Starts the sender as the unit does; `signal` stops it, and waits for its exit. */
async function startSender(stage: Stage): Promise<(signal: string) => Promise<void>> {
  const start = `env STATE_DIRECTORY=/srv/state VPROXY_SOCKET=${CONTROL} sh ${SENDER}`;
  await stage.run('rm -f /run/sender');
  await stage.start(`echo $$ > /run/sender; exec ${start}`, () => existsSync('/run/sender'));
  return async (signal) => {
    await stage.run(`kill -${signal} "$(cat /run/sender)"`);
    await eventually(async () => !(await stage.succeeds('kill -0 "$(cat /run/sender)"')), { what: 'its end' });
  };
}

export const journal: Scene = {
  needs: ['root', 'systemd'],
  async prepare(stage) {
    await stage.run('mkdir -p /srv/state /run/systemd/journal "/run/log/journal/$(cat /etc/machine-id)"');
    await stage.start('exec /lib/systemd/systemd-journald', () => existsSync(JOURNAL));
    await stage.start(`exec vproxy -c unix-listen:/run/vm1.sock --control ${CONTROL}`, isUp);
  },
  isReady: hasSession,
  async check(stage) {
    await say(stage, 'first words');
    const end = await startSender(stage);
    await arrives(stage, 'first words');

    // Restart the host's vproxy.
    await stage.run('vproxy stop');
    await say(stage, 'without a host');
    await stage.start(
      `exec vproxy -c vm1=unix-connect:/run/vm1.sock -i journal:file:${LOG},rotate=10M,keep=5`,
      hasSession,
    );
    await arrives(stage, 'without a host');

    // Restart the sender, as after a crash of the guest.
    await end('KILL');
    await say(stage, 'without a sender');
    const endAgain = await startSender(stage);
    await arrives(stage, 'without a sender');

    // Lines logged before it is stopped are sent.
    await say(stage, 'last words');
    await endAgain('TERM');
    assert.equal(countOf('last words'), 1);
    const words = ['first words', 'without a host', 'without a sender', 'last words'];
    assert.deepEqual(words.map(countOf), [1, 1, 1, 1], 'nothing comes twice');
  },
};
