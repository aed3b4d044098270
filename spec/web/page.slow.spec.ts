/** The page of `vproxy web` in a browser, with the programs that it shows. */
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Browser, Page } from 'playwright-core';
import { CAST_CODE, formatCastEvent, formatCastHeader } from '../../lib/services/exec/recording/asciicast.js';
import { audit, CONTRAST, excessOf, RULES, SMALL, startChromium, WIDE, watchForTrouble } from '../helpers/chromium.js';
import { temporaryFolder } from '../helpers/files.js';
import { type ProcessPair, processPair } from '../helpers/process-pair.js';
import { failureOf, localServer, localSocket } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { upgrade } from '../helpers/upgrades.js';
import {
  OBEYING_PERMISSIONS,
  runProgram,
  spawnVproxy,
  TAKING_CONTROL,
  type VproxyProcess,
} from '../helpers/vproxy-process.js';

const test = serialTestWith('chromium');

const STEP_MS = 60_000;

/** Starts `vproxy web`; resolves with its link. */
async function startWeb(t: ExecutionContext, words: readonly string[]): Promise<{ link: URL; web: VproxyProcess }> {
  const web = spawnVproxy(t, ['web', ...words], { launcher: OBEYING_PERMISSIONS });
  await eventually(() => web.stdout.includes('\n'), { what: 'the link' });
  return { link: new URL(web.stdout.trim()), web };
}

async function openPage(t: ExecutionContext, link: URL, browser?: Browser): Promise<{ page: Page; trouble: string[] }> {
  const own = browser ?? (await startChromium());
  const context = await own.newContext({ viewport: WIDE, colorScheme: 'light', acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  t.teardown(() => own.close());
  const trouble = watchForTrouble(page, link.origin);
  await page.goto(link.href);
  return { page, trouble };
}

/** A pair whose guest runs commands, shares a folder and has an egress that asks. */
async function startPair(t: ExecutionContext, name = 'host1') {
  const folder = temporaryFolder(t);
  const file = join(folder, 'host.toml');
  const target = await localServer(t, (socket) => socket.end('HTTP/1.0 200 OK\r\n\r\nreached\n'));
  writeFileSync(file, `[egress.internet]\nallow = []\nask = "60s"\n`);
  const shared = join(folder, 'shared');
  mkdirSync(shared);
  const pair = await processPair(t, {
    control: 'both',
    host: ['--config', file, '--name', name, '-i', 'internet:egress:internet', '-o', 'echo:127.0.0.1:0'],
    guest: [
      '--allow-exec',
      '--info',
      `--allow-copy=${shared}`,
      '-o',
      'internet:127.0.0.1:0',
      '-i',
      `echo:127.0.0.1:${target.port}`,
    ],
  });
  return { pair, shared, target };
}

const portOf = async ({ clients }: ProcessPair, side: 0 | 1): Promise<number> =>
  Number(
    /:(\d+)$/.exec(
      (await clients[side].forwards()).find(({ direction }) => direction === 'outgoing')?.endpoint ?? '',
    )?.[1],
  );

/** The first screen has this limit, in bytes. */
const FIRST_VIEW_BYTES = 100_000;

test('every view: nothing goes wrong or comes from elsewhere, nothing is too wide, everything has contrast and a name', async (t) => {
  t.timeout(300_000);
  const { pair, shared } = await startPair(t);
  writeFileSync(join(shared, 'a.txt'), 'hello\n');
  const size = { columns: 120, rows: 30 };
  writeFileSync(
    join(shared, 'a.cast'),
    formatCastHeader({ size, timestamp: null, command: 'the command', term: null }),
  );
  const { link } = await startWeb(t, ['--socket', pair.sockets[0], '--recordings', shared]);
  const { page, trouble } = await openPage(t, link);
  await page.getByRole('link', { name: 'default' }).waitFor();
  t.is(page.url(), `${link.origin}/`);
  const loaded =
    'performance.getEntriesByType("resource").reduce((sum, { decodedBodySize }) => sum + decodedBodySize, 0)';
  t.true((await page.evaluate<number>(loaded)) < FIRST_VIEW_BYTES);
  const { id } = await pair.clients[0].startJob(['sh', '-c', 'echo "an output"; sleep 1000']);
  const faults: string[] = [];
  for (const [place, text] of [
    ['', 'established'],
    ['egress', 'Nothing is asked.'],
    ['m/host1/default', 'Round trip'],
    ['m/host1/default/forwards', 'echo:127.0.0.1:0'],
    ['m/host1/default/jobs', 'an output'],
    [`m/host1/default/jobs/${id}`, 'an output'],
    ['m/host1/default/egress', 'asks, for 60 s'],
    ['m/host1/default/files', 'a.txt'],
    ['m/host1/default/events', 'session established'],
    ['m/host1/none', 'host1 has no channel none'],
    ['recordings', 'a.cast'],
    ['recordings/a.cast', 'the command'],
  ] as const) {
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize(WIDE);
    await page.goto(`${link.origin}/#/${place}`);
    await page.getByText(text).first().waitFor();
    faults.push(...(await audit(page, RULES)));
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.setViewportSize(SMALL);
    faults.push(...(await audit(page, CONTRAST)));
    const excess = await excessOf(page);
    if (excess > 0) faults.push(`${place}: ${excess} pixels wider than a small screen`);
  }
  t.deepEqual(faults, []);
  t.deepEqual(
    trouble.filter((text) => !text.includes('404')),
    [],
  );
  // By keyboard alone.
  await page.goto(`${link.origin}/#/`);
  await page.getByRole('searchbox').focus();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'default' }).waitFor();
});

