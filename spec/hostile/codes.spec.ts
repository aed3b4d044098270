/** Each code that a peer can cause has a case: the tables of codes are compared with the tables of cases. */
import { readFile } from 'node:fs/promises';
import test from 'ava';
import { ERROR_CODES } from '../../lib/errors.js';
import { fixtureRows } from '../helpers/files.js';
import { type SpecPlace, specFault } from '../threats/threats.js';
import { DATAGRAM_CASES } from './datagram-cases.js';
import { FLOOD_CASES } from './flood-cases.js';
import { LOG_CASES } from './log-cases.js';
import { OPENING_CASES, OPENING_FLOODS } from './opening-cases.js';
import { SESSION_CASES } from './session-cases.js';
import { STORAGE_CASES } from './storage-cases.js';
import { WINDOW_CASES } from './window-cases.js';

/** Codes that no peer causes. */
const OF_OTHERS = new Set(fixtureRows('codes-of-others.txt').flatMap(([, ...codes]) => codes));

/** Codes that a peer causes by inaction, with the specs that show them. */
const ELSEWHERE: Readonly<Record<string, SpecPlace>> = {
  'open-timeout': ['conformance/cases/streams.ts', 'R-STREAM-10: an unanswered open is reset after 30 s'],
  'connect-timeout': ['faults/streams.slow.spec.ts', 'a target that hangs times out'],
  'channel-silent': ['conformance/cases/liveness.ts', 'R-LIVE-2: 30 s of silence end a session if so configured'],
  'channel-busy': ['conformance/opening.ts', 'R-CHANNEL-3: to a peer whose channel is taken'],
  'channel-displaced': ['conformance/resume.ts', 'R-RESUME-4: a side whose session has a channel abandons that'],
  'no-session': ['faults/streams.slow.spec.ts', 'the 1,025th local connection that waits for a session is reset'],
};

const CASES = [
  ...[...OPENING_CASES, ...OPENING_FLOODS, ...SESSION_CASES, ...FLOOD_CASES],
  ...[...WINDOW_CASES, ...DATAGRAM_CASES, ...LOG_CASES],
  ...STORAGE_CASES.map(([what, code]) => ({ what, code })),
];

test('every code of the documents is caused or sent by a hostile peer in a case, or has another cause', async (t) => {
  const shown = new Set<string | null>([
    ...CASES.flatMap(({ code, ...more }) => [code, ...('alsoLogged' in more ? (more.alsoLogged ?? []) : [])]),
    ...Object.keys(ELSEWHERE),
  ]);
  for (const place of Object.values(ELSEWHERE)) t.is(specFault(place), null);
  const protocol =
    /\*\*R-CODE-1\.\*\*[^]*?(?=\*\*R-CODE-2)/.exec(await readFile('docs/protocol.md', 'utf8'))?.[0] ?? '';
  const ofProtocol = [...protocol.matchAll(/^\| (`.*?`) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([a-z-]+)`/g)].map(([, code]) => code ?? ''),
  );
  t.true(ofProtocol.length > 15);
  for (const code of [...ofProtocol, ...Object.keys(ERROR_CODES)]) {
    const isShown = shown.has(code);
    t.not(isShown, OF_OTHERS.has(code), isShown ? `${code} has a case` : `${code} has no case`);
  }
});

test('the titles of the cases differ', (t) => {
  const titles = CASES.map(({ what, code }) => `${what}: ${code ?? ''}`);
  t.deepEqual(titles.length, new Set(titles).size);
});
