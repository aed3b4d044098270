/** What the keeper of a listening channel does after each thing that happens: rows of steps and the effects of the last. */
import test from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { chooseCrowded, ListenKeeper, type ListenRecord } from '../../lib/proxy/channel/listen-keeper.js';
import { ManualClock } from '../helpers/time.js';

/** A keeper of links that are letters, with delays that have no random part. */
class Bench {
  readonly clock = new ManualClock();
  told: string[] = [];
  readonly #keeper: ListenKeeper<string>;
  /** Who hears of this state stops the keeper. */
  #stopsAt: string | null = null;
  /** The last moment at which something came in the session of a link. */
  readonly #heardAtMs = new Map<string, number>();

  constructor(isExclusive: boolean, endsSilent = false, record?: ListenRecord) {
    const { clock } = this;
    const tell = (text: string): void => void this.told.push(text);
    this.#keeper = new ListenKeeper<string>(
      { text: 'unix-listen:/s', isExclusive, endsSilent },
      clock,
      {
        listen: () => tell('listen'),
        close: (link, { code, message }) => tell(`close:${link}:${code}:${message}`),
        drop: (link) => tell(`drop:${link}`),
        show: ({ state, event, detail, nextTryMs = '' }) => {
          tell([state, detail ?? event?.message ?? '', nextTryMs].join(':'));
          if (this.#stopsAt === state) this.#keeper.stop();
        },
        tell: ({ event }) => tell(event),
        observe: (link) => {
          const heardAtMs = this.#heardAtMs.get(link);
          return {
            origin: null,
            isAnswered: link !== 'z',
            silentMs: heardAtMs === undefined ? null : clock.now() - heardAtMs,
          };
        },
        describe: (link) => `by ${link}`,
      },
      record,
      () => 0.5,
    );
  }

  get record(): ListenRecord {
    return this.#keeper.record;
  }

  do(step: string): void {
    const keeper = this.#keeper;
    const [what = '', link = '', instance = ''] = step.split(':');
    const steps: Readonly<Record<string, () => void>> = {
      start: () => keeper.start(),
      restore: () => {
        this.#heardAtMs.set(link, this.clock.now());
        keeper.start(link);
      },
      listening: () => keeper.listening('unix-listen:/s'),
      failed: () => keeper.failed(new VproxyError('channel-failed', 'why')),
      last: () => this.clock.advance(Number(link)),
      retry: () => keeper.retryNow(),
      accept: () => keeper.accepted(link),
      crowd: () => Array.from('bcdefghijklmnopz').forEach((each) => keeper.accepted(each)),
      begin: () => {
        this.#heardAtMs.set(link, this.clock.now());
        keeper.begun(link, instance);
      },
      resume: () => keeper.resumed(link, instance),
      end: () => {
        this.#heardAtMs.delete(link);
        keeper.over(
          link,
          instance !== 'early',
          new VproxyError(instance === 'early' ? 'channel-busy' : 'shutdown', 'why'),
        );
      },
      leave: () => {
        this.#heardAtMs.delete(link);
        keeper.over(link, true, null);
      },
      close: () => keeper.closed(link),
      stop: () => keeper.stop(),
      'stop-at': () => {
        this.#stopsAt = link;
      },
      asks: () => this.told.push(keeper.isTaken(link, instance) ? 'taken' : 'free'),
    };
    steps[what]?.();
  }
}

const WAITS = 'waiting:waiting for the peer on unix-listen:/s:';

const ROWS: readonly (readonly [what: string, steps: string, ...told: string[]])[] = [
  ['it listens', 'start', 'listen'],
  ['and says so', 'start listening', WAITS],
  ['unless a link is open', 'restore:a listening'],
  ['it does not listen once it was stopped', 'stop start'],
  ['who hears of a failure may stop it', 'start stop-at:backing-off failed last:100'],
  ['a failure is repeated', 'start failed', 'backing-off:why:100'],
  ['after the delay', 'start failed last:100', 'listen'],
  ['not before it', 'start failed last:99'],
  ['but every 5 s at least', `start failed ${'last:5000 failed '.repeat(6)}`.trim(), 'backing-off:why:5000'],
  ['and less often', 'start failed last:100 failed', 'backing-off:why:200'],
  [
    'until a session begins',
    'start listening accept:a begin:a failed last:100 listening begin:a failed',
    'backing-off:why:100',
  ],
  ['an operator does not wait', 'start failed retry', 'listen'],
  ['nor twice', 'start failed retry retry'],
  ['nor again after the delay', 'start failed retry last:100'],
  ['with the delays anew', 'start failed last:100 failed retry failed', 'backing-off:why:100'],
  ['a stopped one does nothing', 'start failed stop last:5000'],
  ['whatever comes', 'start stop listening failed retry'],
  ['even if an operator wants it', 'start failed stop retry'],
  ['it may be stopped before it listens, and twice', 'start stop stop'],
  ['and while it does', 'start listening stop'],
  ['a connection is shown', 'start listening accept:a', 'opening::'],
  ['and its end', 'start listening accept:a close:a', WAITS],
  ['but not while another one is open', 'start listening accept:a accept:b close:a'],
  ['nor while it does not listen', 'start listening accept:a failed close:a'],
  [
    'a newer peer displaces the one before',
    'start listening accept:a begin:a accept:b begin:b',
    'close:a:channel-displaced:a newer connection took the channel: by b',
  ],
  [
    'also one that was handed over',
    'restore:a listening accept:b begin:b',
    'close:a:channel-displaced:a newer connection took the channel: by b',
  ],
  ['another session on the same link does not', 'start listening accept:a begin:a end:a begin:a'],
  ['nor one that resumed', 'start listening accept:a begin:a accept:b resume:b'],
  ['nor is one displaced that has gone', 'start listening accept:a begin:a close:a accept:b begin:b'],
  ['a busy one is closed', 'start listening accept:a end:a:early', 'close:a:channel-busy:why'],
  [
    'sixteen may wait',
    'start listening accept:a begin:a crowd'.replace(
      'crowd',
      Array.from('bcdefghijklmnop', (each) => `accept:${each}`).join(' '),
    ),
    'opening::',
  ],
  [
    'the seventeenth takes the place of one that has not answered',
    'start listening crowd accept:a',
    'channel-crowded',
    'drop:z',
    'opening::',
  ],
  [
    'the peer is not one of them',
    'start listening accept:a begin:a crowd',
    ...Array.from({ length: 16 }, () => 'opening::'),
  ],
  ['a dropped one makes room', 'start listening crowd accept:a close:b accept:q', 'opening::'],
];

