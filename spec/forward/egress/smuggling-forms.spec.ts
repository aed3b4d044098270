/** No form of request smuggling gets a request to a server that this side has not judged: what reaches it, byte by byte. */
import test, { type ExecutionContext } from 'ava';
import { EgressScene, OK, RecordingOrigin } from '../../helpers/egress.js';
import { CHUNKED_AT_ORIGIN, SMUGGLING_FORMS, type SmugglingForm } from './smuggling-forms.js';

/** Says a form to an egress; returns what is wrong with what came of it, or null. */
async function faultOf(t: ExecutionContext, { words, outcome }: SmugglingForm): Promise<string | null> {
  const isBrokenOff = outcome === 'broken off';
  // A server that answers before the body has come would end the exchange.
  const origin = await RecordingOrigin.start(t, isBrokenOff ? [''] : [OK]);
  const other = await RecordingOrigin.start(t);
  const scene = new EgressScene(t, { routes: { 'one.test:80': origin.port, 'two.test:80': other.port } });
  const told = await scene.say(words, { isEnding: typeof outcome === 'object' });
  const seen = JSON.stringify({ told, dialled: scene.dialled, atOrigin: origin.bytes });
  if (other.bytes !== '') return `the other server got ${JSON.stringify(other.bytes)}`;
  if (typeof outcome === 'object') return origin.bytes === outcome.atOrigin && scene.refused.length === 0 ? null : seen;
  // The last word, so nothing behind it is read as a request.
  const isLast =
    /^HTTP\/1\.1 (?:400|501|505) [\w ]+\r\n(?:[^\r\n]+\r\n)*Connection: close\r\n\r\nvproxy: [^\n]+\n$/.test(told);
  if (!isLast || scene.refused.length !== 1) return seen;
  if (!isBrokenOff) return scene.dialled.length === 0 && origin.bytes === '' ? null : seen;
  const isEnded = origin.bytes.endsWith('0\r\n\r\n') || origin.bytes.includes('hidden');
  const isBegun = origin.bytes.startsWith(CHUNKED_AT_ORIGIN) || CHUNKED_AT_ORIGIN.startsWith(origin.bytes);
  return isBegun && !isEnded ? null : seen;
}

for (const outcome of ['refused', 'broken off', 'rewritten'] as const) {
  const forms = SMUGGLING_FORMS.filter(
    (form) => (typeof form.outcome === 'object' ? 'rewritten' : form.outcome) === outcome,
  );
  test(`${forms.length} forms of request smuggling are ${outcome}`, async (t) => {
    const faults: string[] = [];
    for (const form of forms) {
      const fault = await faultOf(t, form);
      if (fault !== null) faults.push(`${form.what}: ${fault}`);
    }
    t.deepEqual(faults, []);
  });
}

test('the table has at least the 104 forms of request smuggling that were found, each once', (t) => {
  t.true(SMUGGLING_FORMS.length >= 104, `${SMUGGLING_FORMS.length}`);
  t.is(new Set(SMUGGLING_FORMS.map(({ words }) => words)).size, SMUGGLING_FORMS.length);
});