test('a stream is seen and reset, a forward is added and removed, files go both ways', async (t) => {
  t.timeout(300_000);
  const { pair, shared } = await startPair(t);
  const { link } = await startWeb(t, ['--socket', pair.sockets[0]]);
  const { page } = await openPage(t, link);
  await page.getByRole('link', { name: 'default' }).click();
  const quiet = await localServer(t, () => undefined);
  await page.getByRole('link', { name: 'Forwards' }).click();
  const spec = `quiet:127.0.0.1:${quiet.port}`;
  await pair.clients[1].addForward({ direction: 'incoming', spec });
  await page.getByLabel('SERVICE:ADDR:PORT').fill('quiet:127.0.0.1:0');
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByText('added, at 127.0.0.1:').waitFor();
  const added = (await pair.clients[0].forwards()).find(({ service }) => service === 'quiet');
  const failed = failureOf(localSocket(t, Number(added?.endpoint.split(':')[1])));
  await page.getByRole('link', { name: 'Overview' }).click();
  await page.getByRole('button', { name: /Reset stream \d+ to quiet/ }).click();
  await page.getByRole('button', { name: /Reset it/ }).click();
  await failed;
  await page.getByRole('link', { name: 'Forwards' }).click();
  // Nothing moves under a pointer.
  const other = await pair.clients[0].addForward({ direction: 'outgoing', spec: 'other:127.0.0.1:0' });
  await page.getByText('other:127.0.0.1:0').hover();
  await pair.clients[0].removeForward(other.id);
  await page.locator('tr[inert]', { hasText: 'other:127.0.0.1:0' }).waitFor();
  await page.mouse.move(0, 0);
  await page.getByText('other:127.0.0.1:0').waitFor({ state: 'detached' });
  // Nor are they kept without end.
  const answer = await page.waitForResponse(/\/api\/machine\?/);
  const view = (await answer.json()) as { forwards: object[] };
  let looks = 0;
  await page.route(/\/api\/machine\?/, async (route) => {
    looks += 1;
    const forwards = Array.from({ length: 400 }, (_, index) => ({ ...view.forwards[0], id: looks * 400 + index }));
    await route.fulfill({ json: { ...view, forwards } });
  });
  await page.getByText('quiet:127.0.0.1:0').first().hover();
  await eventually(() => looks > 5);
  t.true((await page.locator('tr').count()) < 1500);
  await page.unroute(/\/api\/machine\?/);
  await page.mouse.move(0, 0);
  await eventually(async () => (await page.locator('tr').count()) < 10);
  await page.getByRole('button', { name: 'Remove quiet:127.0.0.1:0' }).click();
  await page.getByRole('button', { name: /Remove it/ }).click();
  await eventually(async () => !(await pair.clients[0].forwards()).some(({ service }) => service === 'quiet'));

  await page.getByRole('link', { name: 'Files' }).click();
  const bytes = Buffer.alloc(2_000_000, 'some bytes');
  await page.locator('input[type=file]').setInputFiles({ name: 'up & down.bin', mimeType: 'text/html', buffer: bytes });
  await page.getByText('up & down.bin was uploaded').waitFor();
  t.true(readFileSync(join(shared, 'up & down.bin')).equals(bytes));
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('link', { name: 'up & down.bin' }).click(),
  ]);
  t.is(download.suggestedFilename(), 'up & down.bin');
  t.true(readFileSync(await download.path()).equals(bytes));
  await page.getByRole('button', { name: 'Remove up & down.bin' }).click();
  await page.getByRole('button', { name: /Remove it/ }).click();
  await page.getByText('The folder is empty.').waitFor();
  // A file that is there is replaced only after a question, which is answered with no at first.
  const answers = [false, true];
  page.on('dialog', (dialog) => void (answers.shift() === true ? dialog.accept() : dialog.dismiss()));
  const up = page.locator('input[type=file]');
  const chosen = (text: string) => ({ name: 'up & down.bin', mimeType: '', buffer: Buffer.from(text) });
  // Whoever put it there meanwhile.
  writeFileSync(join(shared, 'up & down.bin'), 'zeroth');
  for (const text of ['first', 'second']) {
    await up.setInputFiles(chosen(text));
    await page.getByText('Drop files here').waitFor();
  }
  await eventually(() => readFileSync(join(shared, 'up & down.bin'), 'latin1') === 'second');
  t.deepEqual(answers, []);
  // What comes after a file that is refused is named.
  mkdirSync(join(shared, 'taken'));
  answers.push(true);
  await up.setInputFiles(['taken', 'other'].map((name) => ({ ...chosen(''), name })));
  await page.getByText(/; not sent: other$/).waitFor();
  // A folder is not a server that does not answer.
  const devtools = await page.context().newCDPSession(page);
  const box = await page.locator('.drop').boundingBox();
  const data = { items: [], files: [temporaryFolder(t)], dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop'] as const)
    await devtools.send('Input.dispatchDragEvent', { type, x: (box?.x ?? 0) + 9, y: (box?.y ?? 0) + 9, data });
  await page.getByText(': a folder, or changed since it was chosen').waitFor();
});