/** On an exclusive channel, whether a newcomer is refused. */
const CLAIMS: readonly (readonly [what: string, steps: string, answer: 'taken' | 'free'])[] = [
  ['nobody has it', 'start listening accept:a asks:a:x', 'free'],
  ['the peer has it', 'start listening accept:a begin:a:x accept:b asks:b:y', 'taken'],
  ['its own link is free', 'start listening accept:a begin:a:x asks:a:y', 'free'],
  ['the same process comes back', 'start listening accept:a begin:a:x accept:b asks:b:x', 'free'],
  ['but not one that does not say which it is', 'start listening accept:a begin:a accept:b asks:b', 'taken'],
  ['silent for less than a minute', 'start listening accept:a begin:a:x last:59999 asks:b:y', 'taken'],
  ['or longer', 'start listening accept:a begin:a:x last:60000 asks:b:y', 'free'],
  ['between sessions for less than a minute', 'start listening accept:a begin:a:x end:a last:59999 asks:b:y', 'taken'],
  ['or longer', 'start listening accept:a begin:a:x end:a last:60000 asks:b:y', 'free'],
  ['its session has left', 'start listening accept:a begin:a:x last:70000 leave:a last:59999 asks:b:y', 'taken'],
  [
    'a session that was never established does not count',
    'start listening accept:a begin:a:x last:70000 end:a last:1 end:a:early last:59999 asks:b:y',
    'free',
  ],
  [
    'another link that closes changes nothing',
    'start listening accept:a begin:a:x accept:b close:b accept:c asks:c:y',
    'taken',
  ],
  ['another link does not count', 'start listening accept:a begin:a:x end:a last:60000 end:b asks:b:y', 'free'],
];

for (const [what, steps, ...told] of ROWS) {
  test(`${what}: ${steps}`, (t) => {
    const bench = new Bench(false);
    const all = steps.split(' ');
    for (const step of all) {
      bench.told = [];
      bench.do(step);
    }
    t.deepEqual(bench.told, told);
  });
}

for (const [what, steps, answer] of CLAIMS) {
  test(`R-CHANNEL-3: ${what}: ${steps}`, (t) => {
    for (const [isExclusive, endsSilent] of [
      [true, false],
      [true, true],
      [false, false],
    ] as const) {
      const bench = new Bench(isExclusive, endsSilent);
      for (const step of steps.split(' ')) bench.do(step);
      const lasts = endsSilent && steps.endsWith('last:60000 asks:b:y') && !steps.includes('end:');
      t.is(bench.told.at(-1), isExclusive && lasts ? 'taken' : isExclusive ? answer : 'free');
    }
  });
}

test('a successor continues with the delay, and with the peer', (t) => {
  const first = new Bench(true);
  for (const step of 'start failed last:100 failed last:200 listening accept:a begin:a:x failed'.split(' '))
    first.do(step);
  const next = new Bench(true, false, structuredClone(first.record));
  for (const step of ['restore:a', 'failed']) next.do(step);
  t.deepEqual(next.told, ['listen', 'backing-off:why:200']);
  next.do('asks:b:x');
  next.do('asks:b:y');
  t.deepEqual(next.told.slice(2), ['free', 'taken']);
});

test('R-CHANNEL-2: the dropped connection is a silent one of the machine with the most; otherwise a random one', (t) => {
  // Each waits for `name` and comes from a machine in capitals; `!` means answered. The last part lists the candidates.
  for (const [waiting, newcomer, mayGo] of [
    ['a-A b-B c-B', 'B', 'bc'],
    ['a-A b-B c-B', 'C', 'bc'],
    ['a-A b-B', 'B', 'b'],
    ['a! b c!', null, 'b'],
    ['a-A b-B! c-B!', 'B', 'bc'],
    ['a-A b-A c-A d-A', 'A', 'abcd'],
  ] as const) {
    const connections = waiting.split(' ').map((text) => {
      return { name: text.charAt(0), origin: /-(.)/.exec(text)?.[1] ?? null, isAnswered: text.endsWith('!') };
    });
    const chosen = [0, 0.25, 0.5, 0.999].map((random) => chooseCrowded(connections, newcomer, () => random).name);
    t.is([...new Set(chosen)].sort().join(''), mayGo, waiting);
  }
});
