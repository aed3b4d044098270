/** Each threat has its guard in docs/security.md, and specs that exist: spec/fixtures/threats.txt has their titles. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { fixtureRows } from '../helpers/files.js';
import { specFault } from './threats.js';
import './sources.js';

const THREATS = fixtureRows('threats.txt').map(([place, ...titles]) => {
  const [id = '', file = ''] = place.split(' ');
  return { id, file, titles };
});
const IDS = [...new Set(THREATS.map(({ id }) => id))];

for (const id of IDS) {
  test(`${id}: the specs that show its guard exist`, (t) => {
    for (const { file, titles } of THREATS.filter((threat) => threat.id === id)) {
      t.true(titles.length > 0, file);
      for (const title of titles) t.is(specFault([file, title]), null);
    }
  });
}

test('the document has the same threats, with the files of the same specs', (t) => {
  const section = /^## Threats$[^]*?(?=^## )/m.exec(readFileSync('docs/security.md', 'utf8'))?.[0] ?? '';
  const documented = [...section.matchAll(/^\| (T\d+) \|.*\| (.*?) \|$/gm)].map(([, id = '', specs = '']) => [
    id,
    [...specs.matchAll(/`([^`]+)`/g)].map(([, file = '']) => file).sort(),
  ]);
  const filesOf = (id: string) => THREATS.filter((threat) => threat.id === id).map(({ file }) => file);
  t.deepEqual(
    documented,
    IDS.map((id) => [id, filesOf(id).sort()]),
  );
  t.is(documented.length, 33);
});