test('a destination that is asked about is allowed by a click, and the waiting program goes on', async (t) => {
  t.timeout(300_000);
  const { pair, target } = await startPair(t);
  const { link } = await startWeb(t, ['--socket', pair.sockets[0]]);
  const { page } = await openPage(t, link);
  const proxy = `http://127.0.0.1:${await portOf(pair, 1)}`;
  const curl = (path: string) =>
    runProgram(['curl', '-sS', '-m', '60', '-x', proxy, `http://127.0.0.1:${target.port}/${path}`]);
  const waiting = curl('allowed');
  await page.getByRole('link', { name: 'A destination waits for an answer' }).click();
  await page.getByRole('button', { name: `127.0.0.1:${target.port}: allow it, 10 minutes` }).click();
  t.is((await waiting).stdout, 'reached\n');
  await page.getByText('is allowed, 10 minutes').waitFor();
  await page.getByText('Nothing is asked.').waitFor();
  await page.goto(`${link.origin}/#/m/host1/default/egress`);
  await page.getByText(/^\d\d:\d\d:\d\d \(9m \d\ds left\)$/).waitFor();
  await page.getByRole('button', { name: 'Reset internet' }).click();
  await page.getByRole('button', { name: /Undo all changes/ }).click();
  await page.getByText('internet has its configured rules again').waitFor();
  const refused = curl('refused');
  await page.getByRole('link', { name: /^Egress ?\d/ }).click();
  await page.getByRole('button', { name: `127.0.0.1:${target.port}: deny it` }).click();
  t.regex((await refused).stdout, /is not allowed by egress "internet"/);
});

