/** Egresses that ask: what no entry names waits for an answer, within bounds, and every way out of the wait. */
import test, { type ExecutionContext } from 'ava';
import { MAX_QUESTIONS, MAX_WAITING, Questions } from '../../lib/proxy/egress/questions.js';
import { answerTo, echo, failureOf, incoming, localServer, localSocket, proxyPair } from '../helpers/proxies.js';
import { eventually, ManualClock, within } from '../helpers/time.js';

const ASK_MS = 30_000;

/** A host whose egress asks, a guest, and an echo that no entry allows. */
async function setUp(t: ExecutionContext, more: object = {}) {
  const clock = new ManualClock();
  const { port } = await localServer(t, echo);
  const egress = { internet: { deny: ['127.0.0.9:*'], askMs: ASK_MS, ...more } };
  const here = { label: 'vm1', incoming: ['internet:egress:'], egress, clock };
  const { a: host, b: guest, path } = await proxyPair(t, { a: here, b: { outgoing: ['internet:0'] } });
  const entrance = guest.port('internet');
  const begin = (place: string, fields = '') => {
    const socket = localSocket(t, entrance);
    const answer = answerTo(socket, `CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n${fields}\r\n`);
    return { socket, status: answer.then((text) => text.split(' ')[1]) };
  };
  const { proxy } = host;
  const questions = (count = 1) => eventually(() => proxy.listQuestions().length === count && proxy.listQuestions());
  const asked = async () => (await questions())[0]?.id ?? '';
  const ends = () => host.all('egress-answered').map(({ fields }) => fields['answer']);
  const own = { label: 'vm1', address: `unix-listen:${path}`, name: 'a', forwards: incoming('internet:egress:') };
  const apply = (rules: object) => proxy.apply([{ ...own, egress: { internet: rules } }]);
  const status = () => proxy.listEgress().find(({ name }) => name === 'internet');
  return { clock, host, proxy, place: `127.0.0.1:${port}`, begin, asked, questions, ends, apply, status };
}

test('a destination that no entry names waits for an answer, which becomes an entry', async (t) => {
  const { clock, host, proxy, place, begin, asked, ends, status } = await setUp(t);
  const connections = [begin(place), begin(place)] as const;
  const question = await eventually(() => proxy.listQuestions().find(({ connections: count }) => count === 2));
  t.like(question, { channel: 'vm1', egress: 'internet', destination: place, connections: 2 });
  t.like(host.all('egress-asked')[0]?.fields, { channel: 'vm1', egress: 'internet', host: '127.0.0.1' });
  t.is(host.all('egress-asked').length, 1);
  t.like(await proxy.testEgress('internet', place), { isAllowed: false, isAsked: true });
  const { added } = proxy.answerEgress(question.id, true, 60_000);
  t.like(added, [{ entry: place }]);
  t.deepEqual(await Promise.all(connections.map(({ status: code }) => code)), ['200', '200']);
  t.deepEqual([ends(), proxy.listQuestions()], [['allowed'], []]);
  t.is(await begin(place).status, '200');
  const message = `question ${question.id} is over: allowed 0 ms ago; to allow it: vproxy egress allow vm1/internet ${place}`;
  t.throws(() => proxy.answerEgress(question.id, false, null), { code: 'not-found', message });
  // It goes as every added entry does, and is asked about again.
  const failed = failureOf(connections[0].socket);
  clock.advance(60_000);
  t.is((await failed).code, 'ECONNRESET');
  const again = begin(place);
  t.like(proxy.answerEgress(await asked(), false, null, 'vm1').denied, [{ entry: place, until: null }]);
  t.is(await again.status, '403');
  t.is(await begin(place).status, '403');
  t.deepEqual(proxy.listQuestions(), []);
  t.like(await proxy.testEgress('internet', place), { isAllowed: false, isAsked: false, rule: `deny "${place}"` });
  t.deepEqual(status()?.rules?.deny, ['127.0.0.9:*', place]);
  t.deepEqual(proxy.allowEgress('internet', [place], null).denied, []);
  t.is(await begin(place).status, '200');
});

test('without an answer it is refused, and a late answer is told so', async (t) => {
  const { clock, host, proxy, place, begin, asked, ends } = await setUp(t);
  const connection = begin(place);
  const question = await asked();
  clock.advance(ASK_MS - 1);
  t.is(proxy.listQuestions().length, 1);
  clock.advance(1);
  t.is(await connection.status, '403');
  t.deepEqual(ends(), ['expired']);
  t.regex(String(host.all('egress-refused')[0]?.fields['why']), /^no answer within 30s$/);
  clock.advance(1000);
  t.throws(() => proxy.answerEgress(question, true, null), {
    code: 'not-found',
    message: /is over: expired 1\.0 s ago/,
  });
  t.throws(() => proxy.answerEgress('00000000', true, null), { code: 'not-found', message: 'no question "00000000"' });
});

test('what an entry denies, and all that is blocked, is refused at once', async (t) => {
  const { proxy, place, begin, ends } = await setUp(t);
  t.is(await begin('127.0.0.9:80').status, '403');
  proxy.blockEgress('internet');
  t.is(await begin(place).status, '403');
  t.deepEqual([proxy.listQuestions(), ends()], [[], []]);
});

