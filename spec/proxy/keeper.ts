/** What a keeper does after each thing that happens: rows of steps and their effects. */
import test from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { Keeper, type KeeperHands, type KeeperRecord } from '../../lib/proxy/channel/keeper.js';
import type { Rival } from '../../lib/proxy/channel/rival.js';
import { ManualClock } from '../helpers/time.js';

const RIVAL: Rival = { pid: 7, name: 'host2', hasLeft: () => Promise.resolve(false) };

/** A keeper with delays that have no random part, and what its hands were told since the last look. */
class Bench {
  readonly clock = new ManualClock();
  told: string[] = [];
  readonly keeper: Keeper;
  /** Who hears of this state stops the keeper. */
  #stopsAt: string | null = null;

  constructor(record?: KeeperRecord) {
    const hands: KeeperHands = {
      dial: () => this.told.push('dial'),
      close: ({ event }) => this.told.push(event, 'close'),
      look: (why, known, reason) =>
        this.told.push(`look:${why}:${known === null ? '' : 'known:'}${reason?.code ?? 'silence'}`),
      show: ({ state, event, detail, nextTryMs }) => {
        const parts = [state, detail ?? event?.message ?? '', nextTryMs ?? ''];
        this.told.push(parts.filter((part) => part !== '').join(':'));
        if (this.#stopsAt === state) this.keeper.stop();
      },
      tellQuiet: () => {
        this.told.push('quiet');
        if (this.#stopsAt === 'quiet') this.keeper.stop();
      },
      giveUp: ({ code }) => this.told.push(`${this.keeper.state}:${code}`),
    };
    this.keeper = new Keeper('unix-connect:/s', this.clock, hands, record, () => 0.5);
  }

  /** Does one step: `session:11000` lasts so long and ends, `wait` is for as long as the keeper waits at most, and so on. */
  do(step: string): void {
    const { keeper, clock } = this;
    const [what = '', value = ''] = step.split(':');
    const reason = new VproxyError(value || 'channel-closed', 'why');
    const steps: Readonly<Record<string, () => void>> = {
      start: () => keeper.start(),
      succeed: () => keeper.succeed(),
      inherit: () => keeper.succeed(),
      restore: () => keeper.restore({ description: 'l' }),
      open: () => keeper.opened({ description: 'l', ...(value === 'stuck' && { mayBeStuck: true }) }),
      begin: () => keeper.begun(),
      last: () => clock.advance(Number(value)),
      end: () => keeper.over(reason),
      suspend: () => keeper.over(null),
      close: () => keeper.closed(reason),
      quiet: () => keeper.quiet(value === '' ? null : value),
      found: () => keeper.looked('next-step', RIVAL),
      nobody: () => keeper.looked('next-step', null),
      named: () => keeper.looked('silence', RIVAL),
      nameless: () => keeper.looked('silence', null),
      retry: () => keeper.retryNow(),
      stop: () => keeper.stop(),
      'stop-at': () => {
        this.#stopsAt = value;
      },
    };
    steps[what]?.();
  }
}

/** Steps, then what the last of them did; the steps before it are a preparation. */
const ROWS: readonly (readonly [what: string, steps: string, ...told: string[]])[] = [
  ['it does not dial once it was stopped', 'stop start'],
  ['who hears of a wait may stop it', 'start stop-at:backing-off close:channel-missing last:10'],
  [
    'and so may who hears that it yields',
    'start open begin end:channel-displaced close last:300 stop-at:backing-off found last:100',
  ],
  ['or that it opens', 'stop-at:opening start', 'opening'],
  ['or that nobody answers', 'start open:stuck stop-at:quiet quiet', 'quiet'],
  ['it dials at once', 'start', 'opening', 'dial'],
  ['a failed attempt is repeated', 'start close:channel-missing', 'backing-off:why:10'],
  ['and again, less often', 'start close:channel-missing last:10 close:channel-missing', 'backing-off:why:20'],
  ['after the delay', 'start close:channel-missing last:10', 'opening', 'dial'],
  ['not before it', 'start close:channel-missing last:9'],
  [
    'but every 5 s at least',
    `start ${'close:channel-missing last:5000 '.repeat(9)}close:channel-missing`,
    'backing-off:why:5000',
  ],
  ['a hopeless one is not', 'start close:channel-unusable', 'failed:channel-unusable'],
  ['nor is a link that cannot work', 'start open close:channel-unusable', 'failed:channel-unusable'],
  ['nor one that its session has left', 'start open begin suspend close:channel-unusable', 'failed:channel-unusable'],
  ['it may be stopped then, and twice', 'start close:channel-unusable stop stop'],
  [
    'a session begins the delays anew',
    `start ${'close:channel-missing last:5000 '.repeat(4)}open begin last:10000 end close`,
    'backing-off:why:10',
  ],
  [
    'after a short session it looks who has the channel',
    'start open begin last:9999 end close',
    'look:next-step:channel-closed',
  ],
  ['if that ended for another reason it does not', 'start open begin end close:channel-failed', 'backing-off:why:100'],
  ['nobody', 'start open begin end close nobody', 'backing-off:why:100'],
  ['somebody, who is named', 'start open begin end close found', 'backing-off:why: process 7 (host2) has it:100'],
  ['a suspended session was a short one, too', 'start open begin suspend close:channel-failed', 'backing-off:why:100'],
  [
    'a long one starts the delays after short ones anew',
    'start open begin end close:channel-failed last:100 open begin last:10000 end close last:10 open end close:channel-failed',
    'backing-off:why:100',
  ],
  [
    'short ones do not',
    'start open begin end close:channel-failed last:100 open begin last:9999 end close:channel-failed',
    'backing-off:why:200',
  ],
  [
    'up to 5 s',
    `start ${'open begin end close:channel-failed last:5000 '.repeat(6)}open begin end close:channel-failed`,
    'backing-off:why:5000',
  ],
  ['a refused session is short', 'start open end:auth-failed close:channel-failed', 'backing-off:why:100'],
  ['a busy device is looked at', 'start close:channel-busy', 'look:next-step:channel-busy'],
  [
    'but not within 10 s of a search in vain',
    'start last:20000 close:channel-busy nobody last:10 last:9989 close:channel-busy',
    'backing-off:why:20',
  ],
  ['then again', 'start close:channel-busy nobody last:10 last:9990 close:channel-busy', 'look:next-step:channel-busy'],
  [
    'a session makes the search possible at once',
    'start close:channel-busy nobody last:10 open begin end close',
    'look:next-step:channel-closed',
  ],
  [
    'a known rival is asked at any time',
    'start close:channel-busy found last:10 close:channel-busy',
    'look:next-step:known:channel-busy',
  ],
  [
    'a session forgets it',
    'start close:channel-busy found last:10 open begin end close',
    'look:next-step:channel-closed',
  ],
  ['a displaced one waits until the other can be found', 'start open begin end:channel-displaced close last:299'],
  ['and looks', 'start open begin end:channel-displaced close last:300', 'look:next-step:channel-displaced'],
  [
    'even after a search in vain',
    'start open quiet nameless begin end:channel-displaced close last:300',
    'look:next-step:channel-displaced',
  ],
  [
    'the process that took it is asked again, in spite of a search in vain',
    'start open quiet nameless end:channel-displaced close last:300 found last:100',
    'look:next-step:known:silence',
  ],
  [
    'waits while it has the channel',
    'start open begin end:channel-displaced close last:300 found',
    'backing-off:process 7 (host2) took the channel unix-connect:/s; waiting until it releases it:100',
  ],
  [
    'asks again',
    'start open begin end:channel-displaced close last:300 found last:100',
    'look:next-step:known:silence',
  ],
  [
    'ever less often',
    'start open begin end:channel-displaced close last:300 found last:100 found',
    'backing-off:process 7 (host2) took the channel unix-connect:/s; waiting until it releases it:200',
  ],
  [
    'up to every 5 s',
    `start open begin end:channel-displaced close last:300 ${'found last:5000 '.repeat(6)}found`,
    'backing-off:process 7 (host2) took the channel unix-connect:/s; waiting until it releases it:5000',
  ],
  [
    'and dials when it has left',
    'start open begin end:channel-displaced close last:300 found last:100 nobody',
    'opening',
    'dial',
  ],
  [
    'the next one is asked as often at first',
    'start open begin end:channel-displaced close last:300 found last:100 found last:200 nobody open begin end:channel-displaced close last:300 found',
    'backing-off:process 7 (host2) took the channel unix-connect:/s; waiting until it releases it:100',
  ],
  [
    'one that cannot be found is fought',
    'start open begin end:channel-displaced close last:300 nobody',
    'backing-off:why:1000',
  ],
  [
    'after another look',
    'start open begin end:channel-displaced close last:300 nobody last:1000',
    'look:next-step:channel-displaced',
  ],
  ['in vain', 'start open begin end:channel-displaced close last:300 nobody last:1000 nobody', 'opening', 'dial'],
  [
    'or not',
    'start open begin end:channel-displaced close last:300 nobody last:1000 found',
    'backing-off:process 7 (host2) took the channel unix-connect:/s; waiting until it releases it:100',
  ],
  [
    'ever less often, until it had the channel for 5 minutes',
    'start open begin end:channel-displaced close last:300 nobody last:1000 nobody open begin last:299999 end:channel-displaced close last:300 nobody',
    'backing-off:why:2000',
  ],
  [
    'which ends the fight',
    'start open begin end:channel-displaced close last:300 nobody last:1000 nobody open begin last:300000 end:channel-displaced close last:300 nobody',
    'backing-off:why:1000',
  ],
  [
    'the end of a refused session says more than that of its link',
    'start open end:channel-busy close:channel-failed',
    'look:next-step:channel-busy',
  ],
  [
    'but not of the next link',
    'start open end:channel-busy close:channel-failed found last:100 close:channel-missing',
    'backing-off:why:10',
  ],
  ['silence is told, and the process behind it searched', 'start open quiet', 'quiet', 'look:silence:silence'],
  ['and named', 'start open quiet named', 'waiting:no answer on l: process 7 (host2) has the channel'],
  ['unless it is over', 'start open quiet begin named'],
  ['or its session is out of step', 'start open quiet begin suspend named'],
  ['or nobody is found', 'start open quiet nameless'],
  ['which is told once', 'start open quiet named quiet', 'look:silence:known:silence'],
  [
    'a link that may be stuck is closed',
    'start open:stuck quiet',
    'quiet',
    'look:silence:silence',
    'channel-redialled',
    'close',
  ],
  ['and opened again at once', 'start open:stuck quiet close:shutdown', 'opening', 'dial'],
  ['even if the link says that it cannot be', 'start open:stuck quiet close:channel-unusable', 'opening', 'dial'],
  ['a stranger is not stuck', 'start open:stuck quiet:sshd', 'quiet', 'look:silence:silence'],
  [
    'only the first silence tells',
    'start open:stuck quiet:sshd nameless last:10000 quiet',
    'quiet',
    'look:silence:silence',
  ],
  [
    'nor is the next link stuck',
    'start open:stuck quiet nameless close:shutdown last:10000 open:stuck quiet',
    'quiet',
    'look:silence:silence',
  ],
  ['nor one that had a session', 'start open:stuck begin end quiet', 'quiet', 'look:silence:silence'],
  [
    'after a session the next one may be',
    'start open:stuck quiet nameless close:shutdown open begin last:10000 end close last:10 open:stuck quiet',
    'quiet',
    'look:silence:silence',
    'channel-redialled',
    'close',
  ],
  ['an operator does not wait', 'start close:channel-missing retry', 'opening', 'dial'],
  ['nor once the search is over', 'start close:channel-busy retry nobody', 'opening', 'dial'],
  ['whoever has it', 'start close:channel-busy retry found', 'opening', 'dial'],
  [
    'with the delays anew',
    'start close:channel-missing last:10 close:channel-missing retry close:channel-missing',
    'backing-off:why:10',
  ],
  [
    'also after short sessions',
    'start open begin end close:channel-failed last:100 open begin end close:channel-failed retry open begin end close:channel-failed',
    'backing-off:why:100',
  ],
  [
    'and in a fight',
    'start open begin end:channel-displaced close last:300 nobody last:1000 nobody open begin end:channel-displaced close retry nobody',
    'backing-off:why:1000',
  ],
  [
    'a rival is not asked more often for that',
    'start open begin end:channel-displaced close last:300 found last:100 found retry found',
    'backing-off:process 7 (host2) took the channel unix-connect:/s; waiting until it releases it:400',
  ],
  [
    'but does not take the channel from a rival',
    'start open begin end:channel-displaced close last:300 found retry',
    'look:next-step:known:silence',
  ],
  ['nor twice', 'start close:channel-missing retry retry'],
  ['a session needs no retry', 'start open begin retry'],
  ['a stopped keeper does nothing', 'start close:channel-missing stop last:5000'],
  ['whatever comes', 'start stop open begin end quiet close found retry'],
  ['nor says that nobody answers', 'start open stop quiet'],
  ['even if an operator wants an attempt', 'start close:channel-missing stop retry'],
  ['a successor without a link looks first', 'succeed', 'look:next-step:silence'],
  ['and dials', 'succeed nobody', 'opening', 'dial'],
  [
    'without the session of its predecessor',
    'inherit nobody last:20000 open end:auth-failed close:channel-failed',
    'backing-off:why:100',
  ],
  [
    'one with a link knows its name',
    'restore end quiet named',
    'waiting:no answer on l: process 7 (host2) has the channel',
  ],
  ['and has its session', 'restore last:10000 end close', 'backing-off:why:10'],
];

for (const [what, steps, ...told] of ROWS) {
  test(`${what}: ${steps}`, (t) => {
    const record = /^(?:restore|inherit)/.test(steps) ? established() : undefined;
    const bench = new Bench(record);
    for (const step of steps.split(' ')) {
      bench.told = [];
      bench.do(step);
    }
    t.deepEqual(bench.told, told);
  });
}

/** The record of a keeper with a session. */
function established(): KeeperRecord {
  const bench = new Bench();
  for (const step of ['start', 'open', 'begin']) bench.do(step);
  return bench.keeper.record;
}

test('a step that the table of states does not have is a defect', (t) => {
  const bench = new Bench();
  bench.do('start');
  t.throws(() => bench.do('begin'), { code: 'internal', message: 'the keeper goes from opening to established' });
});

test('a successor looks for the process to which the channel was left, even after a search in vain', (t) => {
  const first = new Bench();
  const steps = 'start open begin end:channel-displaced close last:300 nobody last:1000 found';
  for (const step of steps.split(' ')) first.do(step);
  const next = new Bench(structuredClone(first.keeper.record));
  next.do('succeed');
  t.deepEqual(next.told, ['look:next-step:silence']);
});

test('a successor continues with the delays and the redialled link', (t) => {
  const first = new Bench();
  for (const step of 'start open:stuck quiet nameless close:shutdown close:channel-missing'.split(' ')) first.do(step);
  const next = new Bench(structuredClone(first.keeper.record));
  for (const step of ['succeed', 'nobody', 'open:stuck', 'quiet']) next.do(step);
  t.deepEqual(next.told, ['look:next-step:silence', 'opening', 'dial', 'quiet']);
  next.told = [];
  next.do('close:channel-missing');
  t.deepEqual(next.told, ['backing-off:why:20']);
});