test('a terminal survives a reload of the page, another web server, and an upgrade of the host', async (t) => {
  t.timeout(300_000);
  const { pair, shared } = await startPair(t);
  const { link, web } = await startWeb(t, ['--socket', pair.sockets[0]]);
  const { page } = await openPage(t, link);
  await page.goto(`${link.origin}/#/m/host1/default/jobs`);
  await page.getByRole('button', { name: 'New terminal' }).click();
  const screen = page.locator('.xterm-rows');
  const type = async (text: string, shown: string): Promise<void> => {
    await page.getByText('connected').waitFor();
    await page.locator('.xterm-helper-textarea').focus();
    await page.keyboard.type(`${text}\n`);
    await screen.getByText(shown).first().waitFor();
  };
  // A query, which the screen answers. It answers it once.
  await type(String.raw`N=6; printf '\033[6n'; read -rsd R; echo one=$((N*7))`, 'one=42');
  let sent = '';
  page.on('websocket', (socket) =>
    socket.on('framesent', ({ payload }) => (sent += typeof payload === 'string' ? '' : payload.toString())),
  );
  await page.reload();
  await screen.getByText('one=42').waitFor();
  await type('echo two=$((N*8))', 'two=48');
  t.is(sent, 'echo two=$((N*8))\r');
  const { pid } = await upgrade(t, pair.sockets[0]);
  await type('echo three=$((N*9))', 'three=54');
  t.is(await page.getByText('output is missing').count(), 0);
  // What is typed without a connection comes with the next one; a query of that time has no answer.
  const [ask, asked] = ['ask', 'asked'].map((name) => join(shared, name));
  await type(`(until test -e ${ask}; do sleep 0.1; done; printf '\\033[6n\\033[?1004h'; >${asked}) & echo go$N`, 'go6');
  process.kill(pid, 'SIGTERM');
  await page.getByText('The connection is lost').waitFor();
  writeFileSync(ask ?? '', '');
  await eventually(() => existsSync(asked ?? ''));
  await page.keyboard.type('echo late=$((N*2))\n');
  sent = '';
  pair.startHost();
  await screen.getByText('late=12').waitFor();
  t.is(sent, 'echo late=$((N*2))\r');
  await type("printf '\\033[?1004l\\033[6n'; read -rsd R; echo fresh=$((N*3))", 'fresh=18');
  // The next server listens at the same port; its link is new.
  process.kill(web.pid, 'SIGTERM');
  t.is((await web.exited).code, 0);
  await page
    .getByText(/vproxy web does not answer/)
    .first()
    .waitFor();
  const place = page.url().split('#')[1] ?? '';
  const next = await startWeb(t, ['--socket', pair.sockets[0], '--listen', `127.0.0.1:${link.port}`]);
  await page.getByText('Open the link that vproxy web has printed').first().waitFor();
  await page.goto(`${next.link.href}#${place}`);
  await screen.getByText('three=54').waitFor();
  await type('echo four=$((N*10))', 'four=60');
  // More than the control socket takes in one message.
  await type('stty -icanon -echo; echo five=$((N*11)); head -c 1500000 | wc -c; stty sane', 'five=66');
  await page.keyboard.insertText('a'.repeat(1_500_000));
  await screen.getByText('1500000', { exact: true }).waitFor();
  // Another page takes it over, and this one takes it back.
  const other = await page.context().newPage();
  await other.goto(page.url());
  await other.getByText('connected').waitFor();
  let connections = 0;
  page.on('websocket', () => (connections += 1));
  await page.getByRole('button', { name: 'Take it back' }).dblclick();
  await other.getByText('input-taken').waitFor();
  await type('exit 3', 'exit 3');
  await page.getByText('The command has ended: exit 3').waitFor();
  t.is(connections, 1);
});

