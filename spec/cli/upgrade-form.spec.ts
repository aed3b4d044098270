/** The form of what a process hands over has a number, which has to change with it. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { HANDOVER_FORM } from '../../cli/upgrade/document.js';
import { PROJECT_ROOT } from '../helpers/files.js';

/** Types that are a part of the document without being called a capture. */
const OTHERS =
  'AnnouncedPort|ListeningPort|PortForwarding|PortRange|HandoverDocument|HandoverCounts|ServiceTerms|Reason|Configuration|ChannelOptions|ForwardSpec|Agreement|Hello|Limits';

/** The line alone, or all up to the next one that is not indented. */
const DECLARATION = new RegExp(
  `^(?:export )?(?:interface|type) (\\w*Capture|${OTHERS})\\b(?:[^\n]*;$|[^]*?\n\\S[^\n]*$)`,
  'gm',
);

/** Every declaration of such a type, without its comments, by name. */
function declarations(): string[] {
  const files = ['lib', 'cli'].flatMap((folder) =>
    readdirSync(join(PROJECT_ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => readFileSync(join(PROJECT_ROOT, folder, name), 'utf8')),
  );
  const found = files.flatMap((text) => [...text.matchAll(DECLARATION)].map(([declaration]) => declaration));
  return found.map((text) => text.replace(/\/\*\*[^]*?\*\//g, '').replace(/\s+/g, ' ')).sort();
}

/** With each form: what it consists of. */
const DIGESTS: Readonly<Record<number, string>> = {
  1: 'd36779f65d8061d9',
  2: '34e2c973a527c946',
  3: '34e2c973a527c946',
};

test('the number of the form belongs to the form', (t) => {
  const found = declarations();
  t.true(found.length > 20, `only ${found.length} declarations`);
  t.true(
    found.every((text) => /[;}]$/.test(text)),
    'each is whole',
  );
  t.true(found.some((text) => text.startsWith('export interface SpliceCapture {') && text.includes('endReason')));
  const digest = createHash('sha256').update(found.join('\n')).digest('hex').slice(0, 16);
  t.is(
    digest,
    DIGESTS[HANDOVER_FORM] ?? '',
    'what is handed over has changed: give HANDOVER_FORM the next number, and this table its digest',
  );
});
