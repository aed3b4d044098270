/** The fields of a START: the document, the runners in TypeScript and Go, and the caller in Python have the same. */
import test from 'ava';
import { projectText } from '../helpers/files.js';

/** What has the fields: its text from one mark to another, and the forms in which it names them, those of parts with a dot. */
const PLACES: Readonly<Record<string, readonly [file: string, from: string, to: string, names: RegExp]>> = {
  'docs/protocol.md': ['docs/protocol.md', '| START | caller | JSON, ', ' The first record', /`(\w+)`/g],
  vproxy: [
    'lib/services/exec/exec-messages.ts',
    '/** Validates the fields of a request',
    '/** Decodes an EXIT',
    /\{ (argv) \}|optional\(object, '(\w+)'/g,
  ],
  'vproxy: its terminal and job': [
    'lib/services/exec/exec-messages.ts',
    'const requireTerminal',
    'export const requireSize',
    /\$\{field\}\.(\w+)/g,
  ],
  'vproxy-guest': [
    'guest/command.go',
    'func parseExecRequest(',
    'const searchPath',
    /(?:fields\[|plainText\(|part\(|boolean\(|delay\(|ranged\()"(\w+)"/g,
  ],
};

const PARTS = ['columns', 'keepBytes', 'rows', 'tag', 'term', 'unique'];

const FIELDS = ['argv', 'cwd', 'detach', 'env', 'hasInput', 'killAfterMs', 'terminal', 'timeoutMs', 'user', 'wait'];

function namesIn(place: string): string[] {
  const [file, from, to, names] = PLACES[place] ?? ['', '', '', /$/g];
  const text = projectText(file);
  const at = text.indexOf(from);
  const part = text.slice(at, text.indexOf(to, at));
  return [...new Set([...part.matchAll(names)].map((found) => found.slice(1).join('')))].sort();
}

test('the fields of a START are the same in the document, in both runners and in Python', (t) => {
  t.deepEqual(namesIn('docs/protocol.md'), [...FIELDS, ...PARTS].sort());
  t.deepEqual(namesIn('vproxy'), FIELDS);
  t.deepEqual(namesIn('vproxy: its terminal and job'), PARTS);
  t.deepEqual(namesIn('vproxy-guest'), [...FIELDS, ...PARTS].sort());
  const python = ['_core', '_calls'].map((name) => projectText(`python/src/vproxy/${name}.py`)).join('\n');
  const missing = [...FIELDS, ...PARTS].filter((name) => !python.includes(`"${name}"`));
  t.deepEqual(missing, []);
  const command = /^def command\(.*?^def /ms.exec(python)?.[0] ?? '';
  const asked = [...command.matchAll(/asked\["(\w+)"\] =|asked: Json = \{"(\w+)".*?"(hasInput)"/g)];
  const others = new Set(asked.flatMap((found) => found.slice(1).filter(Boolean)));
  t.deepEqual([...others, 'detach', 'wait'].sort(), FIELDS);
});