test('a terminal in a hidden page, whose timers wait, misses nothing of much output', async (t) => {
  t.timeout(300_000);
  const { pair } = await startPair(t);
  const { link } = await startWeb(t, ['--socket', pair.sockets[0]]);
  const { page, trouble } = await openPage(t, link);
  await page.addInitScript(`{
    const set = setTimeout;
    window.setTimeout = (work, ms = 0, ...more) => set(work, window.isSlow ? Math.max(ms, 1000) : ms, ...more);
  }`);
  await page.goto(`${link.origin}/#/m/host1/default/jobs`);
  await page.reload();
  await page.getByRole('button', { name: 'New terminal' }).click();
  await page.getByText('connected').waitFor();
  await page.evaluate('window.isSlow = true');
  await page.locator('.xterm-helper-textarea').focus();
  await page.keyboard.type('yes | head -c 60000000; echo end=$((6*7))\n');
  await page.getByText('connecting when the screen has caught up').waitFor();
  await eventually(async () => (await pair.clients[0].jobs()).every(({ bytes }) => bytes > 60_000_000));
  await page.evaluate('window.isSlow = false');
  await page.locator('.xterm-rows').getByText('end=42').waitFor();
  await page.getByText('connected').waitFor();
  t.deepEqual(trouble, []);
});

test('a process that ends is shown as gone with its machines, and is back when it is started again', async (t) => {
  t.timeout(300_000);
  const { pair } = await startPair(t);
  const { link } = await startWeb(t, ['--socket', pair.sockets[0]]);
  const { page } = await openPage(t, link);
  await page.getByText('established').waitFor();
  const { page: events } = await openPage(t, link);
  await events.goto(`${link.origin}/#/m/host1/default/events`);
  await events.getByText('session established').waitFor();
  process.kill(pair.host.pid, 'SIGTERM');
  await page.getByText('process gone').waitFor();
  await page
    .getByText(/no process answers on/)
    .first()
    .waitFor();
  await pair.startHost().waitForLine(TAKING_CONTROL);
  await page.getByText('established').waitFor();
  t.is(await page.getByText('process gone').count(), 0);
  await eventually(async () => (await events.getByText('session established').count()) === 2);
  process.kill(pair.guest.pid, 'SIGTERM');
  for (const tab of ['jobs', 'files']) {
    await events.goto(`${link.origin}/#/m/host1/default/${tab}`);
    await events.getByText('There is no session with the peer.').waitFor();
  }
});

/** It begins a link whose target has a mark of direction. */
const LINK = '\x1b]8;;http://127.0.0.1/\u202egpj.exe\x07';