for (const [how, change, expected] of [
  ['an added entry', ({ proxy, place }) => proxy.allowEgress('internet', [place], null), '200'],
  ['a block', ({ proxy }) => proxy.blockEgress('internet'), '403'],
  ['a reload that allows it', ({ apply, place }) => apply({ allow: [place], askMs: ASK_MS }), '200'],
  ['a reload that no longer asks', ({ apply }) => apply({}), '403'],
] as const satisfies readonly (readonly [string, (world: Awaited<ReturnType<typeof setUp>>) => unknown, string])[]) {
  test(`a question ends by ${how}`, async (t) => {
    const world = await setUp(t);
    const connection = world.begin(world.place);
    await world.asked();
    await change(world);
    t.is(await connection.status, expected);
    t.deepEqual([world.ends(), world.proxy.listQuestions()], [['settled'], []]);
  });
}

test('a question can be answered while its event is told', async (t) => {
  const { host, proxy, place, begin, ends } = await setUp(t);
  host.proxy.on('log', ({ event, fields }) => {
    if (event === 'egress-asked') proxy.answerEgress(String(fields['question']), true, null);
  });
  t.is(await within(10_000, 'an answer', begin(place).status), '200');
  t.deepEqual([ends(), host.all('egress-answered')[0]?.fields['connections']], [['allowed'], 1]);
});

test('a connection that has gone before it was its turn asks for nothing', (t) => {
  const questions = new Questions({ channel: 'vm1', clock: new ManualClock(), log: () => t.fail() });
  const gone = AbortSignal.abort(new Error('gone'));
  const target = { host: 'gone.example', family: 0, port: 443 } as const;
  t.throws(() => questions.ask('internet', target, ASK_MS, 'no entry allows it', gone), { message: 'gone' });
  t.deepEqual(questions.list(), []);
});

test('a program that ends its direction no longer waits', async (t) => {
  const { proxy, place, begin, asked, ends } = await setUp(t);
  const connection = begin(place);
  const other = begin(place);
  await asked();
  connection.socket.end();
  t.is(await connection.status, '403');
  await eventually(() => proxy.listQuestions()[0]?.connections === 1);
  other.socket.end();
  t.is(await other.status, '403');
  t.deepEqual([ends(), proxy.listQuestions()], [['settled'], []]);
});

test('a redirected program that ends its direction waits: it does not know of the question', async (t) => {
  const { proxy, place, begin, asked } = await setUp(t);
  const connection = begin(place, 'Vproxy-Redirect: 1\r\n');
  connection.socket.end();
  proxy.answerEgress(await asked(), true, null);
  t.is(await connection.status, '200');
});

test('a question ends when nobody waits for it any more, and with its channel', async (t) => {
  const { proxy, begin, asked, ends } = await setUp(t);
  const gone = begin('gone.example:443');
  gone.status.catch(() => undefined);
  await asked();
  gone.socket.resetAndDestroy();
  await eventually(() => proxy.listQuestions().length === 0);
  const closed = begin('closed.example:443');
  closed.status.catch(() => undefined);
  await asked();
  await proxy.removeChannel('vm1', { isDraining: false });
  t.deepEqual(ends(), ['settled', 'settled']);
});

test('questions, and the connections that wait for one, are bounded', async (t) => {
  const { host, proxy, place, begin, questions } = await setUp(t);
  const waiting = Array.from({ length: MAX_WAITING }, () => begin(place));
  await eventually(() => proxy.listQuestions()[0]?.connections === MAX_WAITING);
  t.is(await begin(place).status, '403');
  const others = Array.from({ length: MAX_QUESTIONS - 1 }, (_, index) => begin(`n${index}.example:443`));
  const open = await questions(MAX_QUESTIONS);
  t.is(await begin('more.example:443').status, '403');
  t.deepEqual(
    host.all('egress-refused').map(({ fields }) => fields['why']),
    [
      `${MAX_WAITING} other connections wait for the same answer`,
      `${MAX_QUESTIONS} other destinations wait for an answer`,
    ],
  );
  for (const { id } of open) proxy.answerEgress(id, false, 1000);
  for (const { status } of [...waiting, ...others]) t.is(await status, '403');
});

test('if no place is left, a program that ended its direction gives its own', async (t) => {
  const questions = new Questions({ channel: 'vm1', clock: new ManualClock(), log: () => undefined });
  const target = { host: 'a.example', port: 443, family: 0 } as const;
  const programs = Array.from({ length: MAX_WAITING + 2 }, () => new AbortController());
  const { signal } = new AbortController();
  const ask = ({ signal: left }: AbortController) =>
    questions.ask('internet', target, ASK_MS, 'no entry', signal, left);
  const waiting = programs.slice(0, MAX_WAITING).map(ask);
  programs[7]?.abort();
  const [newer, refused] = programs.slice(MAX_WAITING).map(ask);
  t.is(await waiting[7], 'its program has ended its direction, and others wait for the same answer');
  t.is(await refused, `${MAX_WAITING} other connections wait for the same answer`);
  const [{ id, connections } = { id: '', connections: 0 }] = questions.list();
  t.is(connections, MAX_WAITING);
  questions.answer(id, true, () => undefined);
  t.is(await newer, null);
  t.true((await Promise.all(waiting)).every((answer, index) => (answer === null) === (index !== 7)));
});

test('asking can be turned on while it runs, until a reset', async (t) => {
  const { proxy, place, begin, asked, status } = await setUp(t, { askMs: undefined });
  t.is(await begin(place).status, '403');
  for (const askMs of [Number.NaN, 999, 600_001])
    t.throws(() => proxy.allowEgress('internet', [place], null, 'vm1', askMs), { code: 'bad-argument' });
  t.deepEqual(status()?.added, []);
  t.like(proxy.allowEgress('internet', [], null, 'vm1', 5000), { rules: { askS: 5 } });
  const connection = begin(place);
  await asked();
  proxy.resetEgress('internet');
  t.is(await connection.status, '403');
  t.is(status()?.rules?.askS, null);
});