test('a recording is played from any place, and what is wrong in it is said', async (t) => {
  t.timeout(300_000);
  const folder = temporaryFolder(t);
  const name = 'vm1-20260101T000000Z-01234567.cast';
  const header = { size: { columns: 30, rows: 5 }, timestamp: null, command: 'the command', term: null };
  const line = (timeS: number, data: string, code: string = CAST_CODE.OUTPUT) => formatCastEvent({ timeS, code, data });
  // With its pauses it takes ages; a screen that is not given time to show what it has drops some of 54 MB.
  writeFileSync(
    join(folder, name),
    [
      ...[formatCastHeader(header), line(1, `${LINK}first\r\n`), line(3600, '132x43', CAST_CODE.RESIZE)],
      ...[
        line(3601, `\x1b]10;#000\x07${'x'.repeat(120)}\r\n`),
        line(3602, 'y\r'.repeat(27e6)),
        line(3603, '\r\nthe end'),
      ],
      ...[line(1e308, ' is'), line(1e308, ' here'), 'junk\n'],
    ].join(''),
  );
  const { link } = await startWeb(t, ['--recordings', folder, '--socket', join(folder, 'none.sock')]);
  const { page, trouble } = await openPage(t, link);
  const screen = page.locator('.xterm-rows');
  await page.getByRole('link', { name: 'Recordings' }).click();
  await page.getByRole('link', { name }).click();
  await screen.getByText('first').waitFor();
  const foreground = () => page.evaluate<string>("getComputedStyle(document.querySelector('.xterm-rows')).color");
  const first = await foreground();
  await page.getByText('the command').waitFor();
  await page.getByText('line 9: not valid JSON, or cut off').waitFor();
  await page.getByText(/ of 8s$/).waitFor();
  await page.getByLabel('Speed').selectOption('16');
  await screen.getByText('the end is here').waitFor();
  // A keyboard gets out of it.
  await page.locator('.xterm-helper-textarea').focus();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Pause' }).click();
  // Back from amid much that is to be shown.
  for (const atS of ['7', '1.5']) await page.getByLabel('Position, in seconds').fill(atS);
  // A screen that has been resized is empty until it is drawn.
  await eventually(async () => (await screen.innerText()).trim() === 'first');
  t.is(await foreground(), first);
  const asked: string[] = [];
  page.on('dialog', (dialog) => {
    asked.push(dialog.message());
    void dialog.dismiss();
  });
  await screen.getByText('first').click({ force: true });
  await eventually(() => asked.length > 0);
  t.regex(asked.join(), /\/%E2%80%AEgpj\.exe/);
  t.deepEqual(trouble, []);
  // A folder with names and nothing more.
  chmodSync(folder, 0o600);
  t.teardown(() => chmodSync(folder, 0o700));
  await page.goto(`${link.origin}/#/recordings`);
  await page.reload();
  await page.getByText(': permission denied (EACCES)').waitFor({ timeout: 15_000 });
});

const HOSTILE = [
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(2)>',
  '\u202egnp.exe',
  '"><svg onload=alert(3)>',
];

test('what a guest chose is text: markup, marks of direction, long names', async (t) => {
  t.timeout(300_000);
  const { pair, shared } = await startPair(t);
  for (const name of HOSTILE) writeFileSync(join(shared, name.replaceAll('/', '\u2215')), '<script>alert(4)</script>');
  writeFileSync(join(shared, 'x'.repeat(250)), '');
  await pair.clients[0].startJob(['sh', '-c', 'printf "<script>alert(5)</script>"; exec sleep 1000', ...HOSTILE], {
    tag: HOSTILE[0] ?? '',
  });
  const { link } = await startWeb(t, ['--socket', pair.sockets[0]]);
  const { page, trouble } = await openPage(t, link);
  const dialogs: string[] = [];
  page.on('dialog', (dialog) => {
    dialogs.push(dialog.message());
    void dialog.dismiss();
  });
  for (const [place, text] of [
    ['files', '\\u{202e}gnp.exe'],
    ['jobs', '<script>alert(5)</script>'],
    ['events', 'session established'],
  ] as const) {
    await page.setViewportSize(SMALL);
    await page.goto(`${link.origin}/#/m/host1/default/${place}`);
    await page.getByText(text).first().waitFor();
    t.is(await excessOf(page), 0, place);
  }
  const file = `/p/host1/v1/files?path=${encodeURIComponent(HOSTILE[1] ?? '')}`;
  const type = await page.evaluate<string>(
    `fetch(${JSON.stringify(file)}).then(({ headers }) => headers.get('content-type'))`,
  );
  t.is(type, 'application/octet-stream');
  t.deepEqual([dialogs, trouble], [[], []]);
});

/** What a page can try, as a script: each attempt's outcome. */
const TRY_EVERYTHING = `async ({ jobs, body }) => {
  const outcome = (work) => work.then(String, () => 'failed');
  const plain = { method: 'POST', body, credentials: 'include' };
  const socket = new Promise((resolve, reject) => {
    const opened = new WebSocket(jobs.replace('http', 'ws').replace('jobs', 'terminal'));
    opened.onopen = () => resolve('open');
    opened.onerror = reject;
  });
  const frame = document.createElement('iframe');
  frame.src = new URL('/', jobs).href;
  document.body.append(frame);
  await new Promise((resolve) => (frame.onload = resolve));
  return Promise.all([
    outcome(fetch(jobs, { ...plain, headers: { 'vproxy-web': '1', 'content-type': 'application/json' } })),
    outcome(fetch(jobs, { ...plain, mode: 'no-cors' }).then(({ type }) => type)),
    outcome(fetch(jobs, { credentials: 'include' })),
    outcome(socket),
    outcome(Promise.resolve().then(() => frame.contentWindow.document.title)),
  ]);
}`;

test('a page of another origin can do nothing, whatever the browser sends along', async (t) => {
  t.timeout(300_000);
  const { pair } = await startPair(t);
  const { link } = await startWeb(t, ['--socket', pair.sockets[0]]);
  const { page } = await openPage(t, link);
  await page.getByText('established').waitFor();
  const foreign = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<p>foreign</p>'));
  t.teardown(() => foreign.close());
  await once(foreign.listen(0, '127.0.0.1'), 'listening');
  const { port } = foreign.address() as AddressInfo;
  const jobs = `${link.origin}/p/host1/v1/jobs`;
  const body = JSON.stringify({ argv: ['sh', '-c', 'sleep 1000'] });
  // The same host, and so the same site, at another port; and another site.
  for (const host of ['vproxy.localhost', '127.0.0.1']) {
    const other = await page.context().newPage();
    await other.goto(`http://${host}:${port}/`);
    const results = await other.evaluate<string[]>(`(${TRY_EVERYTHING})(${JSON.stringify({ jobs, body })})`);
    t.deepEqual([results[0], ...results.slice(2)], ['failed', 'failed', 'failed', 'failed'], host);
    await other.setContent(`<form method="post" enctype="text/plain" action="${jobs}"><input name='${body}'></form>`);
    await other.evaluate('document.forms[0].submit()');
    await other.waitForURL(jobs);
    t.regex(await other.innerText('body'), /^Refused: it comes from a page of another origin/);
    await other.close();
  }
  t.deepEqual(await pair.clients[0].jobs(), []);
  const wrong = await page.context().browser()?.newPage();
  const answer = await wrong?.goto(`${link.origin}/?token=${'x'.repeat(43)}`);
  t.is(answer?.status(), 401);
});

test('of a thousand machines, those that are seen are shown, and any is found', async (t) => {
  t.timeout(300_000);
  const folder = temporaryFolder(t);
  const file = join(folder, 'many.toml');
  const channels = Array.from(
    { length: 1000 },
    (_, n) => `[channels.vm${n}]\naddress = "unix-listen:${folder}/c${n}.sock"\n`,
  );
  writeFileSync(file, channels.join(''));
  const socket = join(folder, 'control.sock');
  await spawnVproxy(t, ['--config', file, '--control', socket, '-q'])
    .waitForLine(TAKING_CONTROL)
    .catch(() => undefined);
  const { link } = await startWeb(t, ['--socket', socket]);
  const { page, trouble } = await openPage(t, link);
  await page.getByRole('link', { name: 'vm0', exact: true }).waitFor();
  t.true((await page.locator('.machines tbody th').count()) < 100);
  await page.evaluate('scrollTo(0, document.body.scrollHeight)');
  await page.getByRole('link', { name: 'vm999', exact: true }).waitFor();
  t.true((await page.locator('.machines tbody th').count()) < 100);
  await page.getByRole('searchbox').fill('vm73');
  await page.getByRole('link', { name: 'vm739', exact: true }).waitFor();
  t.is(await page.locator('.machines tbody th').count(), 11);
  await page.getByRole('combobox').selectOption('trouble');
  await page.getByRole('link', { name: 'vm739', exact: true }).click();
  await page.getByRole('heading', { name: 'vm739' }).waitFor();
  t.deepEqual(trouble, []);
});
